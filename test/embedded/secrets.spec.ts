/** What must not be told is not logged: neither what proves who somebody is nor what people write, at the level that logs everything. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { createNodeClient } from "../../client/node.ts";
import { parleyConfig, startParley } from "../../embedded/index.ts";
import { createLog } from "../../mesh/log.ts";
import { newFolder, secret, testSettings, tokenFor } from "../support/parley.ts";
import { picture } from "../support/pictures.ts";
import { within } from "../support/within.ts";

/** Stands in what people write, in names that they give, and in addresses; found in any part of a log. */
const marks = ["Schweinebraten", "Kaiserschmarrn", "Marillenknoedel"] as const;
const [text, title, fileName] = marks;

describe("the log at its finest level", () => {
  it("has ids, and no secret, no token and nothing that people wrote", async () => {
    const folder = await newFolder();
    const written: string[] = [];
    const log = createLog({ level: "trace", to: { write: (line) => void written.push(line) } });
    const settings = testSettings(folder.path, { PARLEY_LOG_LEVEL: "trace" });
    const parley = await startParley(parleyConfig(settings), { log });
    const url = `http://127.0.0.1:${parley.port}`;
    const token = await tokenFor("alice");
    const stale = await tokenFor("alice", -3_600);
    const forged = `${token.slice(0, -8)}AAAAAAAA`;
    const tokens = [token, stale, forged];
    try {
      await talk(url, token);
      for (const one of tokens) await misuse(url, parley.port, one);
    } finally {
      await parley.close();
      await folder.remove();
    }
    const all = written.join("");
    assert.ok(all.includes("alice"), "it has no id: it is not the log");
    const signatures = tokens.map((one) => one.split(".")[2] ?? "");
    const encoded = marks.map((one) => Buffer.from(one).toString("base64").slice(0, -4));
    const hidden = [secret, ...tokens, ...signatures, ...marks, ...encoded];
    assert.deepEqual(foundIn(`${all} ${token}`, hidden), [token, signatures[0]]);
    assert.deepEqual(foundIn(all, hidden), []);
  });
});

const foundIn = (log: string, hidden: readonly string[]): string[] =>
  hidden.filter((one) => log.includes(one));

/** All that a client does as it should. */
async function talk(url: string, token: string): Promise<void> {
  for (const transport of ["websocket", "connect"] as const) {
    const alice = createNodeClient({ url, token, transport });
    alice.connect();
    await alice.ready();
    const group = await alice.createGroup(title, ["bob"]);
    const image = await picture("png", { width: 8, height: 8 });
    const attachment = await alice.uploadMedia(group.id, image);
    const attachments = [{ ...attachment, fileName }];
    await alice.send({ conversation: group.id }, { text, attachments }).sent;
    await alice.updateGroup(group.id, { title: `${title} 2` });
    await alice.close();
  }
}

/** Tokens where they do not belong, and what is refused after it was read. */
async function misuse(url: string, port: number, token: string): Promise<void> {
  const call = (method: string, body: string, type = "application/json"): Promise<Response> =>
    fetch(`${url}/parley.v1.ChatService/${method}?token=${token}&text=${text}`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": type },
      body,
    });
  const wrong = [
    call("Send", `{"userId": "${text}!", "clientId": "${text}", "content": {"text": "${text}"}}`),
    call("Send", `{"conversationId": "g:${text}", "content": {"text": "${text}"`),
    call("CreateGroup", `{"clientId": "${btoa("x".repeat(16))}", "title": "${title.repeat(50)}"}`),
    call("History", `{"conversationId": "d:alice:${text}"}`),
    call("Send", text, "application/proto"),
    call("Send", text, `text/${text}`),
    call(text, "{}"),
    fetch(`${url}/media?conversation=d:alice:bob&token=${token}`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "image/png" },
      body: text,
    }),
    fetch(`${url}/media/d:alice:bob/${text}?token=${token}`),
    fetch(`${url}/${text}?token=${token}`, { headers: { cookie: `token=${token}` } }),
  ];
  for (const answer of await Promise.all(wrong)) {
    assert.notEqual(answer.status, 200);
    assert.ok(answer.status < 500, `${answer.status}: ${await answer.text()}`);
  }
  const upgrade = (path: string, headers: string): Promise<void> =>
    raw(
      port,
      `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n${headers}\r\n`,
    );
  await upgrade(`/ws?token=${token}`, `sec-websocket-protocol: ${token}\r\n`);
  await upgrade(
    "/ws",
    `sec-websocket-protocol: parley.v1, ${token}\r\nauthorization: Bearer ${token}\r\n`,
  );
  await upgrade(`/${text}`, `origin: http://${text}\r\n`);
  await raw(port, `GET /?token=${token} HTTP/9.9\r\n${text}\r\n\r\n`);
}

/** Sends bytes, then one message of a WebSocket that says nothing that is expected, and goes away. */
async function raw(port: number, bytes: string): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.resume();
  const closed = once(socket, "close");
  socket.write(bytes);
  await once(socket, "data").catch(() => undefined);
  const words = Buffer.from(text);
  // A whole binary message under the mask 0.
  socket.end(Buffer.concat([Buffer.from([0x82, 0x80 | words.length, 0, 0, 0, 0]), words]));
  await within(10_000, "the end of the socket", closed);
}
