/** A gateway between fakes of the other services, with real WebSockets on loopback. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescService, MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { HandlerContext } from "@connectrpc/connect";
import { pino } from "pino";
import { WebSocket } from "ws";
import { createGateway, gatewayConfig } from "../../gateway/index.ts";
import type { Authenticator, Gateway, GatewayConfig } from "../../gateway/index.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { EnvReader } from "../../mesh/env.ts";
import { unauthenticated } from "../../mesh/errors.ts";
import { Identity } from "../../mesh/identity.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import { Pipe } from "../../mesh/pipe.ts";
import { seededRandom } from "../../mesh/random.ts";
import { ShardTable } from "../../mesh/shards.ts";
import { DeliveryService, OutcomeSchema } from "../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type {
  CreateGroupRequest,
  ExchangeRequest,
  ExchangeResponse,
  Operation,
  Outcome,
} from "../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { type Change, PresenceService } from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import type {
  WatchRequest,
  WatchResponse,
  WatchSet,
} from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import { PayloadSchema, SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import type {
  AttachRequest,
  AttachResponse,
  Attachment,
  Session,
} from "../../proto/gen/parley/session/v1/session_pb.ts";
import {
  ConversationStateSchema,
  GetMediaResponseSchema,
  IndexRowSchema,
  Kind,
  MemberSchema,
  StorageService,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import type {
  ConversationState,
  IndexRow,
  ListMembersResponse,
  MediaHeader,
  Member,
  Page,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  ClientBatchSchema,
  ClientFrameSchema,
  ServerBatchSchema,
} from "../../proto/gen/parley/v1/frame_pb.ts";
import type { ServerFrame } from "../../proto/gen/parley/v1/frame_pb.ts";
import { RecordSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import { NotedMetrics } from "../support/noted-metrics.ts";

export const silent = pino({ level: "silent" });

/** Turns of the event loop until something is so; the test's own timeout is the bound. */
export async function until<T>(what: () => T | undefined | false): Promise<T> {
  for (;;) {
    const value = what();
    if (value !== undefined && value !== false) return value;
    await turn();
  }
}

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export async function turns(count: number): Promise<void> {
  for (let at = 0; at < count; at += 1) await turn();
}

export const clientId = (seed: number): Uint8Array => new Uint8Array(16).fill(seed);

export function record(
  conversationId: string,
  seq: number,
  senderId: string,
  text = `m${seq}`,
  timeMs = 0,
) {
  return toBinary(
    RecordSchema,
    create(RecordSchema, {
      conversationId,
      seq,
      senderId,
      timeMs: BigInt(timeMs),
      ordinal: seq,
      body: { case: "message", value: { text } },
    }),
  );
}

export function row(
  conversationId: string,
  userId: string,
  headSeq: number,
  state: Partial<ConversationState> = {},
  member: Partial<Member> = {},
): IndexRow {
  const usual = {
    kind: Kind.DIRECT,
    headSeq,
    headOrdinal: headSeq,
    memberCount: 2,
    headTimeMs: 5n,
  };
  return create(IndexRowSchema, {
    conversationId,
    state: Object.assign(create(ConversationStateSchema, usual), state),
    member: Object.assign(create(MemberSchema, { userId, floorSeq: 1 }), member),
  });
}

/** Answers a stream of responses from a pipe while something reads the requests. */
async function* answering<I, O extends object>(
  requests: AsyncIterable<I>,
  context: HandlerContext,
  responses: Pipe<O>,
  take: (request: I) => void,
): AsyncGenerator<O> {
  context.signal.addEventListener("abort", () => responses.end());
  void (async () => {
    try {
      for await (const request of requests) take(request);
      responses.end();
    } catch {
      responses.end();
    }
  })();
  yield* responses;
}

const lost = (): ConnectError => new ConnectError("lost", Code.Unavailable);

export class FakeDelivery {
  readonly operations: Operation[] = [];
  /** How many operations each request had. */
  readonly batches: number[] = [];
  readonly groups: CreateGroupRequest[] = [];
  /** How an operation is answered: undefined, not at all. */
  answer: (operation: Operation) => Outcome["outcome"] | undefined = (operation) =>
    this.usual(operation);
  readonly heads = new Map<string, number>();
  #responses: Pipe<ExchangeResponse> | undefined;

