/** The edge's HTTP port: which page may call, who answers what, and how it goes away. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { connect as connectSocket } from "node:net";
import type { Socket } from "node:net";
import { createOriginPolicy } from "../../gateway/origin.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { closeEdges, fakeCalls, openEdge, said, tokenFor } from "./edge.ts";
import type { TestEdge } from "./edge.ts";

type Headers = Record<string, string>;

/** Unlike fetch, this sends any header: Origin, Host, Upgrade. */
async function ask(
  { port }: TestEdge,
  path: string,
  headers: Headers = {},
  { method = "GET", body = "" } = {},
): Promise<{ status: number; headers: IncomingMessage["headers"]; text: string }> {
  const request = httpRequest({ host: "127.0.0.1", port, path, method, headers, agent: false });
  request.end(body);
  const [response] = (await once(request, "response")) as [IncomingMessage];
  let text = "";
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode ?? 0, headers: response.headers, text };
}

/** Sends bytes as they are, and answers with all that comes back. */
async function raw({ port }: TestEdge, text: string): Promise<string> {
  const socket = connectSocket(port, "127.0.0.1");
  socket.write(text);
  let answer = "";
  socket.on("data", (data) => (answer += data.toString()));
  await once(socket, "close");
  return answer;
}

const upgradeLines = (path: string, ...more: string[]): string =>
  [
    `GET ${path} HTTP/1.1`,
    "host: chat.example",
    "connection: upgrade",
    ...(more.some((line) => line.startsWith("upgrade:")) ? [] : ["upgrade: websocket"]),
    ...more,
    "",
    "",
  ].join("\r\n");

const typing = fakeCalls({
  setTyping: () => Promise.resolve({ $typeName: "parley.v1.SetTypingResponse" }),
});
const grpcWeb = "application/grpc-web+proto";
const typingPath = "/parley.v1.ChatService/SetTyping";

describe("which origins may call", () => {
  const { allows } = createOriginPolicy(["https://app.example", "http://localhost:3000/"]);

  it("are none, the same host and those that are allowed", () => {
    assert.ok(allows(undefined, "chat.example"));
    assert.ok(allows("https://chat.example", "chat.example"));
    assert.ok(allows("https://chat.example", "chat.example:443"));
    assert.ok(allows("http://127.0.0.1:8080", "127.0.0.1:8080"));
    assert.ok(allows("https://app.example", "chat.example"));
    assert.ok(allows("http://localhost:3000", "chat.example"));
  });

  it("are no others", () => {
    const others = [
      "https://evil.example",
      "https://chat.example.evil.example",
      "https://chat.example:8443",
      "http://app.example",
      "null",
      "",
      "chat.example",
    ];
    for (const origin of others) assert.ok(!allows(origin, "chat.example"), origin);
    assert.ok(!allows("https://chat.example", undefined));
  });

  it("are all, where that is said", () => {
    assert.ok(createOriginPolicy(["*"]).allows("https://evil.example", "chat.example"));
  });

  it("are named when they are no origins", () => {
    for (const wrong of ["chat.example", "https://chat.example/path", "ftp://chat.example", ""])
      assert.throws(() => createOriginPolicy([wrong]), { message: new RegExp(`"${wrong}" is no`) });
  });
});

