/** The handlers of an erasure's steps: each is bounded, and may come again after a crash at any moment. */
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../mesh/clock.ts";
import { invalid } from "../mesh/errors.ts";
import { directUsers } from "../mesh/ids.ts";
import type {
  BeginErasureRequest,
  Cell,
  EraseRecordsRequest,
  EraseRecordsResponse,
  ErasureReceipt,
  FilterErasedRequest,
  FilterErasedResponse,
  FinishErasureRequest,
  ForgetMemberRequest,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  type Record as ChatRecord,
  RecordSchema,
  type SeqRange,
} from "../proto/gen/parley/v1/record_pb.ts";
import { erasedOf, newReceipt } from "./erasure.ts";
import type { MediaStore, Store, Upload } from "./ports.ts";
import { removeMedia } from "./mediaservice.ts";
import { malformedId } from "./shape.ts";

/** Records that one step looks at. */
const stepCells = 2_000;
const readCells = 200;

export async function erasedAmong(store: Store, userIds: readonly string[]): Promise<string[]> {
  const receipts = await store.erasures(userIds);
  return userIds.filter((_, at) => receipts[at] !== undefined);
}

type RemoveMedia = (
  conversationId: string,
  userId: string,
  mediaIds: readonly string[],
) => Promise<number>;

export class Erasing {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #remove: RemoveMedia;

  constructor(clock: Clock, store: Store, media: MediaStore) {
    this.#clock = clock;
    this.#store = store;
    this.#remove = (...asked) => removeMedia(store, media, ...asked);
  }

  async begin({ userId }: BeginErasureRequest): Promise<ErasureReceipt> {
    const wrong = malformedId("user id", userId);
    if (wrong !== undefined) throw invalid(wrong);
    const [kept] = await this.#store.erasures([userId]);
    if (kept !== undefined) return kept;
    const receipt = newReceipt(userId, this.#clock.now());
    await this.#store.putErasure(receipt);
    return receipt;
  }

  async #receipt(userId: string): Promise<ErasureReceipt> {
    const [receipt] = await this.#store.erasures([userId]);
    if (receipt !== undefined) return receipt;
    throw new ConnectError(
      "the user is not marked as erased: begin the erasure first",
      Code.FailedPrecondition,
    );
  }

