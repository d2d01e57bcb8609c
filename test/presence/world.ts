/** What is around presence in its tests: a session service that tells what the test says, and a storage of a few maps that fails on demand. */
import type { ServiceImpl, Transport } from "@connectrpc/connect";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { Pipe } from "../../mesh/pipe.ts";
import { Ring } from "../../mesh/ring.ts";
import type {
  SessionService,
  WatchOnlineRequest,
  WatchOnlineResponse,
} from "../../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";

const notHere = (): never => {
  throw new ConnectError("this test has no such thing", Code.Unimplemented);
};

interface Told {
  readonly pipe: Pipe<WatchOnlineResponse>;
  readonly isTold: (userId: string) => boolean;
}

/** Says who is online to each watcher as it comes, of its users, and later what it is told to say. */
export class ScriptedSession {
  readonly online = new Set<string>();
  /** False: the list of who is online has no end. */
  completes = true;
  /** True: nobody is told anything. */
  away = false;
  /** How many asked meanwhile. */
  refused = 0;
  /** 0: none. */
  lostMsAgo = 0;
  readonly asked: WatchOnlineRequest[] = [];
  #told: Told[] = [];
  readonly service: ServiceImpl<typeof SessionService> = {
    attach: notHere,
    publish: notHere,
    listSessions: notHere,
    watchOnline: (request) => {
      if (this.away) {
        this.refused += 1;
        throw new ConnectError("session is away", Code.Unavailable);
      }
      const { presenceIds, presenceId } = request;
      const ring = new Ring(presenceIds);
      const isTold = (userId: string) => presenceIds.length === 0 || ring.of(userId) === presenceId;
      const told = { pipe: new Pipe<WatchOnlineResponse>(10_000), isTold };
      this.#told = [...this.#told.filter(({ pipe }) => !pipe.ended), told];
      this.asked.push(request);
      const { completes: initialComplete, lostMsAgo } = this;
      say(told, { onlineUserIds: [...this.online], initialComplete, lostMsAgo });
      return told.pipe;
    },
  };

  get watches(): number {
    return this.asked.length;
  }

  begins(...userIds: string[]): void {
    for (const userId of userIds) this.online.add(userId);
    for (const told of this.#told) say(told, { onlineUserIds: userIds });
  }

  ends(...userIds: string[]): void {
    for (const userId of userIds) this.online.delete(userId);
    for (const told of this.#told) say(told, { offlineUserIds: userIds });
  }

  /** All lists have their end now. */
  complete(): void {
    this.completes = true;
    for (const told of this.#told) say(told, { initialComplete: true });
  }

  breakDown(): void {
    for (const { pipe } of this.#told)
      pipe.end(new ConnectError("session is away", Code.Unavailable));
  }
}

function say(
  { pipe, isTold }: Told,
  {
    onlineUserIds = [],
    offlineUserIds = [],
    initialComplete = false,
    lostMsAgo = 0,
  }: Partial<WatchOnlineResponse>,
): void {
  pipe.offer({
    $typeName: "parley.session.v1.WatchOnlineResponse",
    onlineUserIds: onlineUserIds.filter(isTold),
    offlineUserIds: offlineUserIds.filter(isTold),
    initialComplete,
    lostMsAgo,
  });
}

export class SmallStorage {
  /** Who shares a conversation with whom; nobody here: with everybody. */
  readonly acquainted = new Map<string, string[]>();
  readonly seenMs = new Map<string, number>();
  /** Set: calls fail with it. */
  failure: ConnectError | undefined;
  calls = 0;
  /** How often it was asked who may watch whom, and when users were last seen. */
  filters = 0;
  lookups = 0;
  /** Each call waits for it before it answers. */
  gate: Promise<void> = Promise.resolve();
  readonly service: Pick<
    ServiceImpl<typeof StorageService>,
    "filterAcquainted" | "getLastSeen" | "putLastSeen"
  > = {
    filterAcquainted: async ({ userId, otherUserIds }) => {
      this.filters += 1;
      await this.#enter();
      const known = this.acquainted.get(userId);
      return { userIds: otherUserIds.filter((other) => known?.includes(other) ?? true) };
    },
    getLastSeen: async ({ userIds }) => {
      this.lookups += 1;
      await this.#enter();
      const seen = userIds.map((userId) => ({
        userId,
        timeMs: BigInt(this.seenMs.get(userId) ?? 0),
      }));
      return { seen };
    },
    putLastSeen: async ({ seen }) => {
      await this.#enter();
      for (const { userId, timeMs } of seen)
        this.seenMs.set(userId, Math.max(Number(timeMs), this.seenMs.get(userId) ?? 0));
      return {};
    },
  };
  readonly transport: Transport = createRouterTransport(({ service }) => {
    service(StorageService, this.service);
  });

  async #enter(): Promise<void> {
    this.calls += 1;
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
  }
}
