/** What one batch changes in one conversation, and who is told once it is kept. */
import { Code, type ConnectError } from "@connectrpc/connect";
import { type Conversation, smallGroupMax } from "./conversation.ts";
import type { Place } from "./recent.ts";
import { retryAfterMs } from "../mesh/errors.ts";
import type { Operation, Outcome } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type { Cell, ConversationWrite, Member } from "../proto/gen/parley/storage/v1/storage_pb.ts";

/** Takes the outcomes of the operations of one caller. */
export interface Answerer {
  answer(outcome: Outcome): void;
  refuse(operationId: number, conversationId: string, error: ConnectError): void;
  /** An operation waits for its turn. */
  waits(operation: Operation): void;
  /** One that waited has its turn, or is refused without one. */
  waited(operation: Operation): void;
  /** Why a send must not be taken now, after what was refused before it; undefined: it may. */
  refusalOf(send: Operation): ConnectError | undefined;
  /** What goes along with the message, where it is followed. */
  readonly trace?: Uint8Array;
}

/** A record for the members' devices, but for the connection that made it. */
export interface NewRecord {
  readonly cell: Cell;
  readonly origin: string;
  readonly audience: string[];
  /** What goes along with it, where it is followed. */
  trace: Uint8Array | undefined;
}

const noUsers: string[] = [];

export interface CursorMove {
  readonly userId: string;
  readonly origin: string;
}

export class Draft {
  readonly conversation: Conversation;
  readonly cells: Cell[] = [];
  readonly records: NewRecord[] = [];
  readonly cursorMoves: CursorMove[] = [];
  /** Whom to tell, and what: two lists, since a pair for each message costs more. */
  readonly #answerers: Answerer[] = [];
  readonly #outcomes: Outcome[] = [];
  /** Members whose row changed. */
  readonly touched = new Set<string>();
  /** The members before a change after which they are too many for index rows: their rows say so once. */
  before: readonly string[] = noUsers;
  /** Of the messages in it that are followed. */
  traces: Uint8Array[] | undefined;
  /** The head that is committed once the batch is. */
  headSeq = 0;

  /** When it began, on the monotonic clock, where moves of cursors wait for company. */
  readonly beganMs: number;

  constructor(conversation: Conversation, beganMs: number) {
    this.conversation = conversation;
    this.beganMs = beganMs;
  }

  /** What storage has to do; undefined where the batch's check of the incarnation is all. */
  write(): ConversationWrite | undefined {
    const { conversation, cells, touched } = this;
    this.headSeq = conversation.headSeq;
    if (cells.length === 0 && touched.size === 0) return undefined;
    const members: Member[] = [];
    for (const userId of touched) {
      const row = conversation.memberRow(userId);
      if (row !== undefined) members.push(row);
    }
    return {
      $typeName: "parley.storage.v1.ConversationWrite",
      conversationId: conversation.id,
      cells,
      state: conversation.state(),
      indexUserIds:
        conversation.memberCount <= smallGroupMax ? conversation.audience : [...this.before],
      members,
    };
  }

  /**
   * A record that the conversation took, and whose members were `before` until then. Those whom it removes are told by it; where it makes them too
   * many for index rows, their rows say so once.
   */
  take(cell: Cell, origin: string, before: string[], removed: readonly string[] = noUsers): void {
    const { audience, memberCount } = this.conversation;
    this.cells.push(cell);
    if (before.length <= smallGroupMax && memberCount > smallGroupMax) this.before = before;
    const told = removed.length === 0 ? audience : [...new Set([...before, ...audience])];
    this.records.push({ cell, origin, audience: told, trace: undefined });
  }

  /** The record that was taken last is followed. */
  follow(trace: Uint8Array): void {
    const last = this.records.at(-1);
    if (last !== undefined) last.trace = trace;
    (this.traces ??= []).push(trace);
  }

  /** Whether only cursors moved, which can wait for company. */
  get cursorsOnly(): boolean {
    return this.cells.length === 0 && this.cursorMoves.length > 0;
  }

  /** Tells `to` of the outcome once all is kept. */
  answer(to: Answerer, outcome: Outcome): void {
    this.#answerers.push(to);
    this.#outcomes.push(outcome);
  }

  /** All of it is kept. */
  succeed(): void {
    for (let at = 0; at < this.#outcomes.length; at += 1) {
      const outcome = this.#outcomes[at];
      if (outcome !== undefined) this.#answerers[at]?.answer(outcome);
    }
  }

  /** Nothing of it is kept. */
  fail(error: ConnectError): void {
    for (const [at, { operationId }] of this.#outcomes.entries())
      this.#answerers[at]?.refuse(operationId, this.conversation.id, error);
  }
}

const notOwner: Outcome["outcome"] = {
  case: "notOwner",
  value: { $typeName: "parley.delivery.v1.NotOwner" },
};

export function refusal(operationId: number, error: ConnectError): Outcome {
  if (error.code === Code.Aborted)
    return { $typeName: "parley.delivery.v1.Outcome", operationId, outcome: notOwner };
  return {
    $typeName: "parley.delivery.v1.Outcome",
    operationId,
    outcome: {
      case: "refused",
      value: {
        $typeName: "parley.delivery.v1.Refused",
        code: error.code,
        message: error.rawMessage,
        retryAfterMs: retryAfterMs(error),
      },
    },
  };
}

let lastMs = 0;
let lastTime = 0n;

/** Messages of the same millisecond share their time. */
function timeOf(timeMs: number): bigint {
  if (timeMs !== lastMs) {
    lastMs = timeMs;
    lastTime = BigInt(timeMs);
  }
  return lastTime;
}

export function sent(operationId: number, place: Place, duplicate: boolean): Outcome {
  const value = {
    $typeName: "parley.delivery.v1.Sent" as const,
    seq: place.seq,
    timeMs: timeOf(place.timeMs),
    duplicate,
  };
  return { $typeName: "parley.delivery.v1.Outcome", operationId, outcome: { case: "sent", value } };
}

export function moved(operationId: number, deliveredSeq: number, readSeq: number): Outcome {
  const value = { $typeName: "parley.delivery.v1.Moved" as const, deliveredSeq, readSeq };
  return {
    $typeName: "parley.delivery.v1.Outcome",
    operationId,
    outcome: { case: "moved", value },
  };
}
