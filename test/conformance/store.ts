/** What every store must keep, through the service over a mesh that encodes: the same cases for memory, lmdb, and what may come. */
import { Code } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { AppendResponse } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { Kind, Stage } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import type { MediaStore, Store } from "../../storage/index.ts";
import { batch, clientId, Desk, member, write } from "../storage/writes.ts";
import type { AppendClient, DeskClient } from "../storage/writes.ts";
import { erasureCases } from "./erasure.ts";
import { retentionCases } from "./retention.ts";
import { ManualClock } from "../../mesh/clock.ts";

export interface StoreOptions {
  readonly reads?: boolean;
  readonly manyMembers?: number;
}

export interface OpenedStore {
  store: Store;
  media: MediaStore;
  /** Removes what closing leaves. */
  remove(): Promise<void>;
}

/**
 * A store of a cluster does not read before it writes: whether a cell links to what is kept, and whether all of a batch can be kept, it
 * cannot tell. Its owners are fenced, and what does not link is void to whoever takes over.
 */
export function storeSuite(
  name: string,
  open: () => Promise<OpenedStore>,
  options: StoreOptions = {},
): void {
  describe(`a store: ${name}`, () => {
    let opened: OpenedStore;
    let desk: Desk;
    let clock: ManualClock;

    beforeEach(async () => {
      opened = await open();
      clock = new ManualClock();
      desk = new Desk(opened, clock);
    });

    afterEach(async () => {
      await desk.close();
      await opened.remove();
    });

    deskCases(() => desk, options);
    describe("retention", () =>
      retentionCases(
        () => desk,
        () => clock,
      ));
    describe("erasure", () =>
      erasureCases(
        () => desk,
        () => opened.media,
      ));
  });
}

/** Those that need no hand inside the storage: wherever it runs. */
export function deskCases(
  desk: () => DeskClient,
  { reads = true, manyMembers = 100_000 }: StoreOptions = {},
): void {
  describe("append", () => appendCases(desk));
  if (reads) describe("append, by what is kept", () => linkCases(desk));
  else it("skips what takes reading before writing: cells and states that do not link");
  describe("members", () => memberCases(desk, manyMembers));
  describe("pages and searches", () => readCases(desk));
  describe("index", () => indexCases(desk));
  describe("last seen", () => seenCases(desk));
  describe("media", () => mediaCases(desk));
}

const alice = member("alice");
const bob = member("bob");

function assertFailed({ stage, code, message }: AppendResponse, expected: Code): void {
  assert.equal(stage, Stage.FAILED);
  assert.equal(code, expected, message);
  assert.notEqual(message, "");
}

function appendCases(desk: () => DeskClient): void {
  it("keeps what it answered as indexed, for every member (P1)", async () => {
    await desk().kept(write({ from: 1, count: 3, members: [alice, bob] }));
    for (const userId of ["alice", "bob", ""]) {
      const page = await desk().page({ userId });
      assert.deepEqual([page.found, page.headSeq, page.floorSeq], [true, 3, 1]);
      assert.deepEqual(page.seqs, [1, 2, 3]);
    }
    const { headSeq, tail, members } = await desk().tail();
    assert.deepEqual([headSeq, tail.length], [3, 0]);
    assert.deepEqual(
      members.map(({ userId }) => userId),
      ["alice", "bob"],
    );
  });

  it("answers the batches of a stream in their order, each once (P3)", async () => {
    const stream = desk().stream();
    const answers = Array.from({ length: 60 }, (_, index) =>
      stream.send(batch("one", write({ from: index + 1, members: index === 0 ? [alice] : [] }))),
    );
    const ids = (await Promise.all(answers)).map(({ batchId }) => batchId);
    await stream.close();
    const indexed = stream.stages.filter(([, stage]) => stage === Stage.INDEXED);
    assert.deepEqual(
      indexed.map(([batchId]) => batchId),
      ids,
    );
    assert.equal((await desk().page({ afterSeq: 59 })).headSeq, 60);
  });

  it("commits nothing of an incarnation after its revocation, and keeps what came before", async () => {
    const stream = desk().stream();
    const before = stream.send(batch("one", write({ from: 1, members: [alice] })));
    await before;
    await desk().client.revoke({ incarnation: "one" });
    const [after, later] = await Promise.all([
      stream.send(batch("one", write({ from: 2 }))),
      stream.send(batch("one")),
    ]);
    assertFailed(after, Code.Aborted);
    assertFailed(later, Code.Aborted);
    await stream.close();
    assert.equal((await desk().tail()).headSeq, 1);
    const answer = await desk().appendAs("two", write({ from: 2, term: 2, previousTerm: 1 }));
    assert.equal(answer.stage, Stage.INDEXED, answer.message);
    await desk().client.revoke({ incarnation: "one" });
    await assert.rejects(desk().client.revoke({ incarnation: "" }), { code: Code.InvalidArgument });
  });

  it("decides every race of batches with a revocation: what was answered as kept is there, and nothing else", async () => {
    const stream: AppendClient = desk().stream();
    const answers: Promise<AppendResponse>[] = [];
    let revoked: Promise<unknown> = Promise.resolve();
    for (let from = 1; from <= 200; from += 1) {
      answers.push(
        stream.send(batch("racer", write({ from, members: from === 1 ? [alice] : [] }))),
      );
      if (from % 20 === 0) await answers[from - 20];
      if (from === 100) revoked = desk().client.revoke({ incarnation: "racer" });
    }
    await revoked;
    const { headSeq } = await desk().tail();
    const stages = (await Promise.all(answers)).map(({ stage }) => stage);
    await stream.close();
    assert.equal(stages.filter((stage) => stage === Stage.INDEXED).length, headSeq);
    assert.equal(stages.lastIndexOf(Stage.INDEXED) + 1, headSeq);
    assert.equal((await desk().tail()).headSeq, headSeq);
  });
}

