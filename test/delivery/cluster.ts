/** Several delivery processes over one registry and one store, with session instances that only note what is published. */
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import { create, type DescService } from "@bufbuild/protobuf";
import { pino } from "pino";
import { type Pace, clusterPace, createDelivery } from "../../delivery/index.ts";
import { placesAmong } from "../../delivery/placement.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { hash32 } from "../../mesh/hash.ts";
import { Identity } from "../../mesh/identity.ts";
import type { Running, Surroundings } from "../../mesh/lifecycle.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import { Pipe } from "../../mesh/pipe.ts";
import { seededRandom } from "../../mesh/random.ts";
import { MemoryShards, type ShardOwner, type ShardRegistry } from "../../mesh/shards.ts";
import {
  DeliveryService,
  type ExchangeRequest,
  ExchangeRequestSchema,
  OperationSchema,
  type Outcome,
} from "../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { type Publication, SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { createStorage, openMemoryStore } from "../../storage/index.ts";
import { until } from "./world.ts";
import { NotedMetrics } from "../support/noted-metrics.ts";

const log = pino({ level: process.env["LOG"] ?? "silent" });

/** A registry that can be out of reach. */
export class Registry extends MemoryShards {
  /** Where set, changes reject with it: before they are made, or after (the answer is lost). */
  fails: "before" | "after" | undefined;

  override async replace(
    shard: number,
    expected: ShardOwner | undefined,
    incarnation: string,
  ): Promise<ShardOwner | undefined> {
    if (this.fails === "before") throw new Error("out of reach");
    const owner = await super.replace(shard, expected, incarnation);
    if (this.fails === "after") throw new Error("no answer");
    return owner;
  }
}

/** A session instance. */
export class Session {
  readonly id: string;
  readonly publications: Publication[] = [];
  /** Commits that were published and those that were indexed, in order. */
  readonly commits: string[] = [];
  readonly mesh = new LocalMesh({ wire: true });
  /** Ends the streams that there are. */
  break: () => void = () => undefined;

  constructor(id: string) {
    this.id = id;
    const notHere = (): never => {
      throw new ConnectError("not in this test");
    };
    this.mesh.serve(SessionService, {
      attach: notHere,
      watchOnline: notHere,
      listSessions: notHere,
      publish: this.#publish.bind(this),
    });
  }

  async *#publish(
    requests: AsyncIterable<{ publications: Publication[]; indexedCommits: bigint[] }>,
  ): AsyncGenerator<object> {
    const broken = new Promise<never>((_, reject) => {
      this.break = () => reject(new ConnectError("the stream broke"));
    });
    const each = requests[Symbol.asyncIterator]();
    for (;;) {
      const next = await Promise.race([each.next(), broken]);
      if (next.done === true) return;
      const { publications, indexedCommits } = next.value;
      this.publications.push(...publications);
      for (const { commit } of publications) if (commit > 0n) this.commits.push(`published`);
      for (const _ of indexedCommits) this.commits.push(`indexed`);
      yield {};
    }
  }

  /** Who was told of what kind of thing. */
  told(kind: string): string[] {
    return this.publications
      .filter(({ payload }) => payload?.payload.case === kind)
      .flatMap(({ userIds }) => userIds);
  }
}

/** A delivery process, and a gateway's stream to it. */
export class Process {
  readonly identity: Identity;
  readonly delivery: Running<typeof DeliveryService>;
  readonly mesh = new LocalMesh({ wire: true });
  readonly outcomes: Outcome[] = [];
  readonly #operations = new Pipe<ExchangeRequest>(10_000);
  readonly #abort = new AbortController();

  constructor(surroundings: Surroundings, shards: ShardRegistry, pace: Pace) {
    this.identity = surroundings.identity;
    const config = { conversationsMax: 1_000, waitingMax: 1_000, cursorGatherMs: 1_000 };
    this.delivery = createDelivery(surroundings, config, shards, pace);
    this.mesh.serve(DeliveryService, this.delivery.service);
    void this.#listen();
  }

  get client(): Client<typeof DeliveryService> {
    return createClient(DeliveryService, this.mesh.transport(DeliveryService));
  }

  send(
    operationId: number,
    userId: string,
    conversationId: string,
    retry = false,
    epoch = 0n,
    refusalsSeen = 0,
  ): void {
    const clientId = Buffer.alloc(16);
    clientId.writeUInt32BE(operationId);
    const value = { clientId, content: Buffer.from([0x0a, 1, 65]), retry };
    const operation = { case: "send" as const, value };
    this.submit({ operationId, userId, conversationId, operation, epoch, refusalsSeen });
  }

  submit(operation: Parameters<typeof create<typeof OperationSchema>>[1]): void {
    const operations = [create(OperationSchema, operation)];
    this.#operations.offer(create(ExchangeRequestSchema, { operations }));
  }

