/** Brings what the memtable has to the tables, in the background and in slices, so that the journal can be written over. */
import { ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Cancel, Clock } from "../mesh/clock.ts";
import { unavailable } from "../mesh/errors.ts";
import type { StorageConfig } from "./config.ts";
import type { Commits } from "./commits.ts";
import { type Conversation, decoded, type Flush } from "./conversation.ts";
import type { Journal } from "./journal.ts";
import type { Memtable, SmallRows } from "./memtable.ts";
import type { ConversationState } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { Rows } from "./rows.ts";
import { blockCellsMax } from "./tables.ts";
import type { Tables } from "./tables.ts";

const retryMs = 1_000;
/** More than one step of a retention removes. */
const trimmedBlocks = 10_000;

export interface CheckpointParts {
  clock: Clock;
  log: Logger;
  tables: Tables;
  memtable: Memtable;
  journal: Journal;
  /** Where no group is under way. */
  atBoundary: Commits["atBoundary"];
}

export class Checkpoint {
  readonly #parts: CheckpointParts;
  readonly #config: StorageConfig;
  #cancel: Cancel | undefined;
  #running: Promise<void> | undefined;
  #flushingBytes = 0;
  #closing = false;
  /** Why the last one failed; undefined where it did not. */
  #failure: ConnectError | undefined;
  #waiting: { resolve: () => void; reject: (error: ConnectError) => void }[] = [];

  constructor(parts: CheckpointParts, config: StorageConfig) {
    this.#parts = parts;
    this.#config = config;
  }

  get failure(): ConnectError | undefined {
    return this.#failure;
  }

  /** Something became dirty. */
  touched(): void {
    if (this.#running !== undefined) return;
    if (
      this.#failure === undefined &&
      this.#parts.memtable.dirtyBytes > this.#config.checkpointBytes
    ) {
      void this.#begin();
    } else this.#arm(this.#failure === undefined ? this.#config.checkpointMs : retryMs);
  }

  #arm(ms: number): void {
    this.#cancel ??= this.#parts.clock.after(ms, () => void this.#begin());
  }