function linkCases(desk: () => DeskClient): void {
  it("refuses a hole, and all that builds on it, and goes on", async () => {
    await desk().kept(write({ from: 1, members: [alice] }));
    const stream = desk().stream();
    const answers = [3, 4, 2].map((from) => stream.send(batch("one", write({ from }))));
    const [hole, onTop, next] = await Promise.all(answers);
    assert(hole !== undefined && onTop !== undefined && next !== undefined);
    assertFailed(hole, Code.FailedPrecondition);
    assertFailed(onTop, Code.FailedPrecondition);
    assert.equal(next.stage, Stage.INDEXED, next.message);
    await stream.close();
    assert.deepEqual((await desk().page({})).seqs, [1, 2]);
  });

  it("refuses a cell after a record of another term", async () => {
    await desk().kept(write({ from: 1, term: 4, members: [alice] }));
    const wrong = write({ from: 2, term: 5, previousTerm: 3 });
    assertFailed(await desk().append(wrong), Code.FailedPrecondition);
    await desk().kept(write({ from: 2, term: 5, previousTerm: 4 }));
  });

  it("takes the same batch again without a second record (P2), and another record never", async () => {
    const stream = desk().stream();
    const first = batch("one", write({ from: 1, count: 2, members: [alice] }));
    const both = await Promise.all([
      stream.send(first),
      stream.send({ ...first, batchId: 1_000n }),
    ]);
    assert.deepEqual(
      both.map(({ stage }) => stage),
      [Stage.INDEXED, Stage.INDEXED],
    );
    await stream.close();
    await desk().kept(write({ from: 1, count: 3 }));
    assert.deepEqual((await desk().page({})).seqs, [1, 2, 3]);
    const other = write({ from: 3, text: "another" });
    assertFailed(await desk().append(other), Code.FailedPrecondition);
    const otherTerm = write({ from: 3, term: 9, previousTerm: 1 });
    assertFailed(await desk().append(otherTerm), Code.FailedPrecondition);
  });

  it("keeps a batch all or not at all", async () => {
    await desk().kept(write({ id: "g:a", from: 1, members: [alice] }));
    const answer = await desk().append(
      write({ id: "g:a", from: 2 }),
      write({ id: "g:new", from: 1, members: [alice] }),
      write({ id: "g:b", from: 7, members: [alice] }),
    );
    assertFailed(answer, Code.FailedPrecondition);
    assert.deepEqual((await desk().page({ conversationId: "g:a" })).seqs, [1]);
    assert.equal((await desk().page({ conversationId: "g:new" })).found, false);
    await desk().kept(write({ id: "g:a", from: 2 }), write({ id: "g:new", from: 1 }));
  });

  it("refuses what can never be kept", async () => {
    await desk().kept(write({ from: 1, members: [alice] }));
    const twice = await desk().append(write({ from: 2 }), write({ from: 2 }));
    assertFailed(twice, Code.InvalidArgument);
    assertFailed(await desk().append(write({ id: "", from: 1 })), Code.InvalidArgument);
    assertFailed(await desk().append(write({ id: "g:\0", from: 1 })), Code.InvalidArgument);
    assertFailed(
      await desk().append(write({ id: "g".repeat(2_000), from: 1 })),
      Code.InvalidArgument,
    );
    const nobody = write({ from: 2, members: [member("")] });
    assertFailed(await desk().append(nobody), Code.InvalidArgument);
    const noState = { ...write({ from: 2 }), state: undefined };
    assertFailed(await desk().append(noState), Code.FailedPrecondition);
    const early = {
      ...write({ id: "g:2", from: 1, members: [alice] }),
      state: undefined,
      cells: [],
    };
    assertFailed(await desk().append(early), Code.FailedPrecondition);
    const zero = { ...write({ id: "g:3", from: 0 }), cells: [] };
    assertFailed(await desk().append(zero), Code.InvalidArgument);
    await desk().kept(write({ from: 2 }));
  });

  it("never lowers a head (P5): a late state changes nothing, at the head the later wins", async () => {
    await desk().kept(write({ from: 1, count: 3, title: "new", members: [alice] }));
    await desk().kept({ ...write({ from: 2, title: "old" }), cells: [] });
    const titled = async (): Promise<string[]> => {
      const { rows } = await desk().client.listIndex({ userId: "alice" });
      return rows.map(({ state }) => `${state?.title} ${state?.headSeq}`);
    };
    assert.deepEqual(await titled(), ["new 3"]);
    await desk().kept({ ...write({ from: 3, title: "newer" }), cells: [] });
    assert.deepEqual(await titled(), ["newer 3"]);
    const beyond = { ...write({ from: 4 }), cells: [] };
    assertFailed(await desk().append(beyond), Code.FailedPrecondition);
  });
}