  /** "sent 3", "notOwner" … */
  async outcome(id: number): Promise<string> {
    const one = await until(() => this.outcomes.find(({ operationId }) => operationId === id));
    // An operation that is sent again has another outcome.
    this.outcomes.splice(this.outcomes.indexOf(one), 1);
    const { outcome } = one;
    return outcome.case === "sent" ? `sent ${outcome.value.seq}` : `${outcome.case}`;
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.delivery.close();
  }

  async #listen(): Promise<void> {
    const { signal } = this.#abort;
    try {
      for await (const { outcomes } of this.client.exchange(this.#operations, { signal }))
        this.outcomes.push(...outcomes);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}

export class Cluster {
  /** Of all processes together. */
  readonly metrics = new NotedMetrics();
  readonly clock = new ManualClock();
  readonly registry: Registry;
  readonly store = openMemoryStore();
  readonly deliveries = new PeerTable();
  readonly sessions: PeerTable;
  readonly session: Session[];
  readonly #pace: Pace;
  readonly #storage = new LocalMesh({ wire: true });
  readonly #processes: Process[] = [];
  readonly #random = seededRandom(7);

  constructor({ shards = 16, sessions = 1, pace = clusterPace } = {}) {
    this.registry = new Registry(shards);
    this.#pace = pace;
    this.session = Array.from({ length: sessions }, (_, at) => new Session(`s${at}`));
    this.sessions = new PeerTable(this.session.map((one) => this.#peer(one)));
    const notHere = (): never => {
      throw new ConnectError("not in this test");
    };
    const media = { put: notHere, get: notHere, has: notHere, remove: notHere };
    const surroundings = this.#surroundings();
    const storage = createStorage(surroundings, { store: this.store, media });
    this.#storage.serve(StorageService, storage.service);
  }

  /** The registry as a process sees it. */
  protected readonly viewOf: (identity: Identity) => ShardRegistry = () => this.registry;

  /** A process begins, and is announced. */
  async add(): Promise<Process> {
    const surroundings = this.#surroundings();
    const process = new Process(surroundings, this.viewOf(surroundings.identity), this.#pace);
    this.#processes.push(process);
    await process.delivery.start();
    const announce = (): void => this.#announce(process);
    process.identity.watch(announce);
    announce();
    return process;
  }

  /** Its lease ended: for all others it is gone. */
  gone(process: Process): void {
    const { id } = process.identity;
    this.deliveries.replace(this.deliveries.present.filter((peer) => peer.id !== id));
  }

  draining(process: Process): void {
    const { id } = process.identity;
    this.deliveries.replace(
      this.deliveries.present.map((peer) => (peer.id === id ? { ...peer, draining: true } : peer)),
    );
  }

  /** Nobody drains any more. */
  staying(): void {
    this.deliveries.replace(this.deliveries.present.map((peer) => ({ ...peer, draining: false })));
  }

  addSession(): Session {
    const session = new Session(`s${this.session.length}`);
    this.session.push(session);
    this.sessions.replace([...this.sessions.present, this.#peer(session)]);
    return session;
  }

  /** Resolves once every shard is where it belongs, and each of these has some. */
  placed(...owners: Process[]): Promise<true> {
    return until(() => {
      const place = placesAmong(this.deliveries.present);
      const all = Array.from({ length: this.registry.count }, (_, shard) => shard);
      const there = all.map((shard) => this.registry.owner(shard)?.incarnation);
      return (
        all.every((shard) => there[shard] === place(shard)) &&
        owners.every(({ identity }) => there.includes(identity.id))
      );
    });
  }

  /** A direct conversation of alice in a shard of the process. */
  conversationAt(process: Process): string {
    for (let n = 0; ; n += 1) {
      const id = `d:alice:bob${n}`;
      if (this.ownerOf(id) === process.identity.id) return id;
    }
  }

  ownerOf(conversationId: string): string | undefined {
    return this.registry.owner(hash32(conversationId) % this.registry.count)?.incarnation;
  }

  epochOf(conversationId: string): bigint {
    return this.registry.owner(hash32(conversationId) % this.registry.count)?.epoch ?? 0n;
  }

  async close(): Promise<void> {
    for (const process of this.#processes) await process.close();
  }

  #announce({ identity, mesh, delivery }: Process): void {
    const { id } = identity;
    const peer = peerOf(id, mesh.transport(DeliveryService));
    this.deliveries.replace([...this.deliveries.present, peer]);
    delivery.pins?.announcedBy((pinned) => {
      const { present } = this.deliveries;
      this.deliveries.replace(present.map((one) => (one.id === id ? { ...one, pinned } : one)));
      return Promise.resolve();
    });
  }

  #peer({ id, mesh }: Session): ReturnType<typeof peerOf> {
    return peerOf(id, mesh.transport(SessionService));
  }

  #surroundings(): Surroundings {
    return {
      clock: this.clock,
      random: this.#random,
      log,
      metrics: this.metrics,
      identity: new Identity(this.#random),
      transport: () => this.#storage.transport(StorageService),
      peers: ({ typeName }: DescService) =>
        typeName === SessionService.typeName ? this.sessions : this.deliveries,
    };
  }
}
