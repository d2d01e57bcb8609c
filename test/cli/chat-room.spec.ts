import assert from "node:assert/strict";
import { Code, ConnectError } from "@connectrpc/connect";
import { draw } from "../../cli/chat-draw.ts";
import { textOf } from "../../cli/chat-editor.ts";
import { Calendar } from "../../cli/chat-rows.ts";
import { ChatRoom } from "../../cli/chat-room.ts";
import type { Attachment } from "../../client/index.ts";
import { Availability } from "../../client/index.ts";
import { FakeSdk, change, erasure, message, noonMs, view } from "./fake-sdk.ts";

const id = "d:alice:bob";

function world(): { sdk: FakeSdk; room: ChatRoom; type(line: string): void; quits: number } {
  const sdk = new FakeSdk();
  const made = {
    sdk,
    quits: 0,
    type(line: string): void {
      for (const character of line) room.key(character, { name: character }, 10);
      room.key("\r", { name: "return" }, 10);
    },
  };
  const room = new ChatRoom({
    sdk,
    me: "alice",
    now: () => noonMs,
    changed: () => undefined,
    upload: (file): Promise<Attachment> =>
      file === "cat.png"
        ? Promise.resolve({ ...picture, fileName: file })
        : Promise.reject(new Error(`no ${file}`)),
    quit: () => {
      made.quits += 1;
    },
  });
  return Object.assign(made, { room });
}

const picture: Attachment = {
  $typeName: "parley.v1.Attachment",
  mediaId: "m",
  mediaType: "image/png",
  size: 1,
  width: 1,
  height: 1,
  thumbnail: new Uint8Array(),
  fileName: "",
};

