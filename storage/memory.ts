/** A store in memory, for tests: it keeps every duty but the one to survive, and can be stopped between commit and index as a cluster can. */
import type {
  AppendRequest,
  Cell,
  ConversationState,
  ConversationWrite,
  ErasureReceipt,
  IndexRow,
  LastSeen,
  MediaHeader,
  Member,
  Retention,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { invalid, unavailable } from "../mesh/errors.ts";
import { conflictError, revokedError } from "./errors.ts";
import type { KeptLog } from "./history.ts";
import { headsOf, memberOf, mergeMember, mergeState, refusal } from "./history.ts";
import { directUsers } from "../mesh/ids.ts";
import { userHash } from "./erasure.ts";
import type { Membership, Opened, Store, Upload, Use } from "./ports.ts";
import { mergeRetention } from "./retention.ts";
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
  /** Erased users of a direct conversation, whose cursors the other one still sees. */
  readonly hidden = new Set<string>();
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
  readonly id = "";
  hooks: MemoryHooks;
  readonly #logs = new Map<string, Log>();
  readonly #memberships = new Map<string, Set<string>>();
  readonly #revoked = new Set<string>();
  readonly #lastSeen = new Map<string, bigint>();
  readonly #media = new Map<string, MediaHeader>();
  readonly #uploads = new Map<string, Upload & { userId: string }>();
  readonly #retentions = new Map<string, Retention>();
  readonly #erasures = new Map<string, ErasureReceipt>();
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
    const log = this.#logs.get(conversationId);
    const shown = await this.membersAfter(conversationId, "", membersMax);
    const hidden = [...(log?.hidden ?? [])].flatMap((userId) => log?.members.get(userId) ?? []);
    const users = directUsers(conversationId) ?? [];
    const erased = users.filter((userId) => this.#erasures.has(userHash(userId)));
    return { state: log?.state, members: [...shown, ...hidden], erased };
  }

  async membership(conversationId: string, userId: string): Promise<Membership | undefined> {
    this.#open();
    const log = this.#logs.get(conversationId);
    const member = log?.hidden.has(userId) === true ? undefined : log?.members.get(userId);
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
    const log = this.#logs.get(conversationId);
    const shown = (userId: string): boolean => log?.hidden.has(userId) !== true;
    return Promise.resolve(
      userIds.map((userId) => (shown(userId) ? log?.members.get(userId) : undefined)),
    );
  }

  async membersAfter(
    conversationId: string,
    afterUserId: string,
    limit: number,
  ): Promise<Member[]> {
    this.#open();
    const log = this.#logs.get(conversationId);
    const members = [...(log?.members.values() ?? [])];
    members.sort((left, right) => (left.userId < right.userId ? -1 : 1));
    const after = members.filter(
      ({ userId }) => userId > afterUserId && log?.hidden.has(userId) !== true,
    );
    return Promise.resolve(after.slice(0, limit));
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
      if (this.#erasures.has(userHash(userId))) continue;
      if (timeMs > (this.#lastSeen.get(userId) ?? 0n)) this.#lastSeen.set(userId, timeMs);
    }
    return Promise.resolve();
  }

  async lastSeen(userIds: readonly string[]): Promise<bigint[]> {
    this.#open();
    return Promise.resolve(userIds.map((userId) => this.#lastSeen.get(userId) ?? 0n));
  }

  async putMedia(header: MediaHeader, userId: string): Promise<void> {
    this.#open();
    const { conversationId, mediaId } = header;
    const key = `${conversationId}\0${mediaId}`;
    if (!this.#media.has(key)) this.#media.set(key, header);
    if (userId !== "") this.#uploads.set(`${userId}\0${key}`, { userId, conversationId, mediaId });
    return Promise.resolve();
  }

  async media(conversationId: string, mediaId: string): Promise<MediaHeader | undefined> {
    this.#open();
    return Promise.resolve(this.#media.get(`${conversationId}\0${mediaId}`));
  }

  async putErasure(receipt: ErasureReceipt): Promise<void> {
    this.#open();
    const kept = this.#erasures.get(receipt.userHash);
    if (kept === undefined || receipt.revision > kept.revision)
      this.#erasures.set(receipt.userHash, receipt);
    return Promise.resolve();
  }

  async erasures(userIds: readonly string[]): Promise<(ErasureReceipt | undefined)[]> {
    this.#open();
    return Promise.resolve(userIds.map((userId) => this.#erasures.get(userHash(userId))));
  }

  async rewrite(
    conversationId: string,
    cells: readonly Cell[],
    receipt: ErasureReceipt,
  ): Promise<void> {
    await this.putErasure(receipt);
    const log = this.#log(conversationId);
    for (const cell of cells) if (cell.seq <= log.headSeq) log.cells.set(cell.seq, cell);
  }

  async forgetMember(
    conversationId: string,
    userId: string,
    receipt: ErasureReceipt,
  ): Promise<void> {
    await this.putErasure(receipt);
    const log = this.#log(conversationId);
    if (directUsers(conversationId) === undefined) log.members.delete(userId);
    else log.hidden.add(userId);
    this.#memberships.get(userId)?.delete(conversationId);
  }

  async removeConversation(conversationId: string): Promise<void> {
    this.#open();
    this.#logs.delete(conversationId);
    this.#retentions.delete(conversationId);
    return Promise.resolve();
  }

  async forgetUser(userId: string): Promise<void> {
    this.#open();
    this.#lastSeen.delete(userId);
    return Promise.resolve();
  }

  async uploads(userId: string): Promise<Upload[]> {
    this.#open();
    return Promise.resolve([...this.#uploads.values()].filter((one) => one.userId === userId));
  }

  async usesOf(
    conversationId: string,
    userId: string,
    mediaIds: readonly string[],
  ): Promise<Use[]> {
    this.#open();
    const uses = mediaIds.map((mediaId): Use => {
      const uploads = [...this.#uploads.values()].filter((one) => one.mediaId === mediaId);
      const others = uploads.some(
        (one) => one.conversationId === conversationId && one.userId !== userId,
      );
      const elsewhere =
        others ||
        [...this.#media.values()].some(
          (one) => one.mediaId === mediaId && one.conversationId !== conversationId,
        );
      const there = this.#media.has(`${conversationId}\0${mediaId}`);
      return { mediaId, there, others, elsewhere };
    });
    return Promise.resolve(uses);
  }

  async removeUpload(
    conversationId: string,
    mediaId: string,
    userId: string,
    withHeader: boolean,
  ): Promise<void> {
    this.#open();
    const key = `${conversationId}\0${mediaId}`;
    this.#uploads.delete(`${userId}\0${key}`);
    if (withHeader) this.#media.delete(key);
    return Promise.resolve();
  }

  async putRetention(retention: Retention): Promise<void> {
    this.#open();
    const { conversationId } = retention;
    const kept = this.#retentions.get(conversationId);
    this.#retentions.set(conversationId, mergeRetention(kept, retention));
    return Promise.resolve();
  }

  async retention(conversationId: string): Promise<Retention | undefined> {
    this.#open();
    return Promise.resolve(this.#retentions.get(conversationId));
  }

  async *retentions(): AsyncGenerator<Retention, void> {
    for (const retention of this.#retentions.values()) yield await Promise.resolve(retention);
  }

  async trim(conversationId: string, firstSeq: number, floorSeq: number): Promise<void> {
    this.#open();
    const { cells } = this.#log(conversationId);
    for (let seq = firstSeq; seq < floorSeq; seq += 1) cells.delete(seq);
    return Promise.resolve();
  }

  scrub(): Promise<void> {
    return Promise.resolve();
  }

  problems(): string[] {
    return this.#closed ? ["the store is closed"] : [];
  }

  close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }
}
