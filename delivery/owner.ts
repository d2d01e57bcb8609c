/**
 * Holds the conversations that this process owns: loads one when it is first touched (taking over what an earlier owner left), runs
 * its operations one after the other, lets go of idle ones. It does not know what the operations do.
 */
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import type { Committer } from "./committer.ts";
import { Conversation } from "./conversation.ts";
import { kindOf } from "./ids.ts";
import { directUsers } from "../mesh/ids.ts";
import type { Ownership } from "./ownership.ts";
import { decodeRecord } from "./record.ts";
import { moved, noConversation, overloaded, publicError, unavailable } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { traceIdOf } from "../mesh/trace.ts";
import { type Cell, Kind, StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";

/** One operation on a conversation. */
export interface Task {
  /** Runs when the conversation is there and the operations before are done; a promise holds up those behind. May throw. */
  run(conversation: Conversation): Promise<void> | void;
  /** Told where it does not run at once. */
  waits?(): void;
  refuse(error: ConnectError): void;
  /** Where it is a message that is followed. */
  readonly trace?: Uint8Array | undefined;
}

interface Held {
  readonly shard: number;
  readonly conversation: Conversation;
  /** Operations that wait; undefined: none needs to. */
  waiting: Task[] | undefined;
  /** Since the last sweep. */
  used: boolean;
}

/** The conversations of a shard that takes nothing new, on which something is under way still. */
interface Settling {
  busy: Held[];
  readonly done: () => void;
}

export interface OwnerConfig {
  /** Conversations in memory; idle ones above it are let go. */
  readonly conversationsMax: number;
  /** Operations that wait for one conversation. */
  readonly waitingMax: number;
}

export class Owner {
  readonly #config: OwnerConfig;
  readonly #ownership: Ownership;
  readonly #committer: Committer;
  readonly #storage: Client<typeof StorageService>;
  readonly #log: Surroundings["log"];
  /** Told of a conversation that is dropped. */
  readonly #dropped: (conversation: Conversation) => void;
  readonly #held = new Map<string, Held>();
  #settling: Settling[] = [];

  constructor(
    surroundings: Surroundings,
    config: OwnerConfig,
    ownership: Ownership,
    committer: Committer,
    dropped: (conversation: Conversation) => void,
  ) {
    this.#config = config;
    this.#ownership = ownership;
    this.#committer = committer;
    this.#dropped = dropped;
    this.#storage = createClient(StorageService, surroundings.transport(StorageService));
    this.#log = surroundings.log;
    surroundings.metrics.level(
      "parley_delivery_conversations",
      "Conversations in memory.",
      () => this.#held.size,
    );
  }

  /** `routed` is the epoch that whoever asks knows the shard under; 0: it does not say. */
  submit(conversationId: string, task: Task, routed = 0n): void {
    let held = this.#held.get(conversationId);
    const shard = held?.shard ?? this.#ownership.shardOf(conversationId);
    const epoch = this.#ownership.epochOf(shard);
    if (epoch === undefined || !this.#ownership.admits(shard)) return task.refuse(moved());
    // It may have been sent before another that was refused under the same epoch, and is behind it now.
    if (routed !== 0n && routed !== epoch) return task.refuse(moved());
    if (held === undefined) {
      const kind = kindOf(conversationId);
      if (kind === Kind.UNSPECIFIED) return task.refuse(noConversation(conversationId));
      const conversation = new Conversation(conversationId, kind, epoch);
      held = { shard, conversation, waiting: [], used: true };
      this.#held.set(conversationId, held);
      this.#holdUp(held, this.#load(held.conversation));
    }
    if (held.waiting === undefined) this.#run(held, task);
    else if (held.waiting.length < this.#config.waitingMax) {
      held.waiting.push(task);
      task.waits?.();
    } else task.refuse(overloaded("too many operations wait for this conversation"));
  }

  /** Forgets a conversation whose last batch was not kept: all that was built on it fails, and it is loaded again when next touched. */
  drop(conversation: Conversation, error: ConnectError): void {
    conversation.open = false;
    const held = this.#held.get(conversation.id);
    if (held?.conversation === conversation) {
      this.#held.delete(conversation.id);
      for (const task of held.waiting ?? []) task.refuse(error);
      held.waiting = [];
    }
    this.#committer.abandon(conversation, error);
    this.#dropped(conversation);
    this.progress();
  }

  /** The shard is not ours any more: its conversations are the next owner's to load. */
  dropShard(shard: number): void {
    for (const { shard: one, conversation } of [...this.#held.values()])
      if (one === shard) this.drop(conversation, moved());
    this.progress();
  }

  /**
   * For shards that take nothing new: each resolves once nothing that was taken is under way; its conversations are let go then.
   */
  settle(shards: ReadonlySet<number>): ReadonlyMap<number, Promise<void>> {
    const held = new Map<number, Held[]>(Array.from(shards, (shard) => [shard, []]));
    for (const one of this.#held.values()) held.get(one.shard)?.push(one);
    const settled = new Map<number, Promise<void>>();
    for (const [shard, all] of held) {
      const quiet = new Promise<void>((done) => this.#settling.push({ busy: all, done }));
      settled.set(
        shard,
        quiet.then(() => this.dropShard(shard)),
      );
    }
    this.progress();
    return settled;
  }

  /** Something that was under way has ended. */
  progress(): void {
    if (this.#settling.length === 0) return;
    this.#settling = this.#settling.filter((settling) => {
      settling.busy = settling.busy.filter((held) => this.#busy(held));
      if (settling.busy.length === 0) settling.done();
      return settling.busy.length > 0;
    });
  }

  #busy(held: Held): boolean {
    const { conversation, waiting } = held;
    if (this.#held.get(conversation.id) !== held) return false;
    return waiting !== undefined || this.#committer.busy(conversation);
  }

  /** Lets go of conversations that were not used since the last sweep, where there are too many. */
  sweep(): void {
    let over = this.#held.size - this.#config.conversationsMax;
    for (const [id, held] of this.#held) {
      if (over <= 0) return;
      const { conversation, waiting, used } = held;
      held.used = false;
      if (used || waiting !== undefined || conversation.committedSeq < conversation.headSeq)
        continue;
      this.#held.delete(id);
      over -= 1;
    }
  }

  /** Undefined where it is not in memory. */
  held(conversationId: string): { conversation: Conversation; waiting: number } | undefined {
    const held = this.#held.get(conversationId);
    return held && { conversation: held.conversation, waiting: held.waiting?.length ?? 0 };
  }

  /** Of all that is held; former members, too: what was lost may be what told them so. */
  *users(): Iterable<string> {
    for (const { conversation } of this.#held.values()) yield* conversation.members.keys();
  }

  #run(held: Held, task: Task): void {
    held.used = true;
    try {
      const more = task.run(held.conversation);
      if (more !== undefined)
        this.#holdUp(
          held,
          more.catch((error: unknown) => task.refuse(this.#public(error, held, task))),
        );
    } catch (error) {
      task.refuse(this.#public(error, held, task));
    }
  }

  /** Operations wait until `until` resolves; where it rejects, they fail and the conversation is forgotten. */
  #holdUp(held: Held, until: Promise<void>): void {
    held.waiting ??= [];
    until.then(
      () => this.#resume(held),
      (error: unknown) => this.drop(held.conversation, this.#public(error, held)),
    );
  }

  /** What a client may see of it: of a fault of ours nothing, which is for the log. */
  #public(error: unknown, { shard, conversation }: Held, task?: Task): ConnectError {
    const conversationId = conversation.id;
    const traceId = task?.trace && traceIdOf(task.trace);
    if (!(error instanceof ConnectError))
      this.#log.error({ err: error, conversationId, shard, traceId }, "an operation failed");
    return publicError(error);
  }

  #resume(held: Held): void {
    const tasks = held.waiting ?? [];
    held.waiting = undefined;
    for (let at = 0; at < tasks.length; at += 1) {
      const task = tasks[at];
      if (task === undefined) continue;
      this.#run(held, task);
      if (this.#heldUp(held)) {
        held.waiting = tasks.slice(at + 1);
        break;
      }
    }
    this.progress();
    const { conversation } = held;
    if (
      !conversation.exists &&
      held.waiting === undefined &&
      this.#held.get(conversation.id) === held
    ) {
      this.#held.delete(conversation.id);
    }
  }

  #heldUp(held: Held): boolean {
    return held.waiting !== undefined;
  }

  async #load(conversation: Conversation): Promise<void> {
    const tail: Cell[] = [];
    for await (const part of this.#storage.open(
      { conversationId: conversation.id },
      { timeoutMs: 30_000 },
    )) {
      if (part.state !== undefined) conversation.restore(part.state);
      for (const member of part.members) conversation.restoreMember(member);
      for (const userId of part.erasedUserIds) conversation.erase(userId);
      tail.push(...part.tail);
    }
    this.#refuseBehind(conversation, tail);
    this.#adopt(conversation, tail);
  }

  /** What is there under a higher epoch would win over what this owner writes, although nobody acked it. */
  #refuseBehind({ id, epoch }: Conversation, tail: readonly Cell[]): void {
    const ahead = tail.find((cell) => cell.epoch > epoch);
    if (ahead === undefined) return;
    this.#log.error(
      { conversationId: id, epoch: String(epoch), found: String(ahead.epoch) },
      "a conversation has records of a later owner: this one is none any more, or etcd was set back (docs/backup.md)",
    );
    throw unavailable("this conversation has records of a later owner");
  }

  /**
   * Takes over the records above the index head that follow on without a hole and link by their terms; the rest is void. They are
   * written again under this owner's epoch, in the same pipeline as new ones.
   */
  #adopt(conversation: Conversation, tail: Cell[]): void {
    if (tail.length === 0) return;
    const { epoch } = conversation;
    for (const cell of tail) {
      if (cell.seq !== conversation.headSeq + 1 || cell.previousTerm !== conversation.headTerm)
        break;
      const record = decodeRecord(cell.record);
      const draft = this.#committer.draft(conversation);
      if (!conversation.exists) {
        const users = directUsers(conversation.id) ?? [];
        conversation.begin(users);
        for (const userId of users) draft.touched.add(userId);
      }
      const before = conversation.audience;
      const countable = record.body.case === "message";
      const change = record.body.case === "membership" ? record.body.value : undefined;
      conversation.adopt(cell, record, countable, change && { ...change, title: change.title });
      draft.take({ ...cell, epoch }, "", before, change?.removed);
      for (const userId of [record.senderId, ...(change?.added ?? []), ...(change?.removed ?? [])])
        draft.touched.add(userId);
    }
  }
}
