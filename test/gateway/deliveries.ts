/** Delivery processes as the gateway's links see them: each a peer of its own that answers as its test wants. */
import { create } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
import { DeliveryLinks } from "../../gateway/delivery-links.ts";
import type { Waiting } from "../../gateway/waiting.ts";
import { noMetrics } from "../../mesh/metrics.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { hash32 } from "../../mesh/hash.ts";
import { Identity } from "../../mesh/identity.ts";
import type { Surroundings } from "../../mesh/lifecycle.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import type { Peer } from "../../mesh/peers.ts";
import { seededRandom } from "../../mesh/random.ts";
import { ShardTable } from "../../mesh/shards.ts";
import { DeliveryService, OutcomeSchema } from "../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type { Operation, Outcome } from "../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { FakeDelivery, silent, turns } from "./world.ts";

export const shardCount = 4;

/** A conversation of this shard, another for each number. */
export function conversationOf(shard: number, number = 0): string {
  for (let at = 0, found = 0; ; at += 1) {
    const id = `g:${at}`;
    if (hash32(id) % shardCount !== shard) continue;
    if (found === number) return id;
    found += 1;
  }
}

export function sendOf(conversationId: string, number: number, retry = false): Operation {
  const clientId = new Uint8Array(16);
  new DataView(clientId.buffer).setUint32(0, number);
  const value = {
    $typeName: "parley.delivery.v1.Send" as const,
    clientId,
    content: new Uint8Array(3),
    knownHeadSeq: 5,
    retry,
    replyToSeq: 0,
  };
  return operationOf(conversationId, { case: "send", value });
}

export function operationOf(conversationId: string, operation: Operation["operation"]): Operation {
  const $typeName = "parley.delivery.v1.Operation";
  const userId = "ann";
  const origin = "g/1";
  return {
    $typeName,
    operationId: 0,
    userId,
    origin,
    conversationId,
    operation,
    epoch: 0n,
    refusalsSeen: 0,
  };
}

/** The number of a send, by its client_id; 0: it is none. */
export function numberOf({ operation }: Operation): number {
  if (operation.case !== "send") return 0;
  const { clientId } = operation.value;
  return new DataView(clientId.buffer, clientId.byteOffset).getUint32(0);
}

export const sentAt = (seq: number): Outcome["outcome"] =>
  create(OutcomeSchema, { outcome: { case: "sent", value: { seq } } }).outcome;

export const notOwner: Outcome["outcome"] = {
  case: "notOwner",
  value: { $typeName: "parley.delivery.v1.NotOwner" },
};

/** Whoever waits for an operation. */
export class Asked implements Waiting {
  operation: Operation | undefined = undefined;
  shard = 0;
  untilMs = 0;
  /** Each answer: "sent", "moved", or the code of a failure. */
  readonly answers: string[] = [];
  readonly #answered: (answer: string) => void;

  constructor(answered: (answer: string) => void = () => undefined) {
    this.#answered = answered;
  }

  settled(outcome: Outcome["outcome"]): void {
    this.#answer(String(outcome.case));
  }

  failed(code: number): void {
    this.#answer(Code[code] ?? "?");
  }

  #answer(answer: string): void {
    this.answers.push(answer);
    this.#answered(answer);
  }
}

/** One delivery process. It answers nothing by itself. */
export class Owner extends FakeDelivery {
  readonly id: string;
  readonly peer: Peer;
  /** Of unary calls: what is thrown. */
  fault: ConnectError | undefined;
  calls = 0;

  constructor(id: string, clock: ManualClock, wire: boolean) {
    super();
    this.id = id;
    this.answer = () => undefined;
    const mesh = new LocalMesh({ clock, wire });
    mesh.serve(DeliveryService, {
      exchange: this.exchange,
      createGroup: () => this.#called({ response: { conversation: { title: id } } }),
      updateGroup: () => this.#called({ response: { seq: 1 } }),
      inspectConversation: () => this.#called({}),
      pinShard: () => this.#called({}),
      eraseMember: () => this.#called({ headSeq: 1 }),
    });
    this.peer = peerOf(id, mesh.transport(DeliveryService));
  }

  #called<T>(response: T): T {
    this.calls += 1;
    if (this.fault !== undefined) throw this.fault;
    return response;
  }

  /** What came, by number, since the last time. */
  took(): number[] {
    return this.operations.splice(0).map(numberOf);
  }
}

/** Links among delivery processes that come and go. */
export class Deliveries {
  readonly clock = new ManualClock();
  readonly peers = new PeerTable();
  readonly shards = new ShardTable(shardCount);
  readonly surroundings: Surroundings;
  readonly links: DeliveryLinks;
  readonly #wire: boolean;
  #epoch = 0n;

  constructor(seed = 1, wire = false) {
    const random = seededRandom(seed);
    const nowhere = new LocalMesh();
    this.#wire = wire;
    this.surroundings = {
      clock: this.clock,
      random,
      log: silent,
      metrics: noMetrics,
      identity: new Identity(random),
      transport: (service) => nowhere.transport(service),
      peers: () => this.peers,
    };
    this.links = new DeliveryLinks(this.surroundings, this.shards);
    this.links.start();
  }

  owner(id: string): Owner {
    return new Owner(id, this.clock, this.#wire);
  }

  /** A process that is there. */
  join(id: string): Owner {
    const owner = this.owner(id);
    this.peers.replace([...this.peers.present, owner.peer]);
    return owner;
  }

  leave(owner: Owner): void {
    this.peers.replace(this.peers.present.filter(({ id }) => id !== owner.id));
  }

  /** The map shows another ownership of the shards. */
  own(owner: Owner, ...shards: number[]): void {
    this.#epoch += 1n;
    for (const shard of shards)
      this.shards.learn(shard, { incarnation: owner.id, epoch: this.#epoch });
  }

  send(conversationId: string, number: number): Asked {
    const asked = new Asked();
    this.links.operate(sendOf(conversationId, number), asked);
    return asked;
  }

  /** Sends of these numbers, all in one turn. */
  sends(conversationId: string, ...numbers: number[]): Asked[] {
    return numbers.map((number) => this.send(conversationId, number));
  }

  /** A shard whose owner has shown itself, so that operations go straight there. */
  async open(owner: Owner, shard: number): Promise<void> {
    this.own(owner, shard);
    this.send(conversationOf(shard), 999);
    await settle();
    for (const operation of owner.operations.splice(0)) owner.settle(operation, sentAt(1));
    await settle();
  }
}

/** Long enough for what is under way to pass the links and the local mesh. */
export const settle = (): Promise<void> => turns(12);