/** Lets promises that are settled have their say. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const openId = (room: ChatRoom): string | undefined => room.state.open?.id;

const texts = (room: ChatRoom): string[] =>
  (room.state.open?.records ?? []).map(({ body }) =>
    body.case === "message" ? body.value.text : "change",
  );

describe("a chat in a terminal", () => {
  it("begins a conversation with its first message, to the user, and follows it to the log", () => {
    const { sdk, room, type } = world();
    room.showUser("bob");
    sdk.goLive();
    type("hello");
    assert.deepEqual(
      sdk.sent.map(({ to, text }) => [to, text]),
      [[{ user: "bob" }, "hello"]],
    );
    assert.deepEqual(
      room.state.open?.outgoing.map(({ failed }) => failed),
      [undefined],
    );
    sdk.answer(id, 1);
    assert.deepEqual(room.state.open?.outgoing, []);
    assert.deepEqual(texts(room), ["hello"]);
    type("again");
    assert.deepEqual(sdk.sent[1]?.to, { conversation: id });
    assert.equal(textOf(room.state.editor), "");
  });

  it("keeps a message that was refused, with the reason", () => {
    const { sdk, room, type } = world();
    room.showUser("bob");
    sdk.goLive();
    type("hello");
    sdk.refuseOne(new ConnectError("not a member", Code.PermissionDenied));
    assert.deepEqual(
      room.state.open?.outgoing.map(({ failed }) => failed),
      ["not a member"],
    );
    room.show(undefined);
    room.showUser("bob");
    assert.equal(room.state.open?.outgoing.length, 1);
    sdk.refuse = new ConnectError("text of 20000 bytes", Code.InvalidArgument);
    type("too long");
    return turn().then(() => assert.deepEqual(room.state.notice, ["text of 20000 bytes"]));
  });

  it("marks as read what is shown, once all is known, and shows where the new begins", async () => {
    const { sdk, room } = world();
    const log = [1, 2, 3].map((seq) => message(id, seq, "bob", `${seq}`));
    sdk.log.set(id, log);
    sdk.kept.set(id, log.slice(2));
    sdk.views.set(id, view(id, { headSeq: 3, readSeq: 1, unreadCount: 2 }));
    room.show(id);
    assert.ok(!sdk.asked.includes(`markRead ${id}`), "read before it was synced");
    sdk.goLive();
    assert.equal(room.state.open?.newAfterSeq, 1);
    assert.ok(sdk.asked.includes(`markRead ${id}`));
    await turn();
    assert.deepEqual(texts(room), ["1", "2", "3"]);
    assert.deepEqual(
      sdk.asked.filter((ask) => ask.startsWith("history")),
      [`history ${id} before 3`],
    );
  });

  it("does not mark as read what is scrolled out of sight, or of another conversation", () => {
    const { sdk, room } = world();
    room.showUser("bob");
    sdk.goLive();
    sdk.push(message(id, 1, "bob", "one"));
    const reads = (): number => sdk.asked.filter((ask) => ask.startsWith("markRead")).length;
    assert.equal(reads(), 1);
    room.key(undefined, { name: "pageup" }, 10);
    sdk.push(message(id, 2, "bob", "two"));
    sdk.push(message("g:1", 1, "bob", "elsewhere"));
    assert.equal(reads(), 1);
    room.key(undefined, { name: "pagedown" }, 10);
    assert.equal(reads(), 2);
  });

  it("loads older messages when asked, and names what cannot be had", async () => {
    const { sdk, room, type } = world();
    sdk.log.set(
      id,
      Array.from({ length: 120 }, (_, at) => message(id, at + 1, "bob", `${at + 1}`)),
    );
    sdk.views.set(id, view(id, { headSeq: 120 }));
    room.show(id);
    sdk.goLive();
    await turn();
    assert.deepEqual([texts(room)[0], texts(room).length], ["71", 50]);
    type("/more");
    await turn();
    assert.deepEqual([texts(room)[0], texts(room).length], ["21", 100]);
    sdk.log.set(id, []);
    type("/more");
    await turn();
    assert.deepEqual(room.state.open?.lost, [{ from: 1, to: 20 }]);
    type("/more");
    await turn();
    assert.deepEqual(room.state.notice, ["there is nothing older"]);
  });

  it("shows who types until they wrote or 5 seconds are over, and says when the user types", () => {
    const { sdk, room, type } = world();
    room.showUser("bob");
    sdk.goLive();
    sdk.push(message(id, 1, "bob", "hi"));
    sdk.emit("typing", { conversationId: id, userId: "bob" });
    sdk.emit("typing", { conversationId: "g:1", userId: "carol" });
    sdk.emit("typing", { conversationId: id, userId: "alice" });
    assert.deepEqual([...(room.state.open?.typing ?? [])], [["bob", noonMs + 5_000]]);
    sdk.push(message(id, 2, "bob", "there"));
    assert.deepEqual([...(room.state.open?.typing ?? [])], []);
    type("/help");
    assert.ok(!sdk.asked.includes(`setTyping ${id}`), "a command is nothing that others read");
    room.key("h", { name: "h" }, 10);
    assert.ok(sdk.asked.includes(`setTyping ${id}`));
  });

  it("watches those whom it talks to, anew after a resume", async () => {
    const { sdk, room } = world();
    sdk.online.set("bob", Availability.ONLINE);
    sdk.views.set(id, view(id));
    sdk.views.set("g:1", view("g:1", { memberCount: 3 }));
    sdk.members.set(
      "g:1",
      ["alice", "bob", "carol"].map((userId) => ({ userId, deliveredSeq: 0, readSeq: 0 })),
    );
    sdk.goLive();
    room.show("g:1");
    await turn();
    const watches = (): string[] => sdk.asked.filter((ask) => ask.startsWith("watch"));
    assert.deepEqual(watches(), ["watchPresence bob", "watchPresence bob carol"]);
    assert.deepEqual(room.state.presences.get("bob"), { online: true, lastSeenMs: 0 });
    sdk.wait(2_500);
    assert.deepEqual(room.state.link, { t: "waiting", untilMs: noonMs + 2_500, why: "gone" });
    sdk.goLive();
    assert.equal(watches().length, 3);
  });

  it("makes and changes groups", async () => {
    const { sdk, room, type } = world();
    sdk.goLive();
    type('/group "Our trip" bob carol');
    await turn();
    assert.equal(openId(room), "g:new");
    for (const line of ["/add dave", "/remove carol", "/rename Trip", "/leave"]) {
      type(line);
      await turn();
    }
    assert.deepEqual(
      sdk.asked.filter((ask) => /Group/.test(ask)),
      [
        "createGroup Our trip: bob carol",
        'updateGroup g:new {"add":["dave"]}',
        'updateGroup g:new {"remove":["carol"]}',
        'updateGroup g:new {"title":"Trip"}',
        "leaveGroup g:new",
      ],
    );
    assert.equal(room.state.open, undefined);
    sdk.push(change("g:new", 2, "bob", { added: ["erin"] }));
  });

  it("says who has got and read what", async () => {
    const { sdk, room, type } = world();
    sdk.views.set("g:1", view("g:1", { headSeq: 9 }));
    sdk.members.set("g:1", [
      { userId: "alice", deliveredSeq: 9, readSeq: 9 },
      { userId: "bob", deliveredSeq: 9, readSeq: 4 },
      { userId: "carol", deliveredSeq: 3, readSeq: 0 },
      { userId: "dave", deliveredSeq: 0, readSeq: 0 },
    ]);
    room.show("g:1");
    sdk.goLive();
    type("/members");
    await turn();
    assert.deepEqual(
      room.state.notice.map((line) => line.replaceAll(/ +/g, " ")),
      [
        "you ✓✓ has read everything",
        "bob ✓✓ has got everything, has read up to #4",
        "carol ✓ has got #3 of 9, has read nothing",
        "dave ✓ has got nothing yet",
      ],
    );
  });

  it("sends an image, or says why not", async () => {
    const { sdk, room, type } = world();
    room.showUser("bob");
    sdk.goLive();
    type("/image cat.png");
    await turn();
    assert.match(room.state.notice.join(), /send a word first/);
    sdk.push(message(id, 1, "bob", "hi"));
    type("/image cat.png");
    await turn();
    assert.equal(sdk.sent[0]?.handle.content.attachments[0]?.fileName, "cat.png");
    type("/image dog.png");
    await turn();
    assert.deepEqual(room.state.notice, ["no dog.png"]);
  });

  it("chooses from the list, and comes back to it", async () => {
    const { sdk, room, type } = world();
    sdk.views.set(id, view(id, { headTimeMs: noonMs - 1 }));
    sdk.views.set("g:1", view("g:1", { title: "Trip" }));
    sdk.goLive();
    assert.deepEqual(
      room.state.conversations.map(({ id: one }) => one),
      ["g:1", id],
    );
    type("hello");
    await turn();
    assert.match(room.state.notice.join(), /open a conversation first/);
    room.key(undefined, { name: "escape" }, 10);
    room.key(undefined, { name: "down" }, 10);
    type("");
    assert.equal(openId(room), id);
    room.key(undefined, { name: "escape" }, 10);
    assert.equal(openId(room), undefined);
    type("/open Trip");
    assert.equal(openId(room), "g:1");
    type("/open 2");
    assert.equal(openId(room), id);
    type("/open 3");
    await turn();
    assert.match(room.state.notice.join(), /there is no conversation 3/);
  });

  it("says what is wrong with a command, where it belongs, and what went wrong", async () => {
    const { sdk, room, type } = world();
    room.showUser("bob");
    sdk.goLive();
    for (const [line, says] of [
      ["/leave", /for groups/],
      ["/nope", /no \/nope/],
      ["/group", /use: \/group/],
    ] as const) {
      type(line);
      await turn();
      assert.match(room.state.notice.join(), says);
    }
    sdk.emit("error", { during: "keeping", error: new Error("disk full") });
    assert.deepEqual(room.state.notice, ["keeping: disk full"]);
  });

  it("forgets what is erased as it is told, shown or on its way", async () => {
    const { sdk, room } = world();
    const log = [1, 2, 3].map((seq) => message(id, seq, "bob", `secret ${seq}`));
    sdk.log.set(id, log);
    sdk.kept.set(id, log.slice(1));
    sdk.views.set(id, view(id, { headSeq: 3 }));
    room.show(id);
    sdk.goLive();
    assert.deepEqual(texts(room), ["secret 2", "secret 3"]);
    sdk.push(erasure(id, 4, [1, 2]));
    // The page that was asked for before has the first one as it was.
    await turn();
    assert.deepEqual(texts(room), ["", "", "secret 3", "change"]);
    const frame = { columns: 80, rows: 24, nowMs: noonMs, calendar: new Calendar("UTC") };
    const drawn = JSON.stringify(draw(room.state, frame));
    assert.match(drawn, /erased: its sender has left for good/);
    assert.doesNotMatch(drawn, /secret [12]/);
    assert.match(drawn, /secret 3/);
  });

  it("ends when asked to", () => {
    const made = world();
    made.type("/quit");
    made.room.key(undefined, { name: "c", ctrl: true }, 10);
    made.room.key(undefined, { name: "d", ctrl: true }, 10);
    assert.equal(made.quits, 3);
    made.room.key("x", { name: "x" }, 10);
    made.room.key(undefined, { name: "d", ctrl: true }, 10);
    assert.equal(made.quits, 3);
  });
});
