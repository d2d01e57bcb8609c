/** Whose presence the app wants to know: asked about again after a resume, and never with what it watched before. */
import type { Presence } from "../proto/gen/parley/v1/record_pb.ts";
import type { Calls } from "./calls.ts";
import { watchPresence } from "./rpc.ts";

export class Watching {
  readonly #calls: Calls;
  readonly #changed: (presence: Presence) => void;
  readonly #presences = new Map<string, Presence>();
  #userIds: readonly string[] = [];
  #underWay = 0;

  constructor(calls: Calls, changed: (presence: Presence) => void) {
    this.#calls = calls;
    this.#changed = changed;
  }

  /** Watches these and nobody else; gives how they are. */
  async watch(userIds: readonly string[]): Promise<Presence[]> {
    this.#userIds = [...userIds];
    return this.#ask(this.#userIds);
  }

  /** The link is another one, which watches nobody yet. A call that is under way is asked again by itself. */
  async up(): Promise<void> {
    if (this.#userIds.length > 0 && this.#underWay === 0) await this.#ask(this.#userIds);
  }

  /** The last that was heard of a watched user. */
  of(userId: string): Presence | undefined {
    return this.#presences.get(userId);
  }

  heard(presence: Presence): void {
    const known = this.#presences.get(presence.userId);
    if (this.#userIds.includes(presence.userId)) this.#presences.set(presence.userId, presence);
    if (known?.availability !== presence.availability || known.lastSeenMs !== presence.lastSeenMs)
      this.#changed(presence);
  }

  async #ask(userIds: readonly string[]): Promise<Presence[]> {
    const latest = (): string[] => [...this.#userIds];
    this.#underWay += 1;
    try {
      const { presences } = await watchPresence(this.#calls, userIds, latest, (told) => {
        for (const userId of this.#presences.keys())
          if (!this.#userIds.includes(userId)) this.#presences.delete(userId);
        for (const presence of told) this.heard(presence);
      });
      return presences.filter(({ userId }) => userIds.includes(userId));
    } finally {
      this.#underWay -= 1;
    }
  }
}
