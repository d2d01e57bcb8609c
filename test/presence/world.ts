/** What is around presence in its tests: a session service that tells what the test says, and a storage of a few maps that fails on demand. */
import type { Transport } from "@connectrpc/connect";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import type { ServiceImpl } from "@connectrpc/connect";
import { Pipe } from "../../mesh/pipe.ts";
import type {
  SessionService,
  WatchOnlineResponse,
} from "../../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";

const notHere = (): never => {
  throw new ConnectError("this test has no such thing", Code.Unimplemented);
};

/** Says who is online to each watcher as it comes, and later what it is told to say. */
export class ScriptedSession {
  readonly online = new Set<string>();
  /** False: the list of who is online has no end. */
  completes = true;
  watches = 0;
  #told: Pipe<WatchOnlineResponse> | undefined;
  readonly service: ServiceImpl<typeof SessionService> = {
    attach: notHere,
    publish: notHere,
    listSessions: notHere,
    watchOnline: () => {
      this.#told = new Pipe<WatchOnlineResponse>(10_000);
      this.watches += 1;
      this.#say({ onlineUserIds: [...this.online], initialComplete: this.completes });
      return this.#told;
    },
  };

  begins(...userIds: string[]): void {
    for (const userId of userIds) this.online.add(userId);
    this.#say({ onlineUserIds: userIds });
  }

  ends(...userIds: string[]): void {
    for (const userId of userIds) this.online.delete(userId);
    this.#say({ offlineUserIds: userIds });
  }

  breakDown(): void {
    this.#told?.end(new ConnectError("session is away", Code.Unavailable));
  }

  #say({
    onlineUserIds = [],
    offlineUserIds = [],
    initialComplete = false,
  }: Partial<WatchOnlineResponse>): void {
    const $typeName = "parley.session.v1.WatchOnlineResponse";
    this.#told?.offer({ $typeName, onlineUserIds, offlineUserIds, initialComplete });
  }
}

export class SmallStorage {
  /** Who shares a conversation with whom; nobody here: with everybody. */
  readonly acquainted = new Map<string, string[]>();
  readonly seenMs = new Map<string, number>();
  /** Set: calls fail with it. */
  failure: ConnectError | undefined;
  calls = 0;
  /** Each call waits for it before it answers. */
  gate: Promise<void> = Promise.resolve();
  readonly transport: Transport = createRouterTransport(({ service }) => {
    service(StorageService, {
      filterAcquainted: async ({ userId, otherUserIds }) => {
        await this.#enter();
        const known = this.acquainted.get(userId);
        return { userIds: otherUserIds.filter((other) => known?.includes(other) ?? true) };
      },
      getLastSeen: async ({ userIds }) => {
        await this.#enter();
        return {
          seen: userIds.map((userId) => ({
            userId,
            timeMs: BigInt(this.seenMs.get(userId) ?? 0),
          })),
        };
      },
      putLastSeen: async ({ seen }) => {
        await this.#enter();
        for (const { userId, timeMs } of seen) this.seenMs.set(userId, Number(timeMs));
        return {};
      },
    });
  });

  async #enter(): Promise<void> {
    this.calls += 1;
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
  }
}