  usual({ operation, conversationId }: Operation): Outcome["outcome"] | undefined {
    if (operation.case === "send") {
      const seq = (this.heads.get(conversationId) ?? 0) + 1;
      this.heads.set(conversationId, seq);
      return create(OutcomeSchema, {
        outcome: { case: "sent", value: { seq, timeMs: 1_700_000_000_123n } },
      }).outcome;
    }
    if (operation.case !== "moveCursor") return undefined;
    const { deliveredSeq, readSeq } = operation.value;
    return create(OutcomeSchema, { outcome: { case: "moved", value: { deliveredSeq, readSeq } } })
      .outcome;
  }

  exchange = (
    requests: AsyncIterable<ExchangeRequest>,
    context: HandlerContext,
  ): AsyncGenerator<ExchangeResponse> => {
    const responses = new Pipe<ExchangeResponse>(10_000);
    this.#responses = responses;
    return answering(requests, context, responses, ({ operations }) => {
      this.batches.push(operations.length);
      for (const operation of operations) {
        this.operations.push(operation);
        const outcome = this.answer(operation);
        if (outcome !== undefined) this.settle(operation, outcome);
      }
    });
  };

  settle({ operationId }: Operation, outcome: Outcome["outcome"]): void {
    this.#responses?.offer({
      $typeName: "parley.delivery.v1.ExchangeResponse",
      outcomes: [{ $typeName: "parley.delivery.v1.Outcome", operationId, outcome }],
    });
  }

  refuse(operation: Operation, code: Code, retryAfterMs: number): void {
    this.settle(operation, refused(code, retryAfterMs));
  }

  break(): void {
    this.#responses?.end(lost());
    this.#responses = undefined;
  }
}

export const refused = (code: Code, retryAfterMs: number): Outcome["outcome"] => ({
  case: "refused",
  value: { $typeName: "parley.delivery.v1.Refused", code, message: "refused", retryAfterMs },
});

export class FakeSession {
  readonly attached = new Map<number, Attachment>();
  readonly requests: AttachRequest[] = [];
  /** At other gateways. */
  readonly elsewhere: Session[] = [];
  /** Whether attachments are acked at once. */
  acks = true;
  streams = 0;
  #responses: Pipe<AttachResponse> | undefined;

  attach = (
    requests: AsyncIterable<AttachRequest>,
    context: HandlerContext,
  ): AsyncGenerator<AttachResponse> => {
    const responses = new Pipe<AttachResponse>(10_000);
    this.#responses = responses;
    this.streams += 1;
    this.attached.clear();
    return answering(requests, context, responses, (request) => {
      this.requests.push(request);
      for (const one of request.attached) this.attached.set(one.connection, one);
      for (const number of request.detached) this.attached.delete(number);
      if (this.acks) this.ack(request.attached.map(({ connection }) => connection));
    });
  };

  listSessions = (): { sessions: Session[] } => ({ sessions: this.elsewhere });

  #say(response: Partial<AttachResponse>): void {
    this.#responses?.offer({
      $typeName: "parley.session.v1.AttachResponse",
      attached: [],
      replaced: [],
      pushes: [],
      ...response,
    });
  }

  ack(attached: number[]): void {
    if (attached.length > 0) this.#say({ attached });
  }

  replace(number: number): void {
    this.attached.delete(number);
    this.#say({ replaced: [number] });
  }

  /** To all connections of the users. */
  push(userIds: string[], payload: MessageInitShape<typeof PayloadSchema>["payload"]): void {
    const connections = [...this.attached.values()]
      .filter(({ userId }) => userIds.includes(userId))
      .map(({ connection }) => connection);
    const $typeName = "parley.session.v1.Push";
    const made = create(PayloadSchema, { payload: payload ?? { case: undefined } });
    this.#say({ pushes: [{ $typeName, connections, payload: made }] });
  }

  pushRecord(userIds: string[], conversationId: string, seq: number, senderId: string): void {
    const bytes = record(conversationId, seq, senderId);
    this.push(userIds, { case: "record", value: { conversationId, seq, record: bytes } });
  }

  break(): void {
    this.#responses?.end(lost());
    this.#responses = undefined;
  }
}