describe("the edge's HTTP port", () => {
  afterEach(closeEdges);

  it("says that it lives, and whether it is ready or why not", async () => {
    const reasons: string[] = [];
    const edge = await openEdge({ health: () => reasons });
    const live = await ask(edge, "/healthz");
    assert.deepEqual([live.status, live.text], [200, "ok\n"]);
    const ready = await ask(edge, "/readyz");
    assert.deepEqual([ready.status, ready.text], [200, "ready\n"]);
    reasons.push("storage cannot be reached");
    const not = await ask(edge, "/readyz");
    assert.equal(not.status, 503);
    assert.deepEqual(JSON.parse(not.text), { ready: false, reasons });
    assert.equal((await ask(edge, "/healthz")).status, 200);
  });

  it("says where to go, when asked for what is not there", async () => {
    const edge = await openEdge({ calls: typing });
    const wrong: [string, Headers, { method?: string; body?: string }, number, RegExp][] = [
      ["/", {}, {}, 404, /answers at \/ws/],
      ["/mediax", {}, {}, 404, /answers at \/ws/],
      ["/ws", {}, {}, 426, /subprotocol parley.v1/],
      [typingPath, {}, {}, 405, /with POST/],
      [typingPath, {}, { method: "POST" }, 415, /send application\/json/],
      [
        typingPath,
        { "content-type": "application/x-www-form-urlencoded" },
        { method: "POST" },
        415,
        /"application\/x-www-form-urlencoded"; send application\/json/,
      ],
      [
        "/parley.v1.ChatService/Shout",
        { "content-type": "application/json" },
        { method: "POST", body: "{}" },
        404,
        /has the methods Send, MoveCursor/,
      ],
    ];
    for (const [path, headers, options, status, message] of wrong) {
      const answer = await ask(edge, path, headers, options);
      assert.equal(answer.status, status, path);
      const { message: told } = JSON.parse(answer.text) as { message: string };
      assert.match(told, message);
    }
  });

  it("lives through requests that are none", async () => {
    const edge = await openEdge({ calls: typing });
    const post = `POST ${typingPath} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: 2\r\n`;
    assert.match(await raw(edge, `${post}\r\n{}`), /400 Bad Request[^]*header Host/);
    assert.match(await raw(edge, `${post}host: a b\r\n\r\n{}`), /400 Bad Request/);
    assert.match(await raw(edge, "\0\0\0\0\r\n\r\n"), /400 Bad Request/);
    assert.match(await raw(edge, `GET / HTTP/1.1\r\nx: ${"x".repeat(20_000)}\r\n\r\n`), /431/);
    assert.equal((await ask(edge, "/healthz")).status, 200);
  });

  it("hangs up on a request whose head does not come to its end", async () => {
    const edge = await openEdge({ config: { headersMs: 50 } });
    assert.match(await raw(edge, "GET / HTTP/1.1\r\nhost: a\r\nx: "), /^HTTP\/1\.1 408 /);
  });

  it("takes no more sockets than it may have", async () => {
    const edge = await openEdge({ config: { socketsMax: 1 } });
    const first = connectSocket(edge.port, "127.0.0.1");
    first.write("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n");
    await once(first, "data");
    assert.equal(await raw(edge, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"), "");
    first.destroy();
  });

  for (const [what, head] of [
    ["to nowhere", "POST /nothing HTTP/1.1"],
    ["whose call is refused", `POST ${typingPath} HTTP/1.1\r\ncontent-type: ${grpcWeb}`],
  ] as const)
    it(`keeps nothing of the requests that went before over a socket, ${what}, and keeps the socket (P9)`, async () => {
      const warnings: Error[] = [];
      const warned = (warning: Error): void => void warnings.push(warning);
      process.on("warning", warned);
      try {
        const clock = new ManualClock();
        const { port } = await openEdge({ calls: typing, clock });
        const socket = connectSocket(port, "127.0.0.1");
        const ask = async (): Promise<void> => {
          socket.write(`${head}\r\nhost: a\r\ncontent-length: 7\r\n\r\n`);
          // Too long a message, and it is answered before all of it is there.
          socket.write(Buffer.from([0, 0x7f, 0xff, 0xff, 0xff]));
          await once(socket, "data");
          socket.write("{}");
        };
        for (let n = 0; n < 20; n += 1) await ask();
        socket.write("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n");
        await once(socket, "data");
        clock.advance(2_000);
        await ask();
        clock.advance(500);
        socket.destroy();
        await new Promise((resolve) => setImmediate(resolve));
        assert.deepEqual(warnings, []);
      } finally {
        process.off("warning", warned);
      }
    });

  it("hangs up where the rest of a refused request does not come", async () => {
    const clock = new ManualClock();
    const { port } = await openEdge({ calls: typing, clock });
    const socket = connectSocket(port, "127.0.0.1");
    socket.write("POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\n{");
    await once(socket, "data");
    clock.advance(1_000);
    await once(socket, "close");
  });

  it("sends headers that keep browsers from guessing", async () => {
    const { headers } = await ask(await openEdge(), "/");
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.equal(headers["x-frame-options"], "DENY");
    assert.equal(headers["cache-control"], "no-store");
  });

  it("lets pages of allowed origins call, and read what they need of the answer", async () => {
    const edge = await openEdge({
      calls: typing,
      config: { origins: ["https://app.example"] },
    });
    const origin = "https://app.example";
    const asked = {
      origin,
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization, content-type, parley-device",
    };
    const preflight = await ask(edge, typingPath, asked, { method: "OPTIONS" });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers["access-control-allow-origin"], origin);
    const allowed = String(preflight.headers["access-control-allow-headers"]).toLowerCase();
    for (const name of ["authorization", "content-type", "parley-device", "connect-timeout-ms"])
      assert.ok(allowed.split(", ").includes(name), name);
    const headers = {
      origin,
      authorization: `Bearer ${await tokenFor("alice")}`,
      "content-type": "application/json",
    };
    const answer = await ask(edge, typingPath, headers, { method: "POST", body: "{}" });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["access-control-allow-origin"], origin);
    assert.equal(answer.headers["vary"], "Origin");
    assert.match(String(answer.headers["access-control-expose-headers"]), /retry-after-ms/);
  });

  it("refuses pages of other origins, before anything is done", async () => {
    const edge = await openEdge({ media: () => Promise.reject(new Error("was reached")) });
    const origin = "https://evil.example";
    for (const method of ["OPTIONS", "POST"])
      for (const path of [typingPath, "/media"]) {
        const answer = await ask(edge, path, { origin }, { method });
        assert.equal(answer.status, 403);
        assert.equal(answer.headers["access-control-allow-origin"], undefined);
        assert.match(answer.text, /permission_denied.*evil\.example may not call/);
      }
  });

  it("takes the address that the nearest proxy names, where it is told to, and a /64 for one", async () => {
    const limits = { callsPerSecond: 100, callsBurst: 100, waitsPerUserMax: 1, writeMs: 1_000 };
    const chat = { ...limits, remoteCallsPerSecond: 1, remoteCallsBurst: 1 };
    const named = ["spoofed, 10.0.0.1", "spoofed, 10.0.0.2", "other, 10.0.0.1"];
    const six = ["2001:db8::1", "2001:db8:0:1::1", "2001:db8::ffff:1"];
    for (const [trustForwardedFor, second, addresses] of [
      [true, 401, named],
      [true, 401, six],
      [false, 429, named],
    ] as const) {
      const edge = await openEdge({
        clock: new ManualClock(),
        config: { chat, trustForwardedFor },
      });
      const statuses: number[] = [];
      for (const address of addresses) {
        const headers = { "content-type": "application/json", "x-forwarded-for": address };
        statuses.push(
          (await ask(edge, typingPath, headers, { method: "POST", body: "{}" })).status,
        );
      }
      assert.deepEqual(statuses, [401, second, 429]);
    }
  });
});

