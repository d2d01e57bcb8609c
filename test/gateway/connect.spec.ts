/** ChatService over Connect, as clients see it: who may call, how much, and what they are told. */
import assert from "node:assert/strict";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { once } from "node:events";
import { connect as connectSocket } from "node:net";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { UnsecuredJWT } from "jose";
import { signDevelopmentToken } from "../../gateway/auth.ts";
import { chatLimits } from "../../gateway/connect.ts";
import type { ChatLimits } from "../../gateway/connect.ts";
import type { Caller, Calls } from "../../gateway/ports.ts";
import { ManualClock, systemClock } from "../../mesh/clock.ts";
import type { Clock } from "../../mesh/clock.ts";
import { noConversation, overloaded, unavailable } from "../../mesh/errors.ts";
import { ChatService, CloseReason } from "../../proto/gen/parley/v1/chat_pb.ts";
import type { SubscribeResponse } from "../../proto/gen/parley/v1/chat_pb.ts";
import { closeEdges, fakeCalls, openEdge, said, secret, tokenFor } from "./edge.ts";
import type { TestEdge } from "./edge.ts";

type Chat = Client<typeof ChatService>;

const heartbeat: SubscribeResponse = {
  $typeName: "parley.v1.SubscribeResponse",
  event: { case: "heartbeat", value: { $typeName: "parley.v1.Heartbeat", headSum: 7n } },
};

/** A promise that a test ends. */
function gate<T = void>(): { opened: Promise<T>; open: (value: T) => void } {
  let open: (value: T) => void = () => undefined;
  const opened = new Promise<T>((resolve) => (open = resolve));
  return { opened, open };
}

const aborted = (signal: AbortSignal | undefined): Promise<unknown> =>
  signal === undefined || signal.aborted ? Promise.resolve() : once(signal, "abort");

/** A Sync that waits until its call is over. */
const waitingSync = (begun: () => void = () => undefined): Partial<Calls> => ({
  async sync(_, __, signal) {
    begun();
    await aborted(signal);
    throw new ConnectError("aborted", Code.Canceled);
  },
});

function open(
  calls: Partial<Calls>,
  limits: Partial<ChatLimits> = {},
  clock: Clock = systemClock,
): Promise<TestEdge> {
  const config = { chat: { ...chatLimits, ...limits } };
  return openEdge({ calls: fakeCalls(calls), clock, config });
}

const clientOf = ({ url }: TestEdge): Chat =>
  createClient(ChatService, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));

async function as(userId: string, device = "phone"): Promise<{ headers: Record<string, string> }> {
  const authorization = `Bearer ${await tokenFor(userId)}`;
  return { headers: { authorization, "parley-device": device } };
}

