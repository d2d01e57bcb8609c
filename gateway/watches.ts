/** Whom each connection watches, over all presence instances: each one is asked about the users that fall to it, and the connection is answered as if there were one. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Cancel } from "../mesh/clock.ts";
import { unavailable } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { ringOf } from "../mesh/peers.ts";
import type { Peers } from "../mesh/peers.ts";
import { Ring } from "../mesh/ring.ts";
import type { Presence } from "../proto/gen/parley/v1/record_pb.ts";
import { PresenceService } from "../proto/gen/parley/presence/v1/presence_pb.ts";
import type { Change, Snapshot } from "../proto/gen/parley/presence/v1/presence_pb.ts";
import type { Connections } from "./connections.ts";
import { SharedPush } from "./pushes.ts";
import { WatchLink } from "./watch-link.ts";
import type { PresenceTold } from "./watch-link.ts";

type Link = WatchLink<Ask>;

interface Held {
  readonly link: Link;
  readonly presence: Presence;
}

/** A set that somebody waits for: answered when each of its parts is. */
interface Ask {
  readonly watch: Watch;
  readonly untilMs: number;
  /** Those whose part has not come. */
  readonly waitsFor: Set<Link>;
  readonly presences: Presence[];
  /** What is newer than this answer, and so must come after it: the last of each user. */
  readonly held: Map<string, Held>;
  readonly answer: (presences: Presence[]) => void;
  readonly refuse: (error: Error) => void;
}

/** What connections are told next: an answer, or how somebody is. */
type Due =
  | { readonly answered: Ask }
  | { readonly connections: readonly number[]; readonly presences: Presence[] };

/** All that a connection watches. */
interface Watch {
  readonly connection: number;
  userId: string;
  userIds: string[];
  /** Not answered yet, in their order. */
  readonly asks: Ask[];
}

const snapshotMs = 10_000;
/** When parts that nobody waits for are asked for again. */
const againMs = 1_000;
/** Sets that are split anew in one turn, when instances come and go. */
const splitAtOnce = 500;

export class PresenceLinks implements PresenceTold<Ask> {
  readonly #surroundings: Surroundings;
  readonly #connections: Connections;
  readonly #peers: Peers;
  readonly #links = new Map<string, Link>();
  readonly #watches = new Map<number, Watch>();
  readonly #asks = new Set<Ask>();
  /** Parts that nobody waits for and that could not be answered. */
  readonly #unanswered = new Set<{ readonly link: Link; readonly watch: Watch }>();
  #due: Due[] = [];
  #ring = new Ring([]);
  #unwatch: Cancel = () => undefined;

  constructor(surroundings: Surroundings, connections: Connections) {
    this.#surroundings = surroundings;
    this.#connections = connections;
    this.#peers = surroundings.peers(PresenceService);
  }