function changeOf(connections: number[], userId: string): Change {
  const presence = {
    $typeName: "parley.v1.Presence" as const,
    userId,
    availability: 2 as const,
    lastSeenMs: 9n,
  };
  return { $typeName: "parley.presence.v1.Change", connections, presence };
}

export class FakePresence {
  readonly sets: WatchSet[] = [];
  readonly ended: number[] = [];
  answers = true;
  #responses: Pipe<WatchResponse> | undefined;

  watch = (
    requests: AsyncIterable<WatchRequest>,
    context: HandlerContext,
  ): AsyncGenerator<WatchResponse> => {
    const responses = new Pipe<WatchResponse>(10_000);
    this.#responses = responses;
    return answering(requests, context, responses, ({ sets, ended }) => {
      this.ended.push(...ended);
      for (const set of sets) {
        this.sets.push(set);
        if (this.answers) this.snapshot(set);
      }
    });
  };

  /** With a change of `changed` in the same response, where there is one. */
  snapshot({ connection, userIds }: WatchSet, changed?: string): void {
    const presences = userIds.map((userId) => ({
      $typeName: "parley.v1.Presence" as const,
      userId,
      availability: 1 as const,
      lastSeenMs: 0n,
    }));
    const $typeName = "parley.presence.v1.Snapshot";
    this.#responses?.offer({
      $typeName: "parley.presence.v1.WatchResponse",
      snapshots: [{ $typeName, connection, presences, code: 0, message: "" }],
      changes: changed === undefined ? [] : [changeOf([connection], changed)],
    });
  }

  /** Says that the set cannot be answered. */
  refuse({ connection }: WatchSet): void {
    const $typeName = "parley.presence.v1.Snapshot";
    const code = Code.Unavailable;
    this.#responses?.offer({
      $typeName: "parley.presence.v1.WatchResponse",
      snapshots: [{ $typeName, connection, presences: [], code, message: "storage is away" }],
      changes: [],
    });
  }

  change(connections: number[], userId: string): void {
    this.#responses?.offer({
      $typeName: "parley.presence.v1.WatchResponse",
      snapshots: [],
      changes: [changeOf(connections, userId)],
    });
  }

  break(): void {
    this.#responses?.end(lost());
    this.#responses = undefined;
  }
}

export class FakeStorage {
  readonly rows = new Map<string, IndexRow[]>();
  /** conversation → records from seq 1 on. */
  readonly logs = new Map<string, Uint8Array[]>();
  readonly uploads = new Map<string, MediaHeader>();
  storeId = "";
  readonly reads: Page[] = [];
  members: Member[] = [];
  headSum = 42n;
  sums = 0;
  /** Thrown by every read while set. */
  fault: ConnectError | undefined;
  lists = 0;

  listIndex = ({ userId }: { userId: string }): { rows: IndexRow[]; storeId: string } => {
    this.lists += 1;
    if (this.fault !== undefined) throw this.fault;
    return { rows: this.rows.get(userId) ?? [], storeId: this.storeId };
  };

