/** The store over real Cassandra beyond the suite of all stores: what owners leave behind, schemas that do not fit, and a node that goes away. */
import { Code, ConnectError } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { pino } from "pino";
import { systemClock } from "../../mesh/clock.ts";
import type { Clock } from "../../mesh/clock.ts";
import { systemRandom } from "../../mesh/random.ts";
import { Kind, Stage } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import type { ConversationWrite } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { schemaVersion } from "../../storage/cassandra/schema.ts";
import { cellQueries, indexQueries } from "../../storage/cassandra/rows.ts";
import { openCassandraStore, openMediaFolder } from "../../storage/index.ts";
import type { MediaStore, Store } from "../../storage/index.ts";
import { batch, cell, Desk, member, waitMs, write } from "../storage/writes.ts";
import { tables } from "../sim/store/schema.ts";
import { newFolder } from "../support/parley.ts";
import { asked, within } from "../support/within.ts";
import { sharedGround } from "./ground.ts";
import { Keyspace, outside } from "./keyspace.ts";
import type { Members } from "./members.ts";

const direct = "d:alice:bob";
const alice = member("alice");
const bob = member("bob");
const nothing = (): void => undefined;

const bare = (told: ConversationWrite): ConversationWrite => ({
  ...told,
  cells: [],
  state: undefined,
});

/** The text of the record at a seq. */
async function textAt(store: Store, id: string, seq: number): Promise<string> {
  const [found] = await store.cells(id, seq, seq);
  return /text [\w ]+/.exec(Buffer.from(found?.record ?? []).toString())?.[0] ?? "";
}

