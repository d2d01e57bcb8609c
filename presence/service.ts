/** The handlers, and the stream that says who is online. The roster decides; this keeps its time. */
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ConnectError, createClient } from "@connectrpc/connect";
import type { Cancel } from "../mesh/clock.ts";
import { invalid, unavailable } from "../mesh/errors.ts";
import type { Running, Surroundings } from "../mesh/lifecycle.ts";
import type { KeptStream } from "../mesh/stream.ts";
import { keepStream } from "../mesh/stream.ts";
import type {
  GetPresencesRequest,
  GetPresencesResponse,
  PresenceService,
  WatchRequest,
  WatchResponse,
} from "../proto/gen/parley/presence/v1/presence_pb.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import type { Presence } from "../proto/gen/parley/v1/record_pb.ts";
import { Availability } from "../proto/gen/parley/v1/record_pb.ts";
import type { PresenceConfig } from "./config.ts";
import { LastSeenKeeper } from "./last-seen.ts";
import type { Acquaintances, SeenTimes, Sessions } from "./ports.ts";
import type { Moment } from "./roster.ts";
import { Roster } from "./roster.ts";
import { WatchStream } from "./watching.ts";

const userIdsMax = 1_000;
const askTimeoutMs = 5_000;

export class PresenceServer implements Running<typeof PresenceService> {
  readonly service: ServiceImpl<typeof PresenceService> = {
    watch: (requests, context) => this.#watch(requests, context),
    getPresences: (request, context) => this.#getPresences(request, context),
  };
  readonly roster: Roster;
  readonly #surroundings: Surroundings;
  readonly #config: PresenceConfig;
  readonly #sessions: Sessions;
  readonly #storage: Acquaintances & SeenTimes;
  readonly #keeper: LastSeenKeeper;
  readonly #streams = new Set<WatchStream>();
  readonly #known: Promise<void>;
  #becomeKnown: () => void = () => undefined;
  #isKnown = false;
  #following: KeptStream | undefined;
  /** Whether session is telling of every change now. */
  #current = false;
  #graceTimer: Cancel | undefined;
  #closed = false;

  constructor(surroundings: Surroundings, config: PresenceConfig) {
    this.#surroundings = surroundings;
    this.#config = config;
    this.roster = new Roster(config);
    this.#sessions = createClient(SessionService, surroundings.transport(SessionService));
    this.#storage = createClient(StorageService, surroundings.transport(StorageService));
    this.#keeper = new LastSeenKeeper(surroundings, this.roster, this.#storage);
    this.#known = new Promise((resolve) => (this.#becomeKnown = resolve));
  }

  start(): Promise<void> {
    this.#following = keepStream(this.#surroundings, "who is online", (signal) =>
      this.#follow(signal),
    );
    return Promise.resolve();
  }

  problems(): string[] {
    if (this.#closed) return ["presence is closing"];
    return this.#current ? [] : ["presence is not told by session who is online"];
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#following?.close();
    this.#graceTimer?.();
    for (const stream of this.#streams) stream.end(unavailable("presence is closing"));
    this.roster.seenAll(this.#surroundings.clock.now());
    await this.#keeper.close();
  }

  /** Nobody goes offline because this stream breaks: whoever is then missing in the next list has the grace from there on. */
  async #follow(signal: AbortSignal): Promise<void> {
    this.roster.beginList();
    try {
      for await (const told of this.#sessions.watchOnline({}, { signal })) {
        for (const userId of told.onlineUserIds) this.roster.online(userId);
        for (const userId of told.offlineUserIds) this.roster.offline(userId, this.#moment());
        if (told.initialComplete) this.#listed();
        this.#settle();
      }
    } finally {
      this.#current = false;
    }
  }

  #listed(): void {
    this.roster.endList(this.#moment());
    this.#current = true;
    this.#isKnown = true;
    this.#becomeKnown();
  }

  /**
   * After every change of the roster: what falls due later is armed. While session is not heard no grace ends, because the user may
   * be back and nobody said so; the next list tells.
   */
  #settle(): void {
    this.#keeper.wake();
    const dueMs = this.roster.nextDeadlineMs;
    if (dueMs === undefined || this.#graceTimer !== undefined || !this.#current) return;
    const { clock } = this.#surroundings;
    this.#graceTimer = clock.after(Math.max(0, Math.ceil(dueMs - clock.monotonic())), () => {
      this.#graceTimer = undefined;
      if (!this.#current) return;
      this.roster.expire(clock.monotonic());
      this.#settle();
    });
  }

  #moment(): Moment {
    const { clock } = this.#surroundings;
    return { nowMs: clock.now(), monotonicMs: clock.monotonic() };
  }

  async *#watch(
    requests: AsyncIterable<WatchRequest>,
    { signal }: HandlerContext,
  ): AsyncGenerator<WatchResponse, undefined> {
    if (this.#closed) throw unavailable("presence is closing");
    const { roster } = this;
    const ports = { roster, storage: this.#storage, known: this.#known };
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
    if (!this.#isKnown) throw unavailable("presence does not know yet who is online");
    const unknown = userIds.filter((userId) => this.roster.find(userId) === undefined);
    const seen = new Map<string, bigint>();
    if (unknown.length > 0) {
      const options = { signal, timeoutMs: askTimeoutMs };
      const answer = await this.#storage.getLastSeen({ userIds: unknown }, options);
      for (const { userId, timeMs } of answer.seen) seen.set(userId, timeMs);
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
