/** One presence instance, as this gateway speaks to it: a stream of what connections watch there, of how things are and of what changes. It must not know what else a connection watches. */
import type { Client } from "@connectrpc/connect";
import { createClient } from "@connectrpc/connect";
import { unavailable } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Peer } from "../mesh/peers.ts";
import { Gather } from "../mesh/pipe.ts";
import { keepStream } from "../mesh/stream.ts";
import type { KeptStream } from "../mesh/stream.ts";
import { PresenceService } from "../proto/gen/parley/presence/v1/presence_pb.ts";
import type {
  Change,
  Snapshot,
  WatchRequest,
  WatchResponse,
  WatchSet,
} from "../proto/gen/parley/presence/v1/presence_pb.ts";

/** What the instance says; `ask` is what the answered set was sent with, undefined where nobody waits for it. */
export interface PresenceTold<A> {
  snapshot(link: WatchLink<A>, snapshot: Snapshot, ask: A | undefined): void;
  changes(link: WatchLink<A>, changes: readonly Change[]): void;
  /** The set's answer will not come. */
  lost(ask: A): void;
}

type Said = { readonly set: WatchSet } | { readonly ended: number };

const saidMax = 100_000;
/** User ids and sets in one message, about. */
const weightMax = 10_000;

export class WatchLink<A> {
  readonly id: string;
  readonly #surroundings: Surroundings;
  readonly #client: Client<typeof PresenceService>;
  readonly #told: PresenceTold<A>;
  /** What each connection watches here; with nobody in it where it watched somebody before. */
  readonly #sets = new Map<number, WatchSet>();
  /** For each connection its sets that wait for a snapshot, in their order. */
  readonly #asked = new Map<number, (A | undefined)[]>();
  #gather: Gather<Said> | undefined;
  readonly #stream: KeptStream;

  constructor(surroundings: Surroundings, peer: Peer, told: PresenceTold<A>) {
    this.id = peer.id;
    this.#surroundings = surroundings;
    this.#client = createClient(PresenceService, peer.transport);
    this.#told = told;
    const log = surroundings.log.child({ presence: peer.id });
    this.#stream = keepStream({ ...surroundings, log }, "gateway to presence", (signal) =>
      this.#run(signal),
    );
  }

  get up(): boolean {
    return this.#gather !== undefined;
  }

  /** Whom the connection watches here. */
  watched(connection: number): readonly string[] {
    return this.#sets.get(connection)?.userIds ?? [];
  }

  /** Whether sets of the connection wait for their snapshots. */
  isAsked(connection: number): boolean {
    return this.#asked.has(connection);
  }

  /** Replaces what the connection watches here; while the stream is down, what the next one begins with. */
  set(set: WatchSet, ask: A | undefined): void {
    this.#sets.set(set.connection, set);
    if (this.#say({ set })) this.#await(set.connection, ask);
    else if (ask !== undefined) this.#told.lost(ask);
  }

  /** Ends what the connection watches here. */
  ended(connection: number): void {
    this.#asked.delete(connection);
    if (this.#sets.delete(connection)) this.#say({ ended: connection });
  }

  close(): Promise<void> {
    return this.#stream.close();
  }

  #say(said: Said): boolean {
    if (this.#gather === undefined) return false;
    if (this.#gather.add(said)) return true;
    // The next stream begins with all sets.
    this.#gather.end(unavailable("presence does not take watches fast enough"));
    this.#gather = undefined;
    return false;
  }

  #await(connection: number, ask: A | undefined): void {
    const asked = this.#asked.get(connection);
    if (asked === undefined) this.#asked.set(connection, [ask]);
    else asked.push(ask);
  }

  async #run(signal: AbortSignal): Promise<void> {
    const gather = new Gather<Said>(this.#surroundings.clock, saidMax);
    const first: Said[] = [];
    for (const [connection, set] of this.#sets) {
      if (set.userIds.length === 0) {
        this.#sets.delete(connection);
        continue;
      }
      first.push({ set });
      this.#await(connection, undefined);
    }
    this.#gather = gather;
    try {
      const requests = this.#requests(first, gather);
      for await (const response of this.#client.watch(requests, { signal })) this.#take(response);
    } finally {
      if (this.#gather === gather) this.#gather = undefined;
      gather.end();
      const asked = [...this.#asked.values()].flat();
      this.#asked.clear();
      for (const ask of asked) if (ask !== undefined) this.#told.lost(ask);
    }
  }

  async *#requests(first: readonly Said[], gather: Gather<Said>): AsyncGenerator<WatchRequest> {
    yield* requestsOf(first);
    for await (const batch of gather) yield* requestsOf(batch);
  }

  #take({ snapshots, changes }: WatchResponse): void {
    for (const snapshot of snapshots) {
      const asked = this.#asked.get(snapshot.connection);
      const ask = asked?.shift();
      if (asked?.length === 0) this.#asked.delete(snapshot.connection);
      this.#told.snapshot(this, snapshot, ask);
    }
    if (changes.length > 0) this.#told.changes(this, changes);
  }
}

/** In messages of a bounded size. */
function* requestsOf(batch: readonly Said[]): Generator<WatchRequest> {
  const $typeName = "parley.presence.v1.WatchRequest";
  let sets: WatchSet[] = [];
  let ended: number[] = [];
  let weight = 0;
  for (const one of batch) {
    if (weight >= weightMax) {
      yield { $typeName, sets, ended };
      sets = [];
      ended = [];
      weight = 0;
    }
    if ("set" in one) {
      sets.push(one.set);
      weight += one.set.userIds.length;
    } else ended.push(one.ended);
    weight += 1;
  }
  if (weight > 0) yield { $typeName, sets, ended };
}