  read = ({ pages }: { pages: Page[] }) => {
    if (this.fault !== undefined) throw this.fault;
    this.reads.push(...pages);
    return { pages: pages.map((page) => this.#page(page)) };
  };

  #page({ conversationId, userId, afterSeq, beforeSeq, limit }: Page) {
    const member = this.rows.get(userId)?.some((one) => one.conversationId === conversationId);
    const log = this.logs.get(conversationId);
    if (member !== true || log === undefined) return { found: false };
    const inside = log.slice(afterSeq, beforeSeq === 0 ? undefined : beforeSeq - 1);
    const records = afterSeq > 0 ? inside.slice(0, limit) : inside.slice(-limit);
    return { found: true, records, headSeq: log.length, floorSeq: 1 };
  }

  headSums = ({ userIds }: { userIds: string[] }): { sums: bigint[] } => {
    this.sums += 1;
    return { sums: userIds.map(() => this.headSum) };
  };

  listMembers = ({ afterUserId, limit }: { afterUserId: string; limit: number }) => {
    const after = this.members.filter(({ userId }) => userId > afterUserId);
    return {
      members: after.slice(0, limit),
      more: after.length > limit,
    } satisfies Partial<ListMembersResponse>;
  };

  async *getMedia({ conversationId, mediaId }: { conversationId: string; mediaId: string }) {
    const header = this.uploads.get(`${conversationId} ${mediaId}`);
    if (header === undefined) throw new ConnectError("there is no such medium", Code.NotFound);
    yield await Promise.resolve(
      create(GetMediaResponseSchema, { part: { case: "header", value: header } }),
    );
  }
}

/** "user", "user@soon" (ends in a minute), "user+eu" (of the region eu), anything else is wrong. */
export const fakeAuth = (clock: ManualClock): Authenticator => ({
  verify(token) {
    const [name = "", soon] = token.split("@");
    const [userId = "", region = ""] = name.split("+");
    if (!/^[a-z0-9]+$/.test(userId)) return Promise.reject(unauthenticated("the token is wrong"));
    const expiresMs = soon === undefined ? Infinity : clock.now() + 60_000;
    return Promise.resolve({ userId, expiresMs, region });
  },
});

export class World {
  readonly clock = new ManualClock();
  readonly metrics = new NotedMetrics();
  readonly delivery = new FakeDelivery();
  readonly session = new FakeSession();
  readonly presence = new FakePresence();
  readonly storage = new FakeStorage();
  readonly gateway: Gateway;
  readonly identity = new Identity(seededRandom(2));
  /** All owned by the delivery peer. */
  readonly shards = new ShardTable(4);
  readonly #peers = new Map<DescService, PeerTable>();
  readonly #server = createServer();
  readonly #mesh: LocalMesh;
  readonly #devices: Device[] = [];