  /** Whether any instance is spoken to. */
  get up(): boolean {
    for (const link of this.#links.values()) if (link.up) return true;
    return false;
  }

  problems(): string[] {
    if (this.#links.size === 0) return ["the gateway knows of no presence instance"];
    return this.up ? [] : ["the gateway has no stream to presence"];
  }

  start(): void {
    this.#unwatch = this.#peers.watch(() => this.#follow());
    this.#follow();
  }

  async close(): Promise<void> {
    this.#unwatch();
    this.#ring = new Ring([]);
    await Promise.all(Array.from(this.#links.values(), (link) => link.close()));
  }

  /** Replaces what the connection watches; resolves to how things are. */
  watch(connection: number, userId: string, userIds: string[]): Promise<Presence[]> {
    const parts = this.#split(userIds);
    const isUp = [...parts.keys()].every((link) => link.up);
    if (this.#ring.ids.length === 0 || !isUp) {
      return Promise.reject(unavailable("presence cannot be watched just now"));
    }
    const watch = this.#watches.get(connection) ?? { connection, userId, userIds, asks: [] };
    watch.userId = userId;
    watch.userIds = userIds;
    this.#watches.set(connection, watch);
    return new Promise((answer, refuse) => {
      const untilMs = this.#surroundings.clock.monotonic() + snapshotMs;
      const waitsFor = new Set<Link>();
      const held = new Map<string, Held>();
      const ask: Ask = { watch, untilMs, waitsFor, presences: [], held, answer, refuse };
      for (const link of this.#links.values()) {
        const isPart = parts.has(link) || link.watched(connection).length > 0;
        if (isPart && link.up) waitsFor.add(link);
      }
      watch.asks.push(ask);
      this.#asks.add(ask);
      this.#send(watch, parts, ask);
      if (waitsFor.size === 0) this.#answered(ask);
    });
  }

  /** Ends what the connection watches. */
  ended(connection: number): void {
    const watch = this.#watches.get(connection);
    if (watch === undefined) return;
    this.#watches.delete(connection);
    for (const link of this.#links.values()) link.ended(connection);
    for (const ask of watch.asks.splice(0)) {
      this.#asks.delete(ask);
      ask.refuse(new ConnectError("the connection ended", Code.Canceled));
    }
  }

  expire(nowMs: number): void {
    for (const ask of this.#asks) {
      if (ask.untilMs <= nowMs) this.#refuse(ask, "presence does not answer in time");
    }
  }

  #follow(): void {
    const { present } = this.#peers;
    const ids = new Set(present.map(({ id }) => id));
    for (const [id, link] of this.#links) {
      if (ids.has(id)) continue;
      this.#links.delete(id);
      void link.close();
    }
    for (const peer of present) {
      if (!this.#links.has(peer.id))
        this.#links.set(peer.id, new WatchLink<Ask>(this.#surroundings, peer, this));
    }
    const ring = ringOf(present);
    const same = ring.ids.join(" ") === this.#ring.ids.join(" ");
    this.#ring = ring;
    if (!same) this.#splitAnew([...this.#watches.values()], 0, ring);
  }

  /** Some in each turn: there may be millions of users in all. Ends where instances change once more, which begins anew. */
  #splitAnew(watches: readonly Watch[], from: number, ring: Ring): void {
    if (this.#ring !== ring) return;
    for (const watch of watches.slice(from, from + splitAtOnce)) {
      if (this.#watches.get(watch.connection) === watch)
        this.#send(watch, this.#split(watch.userIds), undefined);
    }
    const next = from + splitAtOnce;
    if (next >= watches.length) return;
    this.#surroundings.clock.afterTurn(() => this.#splitAnew(watches, next, ring));
  }

  #split(userIds: string[]): Map<Link, string[]> {
    const parts = new Map<Link, string[]>();
    for (const userId of userIds) {
      const link = this.#linkOf(userId);
      if (link === undefined) continue;
      const part = parts.get(link);
      if (part === undefined) parts.set(link, [userId]);
      else part.push(userId);
    }
    return parts;
  }

  #linkOf(userId: string): Link | undefined {
    const id = this.#ring.of(userId);
    return id === undefined ? undefined : this.#links.get(id);
  }

  /** Tells each instance its part: where somebody waits all of them, else those that changed. Who has no part any more gets an empty one. */
  #send({ connection, userId }: Watch, parts: Map<Link, string[]>, ask: Ask | undefined): void {
    for (const link of this.#links.values()) {
      const before = link.watched(connection);
      const userIds = parts.get(link) ?? [];
      if (before.length + userIds.length === 0) continue;
      if (ask === undefined && isSame(before, userIds)) continue;
      const $typeName = "parley.presence.v1.WatchSet";
      link.set(
        { $typeName, connection, userId, userIds },
        ask?.waitsFor.has(link) ? ask : undefined,
      );
    }
  }

  snapshot(link: Link, { connection, presences, code, message }: Snapshot, ask?: Ask): void {
    const watch = this.#watches.get(connection);
    if (watch === undefined) return;
    for (const earlier of watch.asks) {
      if (earlier === ask) break;
      // What is held from there is older than this, and waits for an answer that may come later.
      for (const [userId, held] of earlier.held)
        if (held.link === link) earlier.held.delete(userId);
    }
    if (code !== 0) {
      if (ask === undefined) this.#askAgain(link, watch);
      else {
        if (!link.isAsked(connection)) this.#forget(watch);
        this.#refuse(ask, message);
      }
    } else if (ask === undefined || !this.#asks.has(ask)) {
      const mine = presences.filter(({ userId }) => this.#linkOf(userId) === link);
      this.#tell({ connections: [connection], presences: this.#free(link, watch, mine) });
    } else {
      ask.presences.push(...presences);
      ask.waitsFor.delete(link);
      if (ask.waitsFor.size === 0) this.#answered(ask);
    }
  }

  changes(link: Link, changes: readonly Change[]): void {
    for (const { connections, presence } of changes) {
      // An instance that a user does not fall to any more is no longer told how that one is.
      if (presence === undefined || this.#linkOf(presence.userId) !== link) continue;
      const presences = [presence];
      const free = connections.filter((connection) => {
        const watch = this.#watches.get(connection);
        return watch !== undefined && this.#free(link, watch, presences).length > 0;
      });
      this.#tell({ connections: free, presences });
    }
  }

  lost(ask: Ask): void {
    this.#refuse(ask, "the answer of presence was lost, try again");
  }

  /** What may be pushed now. The rest is held: it is newer than an answer that is not complete yet. */
  #free(link: Link, { asks }: Watch, presences: Presence[]): Presence[] {
    const holder = asks.findLast(({ waitsFor }) => !waitsFor.has(link));
    if (holder === undefined) return presences;
    for (const presence of presences) holder.held.set(presence.userId, { link, presence });
    return [];
  }

  #answered(ask: Ask): void {
    this.#tell({ answered: ask });
    this.#settled(ask);
  }

  #refuse(ask: Ask, message: string): void {
    ask.refuse(unavailable(message));
    this.#settled(ask);
  }

  /** Lets go of what was held for it, where no earlier one holds it. */
  #settled(ask: Ask): void {
    const { watch, held } = ask;
    this.#asks.delete(ask);
    const at = watch.asks.indexOf(ask);
    if (at !== -1) watch.asks.splice(at, 1);
    const free: Presence[] = [];
    for (const { link, presence } of held.values()) {
      free.push(...this.#free(link, watch, [presence]));
    }
    held.clear();
    this.#tell({ connections: [watch.connection], presences: free });
  }

  /** Nobody waits for this part, so nobody hears that it could not be answered: it is sent again until it is, or is no part any more. */
  #askAgain(link: Link, watch: Watch): void {
    this.#unanswered.add({ link, watch });
    if (this.#unanswered.size > 1) return;
    this.#surroundings.clock.after(againMs, () => {
      const all = [...this.#unanswered];
      this.#unanswered.clear();
      for (const { link, watch } of all) {
        const { connection, userId } = watch;
        const userIds = link.watched(connection);
        if (this.#watches.get(connection) !== watch || this.#links.get(link.id) !== link) continue;
        if (userIds.length === 0 || link.isAsked(connection)) continue;
        const $typeName = "parley.presence.v1.WatchSet";
        link.set({ $typeName, connection, userId, userIds: [...userIds] }, undefined);
      }
    });
  }

  /** A part could not be answered: the connection watches nobody. */
  #forget(watch: Watch): void {
    watch.userIds = [];
    this.#send(watch, new Map(), undefined);
  }

  #tell(due: Due): void {
    if ("presences" in due && (due.connections.length === 0 || due.presences.length === 0)) return;
    this.#due.push(due);
    if (this.#due.length === 1) this.#surroundings.clock.afterTurn(() => this.#tellAll());
  }

  /** Keeps the order for each connection: an answer is written in the turn in which it is given, and what follows it goes out in the next one. */
  #tellAll(): void {
    const all = this.#due;
    this.#due = [];
    const answered = new Set<number>();
    for (const due of all) {
      if ("answered" in due) {
        const { watch, presences, answer } = due.answered;
        answered.add(watch.connection);
        answer(presences);
        continue;
      }
      const { connections, presences } = due;
      if (answered.size === 0) this.#push(connections, presences);
      else {
        this.#push(
          connections.filter((one) => !answered.has(one)),
          presences,
        );
        this.#tell({ connections: connections.filter((one) => answered.has(one)), presences });
      }
    }
  }

  #push(connections: readonly number[], presences: Presence[]): void {
    if (connections.length === 0) return;
    const nowMs = this.#surroundings.clock.monotonic();
    const $typeName = "parley.session.v1.Presences";
    const push = new SharedPush({ case: "presences", value: { $typeName, presences } });
    for (const number of connections) this.#connections.get(number)?.push(push, nowMs);
  }
}

function isSame(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every((one, at) => one === right[at]);
}
