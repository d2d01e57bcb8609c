/** What a device has been told, in order, and the waiting for more of it. */
import { setMaxListeners } from "node:events";
import type { Cursor, Presence, Record } from "../../proto/gen/parley/v1/record_pb.ts";
import type {
  Goodbye,
  Heartbeat,
  Pushed,
  SyncResponse,
  Typing,
} from "../../proto/gen/parley/v1/chat_pb.ts";
import { within } from "./within.ts";

const usualMs = 10_000;

export class Inbox {
  /** Syncs that nobody asked for: what the device lacked when it connected. */
  readonly syncs: SyncResponse[] = [];
  readonly pushed: Pushed[] = [];
  readonly heartbeats: Heartbeat[] = [];
  goodbye: Goodbye | undefined;
  readonly #changed = new EventTarget();
  #over: Error | undefined;

  constructor() {
    setMaxListeners(0, this.#changed);
  }

  /** Pushed ones. */
  get records(): Record[] {
    return this.pushed.flatMap(({ records }) => records);
  }

  get cursors(): Cursor[] {
    return this.pushed.flatMap(({ cursors }) => cursors);
  }

  get presences(): Presence[] {
    return this.pushed.flatMap(({ presences }) => presences);
  }

  get typings(): Typing[] {
    return this.pushed.flatMap(({ typings }) => typings);
  }

  /** After what is kept here was added to, or when nothing more can come. */
  tell(over?: Error): void {
    this.#over ??= over;
    this.#changed.dispatchEvent(new Event("changed"));
  }

  /** What `find` finds, as soon as it finds it. */
  until<T>(what: string, find: (inbox: this) => T | undefined, ms = usualMs): Promise<T> {
    let stop = (): void => undefined;
    const found = new Promise<T>((resolve, reject) => {
      const look = (): void => {
        const it = find(this);
        if (it !== undefined) resolve(it);
        else if (this.#over)
          reject(new Error(`${what}: the device was cut off`, { cause: this.#over }));
      };
      this.#changed.addEventListener("changed", look);
      stop = () => this.#changed.removeEventListener("changed", look);
      look();
    });
    return within(ms, what, found).finally(() => stop());
  }

  /** The pushed record of a conversation. */
  record(conversationId: string, seq: number): Promise<Record> {
    return this.until(`record ${seq} of ${conversationId}`, ({ records }) =>
      records.find((one) => one.conversationId === conversationId && one.seq === seq),
    );
  }

  /** The first pushed cursor of a user that has come so far. */
  cursor(conversationId: string, userId: string, delivered: number, read: number): Promise<Cursor> {
    return this.until(`${userId}'s cursor at ${delivered}, ${read}`, ({ cursors }) =>
      cursors.find(
        (one) =>
          one.conversationId === conversationId &&
          one.userId === userId &&
          one.deliveredSeq >= delivered &&
          one.readSeq >= read,
      ),
    );
  }

  /** The first sync's last answer. */
  synced(): Promise<SyncResponse> {
    return this.until("the first sync", ({ syncs }) => syncs.find(({ complete }) => complete));
  }
}
