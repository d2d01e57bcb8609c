/** The handlers. Who is online the roster knows, and which users this instance is asked about. */
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ConnectError, createClient } from "@connectrpc/connect";
import { invalid, unavailable } from "../mesh/errors.ts";
import type { Running, Surroundings } from "../mesh/lifecycle.ts";
import type {
  GetPresencesRequest,
  GetPresencesResponse,
  PresenceService,
  WatchRequest,
  WatchResponse,
} from "../proto/gen/parley/presence/v1/presence_pb.ts";
import { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import type { Presence } from "../proto/gen/parley/v1/record_pb.ts";
import { Availability } from "../proto/gen/parley/v1/record_pb.ts";
import type { PresenceConfig } from "./config.ts";
import { Following } from "./following.ts";
import { LastSeenKeeper } from "./last-seen.ts";
import type { Acquaintances, Follower, SeenTimes } from "./ports.ts";
import { Roster } from "./roster.ts";
import { WatchStream, notKnown } from "./watching.ts";

const userIdsMax = 1_000;
const askTimeoutMs = 5_000;

export class PresenceServer implements Running<typeof PresenceService>, Follower {
  readonly service: ServiceImpl<typeof PresenceService> = {
    watch: (requests, context) => this.#watch(requests, context),
    getPresences: (request, context) => this.#getPresences(request, context),
  };
  readonly roster: Roster;
  readonly #surroundings: Surroundings;
  readonly #config: PresenceConfig;
  readonly #storage: Acquaintances & SeenTimes;
  readonly #keeper: LastSeenKeeper;
  readonly #streams = new Set<WatchStream>();
  readonly #following: Following;
  #closed = false;

  constructor(surroundings: Surroundings, config: PresenceConfig) {
    this.#surroundings = surroundings;
    this.#config = config;
    this.roster = new Roster(config);
    this.#storage = createClient(StorageService, surroundings.transport(StorageService));
    this.#keeper = new LastSeenKeeper(surroundings, this.roster, this.#storage);
    this.#following = new Following(surroundings, this.roster, config.graceMs, this);
    const { metrics } = surroundings;
    metrics.level(
      "parley_presence_people",
      "Users in memory: online, watched, or with a last-seen time that is not kept yet.",
      () => this.roster.size.people,
    );
    metrics.level("parley_presence_watchers", "Connections that watch others.", () => {
      let watchers = 0;
      for (const stream of this.#streams) watchers += stream.watchers;
      return watchers;
    });
    metrics.level(
      "parley_presence_unsaved",
      "Last-seen times that are not kept yet.",
      () => this.roster.size.unsaved,
    );
  }

  start(): Promise<void> {
    this.#following.start();
    return Promise.resolve();
  }

  problems(): string[] {
    return this.#closed ? ["presence is closing"] : this.#following.problems();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // Others know better: for them whoever is online stays so.
    const { isLast } = this.#following;
    await this.#following.close();
    for (const stream of this.#streams) stream.end(unavailable("presence is closing"));
    if (isLast) this.roster.seenAll(this.#surroundings.clock.now());
    await this.#keeper.close();
  }

  told(): void {
    this.#keeper.wake();
  }

  learned(): void {
    for (const stream of this.#streams) stream.learned();
  }

  async *#watch(
    requests: AsyncIterable<WatchRequest>,
    { signal }: HandlerContext,
  ): AsyncGenerator<WatchResponse, undefined> {
    if (this.#closed) throw unavailable("presence is closing");
    const ports = { roster: this.roster, storage: this.#storage, known: this.#following };
    const stream = new WatchStream(this.#surroundings, this.#config, ports);
    const end = (): void => stream.end();
    signal.addEventListener("abort", end, { once: true });
    this.#streams.add(stream);
    try {
      stream.read(requests).then(end, (error: unknown) => stream.end(ConnectError.from(error)));
      yield* stream.responses();
      return undefined;
    } finally {
      signal.removeEventListener("abort", end);
      this.#streams.delete(stream);
      stream.end();
    }
  }

  async #getPresences(
    { userIds }: GetPresencesRequest,
    { signal }: HandlerContext,
  ): Promise<GetPresencesResponse> {
    if (userIds.length > userIdsMax)
      throw invalid(`${userIds.length} users are too many: ask for at most ${userIdsMax}`);
    if (!this.#following.knows(userIds)) throw notKnown();
    const unknown = userIds.filter((userId) => this.roster.find(userId) === undefined);
    const seen = new Map<string, bigint>();
    if (unknown.length > 0) {
      const options = { signal, timeoutMs: askTimeoutMs };
      const answer = await this.#storage.getLastSeen({ userIds: unknown }, options);
      for (const { userId, timeMs } of answer.seen) seen.set(userId, timeMs);
      if (!this.#following.knows(userIds)) throw notKnown();
    }
    const presences = userIds.map(
      (userId) => this.roster.find(userId) ?? offline(userId, seen.get(userId) ?? 0n),
    );
    return { $typeName: "parley.presence.v1.GetPresencesResponse", presences };
  }
}

function offline(userId: string, lastSeenMs: bigint): Presence {
  const availability = Availability.OFFLINE;
  return { $typeName: "parley.v1.Presence", userId, availability, lastSeenMs };
}