function memberCases(desk: () => DeskClient, manyMembers: number): void {
  async function memberOf(userId: string): Promise<number[]> {
    const { members } = await desk().tail();
    const found = members.find((one) => one.userId === userId);
    assert(found !== undefined);
    const { floorSeq, leftSeq, deliveredSeq, readSeq, readOrdinal } = found;
    return [floorSeq, leftSeq, deliveredSeq, readSeq, readOrdinal];
  }

  it("merges cursors, which never go back (P5)", async () => {
    const far = member("alice", { deliveredSeq: 5, readSeq: 3, readOrdinal: 2 });
    await desk().kept(write({ from: 1, count: 5, members: [far] }));
    const back = member("alice", { deliveredSeq: 4, readSeq: 4, readOrdinal: 3 });
    await desk().kept({ ...write({ from: 5 }), cells: [], state: undefined, members: [back] });
    assert.deepEqual(await memberOf("alice"), [1, 0, 5, 4, 3]);
    await desk().kept({ ...write({ from: 5 }), cells: [], state: undefined, members: [far] });
    assert.deepEqual(await memberOf("alice"), [1, 0, 5, 4, 3]);
  });

  it("lets the later membership change win: left, a late cursor, joined again", async () => {
    await desk().kept(write({ from: 1, count: 9, members: [alice] }));
    const step = async (told: Parameters<typeof member>[1]): Promise<number[]> => {
      const members = [member("alice", told)];
      await desk().kept({ ...write({ from: 9 }), cells: [], state: undefined, members });
      return memberOf("alice");
    };
    assert.deepEqual(await step({ leftSeq: 4 }), [1, 4, 0, 0, 0]);
    assert.deepEqual(await step({ deliveredSeq: 4 }), [1, 4, 4, 0, 0]);
    assert.deepEqual(await step({ floorSeq: 7 }), [7, 0, 4, 0, 0]);
    assert.deepEqual(await step({ leftSeq: 4 }), [7, 0, 4, 0, 0]);
  });

  it("lists present members by id, in pages, to members only (P8)", async () => {
    const ids = Array.from({ length: 25 }, (_, index) => `u${String(index).padStart(2, "0")}`);
    const members = ids.map((id, index) => member(id, index % 5 === 0 ? { leftSeq: 1 } : {}));
    await desk().kept(write({ from: 1, members: members.toReversed() }));
    const listed: string[] = [];
    const sizes: number[] = [];
    for (let more = true; more;) {
      const asked = {
        conversationId: "g:1",
        userId: "u01",
        limit: 8,
        afterUserId: listed.at(-1) ?? "",
      };
      const page = await desk().client.listMembers(asked);
      listed.push(...page.members.map(({ userId }) => userId));
      sizes.push(page.members.length);
      more = page.more;
    }
    assert.deepEqual(
      listed,
      ids.filter((_, index) => index % 5 !== 0),
    );
    assert.deepEqual(sizes, [8, 8, 4]);
    for (const [conversationId, userId] of [
      ["g:1", "u00"],
      ["g:1", "eve"],
      ["g:none", "u01"],
    ]) {
      const asked = desk().client.listMembers({
        conversationId: conversationId ?? "",
        userId: userId ?? "",
      });
      await assert.rejects(asked, { code: Code.NotFound });
    }
  });

  it(`opens a group of ${manyMembers} members, 1,000 a response`, async function () {
    this.timeout(60_000);
    const members = Array.from({ length: manyMembers }, (_, index) => member(`user-${index}`));
    await desk().kept(write({ from: 1, members }));
    const users = new Set<string>();
    let last = "";
    for await (const response of desk().client.open({ conversationId: "g:1" })) {
      assert(response.members.length <= 1_000);
      for (const { userId } of response.members) {
        assert(userId > last);
        users.add((last = userId));
      }
    }
    assert.equal(users.size, manyMembers);
  });
}

