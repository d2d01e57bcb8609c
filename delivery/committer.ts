/**
 * Hands batches to storage: one is under way, the next gathers meanwhile, so that under load a batch is as large as the store is slow.
 * A batch whose fate is unknown (the stream broke) is sent again, the same in every bit, before anything else.
 */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Conversation } from "./conversation.ts";
import { Draft } from "./draft.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { Pipe } from "../mesh/pipe.ts";
import { type KeptStream, keepStream } from "../mesh/stream.ts";
import { retryAfterHeader } from "../mesh/errors.ts";
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
  committed: boolean;
}

export interface CommitterEvents {
  incarnation(): string;
  /** The batch is durable: its records may be seen. */
  committed(drafts: Draft[]): void;
  /** Every member's index shows it: its senders may be told. */
  indexed(drafts: Draft[]): void;
  /** Nothing of it is kept. The conversations are to be dropped; `abandon` then fails what gathered on top. */
  failed(drafts: Draft[], error: ConnectError, revoked: boolean): void;
}

export class Committer {
  readonly #surroundings: Surroundings;
  readonly #events: CommitterEvents;
  #gathering = new Map<Conversation, Draft>();
  #underWay: Batch | undefined;
  #armed = false;
  #lastBatchId = 0n;
  #requests: Pipe<AppendRequest> | undefined;
  #drained: (() => void) | undefined;
  #stream: KeptStream | undefined;

  constructor(surroundings: Surroundings, events: CommitterEvents) {
    this.#surroundings = surroundings;
    this.#events = events;
  }

  get up(): boolean {
    return this.#stream?.up ?? false;
  }

  /** Resolves once nothing is under way, or after `ms`. */
  async drained(ms: number): Promise<void> {
    if (this.#underWay === undefined && this.#gathering.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#drained = resolve;
      this.#surroundings.clock.after(ms, resolve);
    });
  }

  start(): void {
    const storage = createClient(StorageService, this.#surroundings.transport(StorageService));
    this.#stream = keepStream(this.#surroundings, "append", async (signal) => {
      const requests = (this.#requests = new Pipe<AppendRequest>(4));
      if (this.#underWay !== undefined) requests.offer(this.#underWay.request);
      else this.#flush();
      try {
        for await (const response of storage.append(requests, { signal })) this.#answered(response);
      } finally {
        this.#requests = undefined;
        requests.end();
      }
    });
  }

  async close(): Promise<void> {
    await this.#stream?.close();
  }

  /** The conversation's part of the batch that gathers now. */
  draft(conversation: Conversation): Draft {
    let draft = this.#gathering.get(conversation);
    if (draft === undefined) {
      draft = new Draft(conversation);
      this.#gathering.set(conversation, draft);
      this.#arm();
    }
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
    if (this.#armed || this.#underWay !== undefined) return;
    this.#armed = true;
    this.#surroundings.clock.afterTurn(() => {
      this.#armed = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#underWay !== undefined || this.#requests === undefined || this.#gathering.size === 0)
      return;
    const drafts = [...this.#gathering.values()];
    this.#gathering = new Map();
    const writes: ConversationWrite[] = [];
    for (const draft of drafts) {
      const write = draft.write();
      if (write !== undefined) writes.push(write);
    }
    this.#lastBatchId += 1n;
    const request: AppendRequest = {
      $typeName: "parley.storage.v1.AppendRequest",
      batchId: this.#lastBatchId,
      incarnation: this.#events.incarnation(),
      writes,
    };
    this.#underWay = { request, drafts, committed: false };
    this.#requests.offer(request);
  }

  #answered(response: AppendResponse): void {
    const batch = this.#underWay;
    if (batch === undefined || response.batchId !== batch.request.batchId) return;
    if (response.stage === Stage.FAILED) {
      this.#underWay = undefined;
      this.#events.failed(batch.drafts, failure(response), response.code === Code.Aborted);
    } else {
      if (!batch.committed) {
        batch.committed = true;
        this.#events.committed(batch.drafts);
      }
      if (response.stage !== Stage.INDEXED) return;
      this.#underWay = undefined;
      this.#events.indexed(batch.drafts);
    }
    this.#flush();
    if (this.#underWay === undefined && this.#gathering.size === 0) this.#drained?.();
  }
}

/** A failed batch is worth another try by the client, unless the store says what is wrong with it for good. */
function failure({ code, message }: AppendResponse): ConnectError {
  const known = Object.values(Code).includes(code) ? (code as Code) : Code.Unavailable;
  const passing = known === Code.ResourceExhausted ? known : Code.Unavailable;
  return new ConnectError(message, passing, { [retryAfterHeader]: "1000" });
}
