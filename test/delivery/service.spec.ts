import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { pino } from "pino";
import { World, response, until } from "./world.ts";
import { encodeMembership, encodeRecord } from "../../delivery/record.ts";
import { unavailable } from "../../mesh/errors.ts";
import { GrpcMesh } from "../../mesh/grpc/mesh.ts";
import { groupId } from "../../mesh/ids.ts";
import { LocalMesh } from "../../mesh/local.ts";
import type { Mesh } from "../../mesh/mesh.ts";
import {
  type Cell,
  CellSchema,
  ConversationStateSchema,
  Kind,
  MemberSchema,
  Stage,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";

const direct = "d:alice:bob";
const group = groupId("alice", new Uint8Array(16));

function cell(
  seq: number,
  term: bigint,
  previousTerm: bigint,
  id: number,
  conversationId = direct,
  kind: "message" | "membership" = "message",
  body: Uint8Array = Buffer.from([0x0a, 1, 65]),
): Cell {
  const record = encodeRecord({
    conversationId,
    seq,
    senderId: "alice",
    clientId: new Uint8Array(16).fill(id),
    timeMs: 1_000 + seq,
    ordinal: seq,
    kind,
    body,
  });
  return create(CellSchema, { seq, epoch: term, term, previousTerm, record });
}

const members = ["alice", "bob"].map((userId) => create(MemberSchema, { userId, floorSeq: 1 }));
const stateAt = (headSeq: number, headTerm: bigint) =>
  create(ConversationStateSchema, {
    kind: Kind.DIRECT,
    headSeq,
    headOrdinal: headSeq,
    headTerm,
    memberCount: 2,
  });

const meshes: Record<string, () => Promise<Mesh>> = {
  local: () => Promise.resolve(new LocalMesh({ wire: true })),
  grpc: () => GrpcMesh.listen({ log: pino({ level: "silent" }) }),
};

for (const [mode, start] of Object.entries(meshes)) {
  describe(`delivery over the ${mode} mesh`, () => {
    let world: World;

    beforeEach(async () => {
      world = new World(await start());
    });

    afterEach(() => world.close());

    it("acks after the index, pushes after the commit (P1)", async () => {
      world.answer = () => "silent";
      await world.start();
      world.send(1, "alice", direct, 1);
      const batch = await until(() => world.appends[0]);
      assert.deepEqual(
        [world.publications.length, world.outcomes.length],
        [0, 0],
        "nobody sees it before the commit",
      );
      world.respond(batch, Stage.COMMITTED);
      await until(() => world.publications[0]);
      assert.equal(world.outcomes.length, 0, "not sent before the index");
      world.respond(batch, Stage.INDEXED);
      assert.equal(await world.sentSeq(1), 1);
      const [publication] = world.publications;
      assert.deepEqual(publication?.userIds, ["alice", "bob"]);
      assert.equal(publication?.exceptOrigin, "g1/1");
      assert.deepEqual(batch.writes[0]?.indexUserIds, ["alice", "bob"]);
    });

    it("commits what gathered while a batch was under way as one batch", async () => {
      world.answer = (batch) =>
        batch.batchId === 1n ? "silent" : [response(batch, Stage.INDEXED)];
      await world.start();
      world.send(1, "alice", direct, 1);
      const first = await until(() => world.appends[0]);
      world.send(2, "alice", direct, 2);
      world.send(3, "bob", direct, 3);
      world.send(4, "carol", "d:bob:carol", 4);
      world.submit({
        operationId: 5,
        userId: "dan",
        conversationId: "d:x:y",
        operation: { case: "send", value: {} },
      });
      await world.outcome(5);
      await until(() => world.finds !== undefined);
      world.respond(first, Stage.INDEXED);
      assert.deepEqual(
        [await world.sentSeq(2), await world.sentSeq(3), await world.sentSeq(4)],
        [2, 3, 1],
      );
      assert.ok(world.appends.length <= 3);
    });

    it("makes one message of many tries, and the answers name it (P2)", async () => {
      await world.start();
      world.send(1, "alice", direct, 1);
      world.send(2, "alice", direct, 1);
      assert.deepEqual([await world.sentSeq(1), await world.sentSeq(2)], [1, 1]);
      assert.equal(
        world.appends.flatMap(({ writes }) => writes.flatMap(({ cells }) => cells)).length,
        1,
      );
    });

    it("searches the log for a retry that memory does not know, from where its first try began (P2)", async () => {
      world.kept = { state: stateAt(9, 1n), members, tail: [] };
      world.found = { seq: 7, timeMs: 77n };
      await world.start();
      world.send(1, "alice", direct, 1, { retry: true, knownHeadSeq: 4 });
      const outcome = await world.outcome(1);
      assert.ok(outcome.case === "sent");
      assert.deepEqual(
        [outcome.value.seq, outcome.value.timeMs, outcome.value.duplicate],
        [7, 77n, true],
      );
      assert.deepEqual(
        world.finds,
        [{ afterSeq: 4, beforeSeq: 10 }],
        "what is behind the committed end may be what another owner left in vain",
      );
      assert.equal(world.appends.length, 1, "even this answer passed a check of the incarnation");
    });

    it("searches for no retry whose first try began with what memory has, and for others up to there (P2)", async () => {
      world.kept = { state: stateAt(9, 1n), members, tail: [] };
      await world.start();
      world.send(10, "alice", direct, 10, { retry: true, knownHeadSeq: 9 });
      // More than it remembers of first tries.
      for (let n = 11; n <= 210; n += 1) world.send(n, "bob", direct, n);
      assert.equal(await world.sentSeq(210), 210);
      world.send(220, "alice", direct, 220, { retry: true, knownHeadSeq: 9 });
      world.send(221, "alice", direct, 221, { retry: true, knownHeadSeq: 50 });
      assert.deepEqual([await world.sentSeq(220), await world.sentSeq(221)], [211, 212]);
      assert.deepEqual(world.finds, []);
      world.send(1, "alice", direct, 1, { retry: true, knownHeadSeq: 4 });
      await world.sentSeq(1);
      assert.deepEqual(world.finds, [{ afterSeq: 4, beforeSeq: 10 }]);
    });

    it("keeps the order of what comes behind a search (P4)", async () => {
      world.kept = { state: stateAt(9, 1n), members, tail: [] };
      await world.start();
      world.send(1, "alice", direct, 1, { retry: true });
      world.send(2, "alice", direct, 2);
      assert.deepEqual([await world.sentSeq(1), await world.sentSeq(2)], [10, 11]);
    });

    it("refuses all that was built on a batch that failed, retryably, and goes on", async () => {
      let failing = true;
      world.answer = (batch) => {
        if (!failing) return [response(batch, Stage.INDEXED)];
        return "silent";
      };
      await world.start();
      world.send(1, "alice", direct, 1);
      const first = await until(() => world.appends[0]);
      world.send(2, "alice", direct, 2);
      world.submit({
        operationId: 3,
        userId: "dan",
        conversationId: "d:x:y",
        operation: { case: "send", value: {} },
      });
      await world.outcome(3);
      failing = false;
      world.respond(first, Stage.FAILED, Code.ResourceExhausted, "the disk is full");
      for (const id of [1, 2]) {
        const outcome = await world.outcome(id);
        assert.ok(outcome.case === "refused");
        assert.equal(outcome.value.code, Code.ResourceExhausted);
        assert.match(outcome.value.message, /disk is full/);
        assert.ok(outcome.value.retryAfterMs > 0);
      }
      world.send(4, "alice", direct, 1, { retry: true });
      assert.equal(await world.sentSeq(4), 1);
      assert.equal(world.publications.length, 1, "what failed was never pushed");
    });

    it("refuses what left before the gateway knew that an earlier send was refused (P4)", async () => {
      let failing = true;
      world.answer = (batch) => (failing ? "silent" : [response(batch, Stage.INDEXED)]);
      await world.start();
      world.send(1, "alice", direct, 1, {}, 1);
      const first = await until(() => world.appends[0]);
      failing = false;
      world.respond(first, Stage.FAILED, Code.ResourceExhausted, "the disk is full");
      await world.outcome(1);
      // On its way when the first one was refused, as is one into another conversation, which is another matter.
      world.send(2, "alice", direct, 2, {}, 1);
      world.send(3, "alice", "d:alice:carol", 3, {}, 1);
      const behind = await world.outcome(2);
      assert.ok(behind.case === "refused" && behind.value.retryAfterMs > 0);
      assert.equal(await world.sentSeq(3), 1);
      world.send(4, "alice", direct, 1, { retry: true }, 3);
      world.send(5, "alice", direct, 2, { retry: true }, 3);
      assert.deepEqual([await world.sentSeq(4), await world.sentSeq(5)], [1, 2]);
    });

    it("refuses what waited behind a search that failed (P4)", async () => {
      world.kept = { state: stateAt(9, 1n), members, tail: [] };
      world.findFault = unavailable("the store does not answer");
      await world.start();
      world.send(1, "alice", direct, 1, { retry: true }, 1);
      world.send(2, "alice", direct, 2, {}, 1);
      const caseOf = async (id: number): Promise<unknown> => (await world.outcome(id)).case;
      assert.deepEqual([await caseOf(1), await caseOf(2)], ["refused", "refused"]);
      world.findFault = undefined;
      world.send(3, "alice", direct, 1, { retry: true }, 3);
      world.send(4, "alice", direct, 2, { retry: true }, 3);
      assert.deepEqual([await world.sentSeq(3), await world.sentSeq(4)], [10, 11]);
    });

    it("sends a batch of unknown fate again, the same in every bit (P1, P2)", async () => {
      world.answer = (batch) =>
        world.appends.length === 1 ? "break" : [response(batch, Stage.INDEXED)];
      await world.start();
      world.send(1, "alice", direct, 1);
      await until(() => world.appends[0]);
      await until(() => {
        world.clock.advance(1_000);
        return world.appends[1];
      });
      assert.equal(await world.sentSeq(1), 1);
      assert.deepEqual(world.appends[1], world.appends[0]);
    });

    it("revokes the owner before, then claims, then reads (takeover)", async () => {
      world.ownedBefore("before", 5n);
      await world.start();
      assert.deepEqual(world.events, ["revoke", "claim"]);
      assert.deepEqual(world.revoked, ["before"]);
      world.send(1, "alice", direct, 1);
      await world.sentSeq(1);
      assert.equal(world.appends[0]?.writes[0]?.cells[0]?.epoch, 6n);
    });

    it("adopts the records that follow on and link, and writes them again under its epoch; the rest is void (P1, P3)", async () => {
      world.ownedBefore("before", 5n);
      const tail = [cell(3, 5n, 2n, 3), cell(4, 5n, 5n, 4), cell(5, 3n, 3n, 5), cell(7, 5n, 5n, 7)];
      world.kept = { state: stateAt(2, 2n), members, tail };
      await world.start();
      world.send(1, "bob", direct, 9);
      assert.equal(
        await world.sentSeq(1),
        5,
        "the record at 5 does not link, the one at 7 has a hole before it",
      );
      const cells = world.appends.flatMap(({ writes }) => writes.flatMap((write) => write.cells));
      assert.deepEqual(
        cells.map(({ seq, epoch, term, previousTerm }) => [seq, epoch, term, previousTerm]),
        [
          [3, 6n, 5n, 2n],
          [4, 6n, 5n, 5n],
          [5, 6n, 6n, 5n],
        ],
      );
      assert.deepEqual(
        world.publications.map(({ payload }) => payload?.payload.case),
        ["record", "record", "record"],
      );
    });

    it("knows the retries of what it adopts, and looks for none behind what is committed (P1, P2)", async () => {
      world.ownedBefore("before", 5n);
      world.kept = { state: stateAt(2, 2n), members, tail: [cell(3, 5n, 2n, 3)] };
      world.found = { seq: 4, timeMs: 0n };
      await world.start();
      world.send(1, "bob", direct, 9);
      world.send(2, "alice", direct, 3, { retry: true, knownHeadSeq: 2 });
      world.send(3, "alice", direct, 4, { retry: true, knownHeadSeq: 2 });
      assert.deepEqual(
        [await world.sentSeq(1), await world.sentSeq(2), await world.sentSeq(3)],
        [4, 3, 5],
      );
      assert.deepEqual(world.finds, []);
    });

    it("tells those whom an adopted record removes (P6)", async () => {
      const body = encodeMembership({ added: [], removed: ["bob"], title: undefined });
      world.ownedBefore("before", 5n);
      const state = create(ConversationStateSchema, {
        ...{ kind: Kind.GROUP, title: "Lunch", headSeq: 2, headTerm: 2n, memberCount: 2 },
      });
      world.kept = { state, members, tail: [cell(3, 5n, 2n, 3, group, "membership", body)] };
      await world.start();
      world.send(1, "alice", group, 9);
      assert.equal(await world.sentSeq(1), 4);
      assert.deepEqual(
        world.publications.map(({ userIds }) => userIds),
        [["alice", "bob"], ["alice"]],
      );
    });

    it("serves no conversation that has records of a higher epoch: they would win over its own (P1)", async () => {
      world.ownedBefore("before", 5n);
      world.kept = { state: stateAt(2, 2n), members, tail: [cell(3, 7n, 2n, 3)] };
      await world.start();
      world.send(1, "alice", direct, 1);
      const outcome = await world.outcome(1);
      assert.equal(outcome.case === "refused" && outcome.value.code, Code.Unavailable);
      assert.deepEqual(world.appends, []);
    });

    it("adopts nothing across a hole, whatever the terms say (P3)", async () => {
      world.ownedBefore("before", 5n);
      const tail = [cell(3, 5n, 2n, 3), cell(5, 5n, 5n, 5)];
      world.kept = { state: stateAt(2, 2n), members, tail };
      await world.start();
      world.send(1, "bob", direct, 9);
      assert.equal(await world.sentSeq(1), 4);
    });

    it("drops everything when it learns that it was revoked", async () => {
      world.answer = (batch) => [response(batch, Stage.FAILED, Code.Aborted, "revoked")];
      await world.start();
      world.send(1, "alice", direct, 1);
      const { id } = world.identity;
      assert.equal((await world.outcome(1)).case, "notOwner");
      assert.notEqual(world.identity.id, id, "another life began");
      world.send(2, "alice", direct, 2);
      assert.equal((await world.outcome(2)).case, "notOwner");
      assert.equal(world.publications.length, 0);
    });

    it("gives a stranger the same answer as to a conversation that is not there (P8)", async () => {
      world.kept = { state: stateAt(2, 1n), members, tail: [] };
      await world.start();
      world.send(1, "eve", direct, 1);
      world.send(2, "eve", "g:0123456789abcdefghijkl", 2);
      world.send(3, "eve", "nonsense", 3);
      for (const id of [1, 2, 3]) {
        const outcome = await world.outcome(id);
        assert.ok(
          outcome.case === "refused" && outcome.value.code === Code.NotFound,
          `operation ${id}`,
        );
      }
      assert.equal(world.appends.length, 0);
    });

    it("moves cursors forward, keeps them, then tells the members' other devices (P5)", async () => {
      world.kept = { state: stateAt(4, 1n), members, tail: [] };
      await world.start();
      const move = (operationId: number, deliveredSeq: number, readSeq: number): void =>
        world.submit({
          operationId,
          userId: "bob",
          origin: "g1/2",
          conversationId: direct,
          operation: { case: "moveCursor", value: { deliveredSeq, readSeq } },
        });
      move(1, 3, 2);
      const first = await world.outcome(1);
      assert.ok(
        first.case === "moved" && first.value.deliveredSeq === 3 && first.value.readSeq === 2,
      );
      move(2, 1, 1);
      const second = await world.outcome(2);
      assert.ok(
        second.case === "moved" && second.value.deliveredSeq === 3 && second.value.readSeq === 2,
      );
      move(3, 5, 0);
      const third = await world.outcome(3);
      assert.ok(third.case === "refused" && third.value.code === Code.InvalidArgument);
      const row = world.appends[0]?.writes[0]?.members[0];
      assert.deepEqual(
        [row?.userId, row?.deliveredSeq, row?.readSeq, row?.readOrdinal],
        ["bob", 3, 2, 2],
      );
      assert.equal(world.publications.length, 1);
      assert.equal(world.publications[0]?.exceptOrigin, "g1/2");
      assert.ok(world.events.indexOf("append") < world.events.indexOf("publish cursors"));
    });

    describe("groups", () => {
      const create3 = (memberIds: string[], title = "Lunch") =>
        world.client.createGroup({
          userId: "alice",
          request: { clientId: new Uint8Array(16).fill(1), title, memberIds },
        });

      it("are made once, however often it is tried (P2)", async () => {
        await world.start();
        const first = await create3(["bob", "carol"]);
        const again = await create3(["bob", "carol"]);
        const made = first.response?.conversation;
        assert.equal(made?.memberCount, 3);
        assert.equal(made?.title, "Lunch");
        assert.equal(again.response?.conversation?.conversationId, made?.conversationId);
        assert.equal(again.response?.conversation?.headSeq, 1);
        assert.deepEqual(world.publications[0]?.userIds, ["alice", "bob", "carol"]);
      });

      it("are changed once, also where the owner that an earlier try reached is gone (P2)", async () => {
        const state = create(ConversationStateSchema, {
          ...{ kind: Kind.GROUP, title: "Dinner", headSeq: 9, headTerm: 1n, memberCount: 2 },
        });
        world.kept = { state, members, tail: [] };
        world.found = { seq: 7, timeMs: 77n };
        await world.start();
        const rename = (userId: string, more: { retry?: boolean; knownHeadSeq?: number }) =>
          world.client.updateGroup({
            userId,
            request: {
              ...{ conversationId: group, clientId: new Uint8Array(16).fill(2) },
              ...{ title: "Lunch", ...more },
            },
          });
        const seqOf = async (more: { retry?: boolean; knownHeadSeq?: number }) =>
          (await rename("alice", more)).response?.seq;
        assert.equal(await seqOf({ retry: true, knownHeadSeq: 4 }), 7);
        assert.deepEqual(world.finds, [{ afterSeq: 4, beforeSeq: 10 }]);
        await assert.rejects(rename("eve", { retry: true }), { code: Code.NotFound });
        assert.equal(world.finds.length, 1, "nothing is looked for on behalf of a stranger (P8)");
        assert.equal(await seqOf({ retry: true, knownHeadSeq: 9 }), 10, "none can be there");
        assert.equal(await seqOf({ retry: true }), 10, "and memory knows it from now on");
      });

      it("refuse bad input with a sentence that says what is wrong", async () => {
        await world.start();
        const many = Array.from({ length: 100_000 }, (_, n) => `u${n}`);
        const wrong: [string[], string, RegExp][] = [
          [["bob", "bob"], "x", /named twice/],
          [["alice"], "x", /member already/],
          [["b b"], "x", /no user id/],
          [["bob"], "", /title/],
          [["bob"], "x".repeat(201), /title/],
          [many, "x", /at most 100000 members, not 100001/],
        ];
        for (const [memberIds, title, message] of wrong) {
          await assert.rejects(
            create3(memberIds, title),
            (error: { code: Code; message: string }) => {
              assert.equal(error.code, Code.InvalidArgument);
              assert.match(error.message, message);
              return true;
            },
          );
        }
        assert.equal(world.appends.length, 0);
      });

      it("let members add, remove, rename and leave; a former member is a stranger (P8)", async () => {
        await world.start();
        const id = (await create3(["bob"])).response?.conversation?.conversationId ?? "";
        const update = (userId: string, n: number, request: object) =>
          world.client.updateGroup({
            userId,
            request: { conversationId: id, clientId: new Uint8Array(16).fill(n), ...request },
          });
        assert.equal(
          (await update("bob", 2, { addMemberIds: ["carol"], title: "Dinner" })).response?.seq,
          2,
        );
        assert.equal((await update("bob", 3, { removeMemberIds: ["bob"] })).response?.seq, 3);
        assert.deepEqual(
          world.publications.at(-1)?.userIds.toSorted(),
          ["alice", "bob", "carol"],
          "bob is told that he left",
        );
        await assert.rejects(update("bob", 4, { title: "Mine" }), { code: Code.NotFound });
        await assert.rejects(update("eve", 5, { title: "Mine" }), { code: Code.NotFound });
        assert.equal(
          (await update("alice", 6, { removeMemberIds: ["bob"] })).response?.seq,
          3,
          "nothing left to change",
        );
      });

      it("that become too large for index rows write those of all members once more", async () => {
        await world.start();
        const many = Array.from({ length: 255 }, (_, n) => `u${n}`);
        const id = (await create3(many)).response?.conversation?.conversationId ?? "";
        const rows = (): number | undefined => world.appends.at(-1)?.writes[0]?.indexUserIds.length;
        assert.equal(rows(), 256);
        const add = (n: number): Promise<unknown> =>
          world.client.updateGroup({
            userId: "alice",
            request: {
              conversationId: id,
              clientId: new Uint8Array(16).fill(n),
              addMemberIds: [`v${n}`],
            },
          });
        await add(2);
        assert.equal(rows(), 256, "those who were members before");
        await add(3);
        assert.equal(rows(), 0);
      });

      it("of more than 16 members hear of cursors together (P9)", async () => {
        await world.start();
        const others = Array.from({ length: 20 }, (_, n) => `u${n}`);
        const id = (await create3(others)).response?.conversation?.conversationId ?? "";
        await until(() => world.publications.length === 1);
        for (const [n, userId] of others.entries()) {
          const operation = { case: "moveCursor" as const, value: { deliveredSeq: 1 } };
          world.submit({ operationId: n + 1, userId, conversationId: id, operation });
        }
        for (const n of others.keys()) await world.outcome(n + 1);
        await until(() => world.publications.length === 21);
        assert.ok(
          world.publications.slice(1).every(({ userIds }) => userIds.length === 1),
          "so far only their own devices",
        );
        world.clock.advance(1_000);
        const last = await until(() => world.publications[21]);
        assert.equal(last.userIds.length, 21);
        assert.ok(
          last.payload?.payload.case === "cursors" &&
            last.payload.payload.value.cursors.length === 20,
        );
      });
    });
  });
}
