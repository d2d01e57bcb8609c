import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { runLines } from "../../cli/chat-lines.ts";
import { Availability } from "../../client/index.ts";
import { PresenceSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import { FakeSdk, clientIdOf, change, message, view } from "./fake-sdk.ts";

const id = "d:alice:bob";

function world(parts: { json?: boolean; conversation?: string | undefined } = {}) {
  const sdk = new FakeSdk();
  const input = new PassThrough();
  const printed: string[] = [];
  const complained: string[] = [];
  const stop = new AbortController();
  let giveUp: (() => void) | undefined;
  const ended = runLines({
    sdk,
    me: "alice",
    conversation: "conversation" in parts ? parts.conversation : id,
    json: parts.json ?? false,
    input,
    print: (line) => void printed.push(line),
    complain: (line) => void complained.push(line),
    signal: stop.signal,
    after: (_, run) => {
      giveUp = run;
      return () => undefined;
    },
  });
  return {
    sdk,
    input,
    printed,
    complained,
    stop,
    ended,
    giveUp: () => giveUp?.(),
    waiting: () => giveUp !== undefined,
  };
}

/** Until the input was read so far. */
async function until(holds: () => boolean): Promise<void> {
  for (let turns = 0; turns < 1_000 && !holds(); turns += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(holds(), "it did not come to that");
}

describe("a chat through pipes", () => {
  it("sends each line, says what became of it, and ends when all is sent", async () => {
    const { sdk, input, printed, ended } = world();
    input.end("hello\n\nhow are you?\n");
    sdk.goLive();
    await until(() => sdk.sent.length === 2);
    assert.deepEqual(
      sdk.sent.map(({ text, to }) => [text, to]),
      [
        ["hello", { user: "bob" }],
        ["how are you?", { user: "bob" }],
      ],
    );
    sdk.answer(id, 1);
    sdk.emit("status", {
      status: "read",
      clientId: clientIdOf(1),
      conversationId: id,
      seq: 1,
      delivered: 1,
      read: 1,
      of: 1,
    });
    sdk.emit("status", {
      status: "read",
      clientId: clientIdOf(1),
      conversationId: id,
      seq: 1,
      delivered: 1,
      read: 1,
      of: 1,
    });
    sdk.answer(id, 2);
    assert.equal(await ended, 0);
    assert.deepEqual(printed, ["* connected", "✓ #1 sent", "✓✓ #1 read", "✓ #2 sent"]);
  });

  it("prints what comes in, as one line each, and marks it as read", async () => {
    const { sdk, input, printed, ended } = world();
    sdk.goLive();
    sdk.push(message(id, 1, "bob", "one\n\u001b[2Jtwo"));
    sdk.push(message(id, 2, "alice", "from another device"), true);
    sdk.push(message("g:1", 1, "carol", "elsewhere"));
    sdk.emit("typing", { conversationId: id, userId: "bob" });
    sdk.emit(
      "presence",
      create(PresenceSchema, { userId: "bob", availability: Availability.ONLINE }),
    );
    sdk.emit(
      "presence",
      create(PresenceSchema, { userId: "bob", availability: Availability.ONLINE }),
    );
    sdk.emit(
      "presence",
      create(PresenceSchema, { userId: "bob", availability: Availability.OFFLINE }),
    );
    sdk.emit("gap", { conversationId: id, from: 3, to: 9, more: false });
    sdk.wait(2_100);
    input.end();
    await ended;
    assert.deepEqual(printed, [
      "* connected",
      "bob: one ↵ �[2Jtwo",
      "alice: from another device",
      "* bob is typing",
      "* bob is online",
      "* bob is offline",
      "* #3 to #9 cannot be had",
      "* reconnecting in 3 s: gone",
    ]);
    assert.equal(sdk.asked.filter((ask) => ask === `markRead ${id}`).length, 2);
    assert.ok(sdk.asked.includes("watchPresence bob"));
  });

  it("prints JSON where asked to", async () => {
    const { sdk, input, printed, ended } = world({ json: true, conversation: "g:1" });
    sdk.goLive();
    sdk.push(
      message("g:1", 1, "bob", {
        text: "two\nlines",
        replyToSeq: 7,
        attachments: [
          { mediaId: "m", mediaType: "image/png", size: 9, width: 2, height: 3, fileName: "a.png" },
        ],
      }),
    );
    sdk.push(change("g:1", 2, "bob", { added: ["carol"], title: "Trip" }));
    input.end("hello\n");
    await until(() => sdk.sent.length === 1);
    sdk.refuseOne(new ConnectError("no", Code.PermissionDenied));
    assert.equal(await ended, 1);
    const objects = printed.map((line): unknown => JSON.parse(line));
    const noon = { timeMs: 1_795_521_601_000 };
    assert.deepEqual(objects, [
      { type: "state", state: "live", transport: "websocket" },
      { type: "synced" },
      {
        ...{ type: "message", conversationId: "g:1", seq: 1, senderId: "bob", own: false, ...noon },
        ...{ clientId: "", text: "two\nlines", replyToSeq: 7 },
        attachments: [
          { mediaId: "m", mediaType: "image/png", size: 9, width: 2, height: 3, fileName: "a.png" },
        ],
      },
      {
        ...{ type: "membership", conversationId: "g:1", seq: 2, senderId: "bob", own: false },
        ...{ timeMs: noon.timeMs + 1_000, added: ["carol"], removed: [], title: "Trip" },
      },
      { type: "status", status: "pending", clientId: clientIdOf(1) },
      { type: "status", status: "failed", clientId: clientIdOf(1), error: "no" },
    ]);
  });

  it("ends with an error where a line is refused, and goes on with the others", async () => {
    const { sdk, input, complained, ended } = world();
    sdk.views.set(id, view(id));
    sdk.goLive();
    sdk.refuse = new ConnectError(
      "text of 20000 bytes: at most 16384 are taken",
      Code.InvalidArgument,
    );
    input.write("too long\n");
    await until(() => complained.length === 1);
    sdk.refuse = undefined;
    input.end("short\n");
    await until(() => sdk.sent.length === 1);
    sdk.answer(id, 2);
    assert.equal(await ended, 1);
    assert.deepEqual(complained, ["text of 20000 bytes: at most 16384 are taken"]);
  });

  it("ends at once where it is told to stay away", async () => {
    const { sdk, complained, ended } = world();
    sdk.stop(4100, "the token has expired");
    assert.equal(await ended, 1);
    assert.match(complained[0] ?? "", /does not take the token: the token has expired/);
  });

  it("ends by a signal, and says what is not sent", async () => {
    const { sdk, input, complained, stop, ended } = world();
    input.write("hello\n");
    await until(() => sdk.sent.length === 1);
    stop.abort();
    assert.equal(await ended, 1);
    assert.deepEqual(complained, ["1 message is not sent yet"]);
  });

  it("does not wait for ever for a server that is away", async () => {
    const made = world();
    made.input.end("hello\n");
    await until(() => made.waiting());
    made.giveUp();
    assert.equal(await made.ended, 1);
    assert.deepEqual(made.complained, ["1 message is not sent yet"]);
  });

  it("reads no more lines than can be under way", async () => {
    const { sdk, input, ended } = world();
    sdk.goLive();
    input.end("x\n".repeat(1_000));
    await until(() => sdk.sent.length === 256);
    for (let turns = 0; turns < 20; turns += 1)
      await new Promise((resolve) => setImmediate(resolve));
    assert.equal(sdk.sent.length, 256);
    for (let seq = 1; seq <= 1_000; seq += 1) {
      await until(() => sdk.sent.length >= seq);
      sdk.answer(id, seq);
    }
    assert.equal(await ended, 0);
    assert.equal(sdk.sent.length, 1_000);
  });

  it("listens to everything where nobody is named, and sends nothing", async () => {
    const { sdk, input, printed, complained, ended } = world({ conversation: undefined });
    sdk.goLive();
    sdk.push(message("g:1", 1, "carol", "hello"));
    input.end("hi\n");
    assert.equal(await ended, 1);
    assert.deepEqual(printed, ["* connected", "[g:1] carol: hello"]);
    assert.deepEqual(complained, ["nothing can be sent without --with USER or --group ID"]);
    assert.ok(!sdk.asked.some((ask) => ask.startsWith("markRead")));
  });
});
