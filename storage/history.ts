/** The rules of logs, indexes and members, without any store: what links, what wins, what may be read. */
import type {
  Cell,
  ConversationState,
  ConversationWrite,
  IndexRow,
  Member,
  Page,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { isErased } from "./erasure.ts";

/** What a write to a conversation must link to. */
export interface KeptLog {
  /** The index head and the term of the record there; 0 and 0n where there is no conversation. */
  readonly headSeq: number;
  readonly headTerm: bigint;
  /** The highest seq that has a cell. */
  readonly topSeq: number;
  cellAt(seq: number): Cell | undefined;
}

/**
 * Why a write cannot be kept, or undefined where it can.
 * Cells follow on one another and on what is kept: the head, or a tail above it that was written but never indexed. A tail
 * may be written again under a higher or an equal epoch. What is at or below the head may come again, the same in term and
 * bytes, and changes nothing.
 */
export function refusal(log: KeptLog, write: ConversationWrite): string | undefined {
  const { cells, state } = write;
  const first = cells[0];
  if (first === undefined) {
    if (state !== undefined) return stateRefusal(log, state);
    return log.headSeq > 0 ? undefined : "there is no such conversation: it begins with a record";
  }
  const term = termAt(log, first.seq - 1);
  if (term === undefined) {
    return `seq ${first.seq} does not follow on ${log.topSeq}, the last that is kept: open the conversation again`;
  }
  if (first.previousTerm !== term) {
    return `seq ${first.seq} was written after a record of term ${first.previousTerm}, but term ${term} is kept there: open the conversation again`;
  }
  for (const cell of cells) {
    if (cell.seq > log.topSeq) break;
    const refused = againRefusal(log, cell);
    if (refused !== undefined) return refused;
  }
  return chainRefusal(write);
}

/** What is wrong with a write by itself, whatever is kept; undefined where nothing is. */
export function chainRefusal({ cells, state }: ConversationWrite): string | undefined {
  const [first] = cells;
  if (first === undefined) return undefined;
  let seq = first.seq - 1;
  let term = seq === 0 ? 0n : first.previousTerm;
  for (const cell of cells) {
    if (cell.seq !== seq + 1) return `seq ${cell.seq} comes after seq ${seq}: write them in order`;
    if (cell.previousTerm !== term) {
      return `seq ${cell.seq} was written after a record of term ${cell.previousTerm}, but that one has term ${term}`;
    }
    seq = cell.seq;
    term = cell.term;
  }
  if (state?.headSeq === seq && state.headTerm === term) return undefined;
  return `the state is not that of the last cell, seq ${seq} and term ${term}`;
}

function termAt(log: KeptLog, seq: number): bigint | undefined {
  if (seq === log.headSeq) return log.headTerm;
  if (seq === 0) return 0n;
  return seq > 0 && seq <= log.topSeq ? log.cellAt(seq)?.term : undefined;
}

function stateRefusal(log: KeptLog, state: ConversationState): string | undefined {
  if (state.headSeq < log.headSeq) return undefined;
  if (termAt(log, state.headSeq) === state.headTerm) return undefined;
  return `there is no record of term ${state.headTerm} at seq ${state.headSeq} to raise the index to`;
}

function againRefusal(log: KeptLog, cell: Cell): string | undefined {
  const kept = log.cellAt(cell.seq);
  if (kept === undefined) return undefined;
  if (cell.seq > log.headSeq) {
    if (cell.epoch >= kept.epoch) return undefined;
    return `seq ${cell.seq} is kept under epoch ${kept.epoch}, higher than ${cell.epoch}`;
  }
  if (cell.term === kept.term && Buffer.compare(cell.record, kept.record) === 0) return undefined;
  if (cell.term === kept.term && isErased(kept.record)) return undefined;
  return `another record is kept at seq ${cell.seq}: open the conversation again`;
}

/** A state never lowers the head; at one head the later written wins. */
export function mergeState(
  kept: ConversationState | undefined,
  given: ConversationState,
): ConversationState {
  return kept === undefined || given.headSeq >= kept.headSeq ? given : kept;
}

/** Cursors only grow, and of two membership changes the later in the log wins. Answers `kept` itself where nothing changes. */
export function mergeMember(kept: Member | undefined, given: Member): Member {
  if (kept === undefined) return given;
  const { floorSeq, leftSeq } = laterMembership(kept, given) ? given : kept;
  const reads = given.readSeq > kept.readSeq ? given : kept;
  const readOrdinal =
    given.readSeq === kept.readSeq
      ? Math.max(given.readOrdinal, kept.readOrdinal)
      : reads.readOrdinal;
  const deliveredSeq = Math.max(given.deliveredSeq, kept.deliveredSeq);
  const { readSeq } = reads;
  const same =
    floorSeq === kept.floorSeq &&
    leftSeq === kept.leftSeq &&
    deliveredSeq === kept.deliveredSeq &&
    readSeq === kept.readSeq &&
    readOrdinal === kept.readOrdinal;
  if (same) return kept;
  return {
    $typeName: "parley.storage.v1.Member",
    userId: kept.userId,
    floorSeq,
    leftSeq,
    deliveredSeq,
    readSeq,
    readOrdinal,
  };
}

function laterMembership(kept: Member, given: Member): boolean {
  const keptSeq = Math.max(kept.floorSeq, kept.leftSeq);
  const givenSeq = Math.max(given.floorSeq, given.leftSeq);
  return givenSeq > keptSeq || (givenSeq === keptSeq && given.leftSeq > kept.leftSeq);
}

export const isPresent = (member: Member | undefined): member is Member =>
  member !== undefined && member.leftSeq === 0;

/** The seqs that a user may read; without a member, those of a service: all of them. */
export interface Readable {
  readonly floorSeq: number;
  readonly headSeq: number;
}

export function readable(state: ConversationState, member: Member | undefined): Readable {
  if (member === undefined) return { floorSeq: 1, headSeq: state.headSeq };
  const { floorSeq, leftSeq } = member;
  const headSeq = leftSeq === 0 ? state.headSeq : Math.min(leftSeq, state.headSeq);
  return { floorSeq: Math.max(floorSeq, 1), headSeq };
}

/** The last seqs that the index's user may read. */
export function headsOf(rows: readonly IndexRow[]): number[] {
  return rows.flatMap(({ state, member }) =>
    state === undefined ? [] : readable(state, member).headSeq,
  );
}

/** The conversations in which the index's user is a member now. */
export function memberOf(rows: readonly IndexRow[]): string[] {
  return rows.filter(({ member }) => isPresent(member)).map(({ conversationId }) => conversationId);
}

export const pageRecordsMax = 200;

/** The first and the last seq of a page; the first is greater than the last where the page is empty. */
export function pageRange(page: Page, { floorSeq, headSeq }: Readable): [number, number] {
  const limit = Math.min(page.limit, pageRecordsMax);
  const first = Math.max(page.afterSeq + 1, floorSeq);
  const last = page.beforeSeq === 0 ? headSeq : Math.min(page.beforeSeq - 1, headSeq);
  return page.afterSeq > 0
    ? [first, Math.min(last, first + limit - 1)]
    : [Math.max(first, last - limit + 1), last];
}