function post(
  { url }: TestEdge,
  method: string,
  body: string,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(`${url}/parley.v1.ChatService/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
  });
}

const callers: Caller[] = [];
const countingTyping: Partial<Calls> = {
  setTyping(caller) {
    callers.push(caller);
    return Promise.resolve({ $typeName: "parley.v1.SetTypingResponse" });
  },
};

describe("ChatService over Connect", () => {
  beforeEach(() => (callers.length = 0));
  afterEach(closeEdges);

  it("is called by curl with JSON", async () => {
    const edge = await open({
      send: (caller, { to, content, clientId }) => {
        callers.push(caller);
        assert.deepEqual(to, { case: "userId", value: "bob" });
        assert.equal(content?.text, "hi");
        assert.equal(clientId.length, 16);
        return Promise.resolve({
          $typeName: "parley.v1.SendResponse",
          conversationId: "d:alice:bob",
          seq: 1,
          timeMs: 1_700_000_000_000n,
          duplicate: false,
        });
      },
    });
    const { headers } = await as("alice", "laptop");
    const body = '{"userId":"bob","clientId":"AAAAAAAAAAAAAAAAAAAAAA==","content":{"text":"hi"}}';
    const response = await post(edge, "Send", body, headers);
    assert.equal(response.status, 200);
    assert.deepEqual(await said(response), {
      conversationId: "d:alice:bob",
      seq: 1,
      timeMs: "1700000000000",
    });
    assert.deepEqual(callers, [{ userId: "alice", deviceId: "laptop", origin: "", region: "" }]);
  });

  it("is called in binary, and over gRPC-Web", async () => {
    const edge = await open(countingTyping);
    await clientOf(edge).setTyping({ conversationId: "c" }, await as("alice"));
    const web = createGrpcWebTransport({ baseUrl: edge.url, httpVersion: "1.1" });
    await createClient(ChatService, web).setTyping({ conversationId: "c" }, await as("bob"));
    assert.deepEqual(
      callers.map(({ userId }) => userId),
      ["alice", "bob"],
    );
  });

  it("refuses calls without a good token, before anything else", async () => {
    const edge = await open(countingTyping);
    const expired = await tokenFor("alice", -60);
    const forged = await signDevelopmentToken(secret + "!", "alice", 60, systemClock);
    const none = new UnsecuredJWT({ sub: "alice" }).encode();
    const wrong: [Record<string, string>, RegExp][] = [
      [{}, /Authorization: Bearer/],
      [{ authorization: "Basic YTpi" }, /must read "Bearer <JWT>"/],
      [{ authorization: "Bearer x" }, /malformed/],
      [{ authorization: `Bearer ${expired}` }, /expired/],
      [{ authorization: `Bearer ${forged}` }, /signature is wrong/],
      [{ authorization: `Bearer ${none}` }, /algorithm is not allowed/],
    ];
    for (const [headers, message] of wrong) {
      const response = await post(edge, "SetTyping", "{}", headers);
      assert.equal(response.status, 401);
      assert.equal(response.headers.get("retry-after-ms"), null);
      const { code, message: told } = await said(response);
      assert.equal(code, "unauthenticated");
      assert.match(String(told), message);
    }
    assert.deepEqual(callers, []);
  });

  it("takes a device's name of at most 64 characters, or none", async () => {
    const edge = await open(countingTyping);
    const { headers } = await as("alice");
    const long = { ...headers, "parley-device": "x".repeat(65) };
    const response = await post(edge, "SetTyping", "{}", long);
    assert.equal(response.status, 400);
    assert.match(String((await said(response))["message"]), /Parley-Device has 65 characters/);
    await post(edge, "SetTyping", "{}", { authorization: headers["authorization"] ?? "" });
    assert.deepEqual(
      callers.map(({ deviceId }) => deviceId),
      [""],
    );
  });

  it("refuses random bytes, wrong JSON and invalid UTF-8", async () => {
    const edge = await open(countingTyping);
    const { headers } = await as("alice");
    for (const body of ["\u0000\u0001", "{", "[]", '{"conversationId":7}']) {
      const response = await post(edge, "SetTyping", body, headers);
      assert.equal(response.status, 400, body);
      assert.equal((await said(response))["code"], "invalid_argument");
    }
    const unreadable: [string, Uint8Array][] = [
      ["application/proto", Uint8Array.of(0x0a, 0x02, 0xff, 0xfe)],
      ["application/proto", Uint8Array.of(0x0a, 0xff)],
      ["application/json", Buffer.from('{"conversationId":"\xff"}', "latin1")],
    ];
    for (const [type, bytes] of unreadable) {
      const response = await fetch(`${edge.url}/parley.v1.ChatService/SetTyping`, {
        method: "POST",
        headers: { ...headers, "content-type": type },
        body: bytes,
      });
      assert.equal(response.status, 400, type);
      assert.equal((await said(response))["code"], "invalid_argument");
    }
    assert.deepEqual(callers, []);
  });

  it("brings deadlines nearer that no timer can wait for, and refuses them", async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error): void => void warnings.push(warning);
    process.on("warning", warned);
    try {
      const edge = await open(countingTyping);
      const { headers } = await as("alice");
      const far = { ...headers, "connect-timeout-ms": "9999999999" };
      const refused = await said(await post(edge, "SetTyping", "{}", far));
      assert.deepEqual([refused["code"], callers], ["invalid_argument", []]);
      for (const timeout of ["99999999H", "99999999M", "99999999S"]) {
        const response = await fetch(`${edge.url}/parley.v1.ChatService/SetTyping`, {
          method: "POST",
          headers: {
            ...headers,
            "content-type": "application/grpc-web+proto",
            "grpc-timeout": timeout,
          },
          body: new Uint8Array(5),
        });
        assert.match(await response.text(), /grpc-status: 3\b/, timeout);
      }
      // A warning is told a turn later.
      await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(warnings, []);
    } finally {
      process.off("warning", warned);
    }
  });

  it("refuses a request over the limit, whether it says its length or not", async () => {
    const edge = await openEdge({
      calls: fakeCalls(countingTyping),
      config: { requestMaxBytes: 1_000 },
    });
    const { headers } = await as("alice");
    const body = JSON.stringify({ conversationId: "x".repeat(1_000) });
    const response = await post(edge, "SetTyping", body, headers);
    assert.equal(response.status, 413);
    assert.deepEqual(await said(response), {
      code: "invalid_argument",
      message: "the request is too large; at most 1000 bytes are taken",
    });
    const chunked = await fetch(`${edge.url}/parley.v1.ChatService/SetTyping`, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json" },
      body: new Blob([body]).stream(),
      duplex: "half",
    });
    assert.equal((await said(chunked))["code"], "resource_exhausted");
    assert.deepEqual(callers, []);
  });

  it("passes errors on with code, message and the time to wait", async () => {
    const errors = [
      noConversation("g:x"),
      overloaded("slow down", 250),
      unavailable("storage is away", 700),
      new ConnectError("no time given", Code.Unavailable),
    ];
    const edge = await open({ setTyping: () => Promise.reject(errors.shift()) });
    const { headers } = await as("alice");
    const seen: unknown[] = [];
    for (let n = 0; n < 4; n++) {
      const response = await post(edge, "SetTyping", "{}", headers);
      const { code, message } = await said(response);
      seen.push([response.status, code, message, response.headers.get("retry-after-ms")]);
    }
    assert.deepEqual(seen, [
      [404, "not_found", "there is no conversation g:x that you are a member of", null],
      [429, "resource_exhausted", "slow down", "250"],
      [503, "unavailable", "storage is away", "700"],
      [503, "unavailable", "no time given", "500"],
    ]);
  });

  it("tells nothing of its own faults", async () => {
    const edge = await open({ setTyping: () => Promise.reject(new Error("password 123")) });
    const response = await post(edge, "SetTyping", "{}", (await as("alice")).headers);
    assert.equal(response.status, 500);
    assert.deepEqual(await said(response), { code: "internal", message: "internal error" });
  });

  it("bounds the calls of a user, says when to come again, and hurts nobody else (P9)", async () => {
    const clock = new ManualClock();
    const edge = await open(countingTyping, { callsPerSecond: 2, callsBurst: 3 }, clock);
    const alice = (await as("alice")).headers;
    const statuses: number[] = [];
    for (let n = 0; n < 3; n++) statuses.push((await post(edge, "SetTyping", "{}", alice)).status);
    const refused = await post(edge, "SetTyping", "{}", alice);
    assert.deepEqual([...statuses, refused.status], [200, 200, 200, 429]);
    assert.equal(refused.headers.get("retry-after-ms"), "500");
    assert.equal((await said(refused))["code"], "resource_exhausted");
    assert.equal((await post(edge, "SetTyping", "{}", (await as("bob")).headers)).status, 200);
    clock.advance(500);
    assert.equal((await post(edge, "SetTyping", "{}", alice)).status, 200);
  });

  it("bounds the calls of an address, with bad tokens, too", async () => {
    const limits = { remoteCallsPerSecond: 1, remoteCallsBurst: 2 };
    const edge = await open(countingTyping, limits, new ManualClock());
    await post(edge, "SetTyping", "{}");
    await post(edge, "SetTyping", "{}");
    const refused = await post(edge, "SetTyping", "{}", (await as("alice")).headers);
    assert.equal(refused.status, 429);
    assert.match(String((await said(refused))["message"]), /this address/);
  });

  it("ends a call at the deadline that the caller gave", async () => {
    const edge = await open(waitingSync());
    const late = clientOf(edge).sync({ waitMs: 60_000 }, { ...(await as("alice")), timeoutMs: 50 });
    await assert.rejects(late, { code: Code.DeadlineExceeded });
    const hanging = await open({ history: () => new Promise(() => undefined) });
    const call = clientOf(hanging).history({}, { ...(await as("alice")), timeoutMs: 50 });
    await assert.rejects(call, { code: Code.DeadlineExceeded });
  });

  it("ends a long poll whose caller went away", async () => {
    const begun = gate();
    const ended = gate();
    const edge = await open({
      async sync(_, __, signal) {
        begun.open();
        await aborted(signal);
        ended.open();
        throw new ConnectError("aborted", Code.Canceled);
      },
    });
    const leaving = new AbortController();
    const poll = clientOf(edge).sync(
      { waitMs: 60_000 },
      { ...(await as("alice")), signal: leaving.signal },
    );
    await begun.opened;
    leaving.abort();
    await assert.rejects(poll, { code: Code.Canceled });
    await ended.opened;
  });

  it("bounds the long polls of a user that are open at once", async () => {
    const begun = gate();
    const edge = await open(
      waitingSync(() => begun.open()),
      { waitsPerUserMax: 1 },
    );
    const leaving = new AbortController();
    const alice = await as("alice");
    const first = clientOf(edge).sync({ waitMs: 60_000 }, { ...alice, signal: leaving.signal });
    await begun.opened;
    const second = clientOf(edge).sync({ waitMs: 60_000 }, alice);
    await assert.rejects(second, { code: Code.ResourceExhausted, message: /too many streams/ });
    leaving.abort();
    await assert.rejects(first);
  });
});

describe("Subscribe over Connect", () => {
  afterEach(closeEdges);

  it("streams what comes, unbuffered by proxies, and ends where the calls end", async () => {
    const edge = await open({
      async *subscribe(caller) {
        assert.equal(caller.deviceId, "phone");
        yield heartbeat;
        await Promise.resolve();
        yield heartbeat;
      },
    });
    let proxies: string | null = null;
    const events: string[] = [];
    const options = {
      ...(await as("alice")),
      onHeader: (headers: Headers) => void (proxies = headers.get("x-accel-buffering")),
    };
    for await (const { event } of clientOf(edge).subscribe({}, options))
      events.push(event.case ?? "");
    assert.deepEqual(events, ["heartbeat", "heartbeat"]);
    assert.equal(proxies, "no");
  });

  it("refuses a request that cannot be read, as the caller's fault", async () => {
    const edge = await open({});
    const { headers } = await as("alice");
    const message = [0x0a, 0x7f, 1];
    const response = await fetch(`${edge.url}/parley.v1.ChatService/Subscribe`, {
      method: "POST",
      headers: { ...headers, "content-type": "application/connect+proto" },
      body: Uint8Array.of(0, 0, 0, 0, message.length, ...message),
    });
    const bytes = Buffer.from(await response.arrayBuffer());
    assert.deepEqual([bytes[0], bytes.readUInt32BE(1)], [2, bytes.length - 5]);
    const { error } = JSON.parse(bytes.toString("utf8", 5)) as { error: Record<string, string> };
    assert.equal(error["code"], "invalid_argument");
    assert.match(error["message"] ?? "", /^the message cannot be read: /);
  });

  it("refuses a body that cannot be decompressed, as the caller's fault", async () => {
    const edge = await open({});
    const { headers } = await as("alice");
    const cutOff = {
      gzip: gzipSync("{}").subarray(0, 12),
      br: brotliCompressSync("{}").subarray(0, 3),
    };
    for (const [encoding, body] of Object.entries(cutOff)) {
      const response = await fetch(`${edge.url}/parley.v1.ChatService/Sync`, {
        method: "POST",
        headers: { ...headers, "content-type": "application/json", "content-encoding": encoding },
        body,
      });
      const { code, message } = (await response.json()) as Record<string, string>;
      assert.deepEqual([response.status, code], [400, "invalid_argument"]);
      assert.match(message ?? "", /^the message cannot be read: /);
    }
  });

  it("is refused without a token", async () => {
    const edge = await open({});
    const events = clientOf(edge).subscribe({})[Symbol.asyncIterator]();
    await assert.rejects(events.next(), { code: Code.Unauthenticated });
  });

  it("tells the calls when the client went away", async () => {
    const ended = gate();
    const edge = await open({
      async *subscribe(_, __, signal) {
        yield heartbeat;
        await aborted(signal);
        ended.open();
      },
    });
    const leaving = new AbortController();
    const options = { ...(await as("alice")), signal: leaving.signal };
    await assert.rejects(
      async () => {
        for await (const { event } of clientOf(edge).subscribe({}, options))
          if (event.case === "heartbeat") leaving.abort();
      },
      { code: Code.Canceled },
    );
    await ended.opened;
  });

  it("says goodbye when the token ends", async () => {
    const clock = new ManualClock(systemClock.now());
    const ended = gate();
    const edge = await open(
      {
        async *subscribe(_, __, signal) {
          yield heartbeat;
          await aborted(signal);
          ended.open();
        },
      },
      {},
      clock,
    );
    const seen: unknown[] = [];
    for await (const { event } of clientOf(edge).subscribe({}, await as("alice"))) {
      seen.push(event.case === "goodbye" ? event.value.reason : event.case);
      if (event.case === "heartbeat") clock.advance(3_601_000);
    }
    assert.deepEqual(seen, ["heartbeat", CloseReason.UNAUTHENTICATED]);
    await ended.opened;
  });

  it("gives a place back when a stream ends, however it ends", async () => {
    const edge = await open(
      {
        async *subscribe() {
          yield heartbeat;
          await Promise.resolve();
          throw unavailable("gone");
        },
      },
      { waitsPerUserMax: 1 },
    );
    for (let n = 0; n < 3; n++) {
      const events = clientOf(edge)
        .subscribe({}, await as("alice"))
        [Symbol.asyncIterator]();
      await events.next();
      await assert.rejects(events.next(), { code: Code.Unavailable, message: /gone/ });
    }
  });

  it("cuts a reader that does not read (P9)", async () => {
    const clock = new ManualClock(systemClock.now());
    const ended = gate();
    const large: SubscribeResponse = {
      $typeName: "parley.v1.SubscribeResponse",
      event: {
        case: "pushed",
        value: {
          $typeName: "parley.v1.Pushed",
          records: [],
          cursors: [],
          presences: [],
          typings: [
            { $typeName: "parley.v1.Typing", conversationId: "x".repeat(2 ** 20), userId: "" },
          ],
          resync: false,
        },
      },
    };
    const edge = await open(
      {
        async *subscribe(_, __, signal) {
          void aborted(signal).then(() => ended.open());
          for (;;) {
            yield large;
            await Promise.resolve();
          }
        },
      },
      { writeMs: 5_000 },
      clock,
    );
    const socket = connectSocket(edge.port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.pause();
    const { headers } = await as("alice");
    socket.write(
      [
        "POST /parley.v1.ChatService/Subscribe HTTP/1.1",
        "host: edge",
        "content-type: application/connect+json",
        `authorization: ${headers["authorization"]}`,
        "content-length: 7",
        "",
        "",
      ].join("\r\n") + "\0\0\0\0\u0002{}",
      "latin1",
    );
    // It goes on while the sockets' buffers take something; then no yield comes back, however late it is.
    const ticking = setInterval(() => clock.advance(1_000), 20);
    await ended.opened;
    clearInterval(ticking);
    socket.destroy();
  });
});
