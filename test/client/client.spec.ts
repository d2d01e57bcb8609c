import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { ManualClock } from "../../mesh/clock.ts";
import { seededRandom } from "../../mesh/random.ts";
import { PresenceSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import {
  Availability,
  MemoryStore,
  type ClientLimits,
  type ClientOptions,
  type ParleyClient,
} from "../../client/index.ts";
import { retryDelayMs } from "../../client/calls.ts";
import { createNodeClient } from "../../client/node.ts";
import { FakeServer, tokenOf } from "./fake-server.ts";
import { Watch } from "./watch.ts";

const bob = "d:alice:bob";
const quick: Partial<ClientLimits> = {
  backoffBaseMs: 2,
  gapSettleMs: 2,
  headSettleMs: 2,
  keepMs: 1,
};

describe("the client over a WebSocket", () => {
  let server: FakeServer;
  const clients: ParleyClient[] = [];

  function make(more: Partial<ClientOptions> = {}): { client: ParleyClient; watch: Watch } {
    const options: ClientOptions = {
      url: server.url,
      token: tokenOf("alice"),
      deviceId: "phone",
      transport: "websocket",
      random: seededRandom(1),
      ...more,
      limits: { ...quick, ...more.limits },
    };
    const client = createNodeClient(options);
    clients.push(client);
    return { client, watch: new Watch(client) };
  }

  async function ready(more: Partial<ClientOptions> = {}): Promise<ReturnType<typeof make>> {
    const made = make(more);
    made.client.connect();
    await made.client.ready();
    return made;
  }

  beforeEach(async () => {
    server = await FakeServer.start();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
    await server.stop();
  });

  it("says hello, syncs and hands what it got", async () => {
    for (const text of ["one", "two", "three"]) server.commit(bob, "bob", text);
    const { client, watch } = await ready({ recordsPerConversation: 2 });
    const [hello] = server.hellos;
    assert.deepEqual([hello?.token, hello?.deviceId], [tokenOf("alice"), "phone"]);
    assert.deepEqual(watch.records, ["2:two", "3:three"]);
    assert.equal(client.userId, "alice");
    const view = client.conversation(bob);
    assert.deepEqual([view?.unreadCount, view?.headSeq, view?.peerId], [3, 3, "bob"]);
    await server.until(() => server.moves.length > 0);
    assert.deepEqual([server.moves[0]?.deliveredSeq, server.moves[0]?.readSeq], [3, 0]);
  });

  it("sends, and hands the own record once in its place", async () => {
    const { client, watch } = await ready();
    const handle = client.send({ user: "bob" }, "hello");
    assert.equal(handle.status, "pending");
    const sent = await handle.sent;
    assert.deepEqual([sent.seq, sent.conversationId, handle.status], [1, bob, "sent"]);
    await watch.until(() => watch.records.length === 1);
    const own = server.logs.get(bob) ?? [];
    server.last.push(...own, server.commit(bob, "bob", "hi"));
    await watch.until(() => watch.records.length >= 2);
    assert.deepEqual(watch.records, ["1:hello", "2:hi"]);
    assert.deepEqual(
      watch.statuses.map(({ status }) => status),
      ["pending", "sent", "read"],
    );
  });

  it("puts all frames of one turn into one batch", async () => {
    const { client } = await ready();
    const before = server.batches.length;
    const handles = ["a", "b", "c"].map((text) => client.send({ user: "bob" }, text));
    client.setTyping(bob);
    client.setTyping(bob);
    const sent = await Promise.all(handles.map((handle) => handle.sent));
    assert.deepEqual(
      sent.map(({ seq }) => seq),
      [1, 2, 3],
    );
    const kinds = server.batches[before]?.map(({ frame }) => frame.case);
    assert.deepEqual(kinds?.toSorted(), ["send", "send", "send", "setTyping"]);
  });

  it("keeps unacked sends over a cut, and tries them again with the same id, once (P2, P4)", async () => {
    const { client } = await ready();
    server.script = (frame, connection) => {
      if (frame.frame.case !== "send" || connection.number !== 1) return "do";
      // Committed, but the answer is lost.
      const { clientId, content } = frame.frame.value;
      const text = content?.text ?? "";
      if (text === "one") server.commit(bob, "alice", text, new Uint8Array(clientId));
      return text === "two" ? "cut" : "drop";
    };
    const handles = ["one", "two", "three"].map((text) => client.send({ user: "bob" }, text));
    const sent = await Promise.all(handles.map((handle) => handle.sent));
    assert.deepEqual(
      sent.map(({ seq, duplicate }) => [seq, duplicate]),
      [
        [1, true],
        [2, false],
        [3, false],
      ],
    );
    const ids = server.sends.map(({ clientId }) => Buffer.from(clientId).toString("base64url"));
    assert.deepEqual(
      server.sends.map(({ retry }) => retry),
      [false, false, true, true, true],
    );
    assert.deepEqual(
      ids.slice(2),
      handles.map(({ clientId }) => clientId),
    );
    assert.ok(server.sends.every(({ knownHeadSeq }) => knownHeadSeq === 0));
    assert.equal(server.logs.get(bob)?.length, 3);
    assert.deepEqual(client.pending(), []);
  });

  it("goes on from its store after a restart (P1, P2)", async () => {
    const store = new MemoryStore();
    server.commit(bob, "bob", "earlier");
    const first = await ready({ store });
    server.script = (frame) => (frame.frame.case === "send" ? "drop" : "do");
    const handle = first.client.send({ conversation: bob }, "kept");
    first.client.send({ conversation: bob }, "kept too");
    await server.until(() => server.sends.length === 2);
    await first.client.close();
    assert.equal(handle.status, "pending");

    server.commit(bob, "bob", "meanwhile");
    server.script = () => "do";
    const second = make({ store });
    second.client.send({ conversation: bob }, "new");
    second.client.connect();
    await second.client.ready();
    await second.watch.until(() => second.client.pending().length === 0);
    assert.deepEqual(second.watch.records, ["2:meanwhile", "3:kept", "4:kept too", "5:new"]);
    assert.notEqual(server.hellos[1]?.syncToken.length, 0);
    const [, , again, , fresh] = server.sends;
    assert.deepEqual([again?.retry, again?.knownHeadSeq], [true, 1]);
    assert.deepEqual(Buffer.from(again?.clientId ?? []).toString("base64url"), handle.clientId);
    assert.equal(fresh?.retry, false);
    assert.deepEqual(second.watch.gaps, []);

    await second.client.close();
    const third = await ready({ store });
    assert.deepEqual(third.client.pending(), []);
  });

  it("takes a line for dead that says nothing while an answer is due, and sends by another (P1 P2)", async () => {
    const clock = new ManualClock();
    const { client, watch } = await ready({ clock });
    server.script = (frame, connection) =>
      frame.frame.case === "send" && connection.number === 1 ? "drop" : "do";
    const handle = client.send({ user: "bob" }, "hello");
    clock.advance(0);
    await server.until(() => server.sends.length === 1);
    clock.advance(15_000);
    await watch.until(() => watch.states.at(-1) === "waiting");
    clock.advance(10);
    await server.until(() => server.connections.length === 2);
    assert.equal((await handle.sent).seq, 1);
    assert.deepEqual(
      server.sends.map(({ retry }) => retry),
      [false, true],
    );
  });

  it("waits as long as a refusal says, and keeps the order (P4)", async () => {
    const { client } = await ready();
    let refusals = 0;
    server.script = (frame) => {
      if (frame.frame.case !== "send" || refusals >= 3) return "do";
      refusals += 1;
      return {
        case: "failure",
        value: { code: Code.ResourceExhausted, message: "busy", retryAfterMs: 5 },
      };
    };
    const handles = ["one", "two", "three"].map((text) => client.send({ user: "bob" }, text));
    await Promise.all(handles.map((handle) => handle.sent));
    const texts = server.logs
      .get(bob)
      ?.map((one) => one.body.case === "message" && one.body.value.text);
    assert.deepEqual(texts, ["one", "two", "three"]);
  });

  it("reports a final refusal with its reason, and bad content and a full outbox at once", async () => {
    const { client, watch } = await ready({ limits: { outboxMessagesMax: 2 } });
    server.script = () => ({
      case: "failure",
      value: { code: Code.NotFound, message: "no such conversation" },
    });
    const handle = client.send({ conversation: "g:none" }, "hello");
    await assert.rejects(handle.sent, { code: Code.NotFound, rawMessage: "no such conversation" });
    assert.equal(handle.status, "failed");
    assert.ok(watch.statuses.some(({ status }) => status === "failed"));
    assert.throws(() => client.send({ user: "bob" }, ""), { code: Code.InvalidArgument });
    assert.throws(() => client.send({ user: "bob" }, "ü".repeat(8_193)), /16386 bytes/u);
    server.script = () => "drop";
    client.send({ user: "bob" }, "1");
    client.send({ user: "bob" }, "2");
    assert.throws(() => client.send({ user: "bob" }, "3"), { code: Code.ResourceExhausted });
  });

  it("fills a gap between pushes, and hands all in order (P3)", async () => {
    const { client, watch } = await ready();
    await client.send({ user: "bob" }, "one").sent;
    const missed = server.commit(bob, "bob", "two");
    server.last.push(server.commit(bob, "bob", "three"), server.commit(bob, "bob", "four"));
    await watch.until(() => watch.records.length === 4);
    server.last.push(missed);
    server.last.push(server.commit(bob, "bob", "five"));
    await watch.until(() => watch.records.length === 5);
    assert.deepEqual(watch.records, ["1:one", "2:two", "3:three", "4:four", "5:five"]);
    assert.deepEqual(watch.gaps, []);
    assert.deepEqual(
      server.histories.map(({ afterSeq, beforeSeq }) => [afterSeq, beforeSeq]),
      [[1, 3]],
    );
  });

  it("names a gap that cannot be filled (P6)", async () => {
    const { client, watch } = await ready();
    await client.send({ user: "bob" }, "one").sent;
    for (const text of ["two", "three"]) server.commit(bob, "bob", text);
    server.floors.set(bob, 4);
    server.last.push(server.commit(bob, "bob", "four"));
    await watch.until(() => watch.records.length === 2);
    assert.deepEqual(watch.gaps, ["2-3"]);
    assert.deepEqual(watch.records, ["1:one", "4:four"]);
  });

  it("fetches what a resume missed up to the bound, and names the rest (P6)", async () => {
    const { client, watch } = await ready({ historyOnSync: 4, recordsPerConversation: 2 });
    await client.send({ user: "bob" }, "1").sent;
    for (let seq = 2; seq <= 10; seq++) server.commit(bob, "bob", `${seq}`);
    server.last.socket.terminate();
    await watch.until(() => watch.records.length === 7);
    assert.deepEqual(watch.gaps, ["2-4+"]);
    assert.equal(watch.records.join(" "), "1:1 5:5 6:6 7:7 8:8 9:9 10:10");
    const page = await client.history(bob, { afterSeq: 1, beforeSeq: 5 });
    assert.equal(page.records.length, 3);
  });

  it("learns of a conversation that begins while it is connected", async () => {
    const { client, watch } = await ready();
    server.commit("g:tea", "carol", "one");
    server.last.push(server.commit("g:tea", "carol", "two"));
    await watch.until(() => watch.records.length === 2);
    assert.deepEqual(watch.records, ["1:one", "2:two"]);
    assert.equal(client.conversation("g:tea")?.kind, "group");
  });

  it("moves cursors once a turn and conversation, with the highest it has", async () => {
    const { client, watch } = await ready();
    await client.send({ user: "bob" }, "1").sent;
    const pushed = Array.from({ length: 20 }, (_, at) => server.commit(bob, "bob", `${at + 2}`));
    server.script = (frame) => (frame.frame.case === "moveCursor" ? "drop" : "do");
    server.last.push(...pushed.slice(0, 10));
    server.last.push(...pushed.slice(10));
    await watch.until(() => watch.records.length === 21);
    client.markRead(bob, 5);
    client.markRead(bob, 12);
    assert.equal(client.conversation(bob)?.unreadCount, 9);
    await server.until(() => server.moves.length > 0);
    assert.ok(server.moves.length <= 2, `${server.moves.length} for 20 pushes`);
    // Unanswered: told again after a resume, in one.
    server.script = () => "do";
    server.last.socket.terminate();
    const before = server.moves.length;
    await server.until(() => server.moves.length > before);
    const last = server.moves.at(-1);
    assert.deepEqual([last?.deliveredSeq, last?.readSeq], [21, 12]);
    assert.equal(server.moves.length, before + 1);
  });

  it("acks what is pushed to it, even where another device has acked it before", async () => {
    const { client, watch } = await ready();
    await client.send({ user: "bob" }, "1").sent;
    const record = server.commit(bob, "bob", "2");
    const cursor = { conversationId: bob, userId: "alice", deliveredSeq: 2, readSeq: 2 };
    server.last.tell({ frame: { case: "pushed", value: { cursors: [cursor] } } });
    server.last.push(record);
    await watch.until(() => watch.records.length === 2);
    await server.until(() => server.moves.length === 1);
    assert.equal(server.moves[0]?.deliveredSeq, 2);
    assert.equal(client.conversation(bob)?.unreadCount, 0);
    // And again, when it is pushed once more because the ack was lost.
    server.last.push(record);
    await server.until(() => server.moves.length === 2);
  });

  it("tells sent, delivered and read of own messages", async () => {
    const { client, watch } = await ready();
    const { seq } = await client.send({ user: "bob" }, "1").sent;
    const cursor = { conversationId: bob, userId: "bob" };
    const tell = (deliveredSeq: number, readSeq: number): void =>
      server.last.tell({
        frame: { case: "pushed", value: { cursors: [{ ...cursor, deliveredSeq, readSeq }] } },
      });
    tell(1, 0);
    tell(1, 1);
    tell(1, 0);
    await watch.until(() => client.receipt(bob, seq)?.status === "read");
    const states = watch.statuses.map(({ status }) => status);
    assert.deepEqual(states, ["pending", "sent", "delivered", "read"]);
  });

  it("P5 tells of no cursor that goes back, in whole or in part", async () => {
    const { client, watch } = await ready();
    await client.send({ user: "bob" }, "1").sent;
    const told: string[] = [];
    client.on("cursor", ({ userId, deliveredSeq, readSeq }) => {
      told.push(`${userId} ${deliveredSeq}/${readSeq}`);
    });
    const tell = (userId: string, deliveredSeq: number, readSeq: number): void => {
      const cursor = { conversationId: bob, userId, deliveredSeq, readSeq };
      server.last.tell({ frame: { case: "pushed", value: { cursors: [cursor] } } });
    };
    server.last.push(server.commit(bob, "bob", "2"));
    tell("alice", 1, 0);
    tell("bob", 1, 1);
    tell("bob", 3, 1);
    server.last.push(server.commit(bob, "bob", "3"));
    await watch.until(() => watch.records.length === 3);
    assert.deepEqual(told, ["bob 2/2", "bob 3/2", "bob 3/3"]);
  });

  it("takes an answer for a sign that what is before it was read", async () => {
    const { client, watch } = await ready();
    const { seq } = await client.send({ user: "bob" }, "1").sent;
    server.last.push(server.commit(bob, "bob", "2"));
    await watch.until(() => client.receipt(bob, seq)?.status === "read");
  });

  it("answers heartbeats, and syncs where the server's heads add up to more (P6)", async () => {
    const { watch } = await ready();
    server.commit(bob, "bob", "lost on the way");
    server.last.tell({ frame: { case: "heartbeat", value: { headSum: 1n } } });
    await watch.until(() => watch.records.length === 1);
    assert.deepEqual(watch.resyncs, ["the server knows of more records"]);
    assert.equal(server.asked((frame) => frame.case === "heartbeatReply" || undefined).length, 1);
    server.last.tell({ frame: { case: "heartbeat", value: { headSum: 1n } } });
    await server.until(
      () => server.asked((frame) => frame.case === "heartbeatReply" || undefined).length === 2,
    );
    assert.equal(watch.resyncs.length, 1);
  });

  it("syncs when a push says so", async () => {
    const { watch } = await ready();
    server.commit(bob, "bob", "missed");
    server.last.tell({ frame: { case: "pushed", value: { resync: true } } });
    await watch.until(() => watch.records.length === 1);
    assert.equal(watch.resyncs.length, 1);
  });

  it("renews its token after many pushes, cheaply", async () => {
    const { watch } = await ready({ limits: { pushesPerToken: 5 } });
    for (let at = 1; at <= 5; at++) server.last.push(server.commit(bob, "bob", `${at}`));
    await watch.until(() => watch.records.length === 5);
    const [sync] = await server.until(() => {
      const syncs = server.asked((frame) => (frame.case === "sync" ? frame.value : undefined));
      return syncs.length > 0 && syncs;
    });
    assert.equal(sync?.recordsPerConversation, 0);
  });

  it("takes a silent server for dead after two heartbeats' time", async () => {
    const clock = new ManualClock();
    server.heartbeatMs = 1_000;
    const { watch } = await ready({ clock });
    clock.advance(1_999);
    assert.equal(watch.states.at(-1), "live");
    clock.advance(1);
    assert.equal(watch.states.at(-1), "waiting");
    clock.advance(30_000);
    await watch.until(() => watch.states.at(-1) === "live");
    assert.equal(server.connections.length, 2);
  });

  it("comes back after a goodbye, no sooner than asked to", async () => {
    const clock = new ManualClock();
    const { watch } = await ready({ clock });
    server.last.tell({
      frame: { case: "goodbye", value: { reason: 1, reconnectAfterMs: 5_000 } },
    });
    await watch.until(() => watch.states.at(-1) === "waiting");
    clock.advance(4_999);
    assert.equal(watch.states.at(-1), "waiting");
    clock.advance(1);
    await watch.until(() => watch.states.at(-1) === "live");
  });

  it("resumes or stays away by the close code, and says so", async () => {
    const { client, watch } = await ready();
    server.last.socket.close(4002, "slow");
    await watch.until(() => watch.states.filter((state) => state === "live").length === 2);
    server.last.socket.close(4102, "the same device connected again");
    await watch.until(() => watch.states.at(-1) === "stopped");
    const state = client.connection;
    assert.deepEqual(state.t === "stopped" && [state.why.code, state.why.reason], [
      4102,
      "the same device connected again",
    ]);
    assert.equal(server.connections.length, 2);
    client.connect();
    await client.ready();
  });

  it("asks for a token again when the server refuses it, once", async () => {
    server.goodToken = tokenOf("alice", "new");
    const tokens = [tokenOf("alice", "old"), tokenOf("alice", "new")];
    const { client } = await ready({ token: () => Promise.resolve(tokens.shift() ?? "none") });
    assert.equal(client.userId, "alice");
    assert.equal(server.connections.length, 2);
    const bad = make({ token: () => "bad" });
    bad.client.connect();
    await assert.rejects(bad.client.ready(), /no longer valid/u);
    assert.equal(server.connections.length, 4);
  });

  it("does not send one user's outbox as another", async () => {
    const store = new MemoryStore();
    const first = await ready({ store });
    await first.client.close();
    server.user = "mallory";
    const second = make({ store });
    second.client.send({ user: "bob" }, "from alice");
    second.client.connect();
    await assert.rejects(second.client.ready(), /the store is alice's/u);
    assert.equal(server.sends.length, 0);
  });

  it("keeps calls under way over a resume, and ends them in time", async () => {
    const clock = new ManualClock();
    server.commit(bob, "bob", "1");
    const { client, watch } = await ready({ clock });
    server.script = (frame, { number }) =>
      frame.frame.case === "history" && number === 1 ? "cut" : "do";
    const page = client.history(bob);
    await watch.until(() => watch.states.at(-1) === "waiting");
    clock.advance(10);
    assert.equal((await page).records.length, 1);
    server.script = (frame) => (frame.frame.case === "history" ? "drop" : "do");
    const lost = client.history(bob);
    await server.until(() => server.histories.length === 3);
    clock.advance(30_000);
    await assert.rejects(lost, { code: Code.DeadlineExceeded });
  });

  it("says of a change to a group that it is asked for again, and what head it knew at first (P2)", async () => {
    const clock = new ManualClock();
    server.commit(bob, "bob", "1");
    const { client, watch } = await ready({ clock });
    const asked: [number, boolean][] = [];
    const ids = new Set<string>();
    server.script = ({ requestId, frame }, connection) => {
      if (frame.case !== "updateGroup") return "do";
      const { clientId, knownHeadSeq, retry } = frame.value;
      ids.add(Buffer.from(clientId).toString("hex"));
      asked.push([knownHeadSeq, retry]);
      if (connection.number === 1) return "cut";
      connection.tell({ requestId, frame: { case: "updateGroup", value: { seq: 2 } } });
      return "drop";
    };
    const changed = client.updateGroup(bob, { title: "Lunch" });
    await watch.until(() => watch.states.at(-1) === "waiting");
    clock.advance(10);
    assert.equal(await changed, 2);
    assert.deepEqual(asked, [
      [1, false],
      [1, true],
    ]);
    assert.equal(ids.size, 1);
  });

  it("takes a change of presence for newer than the answer that came before it in the same batch (P7)", async () => {
    const { client } = await ready();
    const bobIs = (availability: Availability) =>
      create(PresenceSchema, { userId: "bob", availability });
    server.script = ({ requestId, frame }, connection) => {
      if (frame.case !== "watchPresence") return "do";
      connection.tell(
        {
          requestId,
          frame: { case: frame.case, value: { presences: [bobIs(Availability.OFFLINE)] } },
        },
        { frame: { case: "pushed", value: { presences: [bobIs(Availability.ONLINE)] } } },
      );
      return "drop";
    };
    await client.watchPresence(["bob"]);
    assert.equal(client.presence("bob")?.availability, Availability.ONLINE);
  });

  it("tells of a presence that is told again only where it is another one (P7)", async () => {
    const { client, watch } = await ready();
    const heard: Availability[] = [];
    client.on("presence", ({ availability }) => heard.push(availability));
    await client.watchPresence(["bob"]);
    const pushed = [Availability.ONLINE, Availability.ONLINE, Availability.OFFLINE].map(
      (availability) => create(PresenceSchema, { userId: "bob", availability }),
    );
    for (const presence of pushed)
      server.last.tell({ frame: { case: "pushed", value: { presences: [presence] } } });
    await watch.until(() => client.presence("bob")?.availability === Availability.OFFLINE);
    assert.deepEqual(heard, [Availability.ONLINE, Availability.OFFLINE]);
  });

  it("asks again about whom the app watches since, not whom it watched before (P7)", async () => {
    const { client } = await ready();
    let refusals = 0;
    server.script = ({ requestId, frame }, connection) => {
      if (frame.case !== "watchPresence" || refusals >= 1) return "do";
      refusals += 1;
      connection.tell({
        requestId,
        frame: { case: "failure", value: { code: Code.Unavailable, retryAfterMs: 1 } },
      });
      return "drop";
    };
    await Promise.all([client.watchPresence(["bob"]), client.watchPresence(["cy"])]);
    const watched = server.asked((one) =>
      one.case === "watchPresence" ? one.value.userIds.join() : undefined,
    );
    assert.deepEqual(watched, ["bob", "cy", "cy"]);
  });

  it("tries again within 5 s what is refused, however often, and later only where it is told so", () => {
    const latest = { unit: () => 1, bytes: () => new Uint8Array() };
    assert.equal(retryDelayMs(0, 1, latest), 400);
    assert.equal(retryDelayMs(0, 1_000, latest), 5_000);
    assert.equal(retryDelayMs(60_000, 1_000, latest), 60_000);
  });

  it("watches presence again after a resume, and throttles typing", async () => {
    const clock = new ManualClock();
    const { client, watch } = await ready({ clock });
    await client.watchPresence(["bob"]);
    const presence = create(PresenceSchema, {
      userId: "bob",
      availability: Availability.ONLINE,
    });
    server.last.tell({ frame: { case: "pushed", value: { presences: [presence] } } });
    await watch.until(() => client.presence("bob") !== undefined);
    client.setTyping(bob);
    client.setTyping(bob);
    clock.advance(3_000);
    client.setTyping(bob);
    const typed = (): number => server.asked((one) => one.case === "setTyping" || undefined).length;
    await server.until(() => typed() === 2);
    server.last.socket.terminate();
    await watch.until(() => watch.states.at(-1) === "waiting");
    clock.advance(10);
    const watched = (): string[] =>
      server.asked((one) => (one.case === "watchPresence" ? one.value.userIds.join() : undefined));
    await server.until(() => watched().length === 2);
    assert.deepEqual(watched(), ["bob", "bob"]);
  });

  it("names all wrong options at once", () => {
    assert.throws(
      () => make({ url: "chat.example", deviceId: "", recordsPerConversation: 51 }),
      /url must.*deviceId must.*recordsPerConversation must/u,
    );
  });
});
