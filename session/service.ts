/** The handlers: they read the streams of gateways, publishers and watchers, and let the registry decide. */
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { Code, ConnectError } from "@connectrpc/connect";
import { invalid, overloaded, unavailable } from "../mesh/errors.ts";
import type { Running, Surroundings } from "../mesh/lifecycle.ts";
import type { Metrics } from "../mesh/metrics.ts";
import type { Peer, Peers } from "../mesh/peers.ts";
import { Gather, Pipe } from "../mesh/pipe.ts";
import { Ring } from "../mesh/ring.ts";
import { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import type {
  AttachRequest,
  AttachResponse,
  ListSessionsRequest,
  ListSessionsResponse,
  Publication,
  PublishRequest,
  PublishResponse,
  WatchOnlineRequest,
  WatchOnlineResponse,
} from "../proto/gen/parley/session/v1/session_pb.ts";
import type { OpenCommits } from "./commits.ts";
import type { SessionConfig } from "./config.ts";
import { Outbox } from "./outbox.ts";
import type { Gateway } from "./registry.ts";
import { Registry } from "./registry.ts";

/** User ids in one message of WatchOnline. */
const userIdsMax = 1_000;

type End = (error: ConnectError) => void;

export class SessionServer implements Running<typeof SessionService> {
  readonly service: ServiceImpl<typeof SessionService> = {
    attach: (requests) => this.#attach(requests),
    publish: (requests) => this.#publish(requests),
    watchOnline: (request, context) => this.#watchOnline(request, context),
    listSessions: (request) => this.#listSessions(request),
  };
  readonly registry: Registry;
  readonly #surroundings: Surroundings;
  readonly #config: SessionConfig;
  readonly #gateways: Peers;
  /** The gateways that were there when their list last changed. */
  #leased: ReadonlySet<string> = new Set();
  readonly #sessions: Peers;
  /** All session instances when their list last changed. */
  #known: readonly Peer[] = [];
  /** When one of them went away without a word; undefined: none did. */
  #lostMs: number | undefined;
  #unwatch: (() => void)[] = [];
  /** How each stream that is under way is ended. */
  readonly #ends = new Set<End>();
  readonly #outboxes = new Set<Outbox>();
  #closed = false;

  constructor(surroundings: Surroundings, config: SessionConfig) {
    this.#surroundings = surroundings;
    this.#config = config;
    this.registry = new Registry(config);
    this.#gateways = surroundings.peers(GatewayService);
    this.#sessions = surroundings.peers(SessionService);
    this.#count(surroundings.metrics);
  }

  #count(metrics: Metrics): void {
    const { registry } = this;
    metrics.level(
      "parley_session_sessions",
      "Attached sessions: devices that are reachable.",
      () => registry.size.sessions,
    );
    metrics.level("parley_session_users", "Users who have one.", () => registry.size.users);
    metrics.level("parley_session_gateways", "Attached gateways.", () => registry.size.gateways);
    metrics.level(
      "parley_session_outbox_bytes",
      "Bytes that wait to be sent to gateways, about, all gateways together.",
      () => {
        let bytes = 0;
        for (const outbox of this.#outboxes) bytes += outbox.bytes;
        return bytes;
      },
    );
  }

  start(): Promise<void> {
    this.#unwatch = [
      this.#gateways.watch(() => this.#endLeases()),
      this.#sessions.watch(() => this.#noteLost()),
    ];
    this.#endLeases();
    this.#noteLost();
    return Promise.resolve();
  }

  problems(): string[] {
    return this.#closed ? ["session is closing"] : [];
  }

  close(): Promise<void> {
    this.#closed = true;
    for (const unwatch of this.#unwatch) unwatch();
    for (const end of this.#ends) end(unavailable("session is closing"));
    return Promise.resolve();
  }

  /** Connections end with their gateway's lease, whatever its stream does. One that is not in the list yet may attach. */
  #endLeases(): void {
    const leased = new Set(this.#gateways.present.map(({ id }) => id));
    const ended = new Set([...this.#leased].filter((id) => !leased.has(id)));
    this.#leased = leased;
    if (ended.size > 0) this.registry.endLives(ended);
  }

  #noteLost(): void {
    const { present } = this.#sessions;
    const ids = new Set(present.map(({ id }) => id));
    if (this.#known.some(({ id, draining }) => !draining && !ids.has(id)))
      this.#lostMs = this.#surroundings.clock.monotonic();
    this.#known = present;
  }

  get #lostMsAgo(): number {
    if (this.#lostMs === undefined) return 0;
    return Math.min(
      Math.ceil(this.#surroundings.clock.monotonic() - this.#lostMs) + 1,
      2 ** 32 - 1,
    );
  }

  async *#attach(
    requests: AsyncIterable<AttachRequest>,
  ): AsyncGenerator<AttachResponse, undefined> {
    const outbox = new Outbox(this.#surroundings.clock, this.#config);
    let gateway: Gateway | undefined;
    const detachAll = (): void => {
      if (gateway !== undefined) this.registry.end(gateway);
    };
    const finish = (error?: ConnectError): void => {
      detachAll();
      outbox.cut(error);
    };
    const leave = this.#enter(finish);
    this.#outboxes.add(outbox);
    const read = async (): Promise<void> => {
      for await (const request of requests) {
        gateway ??= this.#open(request, outbox);
        for (const attachment of request.attached) this.registry.attach(gateway, attachment);
        for (const connection of request.detached) this.registry.detach(gateway, connection);
      }
      detachAll();
      outbox.end();
    };
    try {
      // However the call ends, the requests fail or end: this is where it is noticed, wherever the generator is.
      read().catch((error: unknown) => finish(ConnectError.from(error)));
      yield* outbox.responses();
      return undefined;
    } finally {
      this.#outboxes.delete(outbox);
      leave();
      finish();
    }
  }

  #open({ gatewayId, bootId }: AttachRequest, outbox: Outbox): Gateway {
    if (this.#closed) throw unavailable("session is closing");
    const holder = this.#gateways.present.find(({ name }) => name !== "" && name === gatewayId);
    // Two that are configured alike would end one another's stream for ever: the one that holds the name stays.
    if (holder !== undefined && holder.id !== bootId)
      throw new ConnectError(
        `another gateway holds the id ${gatewayId}: attach when it is gone, or under another id`,
        Code.AlreadyExists,
      );
    const gateway = this.registry.open(gatewayId, bootId, outbox);
    this.#surroundings.log.debug({ gatewayId, bootId }, "a gateway attached");
    return gateway;
  }

  #publish(requests: AsyncIterable<PublishRequest>): AsyncIterable<PublishResponse> {
    const responses = new Pipe<PublishResponse>(1);
    const leave = this.#enter((error) => responses.end(error));
    const commits = this.registry.commits.begin();
    const read = async (): Promise<void> => {
      for await (const { publications, indexedCommits } of requests) {
        this.#route(publications, commits);
        this.#indexed(indexedCommits, commits);
      }
    };
    read()
      .then(
        () => responses.end(),
        (error: unknown) => responses.end(ConnectError.from(error)),
      )
      .finally(() => {
        commits.end();
        leave();
      });
    return responses;
  }

  #route(publications: readonly Publication[], commits: OpenCommits): void {
    for (const publication of publications) {
      if (publication.trace === undefined) this.registry.route(publication);
      else this.#routeFollowed(publication, publication.trace);
      if (publication.commit !== 0n) commits.passed(publication.commit, publication.userIds);
    }
  }

  #routeFollowed(publication: Publication, trace: Uint8Array): void {
    const record = publication.payload?.payload;
    const span = this.#surroundings.tracer?.step(trace, "session publish", {
      "parley.conversation": record?.case === "record" ? record.value.conversationId : "",
      "parley.seq": record?.case === "record" ? record.value.seq : 0,
      "parley.users": publication.userIds.length,
    });
    this.registry.route({ ...publication, trace: span?.context ?? trace });
    span?.end();
  }

  #indexed(indexed: readonly bigint[], commits: OpenCommits): void {
    for (const commit of indexed)
      for (const session of commits.indexed(commit)) this.registry.resync(session);
  }

  async *#watchOnline(
    { presenceIds, presenceId }: WatchOnlineRequest,
    { signal }: HandlerContext,
  ): AsyncGenerator<WatchOnlineResponse, undefined> {
    const ring = new Ring(presenceIds);
    const isTold = (userId: string): boolean =>
      ring.ids.length === 0 || ring.of(userId) === presenceId;
    const edges = new Gather<string>(this.#surroundings.clock, this.#config.edgesMax);
    let why: ConnectError | undefined;
    const finish = (error?: ConnectError): void => {
      why ??= error;
      void edges.return();
    };
    const leave = this.#enter(finish);
    const unwatch = this.registry.watch({
      changed: (userId) => {
        if (edges.ended || !isTold(userId) || edges.add(userId)) return;
        finish(overloaded("the watcher does not keep up with who comes and goes: watch again"));
      },
    });
    const abort = (): void => finish();
    signal.addEventListener("abort", abort, { once: true });
    try {
      yield* onlineResponses(this.registry.onlineUserIds().filter(isTold), () => true);
      yield onlineResponse({ initialComplete: true, lostMsAgo: this.#lostMsAgo });
      for await (const batch of edges)
        yield* onlineResponses([...new Set(batch)], (userId) => this.registry.isOnline(userId));
      if (why !== undefined) throw why;
      return undefined;
    } finally {
      signal.removeEventListener("abort", abort);
      unwatch();
      leave();
      void edges.return();
    }
  }

  #listSessions({ userId }: ListSessionsRequest): ListSessionsResponse {
    if (userId === "") throw invalid("user_id is empty: name the user whose sessions to list");
    const sessions = this.registry.sessionsOf(userId).map((session) => ({
      $typeName: "parley.session.v1.Session" as const,
      gatewayId: session.gateway.id,
      connection: session.connection,
      deviceId: session.deviceId,
      bootId: session.gateway.bootId,
    }));
    return { $typeName: "parley.session.v1.ListSessionsResponse", sessions };
  }

  /** A stream began; the answer is called when it is over. */
  #enter(end: End): () => void {
    if (this.#closed) throw unavailable("session is closing");
    this.#ends.add(end);
    return () => void this.#ends.delete(end);
  }
}

/** In messages of a bounded size, each user as `isOnline` says when the message is made. */
function* onlineResponses(
  userIds: readonly string[],
  isOnline: (userId: string) => boolean,
): Generator<WatchOnlineResponse, undefined> {
  for (let from = 0; from < userIds.length; from += userIdsMax) {
    const some = userIds.slice(from, from + userIdsMax);
    yield onlineResponse({
      onlineUserIds: some.filter(isOnline),
      offlineUserIds: some.filter((userId) => !isOnline(userId)),
    });
  }
  return undefined;
}

function onlineResponse({
  onlineUserIds = [],
  offlineUserIds = [],
  initialComplete = false,
  lostMsAgo = 0,
}: Partial<WatchOnlineResponse>): WatchOnlineResponse {
  const $typeName = "parley.session.v1.WatchOnlineResponse";
  return { $typeName, onlineUserIds, offlineUserIds, initialComplete, lostMsAgo };
}
