/** When to sync and with which token: after a resume, when told to, when heads disagree, and to renew the token. */
import type { SyncResponse } from "../proto/gen/parley/v1/chat_pb.ts";
import type { Calls } from "./calls.ts";
import type { ClientEvents } from "./client-events.ts";
import type { Events } from "./events.ts";
import type { Inbox } from "./inbox.ts";
import { encodeText, storeIdKey, syncKey, type Kept } from "./keeping.ts";
import type { Settings } from "./options.ts";
import { sync } from "./rpc.ts";
import type { Keeper } from "./store.ts";
import type { ClientClock } from "./surroundings.ts";

export interface SyncerParts {
  readonly settings: Settings;
  readonly clock: ClientClock;
  readonly events: Events<ClientEvents>;
  readonly calls: Calls;
  readonly keeper: Keeper;
  readonly inbox: Inbox;
  live(): boolean;
  /** Ends the link, and begins another one. */
  again(why: string): void;
}

/** A head sum that syncs do not explain is looked into that seldom, then more seldom still. */
const headQuietMs = 60_000;
const headQuietCapMs = 3_600_000;
/** What only a sync can tell is gathered for a moment. */
const gatherMs = 200;

export class Syncer {
  readonly #parts: SyncerParts;
  #token = new Uint8Array();
  #storeId = "";
  /** No sync was complete yet: conversations begin with their newest records. */
  #initial = true;
  #synced = false;
  #running: Promise<void> | undefined;
  #again = false;
  #pushes = 0;
  #soon = false;
  #headCheck = false;
  #headQuietMs = headQuietMs;
  #headQuietUntilMs = 0;

  constructor(parts: SyncerParts) {
    this.#parts = parts;
  }

  get token(): Uint8Array<ArrayBuffer> {
    return this.#token;
  }

  /** All that was committed before this link is known. */
  get synced(): boolean {
    return this.#synced;
  }

  restore({ syncToken, storeId }: Pick<Kept, "syncToken" | "storeId">): void {
    this.#token = syncToken;
    this.#storeId = storeId;
    this.#initial = syncToken.length === 0;
  }

  down(): void {
    this.#synced = false;
    this.#again = false;
  }

  /** One part of a sync, asked for or not. */
  take(response: SyncResponse): void {
    if (!this.#fits(response.storeId)) return;
    for (const delta of response.conversations) this.#parts.inbox.delta(delta, this.#initial);
    this.#token = new Uint8Array(response.token);
    this.#parts.keeper.put(syncKey, () => this.#token);
    if (!response.complete) return;
    this.#initial = false;
    this.#pushes = 0;
    if (this.#synced) return;
    this.#synced = true;
    this.#parts.events.emit("synced", { conversations: this.#parts.inbox.size });
  }

  /** False: the server was restored from a backup since, and all that was known is forgotten and asked for anew, over another link. */
  #fits(storeId: string): boolean {
    if (storeId === "" || storeId === this.#storeId) return true;
    const { keeper, inbox, events, again } = this.#parts;
    const fits = this.#storeId === "";
    this.#storeId = storeId;
    keeper.put(storeIdKey, () => encodeText(storeId));
    if (fits) return true;
    this.#token = new Uint8Array();
    this.#initial = true;
    keeper.put(syncKey, () => this.#token);
    inbox.anew();
    const why = "the server was restored from a backup: what was known is asked for anew";
    events.emit("anew", { why });
    again(why);
    return false;
  }

  /** So many records were pushed: now and then the token is renewed, so that a resume stays cheap. */
  pushed(records: number): void {
    this.#pushes += records;
    if (this.#pushes < this.#parts.settings.limits.pushesPerToken) return;
    this.#pushes = 0;
    this.soon();
  }

  /** Asks what changed, with no records: what is missing then is fetched. */
  soon(): void {
    if (this.#soon) return;
    this.#soon = true;
    this.#parts.clock.after(gatherMs, () => {
      this.#soon = false;
      if (this.#synced) void this.#sync(0);
    });
  }

  /** Asks what changed; a link that has not synced yet does so by itself. */
  async resync(why: string): Promise<void> {
    this.#parts.events.emit("resync", { why });
    if (this.#synced) await this.#sync(this.#parts.settings.recordsPerConversation);
  }

  /** What a heartbeat says: where the own sum stays lower, something was missed, be all ever so quiet. */
  headSum(sum: number): void {
    const { clock, settings, inbox } = this.#parts;
    if (!this.#synced || this.#headCheck || inbox.headSum() >= sum) return;
    if (clock.monotonic() < this.#headQuietUntilMs) return;
    this.#headCheck = true;
    clock.after(settings.limits.headSettleMs, () => {
      this.#headCheck = false;
      if (!this.#synced || inbox.headSum() >= sum) return;
      this.#headQuietUntilMs = clock.monotonic() + this.#headQuietMs;
      void this.resync("the server knows of more records").then(() => {
        const explained = inbox.headSum() >= sum;
        this.#headQuietMs = explained
          ? headQuietMs
          : Math.min(this.#headQuietMs * 2, headQuietCapMs);
        if (explained) this.#headQuietUntilMs = 0;
      });
    });
  }

  /** One at a time: whoever comes while one is under way gets another one after it. */
  #sync(records: number): Promise<void> {
    if (this.#running === undefined) {
      this.#running = this.#run(records).finally(() => {
        this.#running = undefined;
      });
    } else this.#again = true;
    return this.#running;
  }

  async #run(recordsPerConversation: number): Promise<void> {
    try {
      let complete = false;
      while (!complete || this.#again) {
        if (complete) this.#again = false;
        const request = { token: this.#token, recordsPerConversation };
        const response = await sync(this.#parts.calls, request);
        this.take(response);
        complete = response.complete;
      }
    } catch (error) {
      // A link that is gone: the next one syncs by itself.
      if (this.#parts.live()) this.#parts.events.emit("error", { during: "sync", error });
    }
  }
}