  async records(request: EraseRecordsRequest): Promise<EraseRecordsResponse> {
    const { userId, conversationId, afterSeq } = request;
    let receipt = await this.#receipt(userId);
    const headSeq = (await this.#store.conversation(conversationId))?.headSeq ?? 0;
    const last = Math.min(headSeq, afterSeq + stepCells);
    const answer: EraseRecordsResponse = {
      $typeName: "parley.storage.v1.EraseRecordsResponse",
      nextAfterSeq: last < headSeq ? last : 0,
      erased: [],
      messages: 0,
      changes: 0,
      media: 0,
    };
    for (let from = afterSeq + 1; from <= last; from += readCells) {
      const to = Math.min(last, from + readCells - 1);
      const cells = await this.#store.cells(conversationId, from, to);
      const part = await this.#erase(receipt, conversationId, userId, cells);
      receipt = part.receipt;
      answer.messages += part.messages;
      answer.changes += part.changes;
      answer.media += part.media;
      for (const seq of part.seqs) addTo(answer.erased, seq);
      await new Promise<void>((resolve) => this.#clock.afterTurn(resolve));
    }
    return answer;
  }

  /** What was attached goes first: the records that say what that is are there until it is gone. */
  async #erase(
    before: ErasureReceipt,
    conversationId: string,
    userId: string,
    cells: readonly Cell[],
  ): Promise<Part> {
    const rewritten: Cell[] = [];
    const mediaIds = new Set<string>();
    const seqs: number[] = [];
    let messages = 0;
    for (const cell of cells) {
      const record = decoded(cell);
      const found = erasedOf(cell, record, userId);
      if (found !== undefined || record.erased) seqs.push(cell.seq);
      if (found === undefined) continue;
      rewritten.push(found.cell);
      for (const mediaId of found.mediaIds) mediaIds.add(mediaId);
      if (found.kind === "message") messages += 1;
    }
    const media = await this.#remove(conversationId, userId, [...mediaIds]);
    const counts = { messages, changes: rewritten.length - messages, media };
    if (rewritten.length === 0) return { receipt: before, seqs, ...counts };
    const receipt = added(before, counts);
    await this.#store.rewrite(conversationId, rewritten, receipt);
    return { receipt, seqs, ...counts };
  }

  async forget(request: ForgetMemberRequest): Promise<ErasureReceipt> {
    const { userId, conversationId } = request;
    const receipt = await this.#receipt(userId);
    const [member] = await this.#store.members(conversationId, [userId]);
    if (member === undefined) return receipt;
    const next = { ...added(receipt, {}), conversations: receipt.conversations + 1 };
    // Before the user's index row goes, by which whoever goes on finds what is left to do.
    if (await this.#isLast(conversationId, userId))
      await this.#store.removeConversation(conversationId);
    await this.#store.forgetMember(conversationId, userId, next);
    return next;
  }

  /** Whether nobody else has the conversation, present or former. */
  async #isLast(conversationId: string, userId: string): Promise<boolean> {
    const some = await this.#store.membersAfter(conversationId, "", 2);
    if (some.some((member) => member.userId !== userId)) return false;
    // The other one's row may be on its way: only who is erased has none for good.
    const others = (directUsers(conversationId) ?? []).filter((other) => other !== userId);
    return (await erasedAmong(this.#store, others)).length === others.length;
  }

  async finish({ userId }: FinishErasureRequest): Promise<ErasureReceipt> {
    let receipt = await this.#receipt(userId);
    for (const [conversationId, mediaIds] of byConversation(await this.#store.uploads(userId))) {
      const media = await this.#remove(conversationId, userId, mediaIds);
      receipt = added(receipt, { media });
    }
    await this.#store.forgetUser(userId);
    await this.#store.scrub();
    if (receipt.finishedMs === 0n)
      receipt = {
        ...receipt,
        finishedMs: BigInt(this.#clock.now()),
        revision: receipt.revision + 1,
      };
    await this.#store.putErasure(receipt);
    return receipt;
  }

  async filter({ userIds }: FilterErasedRequest): Promise<FilterErasedResponse> {
    return {
      $typeName: "parley.storage.v1.FilterErasedResponse",
      userIds: await erasedAmong(this.#store, userIds),
    };
  }
}

function byConversation(uploads: readonly Upload[]): Map<string, string[]> {
  const all = new Map<string, string[]>();
  for (const { conversationId, mediaId } of uploads) {
    const mediaIds = all.get(conversationId) ?? [];
    mediaIds.push(mediaId);
    all.set(conversationId, mediaIds);
  }
  return all;
}

const decoded = ({ record }: Cell): ChatRecord => fromBinary(RecordSchema, record);

interface Counts {
  readonly messages?: number;
  readonly changes?: number;
  readonly media?: number;
}

/** What came of some cells. */
interface Part extends Required<Counts> {
  readonly receipt: ErasureReceipt;
  /** Of erased records, from whatever erasure. */
  readonly seqs: readonly number[];
}

/** The next revision of the receipt. */
function added(
  receipt: ErasureReceipt,
  { messages = 0, changes = 0, media = 0 }: Counts,
): ErasureReceipt {
  return {
    ...receipt,
    revision: receipt.revision + 1,
    messages: receipt.messages + BigInt(messages),
    changes: receipt.changes + BigInt(changes),
    media: receipt.media + BigInt(media),
  };
}

/** Adds the next seq to ranges that grow upwards. */
function addTo(ranges: SeqRange[], seq: number): void {
  const last = ranges.at(-1);
  if (last?.lastSeq === seq - 1) last.lastSeq = seq;
  else ranges.push({ $typeName: "parley.v1.SeqRange", firstSeq: seq, lastSeq: seq });
}