function readCases(desk: () => DeskClient): void {
  it("gives pages from either side, bounded, and never what is beyond", async () => {
    await desk().kept(write({ from: 1, count: 150, members: [alice] }));
    await desk().kept(write({ from: 151, count: 150 }));
    const seqs = async (page: Parameters<DeskClient["page"]>[0]): Promise<string> => {
      const all = (await desk().page({ userId: "alice", ...page })).seqs;
      return all.length === 0 ? "none" : `${all[0]}-${all.at(-1)} ${all.length}`;
    };
    assert.equal(await seqs({}), "251-300 50");
    assert.equal(await seqs({ limit: 1_000 }), "101-300 200");
    assert.equal(await seqs({ limit: 0 }), "none");
    assert.equal(await seqs({ beforeSeq: 100 }), "50-99 50");
    assert.equal(await seqs({ beforeSeq: 3 }), "1-2 2");
    assert.equal(await seqs({ afterSeq: 100 }), "101-150 50");
    assert.equal(await seqs({ afterSeq: 290 }), "291-300 10");
    assert.equal(await seqs({ afterSeq: 300 }), "none");
    assert.equal(await seqs({ afterSeq: 4_294_967_295 }), "none");
    assert.equal(await seqs({ afterSeq: 10, beforeSeq: 14 }), "11-13 3");
    assert.equal(await seqs({ afterSeq: 10, beforeSeq: 11 }), "none");
  });

  it("shows each user what is theirs, and nobody else that there is anything (P8)", async () => {
    const late = member("late", { floorSeq: 6 });
    const left = member("left", { leftSeq: 4 });
    await desk().kept(write({ from: 1, count: 10, members: [alice, late, left] }));
    const { seqs, headSeq, floorSeq } = await desk().page({ userId: "late" });
    assert.deepEqual([seqs, headSeq, floorSeq], [[6, 7, 8, 9, 10], 10, 6]);
    const gone = await desk().page({ userId: "left" });
    assert.deepEqual([gone.seqs, gone.headSeq, gone.floorSeq], [[1, 2, 3, 4], 4, 1]);
    assert.deepEqual((await desk().page({ userId: "late", afterSeq: 2 })).seqs, [6, 7, 8, 9, 10]);
    const stranger = await desk().page({ userId: "eve" });
    const nowhere = await desk().page({ conversationId: "g:none", userId: "alice" });
    assert.deepEqual(stranger, nowhere);
    assert.equal(stranger.found, false);
    assert.equal((await desk().page({ conversationId: "g:none" })).found, false);
  });

  it("answers several pages in their order", async () => {
    await desk().kept(
      write({ id: "g:a", from: 1, count: 2, members: [alice] }),
      write({ id: "g:b", from: 1, count: 3, members: [bob] }),
    );
    const pages = ["g:b", "g:a", "g:c"].map((conversationId) => ({
      conversationId,
      userId: "alice",
      limit: 9,
    }));
    const answer = await desk().client.read({ pages });
    assert.deepEqual(
      answer.pages.map(({ found, headSeq }) => [found, headSeq]),
      [
        [false, 0],
        [true, 2],
        [false, 0],
      ],
    );
  });

  it("keeps an answer within what a peer takes, with shorter pages", async () => {
    const text = "x".repeat(60_000);
    for (let from = 1; from <= 100; from += 25) {
      await desk().kept(write({ from, count: 25, text, members: [alice] }));
    }
    const newest = await desk().page({ limit: 200 });
    assert.equal(newest.seqs.at(-1), 100);
    assert(newest.seqs.length >= 50 && newest.seqs.length < 60, `${newest.seqs.length} records`);
    const oldest = await desk().page({ limit: 200, afterSeq: 1 });
    assert.equal(oldest.seqs[0], 2);
    assert(oldest.seqs.length >= 50 && oldest.seqs.length < 60, `${oldest.seqs.length} records`);
  });

  it("finds a send by its sender and client id, wherever it is (P2)", async () => {
    for (let from = 1; from <= 901; from += 300) {
      await desk().kept(
        write({ from, count: 300, sender: from === 601 ? "bob" : "alice", members: [alice] }),
      );
    }
    const find = async (
      senderId: string,
      id: Uint8Array,
      afterSeq: number,
      beforeSeq = 0,
    ): Promise<[number, bigint]> => {
      const asked = { conversationId: "g:1", senderId, clientId: id, afterSeq, beforeSeq };
      const { seq, timeMs } = await desk().client.findSend(asked);
      return [seq, timeMs];
    };
    assert.deepEqual(await find("alice", clientId(7), 0), [7, 1_007n]);
    assert.deepEqual(await find("alice", clientId(7), 7), [7 + 256, 1_263n]);
    assert.deepEqual(await find("bob", clientId(601), 0), [601, 1_601n]);
    assert.deepEqual(await find("bob", clientId(601), 0, 602), [601, 1_601n]);
    assert.deepEqual(await find("bob", clientId(601), 0, 601), [0, 0n]);
    assert.deepEqual(await find("bob", clientId(1_200), 901), [0, 0n]);
    assert.deepEqual(await find("eve", clientId(7), 0), [0, 0n]);
    assert.deepEqual(await find("alice", clientId(7), 5_000), [0, 0n]);
    const nothing = desk().client.findSend({ conversationId: "g:1", senderId: "alice" });
    await assert.rejects(nothing, { code: Code.InvalidArgument });
  });
}

