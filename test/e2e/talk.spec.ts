/** Two people talk: the whole path, through the edge that clients see, over each of its protocols. */
import assert from "node:assert/strict";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-node";
import { ChatService } from "../../proto/gen/parley/v1/chat_pb.ts";
import { chatClient, protocols } from "../support/device.ts";
import type { Device } from "../support/device.ts";
import { postCall } from "../support/http.ts";
import { modes, tokenFor } from "../support/parley.ts";
import {
  Town,
  directId,
  newClientId,
  plain,
  syncAll,
  synced,
  textInto,
  textOf,
  textTo,
} from "../support/town.ts";

for (const [mode, start] of modes.entries()) {
  for (const [protocol, open] of Object.entries(protocols)) {
    describe(`two people talk over ${protocol}, ${mode}`, () => {
      let town: Town;
      /** Test by test other people, so that no test sees another's. */
      let part = 0;
      let alice = "";
      let bob = "";
      let direct = "";

      before(async () => {
        town = await Town.start(start);
      });
      beforeEach(() => {
        part += 1;
        alice = `alice${part}`;
        bob = `bob${part}`;
        direct = directId(alice, bob);
      });
      afterEach(() => town.leave());
      after(() => town.close());

      const device = (userId: string, deviceId = "phone", token?: Uint8Array<ArrayBuffer>) =>
        town.device(open, userId, deviceId, {
          recordsPerConversation: 50,
          ...(token && { syncToken: token }),
        });

      const four = (): Promise<[Device, Device, Device, Device]> =>
        Promise.all([device(alice), device(alice, "desk"), device(bob), device(bob, "desk")]);

      it("P1 P3 P6: what is sent is pushed to every other device, and is in everybody's history", async () => {
        const devices = await four();
        const [alicePhone, , bobPhone] = devices;
        const message = textTo(bob, "hello");
        const sent = await alicePhone.send(message);
        assert.equal(sent.conversationId, direct);
        assert.equal(sent.seq, 1);
        assert.equal(sent.duplicate, false);
        const answer = await bobPhone.send(textTo(alice, "hello to you"));
        assert.equal(answer.seq, 2);

        const [, aliceDesk, , bobDesk] = devices;
        for (const other of [aliceDesk, bobDesk]) {
          const first = await other.inbox.record(direct, 1);
          assert.equal(first.senderId, alice);
          assert.equal(textOf(first), "hello");
          assert.deepEqual(Buffer.from(first.clientId), Buffer.from(message.clientId));
          assert.equal(first.timeMs, sent.timeMs);
          assert.equal(first.ordinal, 1);
          assert.equal(textOf(await other.inbox.record(direct, 2)), "hello to you");
        }
        const told = plain(bobDesk.inbox.records);
        for (const one of devices) {
          const { records, headSeq, floorSeq } = await one.history({ conversationId: direct });
          assert.deepEqual([headSeq, floorSeq], [2, 1]);
          assert.deepEqual(records.map(textOf), ["hello", "hello to you"]);
          assert.deepEqual(plain(records), told);
        }
      });

      it("P5: sent, delivered and read are told to all devices, and never go back", async () => {
        const [alicePhone, aliceDesk, bobPhone, bobDesk] = await four();
        for (const text of ["one", "two", "three"]) await alicePhone.send(textTo(bob, text));
        await bobPhone.inbox.record(direct, 3);
        assert.equal((await synced(alicePhone, direct)).conversation.peersDeliveredSeq, 0);

        const { cursor } = await bobPhone.moveCursor({ conversationId: direct, deliveredSeq: 3 });
        assert.deepEqual([cursor?.deliveredSeq, cursor?.readSeq], [3, 0]);
        for (const other of [alicePhone, aliceDesk, bobDesk]) {
          const { deliveredSeq, readSeq } = await other.inbox.cursor(direct, bob, 3, 0);
          assert.deepEqual([deliveredSeq, readSeq], [3, 0]);
        }
        await bobDesk.moveCursor({ conversationId: direct, readSeq: 2 });
        for (const other of [alicePhone, aliceDesk, bobPhone])
          await other.inbox.cursor(direct, bob, 3, 2);
        const back = await bobPhone.moveCursor({
          conversationId: direct,
          deliveredSeq: 1,
          readSeq: 1,
        });
        assert.deepEqual([back.cursor?.deliveredSeq, back.cursor?.readSeq], [3, 2]);
        const { conversation } = await synced(alicePhone, direct);
        assert.deepEqual([conversation.peersDeliveredSeq, conversation.peersReadSeq], [3, 2]);
        const { members } = await aliceDesk.listMembers({ conversationId: direct });
        assert.deepEqual(
          members.map(({ userId, deliveredSeq, readSeq }) => [userId, deliveredSeq, readSeq]),
          [
            [alice, 3, 3],
            [bob, 3, 2],
          ],
        );
      });

      it("P5: unread counts are the same on all devices of a user", async () => {
        const [alicePhone, , bobPhone, bobDesk] = await four();
        for (const text of ["one", "two", "three"]) await alicePhone.send(textTo(bob, text));
        const unread = async (one: Device) => (await synced(one, direct)).conversation.unreadCount;
        assert.deepEqual(await Promise.all([bobPhone, bobDesk].map(unread)), [3, 3]);
        assert.equal(await unread(alicePhone), 0);
        await bobPhone.moveCursor({ conversationId: direct, readSeq: 2 });
        assert.deepEqual(await Promise.all([bobPhone, bobDesk].map(unread)), [1, 1]);
        await bobDesk.send(textTo(alice, "four"));
        assert.deepEqual(await Promise.all([bobPhone, bobDesk].map(unread)), [0, 0]);
        assert.equal(await unread(alicePhone), 1);
      });

      it("P3 P4: what two people send at once comes in one order, each one's own kept", async () => {
        const [alicePhone, aliceDesk, bobPhone, bobDesk] = await four();
        await alicePhone.send(textTo(bob, "begin"));
        const many = async (from: Device, name: string) => {
          for (let n = 1; n <= 25; n += 1) await from.send(textInto(direct, `${name} ${n}`));
        };
        await Promise.all([many(alicePhone, "a"), many(bobPhone, "b")]);
        await Promise.all([aliceDesk, bobDesk].map((one) => one.inbox.record(direct, 51)));
        const { records } = await alicePhone.history({ conversationId: direct, limit: 200 });
        assert.deepEqual(
          records.map(({ seq }) => seq),
          Array.from({ length: 51 }, (_, at) => at + 1),
        );
        for (const name of ["a", "b"]) {
          const own = records.map(textOf).filter((text) => text.startsWith(`${name} `));
          assert.deepEqual(
            own,
            Array.from({ length: 25 }, (_, at) => `${name} ${at + 1}`),
          );
        }
        for (const one of [aliceDesk, bobDesk])
          assert.deepEqual(plain(one.inbox.records), plain(records));
      });

      it("pages through the history from both ends", async () => {
        const [from] = await Promise.all([device(alice), device(bob)]);
        for (let n = 1; n <= 7; n += 1) await from.send(textTo(bob, String(n)));
        const page = async (request: { afterSeq?: number; beforeSeq?: number; limit?: number }) =>
          (await from.history({ conversationId: direct, ...request })).records.map(
            ({ seq }) => seq,
          );
        assert.deepEqual(await page({}), [1, 2, 3, 4, 5, 6, 7]);
        assert.deepEqual(await page({ limit: 3 }), [5, 6, 7]);
        assert.deepEqual(await page({ limit: 3, beforeSeq: 5 }), [2, 3, 4]);
        assert.deepEqual(await page({ limit: 3, afterSeq: 2 }), [3, 4, 5]);
        assert.deepEqual(await page({ afterSeq: 2, beforeSeq: 4 }), [3]);
        assert.deepEqual(await page({ afterSeq: 7 }), []);
      });

      it("P6: a sync with a token has what changed since, and nothing else", async () => {
        const from = await device(alice);
        const others = Array.from({ length: 12 }, (_, at) => `${bob}-${at}`);
        for (const other of others) await from.send(textTo(other, "hello"));
        const all = await syncAll(from);
        assert.equal(all.conversations.length, 12);
        const token = new Uint8Array(all.token);
        const nothing = await syncAll(from, { token });
        assert.deepEqual(nothing.conversations, []);

        const last = others[5] ?? "";
        await from.send(textTo(last, "and more"));
        const some = await syncAll(from, { token, records: 1 });
        const changed = some.conversations.find(
          ({ conversation }) => conversation?.conversationId === directId(alice, last),
        );
        assert.deepEqual(changed?.records.map(textOf), ["and more"]);
        // A conversation or two may share the changed one's place in the token.
        assert.ok(some.conversations.length <= 4, `${some.conversations.length} came`);
        assert.deepEqual(
          (await syncAll(from, { token: new Uint8Array(some.token) })).conversations,
          [],
        );
      });

      it("P6: a device that comes back with its token gets exactly what it missed", async () => {
        const [from, phone] = await Promise.all([device(alice), device(bob)]);
        for (const text of ["one", "two"]) await from.send(textTo(bob, text));
        await phone.inbox.record(direct, 2);
        const token = new Uint8Array((await syncAll(phone)).token);
        await phone.close();
        for (const text of ["three", "four"]) await from.send(textTo(bob, text));

        const back = await device(bob, "phone", token);
        const deltas = back.inbox.syncs.flatMap(({ conversations }) => conversations);
        assert.deepEqual(
          deltas.map(({ conversation }) => conversation?.conversationId),
          [direct],
        );
        assert.deepEqual(deltas[0]?.records.map(textOf), ["one", "two", "three", "four"]);
        await from.send(textTo(bob, "five"));
        await back.inbox.record(direct, 5);
        assert.deepEqual(back.inbox.records.map(textOf), ["five"]);

        await back.close();
        const newest = new Uint8Array((await syncAll(from)).token);
        const again = await device(alice, "desk", newest);
        assert.deepEqual(
          again.inbox.syncs.flatMap(({ conversations }) => conversations),
          [],
        );
      });

      it("P2: the same send twice makes one message", async () => {
        const [from, to] = await Promise.all([device(alice), device(bob)]);
        const message = textTo(bob, "once");
        const first = await from.send(message);
        const second = await from.send(message);
        const third = await from.send({ ...message, retry: true });
        for (const again of [second, third]) {
          assert.deepEqual([again.seq, again.timeMs], [first.seq, first.timeMs]);
          assert.equal(again.duplicate, true);
        }
        await from.send(textTo(bob, "after"));
        await to.inbox.record(direct, 2);
        assert.deepEqual(to.inbox.records.map(textOf), ["once", "after"]);
        const { records } = await from.history({ conversationId: direct });
        assert.deepEqual(records.map(textOf), ["once", "after"]);
      });

      it("P2 P3: devices that write at once begin one conversation, and a doubled send makes one message", async () => {
        const [alicePhone, aliceDesk, bobPhone, bobDesk] = await four();
        const doubled = textTo(bob, "doubled");
        const answers = await Promise.all([
          alicePhone.send(doubled),
          aliceDesk.send(doubled),
          bobPhone.send(textTo(alice, "from the phone")),
          bobDesk.send(textTo(alice, "from the desk")),
        ]);
        const [one, other] = answers;
        assert.equal(one.seq, other.seq);
        assert.deepEqual([one, other].map(({ duplicate }) => duplicate).toSorted(), [false, true]);
        assert.deepEqual([...new Set(answers.map(({ seq }) => seq))].toSorted(), [1, 2, 3]);
        const { records } = await alicePhone.history({ conversationId: direct });
        assert.deepEqual(records.map(textOf).toSorted(), [
          "doubled",
          "from the desk",
          "from the phone",
        ]);
      });

      it("carries what a message answers", async () => {
        const [from, to] = await Promise.all([device(alice), device(bob)]);
        await from.send(textTo(bob, "a question"));
        const answer = { ...textTo(alice, "an answer"), content: { text: "yes", replyToSeq: 1 } };
        await to.send(answer);
        const { body } = await from.inbox.record(direct, 2);
        assert.equal(body.case === "message" && body.value.replyToSeq, 1);
        const beyond = { ...textTo(alice, ""), content: { text: "no", replyToSeq: 9 } };
        await assert.rejects(to.send(beyond), { code: Code.InvalidArgument, message: /head 2/ });
      });

      it("P8: strangers neither read, write nor learn of a conversation", async () => {
        const [from, to, stranger] = await Promise.all([
          device(alice),
          device(bob),
          device(`mallory${part}`),
        ]);
        await from.send(textTo(bob, "private"));
        const conversationId = direct;
        const refused = { code: Code.NotFound };
        await assert.rejects(stranger.history({ conversationId }), refused);
        await assert.rejects(stranger.listMembers({ conversationId }), refused);
        await assert.rejects(stranger.send(textInto(direct, "me, too")), refused);
        await assert.rejects(stranger.moveCursor({ conversationId, readSeq: 1 }), refused);
        await stranger.setTyping({ conversationId });
        const watched = await stranger.watchPresence({ userIds: [alice, bob] });
        assert.deepEqual(watched.presences, []);
        assert.deepEqual((await syncAll(stranger)).conversations, []);
        await to.send(textTo(alice, "still private"));
        await from.inbox.record(direct, 2);
        assert.deepEqual(from.inbox.typings, []);
        assert.deepEqual(stranger.inbox.pushed, []);
      });

      it("tells who is typing to the others, and keeps it nowhere", async () => {
        const [alicePhone, aliceDesk, bobPhone] = await four();
        await alicePhone.send(textTo(bob, "hello"));
        await bobPhone.setTyping({ conversationId: direct });
        for (const one of [alicePhone, aliceDesk]) {
          const typing = await one.inbox.until("typing", ({ typings }) => typings[0]);
          assert.deepEqual([typing.userId, typing.conversationId], [bob, direct]);
        }
        await bobPhone.send(textTo(alice, "what I typed"));
        await aliceDesk.inbox.record(direct, 2);
        assert.deepEqual(bobPhone.inbox.typings, []);
        assert.equal((await bobPhone.history({ conversationId: direct })).headSeq, 2);
      });
    });
  }

  describe(`protocols side by side, ${mode}`, () => {
    let town: Town;
    before(async () => {
      town = await Town.start(start);
    });
    afterEach(() => town.leave());
    after(() => town.close());

    it("does not push a message to the connection that sent it", async () => {
      const [alice, bob] = await Promise.all([town.onSocket("alice"), town.onConnect("bob")]);
      await alice.send(textTo("bob", "mine"));
      await bob.send(textTo("alice", "theirs"));
      await alice.inbox.record("d:alice:bob", 2);
      assert.deepEqual(alice.inbox.records.map(textOf), ["theirs"]);
      await alice.moveCursor({ conversationId: "d:alice:bob", readSeq: 2 });
      await bob.inbox.cursor("d:alice:bob", "alice", 2, 2);
      await alice.send(textTo("bob", "mine, too"));
      await bob.moveCursor({ conversationId: "d:alice:bob", readSeq: 3 });
      await alice.inbox.cursor("d:alice:bob", "bob", 3, 3);
      assert.deepEqual(
        alice.inbox.cursors.map(({ userId }) => userId),
        ["bob"],
      );
    });

    it("P4: takes the sends of one batch in their order", async () => {
      const carol = await town.onSocket("carol");
      const sends = Array.from({ length: 100 }, (_, at) => textTo("dave", `number ${at + 1}`));
      const answers = await Promise.all(
        carol.socket.callAll(sends.map((value) => ({ case: "send", value }))),
      );
      assert.deepEqual(
        answers.map((one) => one.case === "send" && one.value.seq),
        sends.map((_, at) => at + 1),
      );
      const { records } = await carol.history({ conversationId: "d:carol:dave", limit: 200 });
      assert.deepEqual(
        records.map(textOf),
        sends.map(({ content }) => content.text),
      );
    });

    it("P6: a long poll waits for a change, then says what it was", async () => {
      const erin = await town.onSocket("erin");
      const { client: frank } = await town.onConnect("frank", "desk");
      const polling = chatClient(town.url, await tokenFor("frank"), "phone");
      await erin.send(textTo("frank", "first"));
      const token = new Uint8Array((await frank.sync({})).token);
      const poll = polling.sync({ token, waitMs: 30_000, recordsPerConversation: 1 });
      const other = await frank.sync({ token, waitMs: 1 });
      assert.deepEqual(other.conversations, []);
      assert.equal(other.complete, true);
      await erin.send(textTo("frank", "second"));
      const { conversations } = await poll;
      assert.deepEqual(
        conversations.flatMap(({ records }) => records.map(textOf)),
        ["second"],
      );
      const next = polling.sync({ token, waitMs: 30_000, recordsPerConversation: 1 });
      assert.equal((await next).conversations.length, 1);
    });

    it("P6: a client may change between the protocols and keep its token", async () => {
      const grace = await town.onSocket("grace");
      await grace.send(textTo("heidi", "one"));
      const token = new Uint8Array((await syncAll(grace)).token);
      const heidi = await town.onSocket("heidi");
      await heidi.send(textTo("grace", "two"));
      const extra = { syncToken: token, recordsPerConversation: 1 };
      const connect = await town.onConnect("grace", "desk", extra);
      const socket = await town.onSocket("grace", "tablet", extra);
      for (const { inbox } of [connect, socket]) {
        const deltas = inbox.syncs.flatMap(({ conversations }) => conversations);
        assert.deepEqual(
          deltas.flatMap(({ records }) => records.map(textOf)),
          ["two"],
        );
      }
    });

    it("P6: a user of many conversations is synced page after page, on either way in", async () => {
      const many = await town.onSocket("many");
      const count = 250;
      const sends = Array.from({ length: count }, (_, at) => textTo(`friend${at}`, `hello ${at}`));
      await Promise.all(many.socket.callAll(sends.map((value) => ({ case: "send", value }))));
      const extra = { recordsPerConversation: 1 };
      const socket = await town.onSocket("many", "desk", extra);
      const stream = await town.onConnect("many", "tablet", extra);
      const texts = sends.map(({ content }) => content.text).toSorted();
      for (const { inbox } of [socket, stream]) {
        assert.ok(inbox.syncs.length > 1, "in pages");
        assert.deepEqual(
          inbox.syncs.map(({ complete }) => complete),
          inbox.syncs.map((_, at) => at === inbox.syncs.length - 1),
        );
        const deltas = inbox.syncs.flatMap(({ conversations }) => conversations);
        assert.deepEqual(deltas.flatMap(({ records }) => records.map(textOf)).toSorted(), texts);
        const token = new Uint8Array(inbox.syncs.at(-1)?.token ?? []);
        assert.deepEqual((await syncAll(many, { token })).conversations, []);
      }
      const pull = await syncAll(many);
      assert.equal(pull.conversations.length, count);
    });

    it("is spoken to in JSON and in gRPC-Web, too", async () => {
      const token = await tokenFor("wendy");
      const json = await postCall(town.url, token, "Send", {
        userId: "xavier",
        clientId: Buffer.from(newClientId()).toString("base64"),
        content: { text: "in JSON" },
      });
      assert.equal(json.status, 200, json.text);
      const said = JSON.parse(json.text) as Record<string, unknown>;
      assert.deepEqual([said["conversationId"], said["seq"]], ["d:wendy:xavier", 1]);
      const web = createClient(
        ChatService,
        createGrpcWebTransport({ baseUrl: town.url, httpVersion: "1.1" }),
      );
      const headers = { Authorization: `Bearer ${token}` };
      const page = await web.history({ conversationId: "d:wendy:xavier" }, { headers });
      assert.deepEqual(page.records.map(textOf), ["in JSON"]);
      await assert.rejects(web.history({ conversationId: "d:other:xavier" }, { headers }), {
        code: Code.NotFound,
      });
      for await (const { event } of web.subscribe({}, { headers })) {
        assert.equal(event.case, "sync");
        break;
      }
    });

    it("P2: a retry makes no second message, also after a restart of the server", async () => {
      const clientId = newClientId();
      const message = { ...textTo("judy", "once"), clientId };
      const before = await town.onSocket("ivan");
      const first = await before.send(message);
      await before.send(textTo("judy", "between"));
      await town.restart();
      const after = await town.onSocket("ivan");
      const again = await after.send({ ...message, retry: true });
      assert.deepEqual([again.seq, again.timeMs, again.duplicate], [first.seq, first.timeMs, true]);
      const unsent = await after.send({ ...textTo("judy", "never tried"), retry: true });
      assert.deepEqual([unsent.seq, unsent.duplicate], [3, false]);
      const { records } = await after.history({ conversationId: "d:ivan:judy" });
      assert.deepEqual(records.map(textOf), ["once", "between", "never tried"]);
    });

    it("P1: all is there after a restart: records, cursors, groups and unread counts", async () => {
      const kim = await town.onSocket("kim");
      await kim.send(textTo("leo", "one"));
      await kim.send(textTo("leo", "two"));
      const group = await kim.createGroup({
        clientId: newClientId(),
        title: "friends",
        memberIds: ["leo", "mia"],
      });
      const groupId = group.conversation?.conversationId ?? "";
      await kim.send(textInto(groupId, "to all"));
      const leo = await town.onSocket("leo");
      await leo.moveCursor({ conversationId: "d:kim:leo", deliveredSeq: 2, readSeq: 1 });
      const told = [await syncAll(kim), await syncAll(leo)];
      await town.restart();
      const [kimAgain, leoAgain] = [await town.onSocket("kim"), await town.onSocket("leo")];
      assert.deepEqual([await syncAll(kimAgain), await syncAll(leoAgain)], told);
      const { conversation } = await synced(leoAgain, "d:kim:leo");
      assert.deepEqual(
        [conversation.deliveredSeq, conversation.readSeq, conversation.unreadCount],
        [2, 1, 1],
      );
      assert.equal((await kimAgain.send(textInto(groupId, "again"))).seq, 3);
      assert.equal(textOf(await leoAgain.inbox.record(groupId, 3)), "again");
    });
  });
}