  constructor(config: Partial<GatewayConfig> = {}, wire = false, log = silent) {
    this.#mesh = new LocalMesh({ clock: this.clock, wire });
    this.#mesh.serve(DeliveryService, {
      exchange: this.delivery.exchange,
      createGroup: (request) => {
        this.delivery.groups.push(request);
        return { response: { conversation: { conversationId: "g:new" } } };
      },
      updateGroup: () => ({ response: { seq: 7 } }),
      inspectConversation: () => ({ taking: true }),
      pinShard: () => ({}),
      eraseMember: () => ({ headSeq: 7 }),
    });
    const { attach, listSessions } = this.session;
    this.#mesh.serve(SessionService, { attach, listSessions } as never);
    this.#mesh.serve(PresenceService, { watch: this.presence.watch } as never);
    const { storage } = this;
    this.#mesh.serve(StorageService, {
      listIndex: storage.listIndex,
      read: storage.read,
      headSums: storage.headSums,
      listMembers: storage.listMembers,
      getMedia: (request: never) => storage.getMedia(request),
    } as never);
    const read = new EnvReader({}, "PARLEY_");
    for (let shard = 0; shard < this.shards.count; shard += 1)
      this.shards.learn(shard, { incarnation: "one", epoch: 1n });
    this.gateway = createGateway(
      {
        clock: this.clock,
        random: seededRandom(1),
        log,
        metrics: this.metrics,
        identity: this.identity,
        transport: (service) => this.#mesh.transport(service),
        peers: (service) => this.peers(service),
      },
      { ...gatewayConfig(read), gatewayId: "g1", ...config },
      fakeAuth(this.clock),
      this.shards,
    );
    this.#server.on("upgrade", (request, socket, head) =>
      this.gateway.upgrade(request, socket, head),
    );
  }

  /** The instances of a service: until the test says otherwise one, "one", that is served here. */
  peers(service: DescService): PeerTable {
    const known = this.#peers.get(service);
    if (known !== undefined) return known;
    const table = new PeerTable([peerOf("one", this.#mesh.transport(service))]);
    this.#peers.set(service, table);
    return table;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async open(): Promise<this> {
    await this.gateway.start();
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    await until(() => this.session.streams > 0);
    return this;
  }

  async close(): Promise<void> {
    for (const device of this.#devices) device.socket.terminate();
    await this.gateway.close();
    await this.#mesh.close();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** A socket that has said nothing yet. */
  async connect(headers: Record<string, string> = {}): Promise<Device> {
    const device = new Device(this.port, headers);
    this.#devices.push(device);
    await device.opened;
    return device;
  }

  /** A device that was admitted and synced. */
  async device(token: string, deviceId = "phone"): Promise<Device> {
    const device = await this.connect();
    device.hello(token, deviceId);
    await device.frame("welcome");
    await device.until(({ frame }) => frame.case === "sync" && frame.value.complete);
    return device;
  }

  /** Lets time pass in steps of the sweep. */
  async pass(ms: number): Promise<void> {
    for (let gone = 0; gone < ms; gone += 1_000) {
      this.clock.advance(Math.min(1_000, ms - gone));
      await turn();
    }
  }
}

type Frame = ServerFrame["frame"];
type Of<K> = Extract<Frame, { case: K }> extends { value: infer V } ? V : never;
type ClientFrameInit = MessageInitShape<typeof ClientFrameSchema>;

export class Device {
  readonly socket: WebSocket;
  readonly opened: Promise<void>;
  readonly closed: Promise<{ code: number; reason: string }>;
  /** Not yet taken. */
  readonly frames: ServerFrame[] = [];
  /** How many WebSocket messages came. */
  messages = 0;
  ended: { code: number; reason: string } | undefined;

  constructor(port: number, headers: Record<string, string> = {}) {
    this.socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, "parley.v1", { headers });
    this.opened = new Promise((resolve, reject) => {
      this.socket.once("open", resolve);
      this.socket.once("error", reject);
    });
    this.socket.on("error", () => {});
    this.socket.on("message", (data) => {
      this.messages += 1;
      if (Buffer.isBuffer(data)) this.frames.push(...fromBinary(ServerBatchSchema, data).frames);
    });
    this.closed = new Promise((resolve) =>
      this.socket.once("close", (code, reason) => {
        this.ended = { code, reason: reason.toString() };
        resolve(this.ended);
      }),
    );
  }

  hello(token: string, deviceId = "phone", syncToken = new Uint8Array(0), records = 0): void {
    this.send({
      requestId: 1,
      frame: {
        case: "hello",
        value: { token, deviceId, syncToken, recordsPerConversation: records },
      },
    });
  }

  /** All frames in one batch. */
  send(...frames: ClientFrameInit[]): void {
    const batch = create(ClientBatchSchema, {
      frames: frames.map((frame) => create(ClientFrameSchema, frame)),
    });
    this.socket.send(toBinary(ClientBatchSchema, batch));
  }

  say(
    requestId: number,
    conversationId: string,
    text: string,
    id = requestId,
    retry = false,
  ): void {
    this.send({
      requestId,
      frame: {
        case: "send",
        value: {
          to: { case: "conversationId", value: conversationId },
          clientId: clientId(id),
          content: { text },
          retry,
        },
      },
    });
  }

  move(requestId: number, conversationId: string, deliveredSeq: number, readSeq = 0): void {
    this.send({
      requestId,
      frame: { case: "moveCursor", value: { conversationId, deliveredSeq, readSeq } },
    });
  }

  /** Takes the next frame that is so; those before it stay. */
  until(so: (frame: ServerFrame) => boolean): Promise<ServerFrame> {
    return until(() => {
      const at = this.frames.findIndex(so);
      if (at !== -1) return this.frames.splice(at, 1)[0];
      if (this.ended) {
        const { code, reason } = this.ended;
        throw new Error(`closed instead: ${code} ${reason}`);
      }
      return undefined;
    });
  }

  async frame<K extends NonNullable<Frame["case"]>>(kind: K): Promise<Of<K>> {
    const { frame } = await this.until((one) => one.frame.case === kind);
    return frame.value as Of<K>;
  }

  async answer(requestId: number): Promise<Frame> {
    return (await this.until((one) => one.requestId === requestId)).frame;
  }

  async failure(requestId: number): Promise<Of<"failure">> {
    const frame = await this.answer(requestId);
    if (frame.case !== "failure") throw new Error(`${String(frame.case)} instead of a failure`);
    return frame.value;
  }
}