function indexCases(desk: () => DeskClient): void {
  beforeEach(async () => {
    await desk().kept(
      write({ id: "g:2", from: 1, count: 7, members: [alice, bob] }),
      write({ id: "g:10", from: 1, count: 9, members: [alice, member("carol", { leftSeq: 5 })] }),
      write({
        id: "d:alice:dave",
        from: 1,
        count: 2,
        kind: Kind.DIRECT,
        members: [alice, member("dave")],
      }),
    );
    await desk().kept(write({ id: "g:3", from: 1, members: [alice, member("carol")] }));
  });

  it("has every conversation of a user, by id, also those that the user left", async () => {
    const { rows } = await desk().client.listIndex({ userId: "alice" });
    assert.deepEqual(
      rows.map(({ conversationId, state }) => [conversationId, state?.headSeq]),
      [
        ["d:alice:dave", 2],
        ["g:10", 9],
        ["g:2", 7],
        ["g:3", 1],
      ],
    );
    const carol = await desk().client.listIndex({ userId: "carol" });
    assert.deepEqual(
      carol.rows.map(({ conversationId, member: one }) => [conversationId, one?.leftSeq]),
      [
        ["g:10", 5],
        ["g:3", 0],
      ],
    );
    assert.deepEqual((await desk().client.listIndex({ userId: "ali" })).rows, []);
  });

  it("sums heads, a conversation that was left up to there", async () => {
    const { sums } = await desk().client.headSums({ userIds: ["carol", "eve", "alice", "bob"] });
    assert.deepEqual(sums, [6n, 0n, 19n, 7n]);
    await desk().kept(write({ id: "g:10", from: 10, indexUserIds: ["alice"] }));
    const later = await desk().client.headSums({ userIds: ["carol", "alice"] });
    assert.deepEqual(later.sums, [6n, 20n]);
  });

  it("knows who shares a conversation with whom now (P8)", async () => {
    const acquainted = async (userId: string, ...otherUserIds: string[]): Promise<string[]> =>
      (await desk().client.filterAcquainted({ userId, otherUserIds })).userIds;
    assert.deepEqual(await acquainted("alice", "eve", "dave", "carol", "bob"), [
      "dave",
      "carol",
      "bob",
    ]);
    assert.deepEqual(await acquainted("dave", "alice", "bob"), ["alice"]);
    assert.deepEqual(await acquainted("bob", "carol", "dave"), []);
    const left = { ...write({ id: "g:3", from: 1 }), cells: [], state: undefined };
    await desk().kept({ ...left, members: [member("carol", { leftSeq: 1 })] });
    assert.deepEqual(await acquainted("alice", "carol"), []);
    assert.deepEqual(await acquainted("carol", "alice"), []);
  });
}

