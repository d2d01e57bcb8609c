/**
 * Hands batches to storage: some are under way, each about other conversations than the others, and the next one gathers meanwhile, so that
 * under load a batch is as large as the store is slow. A batch whose fate is unknown (the stream broke) is sent again, the same in every
 * bit, before anything else.
 */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Conversation } from "./conversation.ts";
import { Draft } from "./draft.ts";
import type { Cancel } from "../mesh/clock.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { type Count, type Spread, secondsBounds, sizeBounds } from "../mesh/metrics.ts";
import { Pipe } from "../mesh/pipe.ts";
import { type KeptStream, keepStream } from "../mesh/stream.ts";
import { moved, retryAfterHeader } from "../mesh/errors.ts";
import {
  type AppendRequest,
  type AppendResponse,
  type ConversationWrite,
  Stage,
  StorageService,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";

interface Batch {
  readonly request: AppendRequest;
  readonly drafts: Draft[];
  readonly beganMs: number;
  committed: boolean;
}

/** How batches go to a store. */
export interface Pace {
  /**
   * Batches under way at once. One suits a store in the same process, whose next commit takes all that gathered; several one whose answers
   * take some round trips.
   */
  readonly batchesMax: number;
  /** How long a move of a cursor waits for company, in milliseconds: each costs a store of many nodes as much as a message. */
  readonly cursorLingerMs: number;
  /**
   * How long what gathered waits for the batch before it to be durable, in milliseconds: what comes meanwhile shares its requests. With nothing on
   * its way there, a batch goes at once.
   */
  readonly spacingMs: number;
}

/** Of a batch's events: `commit` is its number, 0 where it was indexed as soon as committed. */
export interface CommitterEvents {
  /** The batch is durable: its records may be seen. */
  committed(drafts: Draft[], commit: bigint): void;
  /** Every member's index shows it: its senders may be told. */
  indexed(drafts: Draft[], commit: bigint): void;
  /** Nothing of it is kept, as far as is known. The conversations are to be dropped; `abandon` then fails what gathered on top. */
  failed(drafts: Draft[], error: ConnectError): void;
  /** The incarnation may write no more. */
  revoked(incarnation: string): void;
}

export class Committer {
  readonly #surroundings: Surroundings;
  readonly #pace: Pace;
  readonly #events: CommitterEvents;
  readonly #sizes: Spread;
  readonly #records: Spread;
  readonly #again: Count;
  readonly #failures: Count;
  readonly #commitSeconds: Spread;
  readonly #gathering = new Map<Conversation, Draft>();
  readonly #underWay = new Map<bigint, Batch>();
  /** Those of the batches under way. */
  readonly #busy = new Set<Conversation>();
  #armed = false;
  /** The next look at what waits for company or for the batch before. */
  #wake: { readonly dueMs: number; readonly cancel: Cancel } | undefined;
  /** Of the last batch. */
  #beganMs = 0;
  /** Batches under way that are not durable yet. */
  #volatile = 0;
  #lastBatchId = 0n;
  #requests: Pipe<AppendRequest> | undefined;
  #drained: (() => void) | undefined;
  #stream: KeptStream | undefined;

  constructor(surroundings: Surroundings, pace: Pace, events: CommitterEvents) {
    this.#surroundings = surroundings;
    this.#pace = pace;
    this.#events = events;
    const { metrics } = surroundings;
    this.#sizes = metrics.spread(
      "parley_delivery_batch_conversations",
      "Conversations in a batch that is handed to storage.",
      sizeBounds,
    );
    this.#records = metrics.spread(
      "parley_delivery_batch_records",
      "Records in a batch that is handed to storage.",
      sizeBounds,
    );
    this.#again = metrics.count(
      "parley_delivery_batches_again_total",
      "Batches that were handed to storage again: the stream broke before their answer.",
    );
    this.#failures = metrics.count(
      "parley_delivery_failed_batches_total",
      "Batches of which storage kept nothing.",
    );
    metrics.level(
      "parley_delivery_batches",
      "Batches that wait for storage's answer.",
      () => this.#underWay.size,
    );
    this.#commitSeconds = metrics.spread(
      "parley_delivery_commit_seconds",
      "From a batch to storage's word that it is durable.",
      secondsBounds,
    );
  }

  get up(): boolean {
    return this.#stream?.up ?? false;
  }

  /** Whether something of the conversation gathers or is under way. */
  busy(conversation: Conversation): boolean {
    return this.#busy.has(conversation) || this.#gathering.has(conversation);
  }

  /** Resolves once nothing is under way, or after `ms`. */
  async drained(ms: number): Promise<void> {
    if (this.#underWay.size === 0 && this.#gathering.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#drained = resolve;
      this.#surroundings.clock.after(ms, resolve);
      this.#flush();
    });
  }

  start(): void {
    const storage = createClient(StorageService, this.#surroundings.transport(StorageService));
    this.#stream = keepStream(this.#surroundings, "delivery to storage", async (signal) => {
      const requests = (this.#requests = new Pipe<AppendRequest>(2 * this.#pace.batchesMax + 2));
      for (const { request } of this.#underWay.values()) {
        this.#again.add();
        requests.offer(request);
      }
      this.#flush();
      try {
        for await (const response of storage.append(requests, { signal })) this.#answered(response);
      } finally {
        this.#requests = undefined;
        requests.end();
      }
    });
  }

  async close(): Promise<void> {
    this.#wake?.cancel();
    await this.#stream?.close();
  }

  /** The conversation's part of the batch that gathers now. Throws where the conversation was dropped. */
  draft(conversation: Conversation): Draft {
    let draft = this.#gathering.get(conversation);
    if (draft === undefined) {
      if (!conversation.open) throw moved();
      draft = new Draft(conversation, this.#pace.cursorLingerMs > 0 ? this.#nowMs() : 0);
      this.#gathering.set(conversation, draft);
      this.#arm();
    } else if (this.#wake !== undefined) this.#arm();
    return draft;
  }

  /** Fails what gathered for a conversation that was dropped. */
  abandon(conversation: Conversation, error: ConnectError): void {
    const draft = this.#gathering.get(conversation);
    if (draft === undefined) return;
    this.#gathering.delete(conversation);
    draft.fail(error);
  }

  #arm(): void {
    if (this.#armed || this.#underWay.size >= this.#pace.batchesMax) return;
    this.#armed = true;
    this.#surroundings.clock.afterTurn(() => {
      this.#armed = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#requests === undefined || this.#underWay.size >= this.#pace.batchesMax) return;
    if (this.#follows()) return;
    const drafts = this.#ready();
    if (drafts.length === 0) return;
    const writes: ConversationWrite[] = [];
    const traces: Uint8Array[] = [];
    let records = 0;
    for (const draft of drafts) {
      this.#gathering.delete(draft.conversation);
      this.#busy.add(draft.conversation);
      const write = draft.write();
      records += draft.cells.length;
      if (draft.traces !== undefined) traces.push(...draft.traces);
      if (write !== undefined) writes.push(write);
    }
    this.#lastBatchId += 1n;
    const request: AppendRequest = {
      $typeName: "parley.storage.v1.AppendRequest",
      batchId: this.#lastBatchId,
      incarnation: this.#surroundings.identity.id,
      writes,
      traces,
    };
    this.#sizes.observe(writes.length);
    this.#records.observe(records);
    const beganMs = (this.#beganMs = this.#surroundings.clock.monotonic());
    this.#volatile += 1;
    this.#underWay.set(request.batchId, { request, drafts, beganMs, committed: false });
    this.#requests.offer(request);
  }

  /** Whether what gathers waits for the batch before to be durable. */
  #follows(): boolean {
    const { spacingMs } = this.#pace;
    if (spacingMs === 0 || this.#volatile === 0 || this.#drained !== undefined) return false;
    const leftMs = this.#beganMs + spacingMs - this.#surroundings.clock.monotonic();
    if (leftMs > 0) this.#lookIn(leftMs);
    return leftMs > 0;
  }

  /**
   * What gathered and may go: of each conversation one write at a time is under way. When a move of a cursor has waited for long enough, those that
   * waited half as long go with it, so that they do not each make a batch.
   */
  #ready(): Draft[] {
    const { cursorLingerMs } = this.#pace;
    const lingers = cursorLingerMs > 0 && this.#drained === undefined;
    const nowMs = lingers ? this.#nowMs() : 0;
    let [dueMs, youngDueMs] = [Infinity, Infinity];
    const ready: Draft[] = [];
    const company: Draft[] = [];
    for (const draft of this.#gathering.values()) {
      if (this.#busy.has(draft.conversation)) continue;
      const leftMs = lingers && draft.cursorsOnly ? draft.beganMs + cursorLingerMs - nowMs : 0;
      if (leftMs <= 0) {
        ready.push(draft);
        continue;
      }
      const isCompany = leftMs <= cursorLingerMs / 2;
      if (isCompany) company.push(draft);
      else youngDueMs = Math.min(youngDueMs, leftMs);
      dueMs = Math.min(dueMs, leftMs);
    }
    const nextMs = ready.length > 0 ? youngDueMs : dueMs;
    if (nextMs < Infinity) this.#lookIn(nextMs);
    return ready.length > 0 ? [...ready, ...company] : ready;
  }

  /** A whole number costs no memory of its own. */
  #nowMs(): number {
    return Math.ceil(this.#surroundings.clock.monotonic());
  }

  #lookIn(ms: number): void {
    const { clock } = this.#surroundings;
    const dueMs = clock.monotonic() + ms;
    if (this.#wake !== undefined && this.#wake.dueMs <= dueMs) return;
    this.#wake?.cancel();
    const cancel = clock.after(Math.ceil(ms), () => {
      this.#wake = undefined;
      this.#flush();
    });
    this.#wake = { dueMs, cancel };
  }

  #answered(response: AppendResponse): void {
    const { batchId } = response;
    const batch = this.#underWay.get(batchId);
    if (batch === undefined) return;
    if (response.stage === Stage.FAILED) {
      this.#end(batch);
      if (!batch.committed) this.#volatile -= 1;
      this.#failures.add();
      const error = failure(response);
      this.#events.failed(batch.drafts, error);
      if (error.code === Code.Aborted) this.#events.revoked(batch.request.incarnation);
    } else {
      const indexed = response.stage === Stage.INDEXED;
      const commit = indexed && !batch.committed ? 0n : batchId;
      if (!batch.committed) {
        batch.committed = true;
        this.#volatile -= 1;
        const tookMs = this.#surroundings.clock.monotonic() - batch.beganMs;
        this.#commitSeconds.observe(tookMs / 1_000);
        this.#events.committed(batch.drafts, commit);
      }
      if (!indexed) return this.#flush();
      this.#end(batch);
      this.#events.indexed(batch.drafts, commit);
    }
    this.#flush();
    if (this.#underWay.size === 0 && this.#gathering.size === 0) this.#drained?.();
  }

  #end({ request, drafts }: Batch): void {
    this.#underWay.delete(request.batchId);
    for (const { conversation } of drafts) this.#busy.delete(conversation);
  }
}

/**
 * A failed batch is worth another try by the client, unless the store says what is wrong with it for good. Of an incarnation that may write
 * no more, the next owner finds out what became of it.
 */
function failure({ code, message }: AppendResponse): ConnectError {
  if (code === Code.Aborted) return moved();
  const passing = code === Code.ResourceExhausted ? Code.ResourceExhausted : Code.Unavailable;
  return new ConnectError(message, passing, { [retryAfterHeader]: "1000" });
}