describe("an upgrade at the edge", () => {
  afterEach(closeEdges);

  const takesAll = {
    upgrade: (_: IncomingMessage, socket: { end(text: string): void }) =>
      socket.end("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
  };

  it("is handed on from no page, pages of the same host and allowed ones", async () => {
    const edge = await openEdge({
      ...takesAll,
      config: { origins: ["https://app.example"] },
    });
    const fine = [[], ["origin: http://chat.example"], ["origin: https://app.example"]];
    for (const lines of fine)
      assert.match(await raw(edge, upgradeLines("/ws?x=1", ...lines)), /^HTTP\/1.1 101/);
  });

  it("is refused from other pages, elsewhere, and to other protocols", async () => {
    const edge = await openEdge(takesAll);
    const wrong: [string, RegExp][] = [
      [
        upgradeLines("/ws", "origin: https://evil.example"),
        /^HTTP\/1.1 403[^]*evil\.example may not/,
      ],
      [upgradeLines("/ws", "origin: null"), /^HTTP\/1.1 403/],
      [upgradeLines("/wsx"), /^HTTP\/1.1 404[^]*WebSocket is at \/ws/],
      [upgradeLines("/ws", "upgrade: h2c"), /^HTTP\/1.1 400[^]*only an upgrade to WebSocket/],
    ];
    for (const [text, answer] of wrong) assert.match(await raw(edge, text), answer);
  });

  it("survives a client that goes away in the middle of it", async () => {
    let took: (socket: Socket) => void = () => undefined;
    const taken = new Promise<Socket>((resolve) => (took = resolve));
    const edge = await openEdge({ upgrade: (_, socket) => took(socket as Socket) });
    const socket = connectSocket(edge.port, "127.0.0.1");
    socket.write(upgradeLines("/ws"));
    const serverSide = await taken;
    const gone = new Promise((resolve) => serverSide.once("close", resolve));
    socket.resetAndDestroy();
    await gone;
    assert.equal((await ask(edge, "/healthz")).status, 200);
  });
});

describe("the edge going away", () => {
  afterEach(closeEdges);

  const call = async ({ url }: TestEdge, method: string, body: object): Promise<Response> =>
    fetch(`${url}/parley.v1.ChatService/${method}`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${await tokenFor("alice")}`,
        "content-type": "application/json",
      },
      body: JSON.stringify(body),
    });

  it("lets calls finish, ends long polls, and takes nothing new", async () => {
    let finish: () => void = () => undefined;
    const begun: string[] = [];
    const edge = await openEdge({
      calls: fakeCalls({
        async setTyping() {
          begun.push("typing");
          await new Promise<void>((resolve) => (finish = resolve));
          return { $typeName: "parley.v1.SetTypingResponse" };
        },
        async sync(_, __, signal) {
          begun.push("sync");
          if (signal !== undefined) await once(signal, "abort");
          throw new Error("aborted");
        },
      }),
    });
    const slow = call(edge, "SetTyping", {});
    const poll = call(edge, "Sync", { waitMs: 60_000 });
    while (begun.length < 2) await new Promise((resolve) => setImmediate(resolve));
    const closed = edge.server.close(60_000);
    const ended = await poll;
    assert.equal(ended.status, 503);
    assert.equal((await said(ended))["code"], "unavailable");
    assert.ok(Number(ended.headers.get("retry-after-ms")) > 0);
    await assert.rejects(fetch(`${edge.url}/healthz`));
    finish();
    assert.equal((await slow).status, 200);
    await closed;
  });

  it("cuts what is left after the grace, WebSockets included", async () => {
    const clock = new ManualClock();
    const taken: Socket[] = [];
    const edge = await openEdge({
      clock,
      upgrade: (_, socket) => void taken.push(socket as Socket),
      calls: fakeCalls({
        setTyping: () => {
          taken.push(connectSocket(edge.port, "127.0.0.1"));
          return new Promise(() => undefined);
        },
      }),
    });
    const socket = connectSocket(edge.port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write(upgradeLines("/ws"));
    const hanging = call(edge, "SetTyping", {});
    while (taken.length < 2) await new Promise((resolve) => setImmediate(resolve));
    const closed = edge.server.close(5_000);
    clock.advance(5_000);
    assert.equal((await hanging).status, 503);
    clock.advance(250);
    await closed;
    for (const one of taken) one.destroy();
  });
});
