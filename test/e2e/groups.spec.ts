/** Groups: who is in them, what each one may read, over each of the protocols. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { protocols } from "../support/device.ts";
import type { Device } from "../support/device.ts";
import { modes } from "../support/parley.ts";
import { Town, newClientId, syncAll, synced, textInto, textOf } from "../support/town.ts";

for (const [mode, start] of modes.entries()) {
  for (const [protocol, open] of Object.entries(protocols)) {
    describe(`groups over ${protocol}, ${mode}`, () => {
      let town: Town;
      let part = 0;
      let [ann, ben, cleo, dan] = ["", "", "", ""];

      before(async () => {
        town = await Town.start(start);
      });
      beforeEach(() => {
        part += 1;
        [ann, ben, cleo, dan] = [`ann${part}`, `ben${part}`, `cleo${part}`, `dan${part}`];
      });
      afterEach(() => town.leave());
      after(() => town.close());

      const device = (userId: string, deviceId = "phone") => town.device(open, userId, deviceId);

      async function group(by: Device, ...memberIds: string[]): Promise<string> {
        const request = { clientId: newClientId(), title: "friends", memberIds };
        const { conversation } = await by.createGroup(request);
        assert.ok(conversation);
        return conversation.conversationId;
      }

      const change = (conversationId: string, what: object) => ({
        conversationId,
        clientId: newClientId(),
        ...what,
      });

      it("P2: creating twice with one client_id makes one group, told to all its members", async () => {
        const [annPhone, benPhone] = await Promise.all([device(ann), device(ben)]);
        const request = { clientId: newClientId(), title: "friends", memberIds: [ben, cleo] };
        const { conversation } = await annPhone.createGroup(request);
        const again = await annPhone.createGroup(request);
        assert.deepEqual(again.conversation, conversation);
        const id = conversation?.conversationId ?? "";
        assert.deepEqual(
          [conversation?.title, conversation?.memberCount, conversation?.headSeq],
          ["friends", 3, 1],
        );
        const record = await benPhone.inbox.record(id, 1);
        assert.ok(record.body.case === "membership");
        assert.equal(record.body.value.title, "friends");
        assert.deepEqual(record.body.value.added, [ann, ben, cleo]);
        await annPhone.send(textInto(id, "hello, all"));
        assert.equal(textOf(await benPhone.inbox.record(id, 2)), "hello, all");
        const late = await device(cleo);
        const { records } = await synced(late, id);
        assert.deepEqual(records.map(textOf), ["<membership>", "hello, all"]);
        const { conversation: seen } = await synced(late, id);
        assert.deepEqual([seen.unreadCount, seen.memberCount, seen.floorSeq], [1, 3, 1]);
      });

      it("P2: trying a change again does not undo what came after it", async () => {
        const [annPhone, benPhone] = await Promise.all([device(ann), device(ben)]);
        const id = await group(annPhone, ben);
        const add = change(id, { addMemberIds: [cleo], title: "with cleo" });
        const { seq } = await annPhone.updateGroup(add);
        await benPhone.updateGroup(change(id, { removeMemberIds: [cleo], title: "without" }));
        assert.equal((await annPhone.updateGroup(add)).seq, seq);
        const { conversation } = await synced(annPhone, id);
        assert.deepEqual(
          [conversation.title, conversation.headSeq, conversation.memberCount],
          ["without", 3, 2],
        );
        const leave = change(id, { removeMemberIds: [ben] });
        const left = await benPhone.updateGroup(leave);
        assert.equal((await benPhone.updateGroup(leave)).seq, left.seq);
      });

      it("P8: a new member reads from its joining on", async () => {
        const [annPhone, benPhone, danPhone] = await Promise.all([
          device(ann),
          device(ben),
          device(dan),
        ]);
        const id = await group(annPhone, ben);
        await annPhone.send(textInto(id, "before"));
        const { seq } = await benPhone.updateGroup(change(id, { addMemberIds: [dan] }));
        assert.equal(seq, 3);
        await annPhone.send(textInto(id, "after"));
        assert.equal(textOf(await danPhone.inbox.record(id, 4)), "after");
        assert.deepEqual(
          danPhone.inbox.records.map((one) => one.seq),
          [3, 4],
        );
        for (const range of [{}, { afterSeq: 1 }, { beforeSeq: 5, limit: 200 }]) {
          const page = await danPhone.history({ conversationId: id, ...range });
          assert.deepEqual(page.records.map(textOf), ["<membership>", "after"]);
          assert.equal(page.floorSeq, 3);
        }
        const { conversation, records } = await synced(danPhone, id);
        assert.deepEqual(records.map(textOf), ["<membership>", "after"]);
        assert.deepEqual([conversation.unreadCount, conversation.floorSeq], [1, 3]);
        const before = await danPhone.history({ conversationId: id, beforeSeq: 3 });
        assert.deepEqual(before.records, []);
      });

      it("P8: a former member reads up to its removal and no further", async () => {
        const [annPhone, benPhone, cleoPhone] = await Promise.all([
          device(ann),
          device(ben),
          device(cleo),
        ]);
        const id = await group(annPhone, ben, cleo);
        await annPhone.send(textInto(id, "together"));
        await annPhone.updateGroup(change(id, { removeMemberIds: [ben] }));
        await benPhone.inbox.record(id, 3);
        await annPhone.send(textInto(id, "without ben"));
        await annPhone.updateGroup(change(id, { title: "without ben" }));
        await cleoPhone.inbox.record(id, 5);

        const page = await benPhone.history({ conversationId: id });
        assert.deepEqual(page.records.map(textOf), ["<membership>", "together", "<membership>"]);
        assert.equal(page.headSeq, 3);
        const beyond = await benPhone.history({ conversationId: id, afterSeq: 3 });
        assert.deepEqual(beyond.records, []);
        const { conversation, left, records } = await synced(benPhone, id);
        // Neither what it is called now nor when somebody wrote last.
        assert.deepEqual(
          [left, conversation.headSeq, conversation.title, conversation.headTimeMs],
          [true, 3, "", 0n],
        );
        assert.deepEqual(
          records.map(({ seq }) => seq),
          [1, 2, 3],
        );
        assert.deepEqual([conversation.memberCount, conversation.unreadCount], [0, 0]);
        const refused = { code: Code.NotFound };
        await assert.rejects(benPhone.send(textInto(id, "let me in")), refused);
        await assert.rejects(benPhone.listMembers({ conversationId: id }), refused);
        await assert.rejects(benPhone.updateGroup(change(id, { addMemberIds: [ben] })), refused);
        assert.ok(benPhone.inbox.records.every(({ seq }) => seq <= 3));
        const { members } = await annPhone.listMembers({ conversationId: id });
        assert.deepEqual(
          members.map(({ userId }) => userId),
          [ann, cleo],
        );
      });

      it("P6: a member that was removed while away learns of it by its token", async () => {
        const [annPhone, benPhone, cleoPhone] = await Promise.all([
          device(ann),
          device(ben),
          device(cleo),
        ]);
        // The others' cursors are where the sum of what changes could come out the same.
        for (const [deliveredSeq, readSeq] of [
          [0, 0],
          [1, 0],
          [1, 1],
        ] as const) {
          const id = await group(annPhone, ben, cleo);
          for (const one of [annPhone, cleoPhone])
            await one.moveCursor({ conversationId: id, deliveredSeq, readSeq });
          const { token } = await syncAll(benPhone);
          await annPhone.updateGroup(change(id, { removeMemberIds: [ben] }));
          const { conversations } = await syncAll(benPhone, { token: new Uint8Array(token) });
          const told = conversations.find(
            ({ conversation }) => conversation?.conversationId === id,
          );
          assert.equal(told?.left, true, `with the others at ${deliveredSeq}, ${readSeq}`);
        }
      });

      it("lets a member leave, come back, and everybody rename", async () => {
        const [annPhone, benPhone] = await Promise.all([device(ann), device(ben)]);
        const id = await group(annPhone, ben, cleo);
        await benPhone.updateGroup(change(id, { removeMemberIds: [ben] }));
        const leaving = await annPhone.inbox.record(id, 2);
        assert.ok(leaving.body.case === "membership");
        assert.deepEqual(leaving.body.value.removed, [ben]);
        assert.equal(leaving.senderId, ben);
        await annPhone.send(textInto(id, "while ben is gone"));
        await annPhone.updateGroup(change(id, { addMemberIds: [ben], title: "ben is back" }));
        const { body } = await benPhone.inbox.record(id, 4);
        assert.equal(body.case === "membership" && body.value.title, "ben is back");
        await benPhone.send(textInto(id, "thank you"));
        const { conversation, left, records } = await synced(benPhone, id);
        assert.deepEqual(
          [left, conversation.title, conversation.floorSeq],
          [false, "ben is back", 4],
        );
        assert.deepEqual(
          records.map(({ seq }) => seq),
          [4, 5],
        );
        const title = await annPhone.updateGroup(change(id, { title: "ben is back" }));
        assert.equal(title.seq, 5, "what is so already makes no record");
      });

      it("P5: counts messages as unread, not who came and went", async () => {
        const [annPhone, benPhone] = await Promise.all([device(ann), device(ben)]);
        const id = await group(annPhone, ben, cleo);
        await annPhone.send(textInto(id, "one"));
        await annPhone.updateGroup(change(id, { addMemberIds: [dan] }));
        await annPhone.send(textInto(id, "two"));
        const unread = async () => (await synced(benPhone, id)).conversation.unreadCount;
        assert.equal(await unread(), 2);
        await benPhone.moveCursor({ conversationId: id, readSeq: 2 });
        assert.equal(await unread(), 1);
        await benPhone.moveCursor({ conversationId: id, readSeq: 3 });
        assert.equal(await unread(), 1);
        await benPhone.moveCursor({ conversationId: id, readSeq: 4 });
        assert.equal(await unread(), 0);
      });

      it("delivered by all is what the slowest member has got", async () => {
        const [annPhone, benPhone, cleoPhone] = await Promise.all([
          device(ann),
          device(ben),
          device(cleo),
        ]);
        const id = await group(annPhone, ben, cleo);
        for (const text of ["one", "two", "three"]) await annPhone.send(textInto(id, text));
        await benPhone.moveCursor({ conversationId: id, deliveredSeq: 4, readSeq: 4 });
        await cleoPhone.moveCursor({ conversationId: id, deliveredSeq: 3, readSeq: 2 });
        await annPhone.inbox.cursor(id, ben, 4, 4);
        await annPhone.inbox.cursor(id, cleo, 3, 2);
        const seen = async (one: Device) => {
          const { peersDeliveredSeq, peersReadSeq } = (await synced(one, id)).conversation;
          return [peersDeliveredSeq, peersReadSeq];
        };
        assert.deepEqual(await seen(annPhone), [3, 2]);
        assert.deepEqual(await seen(cleoPhone), [4, 4]);
        await annPhone.updateGroup(change(id, { removeMemberIds: [cleo] }));
        assert.deepEqual(await seen(annPhone), [4, 4]);
      });

      it("refuses what makes no sense, with what to do", async () => {
        const [annPhone, benPhone] = await Promise.all([device(ann), device(ben)]);
        const request = { clientId: newClientId(), title: "friends" };
        const wrong = { code: Code.InvalidArgument };
        const create = (memberIds: string[], title = "friends") =>
          annPhone.createGroup({ ...request, memberIds, title });
        await assert.rejects(create([ann]), { ...wrong, message: /only the others/ });
        await assert.rejects(create([ben, ben]), { ...wrong, message: /named twice/ });
        await assert.rejects(create(["not a user"]), { ...wrong, message: /no user id/ });
        await assert.rejects(create([ben], ""), { ...wrong, message: /1 to 200/ });
        await assert.rejects(create([ben], "x".repeat(201)), { ...wrong, message: /1 to 200/ });
        const id = await group(annPhone, ben);
        const both = { addMemberIds: [dan], removeMemberIds: [dan] };
        await assert.rejects(annPhone.updateGroup(change(id, both)), wrong);
        await benPhone.send({ ...textInto("", "x"), to: { case: "userId", value: ann } });
        const direct = change(`d:${ann}:${ben}`, { addMemberIds: [cleo] });
        await assert.rejects(annPhone.updateGroup(direct), { code: Code.PermissionDenied });
        assert.equal((await annPhone.send(textInto(id, "all is well"))).seq, 2);
      });
    });
  }
}