describe("a store over Cassandra", function () {
  this.timeout(120_000);
  let node: Members;
  let keyspace: Keyspace;
  let folder: Awaited<ReturnType<typeof newFolder>>;
  let media: MediaStore;
  let store: Store;
  let desk: Desk;

  before(async () => {
    node = (await sharedGround()).cassandra;
    keyspace = await Keyspace.migrated(node.endpoints);
    folder = await newFolder();
    media = await openMediaFolder(folder.path, systemRandom);
  });

  after(async () => {
    await keyspace?.close();
    await folder?.remove();
  });

  const kept = async (as: string, ...writes: ConversationWrite[]): Promise<void> => {
    const { stage, message } = await desk.appendAs(as, ...writes);
    assert.equal(stage, Stage.INDEXED, message);
  };

  const opened = (): void => {
    beforeEach(async () => {
      await keyspace.clear();
      store = await keyspace.open();
      desk = new Desk({ store, media });
    });

    afterEach(async () => {
      await desk.close();
      await keyspace.closeStores();
    });
  };

  describe("what owners leave behind", () => {
    opened();

    const leave = (told: Parameters<typeof write>[0]): Promise<void> =>
      keyspace.write((statements) => cellQueries(statements, write(told)));

    it("shows an owner the tail with its holes, and readers nothing of it", async () => {
      await kept("one", write({ from: 1, count: 2, members: [alice] }));
      await leave({ from: 3 });
      await leave({ from: 5, term: 9, previousTerm: 8 });
      const { headSeq, tail } = await desk.tail();
      assert.deepEqual([headSeq, tail.map(({ seq }) => seq)], [2, [3, 5]]);
      assert.deepEqual((await desk.page({ userId: "alice" })).seqs, [1, 2]);
      await kept("two", write({ from: 3, term: 1, epoch: 4 }));
      const adopted = await desk.tail();
      assert.deepEqual([adopted.headSeq, adopted.tail.map(({ seq }) => seq)], [3, [5]]);
      await kept("two", write({ from: 4, count: 2, term: 10, previousTerm: 1 }));
      assert.deepEqual((await desk.page({ userId: "alice" })).seqs, [1, 2, 3, 4, 5]);
      assert.equal((await store.cells("g:1", 5, 5))[0]?.term, 10n);
    });

    it("keeps the record of the higher epoch at one seq, whichever arrives last (P3)", async () => {
      for (const [id, ...epochs] of [["g:up", 3, 7] as const, ["g:down", 7, 3] as const]) {
        for (const epoch of epochs)
          await leave({ id, from: 1, term: epoch, text: `text of ${epoch}` });
        const [found] = await store.cells(id, 1, 1);
        assert.deepEqual([found?.epoch, found?.term], [7n, 7n]);
        assert.equal(await textAt(store, id, 1), "text of 7");
      }
    });

    it("keeps the later owner's record where two write one seq at once", async () => {
      await kept("one", write({ from: 1, members: [alice] }));
      const later = { from: 2, term: 2, previousTerm: 1, text: "text of two" };
      await Promise.all([
        desk.appendAs("two", write(later)),
        desk.appendAs("one", write({ from: 2, text: "text of one" })),
      ]);
      assert.equal(await textAt(store, "g:1", 2), "text of two");
    });

    it("finds a tail that goes on in the next partition", async () => {
      const members = [member("alice", { floorSeq: 4_092 })];
      await kept("one", write({ from: 4_092, count: 2, previousTerm: 1, members }));
      await leave({ from: 4_094, count: 10 });
      const { headSeq, tail } = await desk.tail();
      assert.deepEqual([headSeq, tail[0]?.seq, tail.at(-1)?.seq], [4_093, 4_094, 4_103]);
      assert.equal(tail.length, 10);
      await kept("two", write({ from: 4_094, count: 10, epoch: 2 }));
      const page = await desk.page({ userId: "alice", limit: 12 });
      assert.deepEqual([page.seqs[0], page.seqs.at(-1), page.headSeq], [4_092, 4_103, 4_103]);
    });

    it("goes by the lower of a direct conversation's two rows until both are raised (P1)", async () => {
      const told = { id: direct, kind: Kind.DIRECT, members: [alice, bob] };
      await kept("one", write({ ...told, from: 1, count: 2 }));
      const third = write({ ...told, from: 3 });
      await keyspace.write((statements) => [
        ...cellQueries(statements, third),
        ...indexQueries(statements, third, true).before.filter(
          ({ partition }) => partition === "alice",
        ),
      ]);
      const heads = async (): Promise<number[]> => {
        const pages = ["alice", "bob", ""].map((userId) =>
          desk.page({ conversationId: direct, userId }),
        );
        return (await Promise.all(pages)).map(({ headSeq }) => headSeq);
      };
      assert.deepEqual(await heads(), [3, 2, 2]);
      const { headSeq, tail } = await desk.tail(direct);
      assert.deepEqual([headSeq, tail.map(({ seq }) => seq)], [2, [3]]);
      await kept("two", write({ ...told, from: 3, epoch: 2 }));
      assert.deepEqual(await heads(), [3, 3, 3]);
      assert.deepEqual((await desk.tail(direct)).tail, []);
    });

    it("begins a direct conversation anew where only one row was made", async () => {
      const first = write({ id: direct, kind: Kind.DIRECT, from: 1, members: [alice, bob] });
      await keyspace.write((statements) => [
        ...cellQueries(statements, first),
        ...indexQueries(statements, first, true).before.slice(0, 1),
      ]);
      const { headSeq, tail } = await desk.tail(direct);
      assert.deepEqual([headSeq, tail.map(({ seq }) => seq)], [0, [1]]);
    });

    it("shows an owner the lower word on a cursor, so that a device that asks again moves both rows (P5)", async () => {
      for (const mover of ["alice", "bob"]) {
        const id = mover === "alice" ? "d:alice:eve" : "d:alice:bob";
        const other = mover === "alice" ? member("eve") : alice;
        const told = { id, kind: Kind.DIRECT };
        await kept("one", write({ ...told, from: 1, count: 5, members: [member(mover), other] }));
        const cursors = { deliveredSeq: 5, readSeq: 4, readOrdinal: 4 };
        const moved = bare(write({ ...told, from: 5, members: [member(mover, cursors)] }));
        await keyspace.write((statements) =>
          indexQueries(statements, moved, false).before.filter(
            ({ partition }) => partition === mover,
          ),
        );
        const seen = async (): Promise<(number | undefined)[]> => {
          const row = (await desk.tail(id)).members.find(({ userId }) => userId === mover);
          return [row?.deliveredSeq, row?.readSeq, row?.readOrdinal];
        };
        assert.deepEqual(await seen(), [0, 0, 0]);
        const own = await store.membership(id, mover);
        assert.deepEqual([own?.member.deliveredSeq, own?.member.readSeq], [5, 4]);
        await kept("one", moved);
        assert.deepEqual(await seen(), [5, 4, 4]);
      }
    });
  });

  describe("revocation", () => {
    opened();

    /** A store whose checks wait until they are let go. */
    async function held(): Promise<{ slow: Store; go: () => void }> {
      const waiting: (() => void)[] = [];
      let open = false;
      const afterTurn = (run: () => void): void =>
        open ? systemClock.afterTurn(run) : void waiting.push(run);
      const slow = await keyspace.open({ clock: { ...systemClock, afterTurn } });
      return {
        slow,
        go: () => {
          open = true;
          for (const run of waiting.splice(0)) run();
        },
      };
    }

    const written = (id: string, seq: number): Promise<number> =>
      asked(waitMs, `the cell ${seq} of ${id}`, async () =>
        (await store.cells(id, seq, seq)).length > 0 ? seq : undefined,
      );

    it("between the writes and their check aborts the batch and what builds on it, and nobody sees them", async () => {
      await kept("one", write({ from: 1, members: [alice] }));
      const { slow, go } = await held();
      const committed = (): void => assert.fail("it was committed");
      const late = slow.append(batch("one", write({ from: 2 })), committed);
      const onTop = slow.append(batch("two", write({ from: 3 })), committed);
      await written("g:1", 2);
      await store.revoke("one");
      go();
      await assert.rejects(late, { code: Code.Aborted });
      await assert.rejects(onTop, { code: Code.Aborted });
      assert.deepEqual((await desk.page({ userId: "alice" })).seqs, [1]);
      const { headSeq, tail } = await desk.tail();
      assert.deepEqual([headSeq, tail.map(({ seq }) => seq)], [1, [2]]);
      const before = await keyspace.requests("write");
      const again = slow.append(batch("one", write({ from: 2 })), committed);
      await assert.rejects(again, { code: Code.Aborted });
      assert.equal(await keyspace.requests("write"), before);
    });

    it("is asked about once for the batches that wait together", async () => {
      const { slow, go } = await held();
      const ids = ["g:a", "g:b", "g:c", "g:d"];
      const answers = ids.map((id) =>
        slow.append(batch("one", write({ id, from: 1, members: [alice] })), nothing),
      );
      await Promise.all(ids.map((id) => written(id, 1)));
      const before = await keyspace.requests("read");
      go();
      await Promise.all(answers);
      assert.equal((await keyspace.requests("read")) - before, 1);
    });
  });

  describe("the index", () => {
    opened();

    it("has the least cursors of the members that are there", async () => {
      const told = { from: 1, count: 5, indexUserIds: ["alice", "bob", "carol", "dave"] };
      const members = [
        member("alice", { deliveredSeq: 5, readSeq: 5, readOrdinal: 5 }),
        member("bob", { deliveredSeq: 3, readSeq: 1, readOrdinal: 1 }),
        member("carol", { deliveredSeq: 4 }),
        member("dave", { deliveredSeq: 1, leftSeq: 2 }),
      ];
      const two = { ...told, id: direct, kind: Kind.DIRECT, members: members.slice(0, 2) };
      await kept("one", write({ ...told, members, memberCount: 3 }), write(two));
      const { rows } = await desk.client.listIndex({ userId: "alice" });
      const least = rows.map(({ state }) => [
        ...[state?.leastDelivered?.userId, state?.leastDelivered?.seq],
        ...[state?.leastDelivered?.secondSeq, state?.leastRead?.seq, state?.leastRead?.secondSeq],
      ]);
      assert.deepEqual(least, [
        ["bob", 3, 5, 1, 5],
        ["bob", 3, 4, 0, 1],
      ]);
      const left = await desk.client.listIndex({ userId: "dave" });
      assert.equal(left.rows[0]?.member?.leftSeq, 2);
      assert.equal(left.rows[0]?.state?.leastRead?.secondSeq, 0);
    });

    it("shows a large group's head to everybody, by one row (P6)", async () => {
      const ids = Array.from({ length: 300 }, (_, at) => `u${at}`);
      const some = ids.slice(0, 200).map((id) => member(id));
      const more = ids.slice(200).map((id) => member(id, { floorSeq: 2 }));
      const large = { memberCount: 300, indexUserIds: [] };
      await kept("one", write({ from: 1, members: some }));
      const before = ids.slice(0, 200);
      await kept("one", write({ ...large, from: 2, members: more, indexUserIds: before }));
      await kept("one", write({ ...large, from: 3, count: 4 }));
      const { sums } = await desk.client.headSums({ userIds: ["u0", "u299", "u300"] });
      assert.deepEqual(sums, [6n, 6n, 0n]);
      for (const userId of ["u0", "u299"]) {
        const { rows } = await desk.client.listIndex({ userId });
        assert.deepEqual([rows.length, rows[0]?.state?.headSeq], [1, 6]);
      }
      const gone = [member("u0", { leftSeq: 7 })];
      await kept("one", write({ ...large, from: 7, count: 2, members: gone, memberCount: 299 }));
      const later = await desk.client.headSums({ userIds: ["u0", "u299"] });
      assert.deepEqual(later.sums, [7n, 8n]);
    });

    it("takes two writes and a read for a message between two, one write for a cursor, and less where many come together", async () => {
      const told = (id: string, from: number): ConversationWrite => {
        const [, one = "", other = ""] = id.split(":");
        const cursors = { deliveredSeq: from, readSeq: from, readOrdinal: from };
        const members = from === 1 ? [member(one, cursors), member(other)] : [member(one, cursors)];
        return write({ id, kind: Kind.DIRECT, from, members, indexUserIds: [one, other] });
      };
      const cost = async (...writes: ConversationWrite[]): Promise<[number, number]> => {
        const [wrote, read] = [await keyspace.requests("write"), await keyspace.requests("read")];
        await kept("one", ...writes);
        const writesNow = await keyspace.requests("write");
        return [writesNow - wrote, (await keyspace.requests("read")) - read];
      };
      assert.deepEqual(await cost(told("d:a:b", 1)), [2, 1]);
      assert.deepEqual(await cost(told("d:a:b", 2)), [2, 1]);
      const cursor = member("b", { deliveredSeq: 2, readSeq: 1, readOrdinal: 1 });
      assert.deepEqual(await cost({ ...told("d:a:b", 2), cells: [], members: [cursor] }), [1, 1]);
      const ids = Array.from({ length: 50 }, (_, at) => `d:a${at}:b${at}`);
      assert.deepEqual(await cost(...ids.map((id) => told(id, 1))), [15, 1]);
    });

    it("keeps the first header of a medium", async () => {
      const header = {
        $typeName: "parley.storage.v1.MediaHeader" as const,
        ...{ conversationId: "g:1", mediaId: "00", mediaType: "image/png" },
        ...{ size: 1, width: 1, height: 1, thumbnail: new Uint8Array(3) },
      };
      await store.putMedia(header, "");
      await store.putMedia({ ...header, mediaType: "image/zzz" }, "");
      assert.equal((await store.media("g:1", "00"))?.mediaType, "image/png");
    });
  });

  describe("schemas", () => {
    const made: Keyspace[] = [];
    const fresh = (replication?: number): Keyspace => {
      const one = Keyspace.on(node.endpoints, replication);
      made.push(one);
      return one;
    };

    after(async () => {
      for (const one of made) await one.drop();
    });

    const refused = async (one: Keyspace, reason: RegExp): Promise<void> =>
      assert.rejects(one.open(), (error) => {
        assert(error instanceof ConnectError);
        assert.equal(error.code, Code.FailedPrecondition);
        assert.match(error.rawMessage, reason);
        return true;
      });

    const setVersion = (one: Keyspace, version: number): Promise<unknown> =>
      one.ask(`UPDATE KS.schema_version SET version = ${version} WHERE part = 'schema' IF EXISTS`);

    it("are made by whoever comes first, three at once, and again", async () => {
      const one = fresh();
      await refused(one, /no keyspace test_\w+: run `parley migrate`/);
      await Promise.all([one.migrate(), one.migrate(), one.migrate()]);
      await one.migrate();
      const rows = await one.ask(
        "SELECT part, version, holder FROM KS.schema_version WHERE part = 'schema'",
      );
      assert.deepEqual(
        rows.map((row) => [row["part"], row["version"], row["holder"]]),
        [["schema", schemaVersion, null]],
      );
      await one.open();
      await one.closeStores();
    });

    it("that are older are brought up, and until then refused", async () => {
      const one = fresh();
      await one.migrate();
      const last = [...tables.keys()].at(-1) ?? "";
      await one.ask(`DROP TABLE KS.${last}`);
      await setVersion(one, schemaVersion - 1);
      await refused(one, /at version \d+, and \d+ is needed: run `parley migrate`/);
      await one.migrate();
      await one.open();
      assert.deepEqual(await one.ask(`SELECT * FROM KS.${last}`), []);
      await one.closeStores();
    });

    it("that are newer are left alone", async () => {
      const one = fresh();
      await one.migrate();
      await setVersion(one, schemaVersion + 1);
      await refused(one, /newer than the \d+ that this Parley knows: run a newer Parley/);
      await assert.rejects(one.migrate(), /run a newer Parley/);
    });

    it("with another number of copies are refused, with what to do", async () => {
      const one = fresh();
      await one.ask(
        `CREATE KEYSPACE ${one.name} WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 2}`,
      );
      await assert.rejects(one.migrate(), /keeps 2 copies .* set it to 2, or change the keyspace/);
      await refused(one, /keeps 2 copies/);
    });

    it("with more copies than there are nodes are not made", async () => {
      const after: Clock["after"] = (ms, run) => systemClock.after(ms / 50, run);
      const migrated = fresh(3).migrate({ clock: { ...systemClock, after } });
      await assert.rejects(migrated, /has 1 nodes, .* start more nodes, or set it to 1/);
    });

    it("in a data centre that is not there are refused, with those that are", async () => {
      const config = { ...keyspace.config, datacenter: "nowhere" };
      await assert.rejects(
        openCassandraStore(config, outside),
        /DATACENTER.*only found .*\[datacenter1\]/,
      );
    });
  });

  describe("whose node goes away", () => {
    after(() => node.start(0));

    it("holds up batches and those who open a store, tells why, and answers all when it is back", async () => {
      await keyspace.clear();
      const [waiting, closing] = [await keyspace.open(), await keyspace.open()];
      await waiting.append(batch("one", write({ from: 1, members: [alice] })), nothing);
      await node.end(0, "KILL");
      const held = waiting.append(batch("one", write({ from: 2 })), nothing);
      const empty = waiting.append(batch("one"), nothing);
      const given = closing.append(batch("one", write({ id: "g:2", from: 1 })), nothing);
      const problems = await asked(waitMs, "a problem", () => {
        const all = waiting.problems();
        return Promise.resolve(all.length > 0 ? all : undefined);
      });
      assert.match(problems.join(), /Cassandra/);
      await assert.rejects(waiting.membership("g:1", "alice"), { code: Code.Unavailable });
      await Promise.all([assert.rejects(given, { name: "UnknownOutcome" }), closing.close()]);
      let hear: (line: string) => void = nothing;
      const said = new Promise<string>((resolve) => (hear = resolve));
      const log = pino({ level: "warn" }, { write: (line: string) => hear(line) });
      const opening = keyspace.open({ log });
      assert.match(await within(waitMs, "a word", said), /waiting for Cassandra/);
      await node.start(0);
      const all = Promise.all([held, empty, opening]);
      await within(60_000, "the batches and the store", all);
      assert.deepEqual(waiting.problems(), []);
      const cells = await (await opening).cells("g:1", 1, 9);
      assert.deepEqual(
        cells.map(({ seq }) => seq),
        [1, 2],
      );
      assert.equal(cells[1]?.record.length, cell({ from: 2 }, 2).record.length);
    });

    it("is not waited for by whoever gives up", async () => {
      const config = { ...keyspace.config, contactPoints: ["127.30.0.9:9042"] };
      const giveUp = new AbortController();
      const opening = openCassandraStore(config, outside, giveUp.signal);
      giveUp.abort(new Error("no more"));
      await within(waitMs, "the end of it", assert.rejects(opening, /no more/));
    });
  });
});