  #begin(): Promise<void> {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#running ??= this.#run().finally(() => this.#ended());
    return this.#running;
  }

  /** Undefined: there is room. Else resolves when there is, and rejects where the disk is why there is none. */
  room(): Promise<void> | undefined {
    if (this.#parts.memtable.dirtyBytes + this.#flushingBytes < this.#config.unwrittenBytesMax) {
      return undefined;
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    void this.#begin();
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Brings everything to the tables, or rejects. Nothing else comes then. */
  async finish(): Promise<void> {
    this.#closing = true;
    while (this.#running !== undefined) await this.#running;
    await this.#begin();
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Brings everything to the tables, and leaves nothing in any file that is not in them: rejects, or it is so. */
  async scrub(): Promise<void> {
    const { journal, tables } = this.#parts;
    // What each of the journal's files had before is in the tables once the other one has taken its turn.
    for (let file = 0; file < 2; file += 1)
      await this.#alone(async () => {
        await this.#flush(true);
        await journal.blank();
      });
    await this.#alone(() => tables.compact());
  }

  /** No checkpoint runs meanwhile. What goes wrong is the caller's affair: the store works on. */
  async #alone(job: () => Promise<void>): Promise<void> {
    while (this.#running !== undefined) await this.#running;
    if (this.#closing) throw unavailable("the store is closed");
    const done = job();
    this.#running = done.then(
      () => this.#ended(),
      () => this.#ended(),
    );
    await done;
  }

  #ended(): void {
    this.#running = undefined;
    if (this.#parts.memtable.dirtyBytes === 0)
      for (const { resolve } of this.#waiting.splice(0)) resolve();
    else if (this.#waiting.length > 0) void this.#begin();
    else this.touched();
  }

  async #run(): Promise<void> {
    const { log } = this.#parts;
    try {
      await this.#flush();
      if (this.#failure !== undefined) log.info("the tables take writes again");
      this.#failure = undefined;
      for (const { resolve } of this.#waiting.splice(0)) resolve();
    } catch (error) {
      const failure = ConnectError.from(error);
      if (this.#failure === undefined) log.error({ error: failure.message }, "a checkpoint failed");
      this.#failure = failure;
      for (const { reject } of this.#waiting.splice(0)) reject(failure);
    }
  }

  async #flush(turned = false): Promise<void> {
    const { memtable, tables } = this.#parts;
    const { covered, taken } = await this.#swap(turned);
    this.#flushingBytes = taken.bytes;
    const slices = new Slices(tables, memtable);
    const left = new Set(taken.conversations);
    try {
      await slices.small(taken.small);
      for (const conversation of taken.conversations) {
        await slices.conversation(conversation);
        left.delete(conversation);
      }
      await slices.end(covered);
      memtable.flushed();
    } catch (error) {
      memtable.unflushed([...slices.undo(), ...left], taken.bytes);
      throw error;
    } finally {
      this.#flushingBytes = 0;
    }
  }

  /** Nothing else may happen between the three: what is taken is what the journal has up to that group. */
  #swap(turned: boolean): Promise<{ covered: number; taken: ReturnType<Memtable["take"]> }> {
    const { atBoundary, journal, memtable, tables } = this.#parts;
    return new Promise((resolve, reject) => {
      atBoundary(() => {
        const covered = journal.lastNumber;
        const turns = journal.turn(tables.applied, turned);
        if (turned && !turns) return reject(unavailable("the journal takes no writes now"));
        resolve({ covered, taken: memtable.take() });
      });
    });
  }
}

/** Gathers rows into writes of bounded size, and ends the flushes whose rows are durable. */
class Slices {
  readonly #tables: Tables;
  readonly #memtable: Memtable;
  readonly #rows = new Rows();
  /** Flushes that end with the present slice. */
  #flushes: Flush[] = [];
  /** The one whose rows are spread over slices. */
  #open: Flush | undefined;

  constructor(tables: Tables, memtable: Memtable) {
    this.#tables = tables;
    this.#memtable = memtable;
  }

  async small(small: SmallRows): Promise<void> {
    const { revoked, lastSeen, media, uploads, erasures, retentions } = small;
    for (const incarnation of revoked) this.#rows.revoked(incarnation);
    for (const [conversationId, retention] of retentions) {
      await this.#turn();
      this.#rows.retention(conversationId, retention);
    }
    for (const receipt of erasures.values()) {
      await this.#turn();
      this.#rows.erasure(receipt);
    }
    for (const { upload, there } of uploads.values()) {
      await this.#turn();
      this.#rows.upload(upload, there);
    }
    for (const [userId, timeMs] of lastSeen) {
      await this.#turn();
      this.#rows.lastSeen(userId, timeMs);
    }
    for (const { upload, header } of media.values()) {
      await this.#turn();
      if (header === undefined) this.#rows.removeMedia(upload.conversationId, upload.mediaId);
      else this.#rows.media(header);
    }
  }

  /**
   * The row that says how long the log is and where the members are comes last, so that a crash between two
   * slices leaves the conversation as it was before: cells above the row's head are nobody's, and are written again at the same
   * keys. A member's two rows come together.
   */
  async conversation(conversation: Conversation): Promise<void> {
    await this.#turn();
    const flush = conversation.flush();
    if (flush === undefined) return;
    this.#open = flush;
    const { state, removals } = flush;
    if (removals > 0 || state === undefined) await this.#removed(flush);
    if (state !== undefined) await this.#rest(flush, state);
    this.#flushes.push(flush);
    this.#open = undefined;
  }

  async #rest(flush: Flush, state: ConversationState): Promise<void> {
    const { conversation, spilled, members, newcomers, firstSeq, cells } = flush;
    const { id } = conversation;
    for (const member of spilled ? members : []) {
      await this.#turn();
      if (newcomers.has(member.userId)) this.#rows.membership(member.userId, id);
      this.#rows.member(id, member);
    }
    if (!spilled) for (const userId of newcomers) this.#rows.membership(userId, id);
    for (let from = 0; from < cells.length; from += blockCellsMax) {
      await this.#turn();
      this.#rows.cells(id, firstSeq + from, cells.slice(from, from + blockCellsMax));
    }
    await this.#rewritten(flush);
    await this.#trimmed(flush);
    for (const userId of flush.gone) {
      await this.#turn();
      this.#rows.removeMember(id, userId, spilled);
    }
    this.#rows.conversation(id, { state, spilled, members: spilled ? [] : members });
  }

  /** All that the tables have of it; its own row last, as above. */
  async #removed({ conversation: { id }, gone }: Flush): Promise<void> {
    for (const key of this.#tables.blockKeys(id)) {
      await this.#turn();
      this.#rows.block({ key, cells: [] });
    }
    for (const userId of gone) {
      await this.#turn();
      this.#rows.removeMember(id, userId, true);
    }
    this.#rows.removeConversation(id);
  }

  /** The blocks that the tables had before, with what an erasure leaves of their cells. */
  async #rewritten({ conversation, rewritten, firstSeq }: Flush): Promise<void> {
    const { id } = conversation;
    const seqs = [...rewritten.keys()].filter((seq) => seq < firstSeq).sort((a, b) => a - b);
    let doneSeq = 0;
    for (const seq of seqs) {
      if (seq <= doneSeq) continue;
      await this.#turn();
      const block = this.#tables.block(id, seq);
      if (block === undefined) continue;
      const cells = block.cells.map((cell) => {
        const rest = rewritten.get(cell.seq);
        return rest === undefined ? cell : decoded(rest);
      });
      this.#rows.block({ key: block.key, cells });
      doneSeq = cells.at(-1)?.seq ?? seq;
    }
  }

  /** A block that has some of what stays is kept with that alone. */
  async #trimmed({ conversation, trimTo }: Flush): Promise<void> {
    const { id } = conversation;
    if (trimTo === 0) return;
    for (const { key, cells } of this.#tables.blocksBelow(id, trimTo, trimmedBlocks)) {
      await this.#turn();
      this.#rows.block({ key, cells: cells.filter(({ seq }) => seq >= trimTo) });
    }
  }

  async #turn(): Promise<void> {
    if (this.#rows.full) await this.#write();
  }

  async end(covered: number): Promise<void> {
    this.#rows.number("applied", covered);
    await this.#write();
  }

  async #write(): Promise<void> {
    await this.#tables.write(this.#rows);
    this.#rows.clear();
    for (const flush of this.#flushes) {
      const { conversation } = flush;
      conversation.flushed(flush);
      if (conversation.trims && !conversation.dirty) this.#memtable.touched(conversation);
      this.#memtable.forgetNewcomers(flush.conversation.id, flush.newcomers);
    }
    this.#flushes = [];
  }

  /** Takes back what is not durable, and says whose it is. */
  undo(): Conversation[] {
    const flushes = this.#open === undefined ? this.#flushes : [...this.#flushes, this.#open];
    for (const flush of flushes) flush.conversation.unflushed(flush);
    return flushes.map(({ conversation }) => conversation);
  }
}
