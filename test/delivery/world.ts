/** Delivery alone, between a storage and a session that tests script and watch. */
import { type DescService, create } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { type Logger, pino } from "pino";
import { type Pace, createDelivery, embeddedPace } from "../../delivery/index.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { Identity } from "../../mesh/identity.ts";
import type { Running } from "../../mesh/lifecycle.ts";
import type { Mesh } from "../../mesh/mesh.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import { Pipe } from "../../mesh/pipe.ts";
import { seededRandom } from "../../mesh/random.ts";
import { MemoryShards, type ShardOwner } from "../../mesh/shards.ts";
import {
  DeliveryService,
  type ExchangeRequest,
  ExchangeRequestSchema,
  OperationSchema,
  type Outcome,
} from "../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { type Publication, SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import {
  type AppendRequest,
  AppendResponseSchema,
  type Cell,
  type ConversationState,
  type Member,
  type AppendResponse,
  Stage,
  StorageService,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { NotedMetrics } from "../support/noted-metrics.ts";

/** Waits until `what` answers something; the test's own timeout is the bound. */
export async function until<T>(what: () => T | undefined | false): Promise<T> {
  for (;;) {
    const value = what();
    if (value !== undefined && value !== false) return value;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const silent = pino({ level: "silent" });

export interface Kept {
  state?: ConversationState;
  members: Member[];
  tail: Cell[];
}

export interface WorldOptions {
  shards?: number;
  pace?: Pace;
  log?: Logger;
}

/** Notes what is claimed. */
class NotedShards extends MemoryShards {
  readonly #events: string[];

  constructor(count: number, events: string[]) {
    super(count);
    this.#events = events;
  }

  override async replace(
    shard: number,
    expected: ShardOwner | undefined,
    incarnation: string,
  ): Promise<ShardOwner | undefined> {
    const owner = await super.replace(shard, expected, incarnation);
    this.#events.push("claim");
    return owner;
  }
}

export class World {
  readonly appends: AppendRequest[] = [];
  readonly publications: Publication[] = [];
  readonly outcomes: Outcome[] = [];
  readonly revoked: string[] = [];
  readonly finds: { afterSeq: number; beforeSeq: number }[] = [];
  /** What a search throws. */
  findFault: ConnectError | undefined;
  readonly random = seededRandom(1);
  readonly metrics = new NotedMetrics();
  readonly identity = new Identity(this.random);
  readonly deliveries: PeerTable;
  readonly shards: NotedShards;
  readonly pace: Pace;
  /** What happened between the services, in order. */
  readonly events: string[] = [];
  readonly clock = new ManualClock();
  kept: Kept = { members: [], tail: [] };
  found = { seq: 0, timeMs: 0n };
  /** How the next batches are answered; the default is INDEXED at once. */
  answer: ((batch: AppendRequest) => AppendResponse[] | "break" | "silent") | undefined;
  #responses: Pipe<AppendResponse> | undefined;
  readonly mesh: Mesh;
  readonly #operations = new Pipe<ExchangeRequest>(1_000);
  readonly #log: Logger;
  readonly #abort = new AbortController();
  delivery: Running<typeof DeliveryService> | undefined;

  constructor(mesh: Mesh, { shards = 1, pace = embeddedPace, log = silent }: WorldOptions = {}) {
    this.#log = log;
    this.mesh = mesh;
    this.pace = pace;
    this.shards = new NotedShards(shards, this.events);
    this.deliveries = new PeerTable([peerOf(this.identity.id, mesh.transport(DeliveryService))]);
  }

  get client(): Client<typeof DeliveryService> {
    return createClient(DeliveryService, this.mesh.transport(DeliveryService));
  }

  async start(): Promise<void> {
    this.#serveStorage();
    this.mesh.serve(SessionService, {
      attach: () => fail(),
      watchOnline: () => fail(),
      listSessions: () => ({}),
      publish: (requests) => this.#publish(requests),
    });
    const { random, mesh } = this;
    const transport = mesh.transport(StorageService);
    const sessions = new PeerTable([peerOf("session-1", transport)]);
    const surroundings = {
      clock: this.clock,
      random,
      log: this.#log,
      metrics: this.metrics,
      identity: this.identity,
      transport: () => transport,
      peers: ({ typeName }: DescService) =>
        typeName === SessionService.typeName ? sessions : this.deliveries,
    };
    const config = { conversationsMax: 1_000, waitingMax: 100, cursorGatherMs: 1_000 };
    this.delivery = createDelivery(surroundings, config, this.shards, this.pace);
    this.mesh.serve(DeliveryService, this.delivery.service);
    await this.delivery.start();
    void this.#listen();
  }

  /** Another process owned the shard before. */
  ownedBefore(incarnation: string, epoch: bigint, shard = 0): void {
    this.shards.learn(shard, { incarnation, epoch });
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.delivery?.close();
    await this.mesh.close();
  }

  respond(batch: AppendRequest, stage: Stage, code = 0, message = ""): void {
    this.#responses?.offer(response(batch, stage, code, message));
  }

  submit(operation: Parameters<typeof create<typeof OperationSchema>>[1]): void {
    const operations = [create(OperationSchema, operation)];
    this.#operations.offer(create(ExchangeRequestSchema, { operations }));
  }

  send(
    operationId: number,
    userId: string,
    conversationId: string,
    id: number,
    more: { retry?: boolean; knownHeadSeq?: number } = {},
    refusalsSeen = 0,
  ): void {
    const value = {
      clientId: new Uint8Array(16).fill(id),
      content: Buffer.from([0x0a, 1, 65]),
      ...more,
    };
    this.submit({
      operationId,
      userId,
      conversationId,
      origin: "g1/1",
      operation: { case: "send", value },
      refusalsSeen,
    });
  }

  outcome(operationId: number): Promise<Outcome["outcome"]> {
    return until(
      () => this.outcomes.find((outcome) => outcome.operationId === operationId)?.outcome,
    );
  }

  async sentSeq(operationId: number): Promise<number> {
    const outcome = await this.outcome(operationId);
    if (outcome.case !== "sent")
      throw new Error(
        `operation ${operationId} was ${outcome.case}: ${JSON.stringify(outcome.value)}`,
      );
    return outcome.value.seq;
  }

  async #listen(): Promise<void> {
    try {
      for await (const { outcomes } of this.client.exchange(this.#operations, {
        signal: this.#abort.signal,
      })) {
        this.outcomes.push(...outcomes);
        for (const { operationId } of outcomes) this.events.push(`outcome ${operationId}`);
      }
    } catch (error) {
      if (ConnectError.from(error).code !== Code.Canceled && !this.#abort.signal.aborted)
        throw error;
    }
  }

  async *#publish(
    requests: AsyncIterable<{ publications: Publication[] }>,
  ): AsyncGenerator<object> {
    for await (const { publications } of requests) {
      this.publications.push(...publications);
      for (const { payload } of publications) this.events.push(`publish ${payload?.payload.case}`);
      yield {};
    }
  }

  async *#append(requests: AsyncIterable<AppendRequest>): AsyncGenerator<AppendResponse> {
    const responses = (this.#responses = new Pipe<AppendResponse>(100));
    void this.#takeAppends(requests, responses);
    yield* responses;
  }

  async #takeAppends(
    requests: AsyncIterable<AppendRequest>,
    responses: Pipe<AppendResponse>,
  ): Promise<void> {
    try {
      for await (const batch of requests) {
        this.appends.push(batch);
        this.events.push("append");
        const answer = this.answer?.(batch) ?? [response(batch, Stage.INDEXED)];
        if (answer === "break") responses.end(new ConnectError("gone", Code.Unavailable));
        else if (answer !== "silent") for (const one of answer) responses.offer(one);
      }
    } catch (error) {
      responses.end(error);
    }
  }

  #serveStorage(): void {
    const { mesh } = this;
    mesh.serve(StorageService, {
      append: (requests) => this.#append(requests),
      open: async function* (this: World) {
        yield { ...this.kept };
      }.bind(this),
      findSend: ({ afterSeq, beforeSeq }) => {
        this.finds.push({ afterSeq, beforeSeq });
        if (this.findFault !== undefined) throw this.findFault;
        return this.found;
      },
      revoke: ({ incarnation }) => {
        this.events.push("revoke");
        this.revoked.push(incarnation);
        return {};
      },
      read: () => fail(),
      listMembers: () => fail(),
      listIndex: () => fail(),
      headSums: () => fail(),
      filterAcquainted: () => fail(),
      putLastSeen: () => fail(),
      getLastSeen: () => fail(),
      putMedia: () => fail(),
      getMedia: () => fail(),
      beginErasure: () => fail(),
      eraseRecords: () => fail(),
      forgetMember: () => fail(),
      finishErasure: () => fail(),
      filterErased: () => ({ userIds: [] }),
      listUploads: () => fail(),
      setRetention: () => fail(),
      getRetention: () => fail(),
      sweepRetention: () => fail(),
    });
  }
}

function fail(): never {
  throw new ConnectError("not in this test", Code.Unimplemented);
}

export function response(
  batch: AppendRequest,
  stage: Stage,
  code = 0,
  message = "",
): AppendResponse {
  return create(AppendResponseSchema, { batchId: batch.batchId, stage, code, message });
}