function seenCases(desk: () => DeskClient): void {
  it("keeps the highest time of each user", async () => {
    const put = (userId: string, timeMs: bigint): Promise<unknown> =>
      desk().client.putLastSeen({ seen: [{ userId, timeMs }] });
    await put("alice", 100n);
    await put("alice", 50n);
    await put("bob", 1_700_000_000_000n);
    await put("bob", 1_700_000_000_001n);
    const { seen } = await desk().client.getLastSeen({ userIds: ["bob", "eve", "alice"] });
    assert.deepEqual(
      seen.map(({ userId, timeMs }) => [userId, timeMs]),
      [
        ["bob", 1_700_000_000_001n],
        ["eve", 0n],
        ["alice", 100n],
      ],
    );
  });
}

function mediaCases(desk: () => DeskClient): void {
  const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7) & 255));

  async function* upload(conversationId: string, content: Buffer): AsyncGenerator<object> {
    const value = {
      conversationId,
      mediaType: "image/png",
      width: 4,
      height: 3,
      thumbnail: Buffer.of(1, 2),
    };
    yield { part: { case: "header", value } };
    for (let at = 0; at < content.length; at += 65_536) {
      yield { part: { case: "chunk", value: content.subarray(at, at + 65_536) } };
    }
    return Promise.resolve();
  }

  async function download(
    asked: object,
  ): Promise<{ size: number; bytes: Buffer; chunks: number[] }> {
    const chunks: Uint8Array[] = [];
    let size = -1;
    for await (const { part } of desk().client.getMedia({ conversationId: "g:1", ...asked })) {
      if (part.case === "header") size = part.value.size;
      else if (part.case === "chunk") chunks.push(part.value);
    }
    return { size, bytes: Buffer.concat(chunks), chunks: chunks.map(({ length }) => length) };
  }

  it("keeps bytes under their hash and gives all of them or a part", async () => {
    const { header } = await desk().client.putMedia(upload("g:1", bytes));
    const mediaId = createHash("sha256").update(bytes).digest("hex");
    assert.equal(header?.mediaId, mediaId);
    assert.deepEqual(
      [header.size, header.width, header.height, header.mediaType],
      [200_000, 4, 3, "image/png"],
    );
    const whole = await download({ mediaId });
    assert.equal(whole.size, 200_000);
    assert(whole.bytes.equals(bytes));
    assert(whole.chunks.every((length) => length <= 65_536));
    const part = await download({ mediaId, offset: 70_000, length: 100_000 });
    assert(part.bytes.equals(bytes.subarray(70_000, 170_000)));
    const end = await download({ mediaId, offset: 199_990, length: 1_000 });
    assert(end.bytes.equals(bytes.subarray(199_990)));
    assert.equal((await download({ mediaId, offset: 500_000 })).bytes.length, 0);
    assert.deepEqual(await download({ mediaId, headerOnly: true }), {
      size: 200_000,
      bytes: Buffer.alloc(0),
      chunks: [],
    });
  });

  it("finds a medium only through a conversation that it was uploaded to (P8)", async () => {
    const { header } = await desk().client.putMedia(upload("g:2", bytes));
    assert(header !== undefined);
    const { mediaId } = header;
    await assert.rejects(download({ mediaId }), { code: Code.NotFound });
    await assert.rejects(download({ mediaId: "../../tables.mdb" }), { code: Code.NotFound });
    const again = await desk().client.putMedia(upload("g:1", bytes));
    assert.equal(again.header?.mediaId, mediaId);
    assert((await download({ mediaId })).bytes.equals(bytes));
  });

  it("refuses uploads that are none", async () => {
    const parts = (...all: object[]): AsyncIterable<object> =>
      (async function* () {
        yield* all;
        return Promise.resolve();
      })();
    const header = { part: { case: "header", value: { conversationId: "g:1" } } };
    const chunk = { part: { case: "chunk", value: bytes.subarray(0, 10) } };
    const long = { part: { case: "chunk", value: bytes.subarray(0, 65_537) } };
    const wrong = [
      [],
      [chunk],
      [header],
      [header, header],
      [header, long],
      [{ part: { case: "header", value: {} } }, chunk],
    ];
    for (const all of wrong) {
      await assert.rejects(desk().client.putMedia(parts(...all)), { code: Code.InvalidArgument });
    }
  });
}
