/** GatewayService: what operators ask of any gateway, and other gateways of this one. What other processes know it gathers from them. */
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { ServiceImpl } from "@connectrpc/connect";
import { invalid } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Peer } from "../mesh/peers.ts";
import type { ShardMap } from "../mesh/shards.ts";
import { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type {
  Connection,
  DisconnectRequest,
  DrainRequest,
  EraseUserRequest,
  EraseUserResponse,
  ExplainMessageRequest,
  ExplainMessageResponse,
  GetShardRequest,
  GetShardResponse,
  GetUserRequest,
  GetUserResponse,
  ListConnectionsRequest,
  ListConnectionsResponse,
  ListProcessesResponse,
  MoveShardRequest,
  MoveShardResponse,
  Process,
  ReadLogRequest,
  ReadLogResponse,
  WatchPresenceRequest,
  WatchPresenceResponse,
} from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { PresenceService } from "../proto/gen/parley/presence/v1/presence_pb.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { Asking, nameOf } from "./asking.ts";
import type { ChatCalls } from "./calls.ts";
import type { DeliveryLinks } from "./delivery-links.ts";
import { Erasing } from "./erasing.ts";
import { explain } from "./explain.ts";
import { readLog } from "./log.ts";
import type { Operators } from "./operators.ts";
import { sessionsOf } from "./reached.ts";
import { ShardDesk } from "./shard-desk.ts";

const services = [
  GatewayService,
  SessionService,
  DeliveryService,
  PresenceService,
  StorageService,
] as const;
const everyConnection = 1_000;
/** What a drain may take beyond the time that it is spread over. */
const drainLateMs = 15_000;

export class Console implements ServiceImpl<typeof GatewayService> {
  readonly #surroundings: Surroundings;
  readonly #own: Operators;
  readonly #desk: ShardDesk;
  readonly #erasing: Erasing;
  readonly #calls: ChatCalls;

  constructor(
    surroundings: Surroundings,
    own: Operators,
    shards: ShardMap,
    delivery: DeliveryLinks,
    calls: ChatCalls,
  ) {
    this.#calls = calls;
    this.#erasing = new Erasing(surroundings, delivery);
    this.#surroundings = surroundings;
    this.#own = own;
    this.#desk = new ShardDesk(surroundings, shards);
  }

  async listConnections(request: ListConnectionsRequest): Promise<ListConnectionsResponse> {
    if (request.allGateways) return this.#allConnections(request);
    const peer = this.#other(request.gatewayId);
    if (peer === undefined) return this.#own.listConnections(request);
    return createClient(GatewayService, peer.transport).listConnections({
      ...request,
      gatewayId: "",
    });
  }

  async #allConnections(request: ListConnectionsRequest): Promise<ListConnectionsResponse> {
    if (request.afterConnection > 0 || request.gatewayId !== "")
      throw invalid("all_gateways goes neither with after_connection nor with gateway_id");
    const asking = new Asking(this.#surroundings);
    const each = { ...request, allGateways: false };
    const answers = await asking.ofAll(GatewayService, (gateway, options) =>
      gateway.listConnections(each, options),
    );
    const connections: Connection[] = [];
    let total = 0;
    for (const { answer } of answers) {
      connections.push(...answer.connections);
      total += answer.total;
    }
    const $typeName = "parley.gateway.v1.ListConnectionsResponse";
    return { $typeName, connections, total, unanswered: asking.unanswered };
  }

  disconnect(request: DisconnectRequest): { ended: number } {
    return this.#own.disconnect(request);
  }

  async drain(request: DrainRequest): Promise<{ ended: number }> {
    const peer = this.#other(request.gatewayId);
    if (peer === undefined) return this.#own.drain(request);
    const timeoutMs = request.spreadMs + drainLateMs;
    const gateway = createClient(GatewayService, peer.transport);
    return gateway.drain({ spreadMs: request.spreadMs }, { timeoutMs });
  }

  listProcesses(): ListProcessesResponse {
    const owned = this.#desk.owned();
    const processes = services.flatMap((service) =>
      this.#surroundings
        .peers(service)
        .present.map((peer) => processOf(service, this.#named(service, peer), owned)),
    );
    return { $typeName: "parley.gateway.v1.ListProcessesResponse", processes };
  }

  async getUser({ userId }: GetUserRequest): Promise<GetUserResponse> {
    if (userId === "") throw invalid("user_id is empty: which user?");
    const asking = new Asking(this.#surroundings);
    const presencePeer = asking.placeOf(PresenceService, userId);
    if (presencePeer === undefined) asking.nobody(PresenceService, "there is no such process");
    const [presences, sessions, connections] = await Promise.all([
      presencePeer &&
        asking.of(PresenceService, presencePeer, (presence, options) =>
          presence.getPresences({ userIds: [userId] }, options),
        ),
      asking.ofAll(SessionService, (session, options) => session.listSessions({ userId }, options)),
      asking.ofAll(GatewayService, (gateway, options) =>
        gateway.listConnections({ userId, limit: everyConnection }, options),
      ),
    ]);
    const presence = presences?.presences[0];
    return {
      $typeName: "parley.gateway.v1.GetUserResponse",
      ...(presence === undefined ? {} : { presence }),
      sessions: sessions.flatMap(({ peer, answer }) => sessionsOf(peer.id, answer.sessions)),
      connections: connections.flatMap(({ answer }) => answer.connections),
      unanswered: asking.unanswered,
    };
  }

  getShard({ which }: GetShardRequest): GetShardResponse {
    const shard = this.#desk.shard(this.#desk.named(which));
    return { $typeName: "parley.gateway.v1.GetShardResponse", shard };
  }

  moveShard(request: MoveShardRequest): Promise<MoveShardResponse> {
    return this.#desk.move(request);
  }

  eraseUser({ userId }: EraseUserRequest): AsyncGenerator<EraseUserResponse, void> {
    return this.#erasing.erase(userId);
  }

  readLog(request: ReadLogRequest): Promise<ReadLogResponse> {
    return readLog(
      createClient(StorageService, this.#surroundings.transport(StorageService)),
      request,
    );
  }

  explainMessage(request: ExplainMessageRequest): Promise<ExplainMessageResponse> {
    const shard = this.#desk.shard(this.#desk.shardOf(request.conversationId));
    const storage = createClient(StorageService, this.#surroundings.transport(StorageService));
    return explain(new Asking(this.#surroundings), storage, shard, request);
  }

  async watchPresence(request: WatchPresenceRequest): Promise<WatchPresenceResponse> {
    const { userId, deviceId, userIds } = request;
    const presences = await this.#calls.watchByStream(userId, deviceId, userIds);
    return { $typeName: "parley.gateway.v1.WatchPresenceResponse", presences };
  }

  /** A gateway that was given no id knows its own alone. */
  #named(service: DescService, peer: Peer): Peer {
    const isOwn = service === GatewayService && peer.id === this.#surroundings.identity.id;
    return isOwn ? { ...peer, name: this.#own.gatewayId } : peer;
  }

  /** Undefined: this gateway is meant. */
  #other(gatewayId: string): Peer | undefined {
    if (gatewayId === "" || gatewayId === this.#own.gatewayId) return undefined;
    const { identity } = this.#surroundings;
    if (gatewayId === identity.id) return undefined;
    const { present } = this.#surroundings.peers(GatewayService);
    const peer = present.find(({ id, name }) => name === gatewayId || id === gatewayId);
    if (peer !== undefined) return peer;
    const names = present.map((one) => this.#named(GatewayService, one).name || one.id);
    throw new ConnectError(
      `there is no gateway ${gatewayId}; there are: ${names.join(", ")}`,
      Code.NotFound,
    );
  }
}

function processOf(service: DescService, peer: Peer, owned: ReadonlyMap<string, number>): Process {
  const { id, name, region, draining, address = "", pinned = [] } = peer;
  const isDelivery = service === DeliveryService;
  return {
    $typeName: "parley.gateway.v1.Process",
    service: nameOf(service),
    processId: id,
    name,
    address,
    region,
    draining,
    shards: isDelivery ? (owned.get(id) ?? 0) : 0,
    pinnedShards: isDelivery ? [...pinned] : [],
  };
}
