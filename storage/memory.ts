/** A store in memory, for tests: it keeps every duty but the one to survive, and can be stopped between commit and index as a cluster can. */
import type {
  AppendRequest,
  Cell,
  ConversationState,
  ConversationWrite,
  IndexRow,
  LastSeen,
  MediaHeader,
  Member,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { invalid, unavailable } from "../mesh/errors.ts";
import { conflictError, revokedError } from "./errors.ts";
import type { KeptLog } from "./history.ts";
import { headsOf, memberOf, mergeMember, mergeState, refusal } from "./history.ts";
import type { Membership, Opened, Store } from "./ports.ts";
import { malformed } from "./shape.ts";

/** What a test may do to a memory store. */
export interface MemoryHooks {
  /**
   * Called for each batch when its cells are kept and the index does not show them. What it waits for holds up the batch
   * alone; where it rejects, the batch fails with its cells kept, as if the writer had died there.
   */
  beforeIndex?: (batch: AppendRequest) => Promise<void>;
  /** Called before anything of a batch is kept. Where it rejects, nothing is. */
  beforeCommit?: (batch: AppendRequest) => Promise<void>;
}

export interface MemoryStore extends Store {
  hooks: MemoryHooks;
  /** Keeps cells as they are, linked or not, with holes or not: what died writers leave behind. */
  plant(conversationId: string, cells: readonly Cell[]): void;
}

class Log implements KeptLog {
  state: ConversationState | undefined;
  readonly cells = new Map<number, Cell>();
  readonly members = new Map<string, Member>();
  topSeq = 0;

  get headSeq(): number {
    return this.state?.headSeq ?? 0;
  }

  get headTerm(): bigint {
    return this.state?.headTerm ?? 0n;
  }

  cellAt(seq: number): Cell | undefined {
    return this.cells.get(seq);
  }

  keep(cells: readonly Cell[]): void {
    for (const cell of cells) {
      if (cell.seq <= this.headSeq) continue;
      this.cells.set(cell.seq, cell);
      this.topSeq = Math.max(this.topSeq, cell.seq);
    }
  }
}

export function openMemoryStore(hooks: MemoryHooks = {}): MemoryStore {
  return new InMemory(hooks);
}

class InMemory implements MemoryStore {
  hooks: MemoryHooks;
  readonly #logs = new Map<string, Log>();
  readonly #memberships = new Map<string, Set<string>>();
  readonly #revoked = new Set<string>();
  readonly #lastSeen = new Map<string, bigint>();
  readonly #media = new Map<string, MediaHeader>();
  #closed = false;

  constructor(hooks: MemoryHooks) {
    this.hooks = hooks;
  }

  async append(batch: AppendRequest, committed: () => void): Promise<void> {
    this.#open();
    if (this.hooks.beforeCommit !== undefined) await this.hooks.beforeCommit(batch);
    this.#check(batch);
    for (const { conversationId, cells } of batch.writes) this.#log(conversationId).keep(cells);
    if (this.hooks.beforeIndex !== undefined) {
      committed();
      await this.hooks.beforeIndex(batch);
    }
    for (const write of batch.writes) this.#index(write);
  }

  #check({ incarnation, writes }: AppendRequest): void {
    if (this.#revoked.has(incarnation)) throw revokedError(incarnation);
    const seen = new Set<string>();
    for (const write of writes) {
      const { conversationId } = write;
      const wrong = malformed(write);
      if (wrong !== undefined) throw invalid(wrong);
      if (seen.has(conversationId)) {
        throw invalid(`the batch names ${conversationId} twice: make it one write`);
      }
      seen.add(conversationId);
      const refused = refusal(this.#logs.get(conversationId) ?? new Log(), write);
      if (refused !== undefined) throw conflictError(conversationId, refused);
    }
  }

  #index({ conversationId, state, members }: ConversationWrite): void {
    const log = this.#log(conversationId);
    if (state !== undefined) log.state = mergeState(log.state, state);
    for (const member of members) {
      log.members.set(member.userId, mergeMember(log.members.get(member.userId), member));
      const ids = this.#memberships.get(member.userId);
      if (ids === undefined) this.#memberships.set(member.userId, new Set([conversationId]));
      else ids.add(conversationId);
    }
  }

  #log(conversationId: string): Log {
    const log = this.#logs.get(conversationId) ?? new Log();
    this.#logs.set(conversationId, log);
    return log;
  }

  #open(): void {
    if (this.#closed) throw unavailable("the store is closed");
  }

  plant(conversationId: string, cells: readonly Cell[]): void {
    this.#log(conversationId).keep(cells);
  }

  async revoke(incarnation: string): Promise<void> {
    this.#open();
    if (incarnation === "") throw invalid("the incarnation is missing");
    this.#revoked.add(incarnation);
    return Promise.resolve();
  }

  async conversation(conversationId: string): Promise<ConversationState | undefined> {
    this.#open();
    return Promise.resolve(this.#logs.get(conversationId)?.state);
  }

  async opened(conversationId: string, membersMax: number): Promise<Opened> {
    const members = await this.membersAfter(conversationId, "", membersMax);
    return { state: this.#logs.get(conversationId)?.state, members };
  }

  async membership(conversationId: string, userId: string): Promise<Membership | undefined> {
    this.#open();
    const log = this.#logs.get(conversationId);
    const member = log?.members.get(userId);
    if (log?.state === undefined || member === undefined) return Promise.resolve(undefined);
    return Promise.resolve({ state: log.state, member });
  }

  async cells(conversationId: string, firstSeq: number, lastSeq: number): Promise<Cell[]> {
    this.#open();
    const log = this.#logs.get(conversationId);
    const cells: Cell[] = [];
    for (let seq = firstSeq; seq <= Math.min(lastSeq, log?.topSeq ?? 0); seq += 1) {
      const cell = log?.cells.get(seq);
      if (cell !== undefined) cells.push(cell);
    }
    return Promise.resolve(cells);
  }

  async members(
    conversationId: string,
    userIds: readonly string[],
  ): Promise<(Member | undefined)[]> {
    this.#open();
    const members = this.#logs.get(conversationId)?.members;
    return Promise.resolve(userIds.map((userId) => members?.get(userId)));
  }

  async membersAfter(
    conversationId: string,
    afterUserId: string,
    limit: number,
  ): Promise<Member[]> {
    this.#open();
    const members = [...(this.#logs.get(conversationId)?.members.values() ?? [])];
    members.sort((left, right) => (left.userId < right.userId ? -1 : 1));
    return Promise.resolve(members.filter(({ userId }) => userId > afterUserId).slice(0, limit));
  }

  async index(userId: string): Promise<IndexRow[]> {
    this.#open();
    const ids = [...(this.#memberships.get(userId) ?? [])].sort();
    const rows = ids.flatMap((conversationId): IndexRow[] => {
      const log = this.#logs.get(conversationId);
      const member = log?.members.get(userId);
      if (log?.state === undefined || member === undefined) return [];
      return [
        { $typeName: "parley.storage.v1.IndexRow", conversationId, state: log.state, member },
      ];
    });
    return Promise.resolve(rows);
  }

  async heads(userId: string): Promise<number[]> {
    return headsOf(await this.index(userId));
  }

  async memberOf(userId: string): Promise<string[]> {
    return memberOf(await this.index(userId));
  }

  async putLastSeen(seen: readonly LastSeen[]): Promise<void> {
    this.#open();
    for (const { userId, timeMs } of seen) {
      if (timeMs > (this.#lastSeen.get(userId) ?? 0n)) this.#lastSeen.set(userId, timeMs);
    }
    return Promise.resolve();
  }

  async lastSeen(userIds: readonly string[]): Promise<bigint[]> {
    this.#open();
    return Promise.resolve(userIds.map((userId) => this.#lastSeen.get(userId) ?? 0n));
  }

  async putMedia(header: MediaHeader): Promise<void> {
    this.#open();
    const key = `${header.conversationId}\0${header.mediaId}`;
    if (!this.#media.has(key)) this.#media.set(key, header);
    return Promise.resolve();
  }

  async media(conversationId: string, mediaId: string): Promise<MediaHeader | undefined> {
    this.#open();
    return Promise.resolve(this.#media.get(`${conversationId}\0${mediaId}`));
  }

  problems(): string[] {
    return this.#closed ? ["the store is closed"] : [];
  }

  close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }
}
