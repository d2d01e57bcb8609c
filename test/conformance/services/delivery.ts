/** What every delivery must do: the suite is a gateway, session is played, storage is ours, over a store in memory. */
import assert from "node:assert/strict";
import { type MessageInitShape, fromBinary } from "@bufbuild/protobuf";
import { type Client, Code } from "@connectrpc/connect";
import { hash32 } from "../../../mesh/hash.ts";
import type {
  DeliveryService,
  ExchangeRequestSchema,
  ExchangeResponse,
  OperationSchema,
  Outcome,
} from "../../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type { PublishRequest } from "../../../proto/gen/parley/session/v1/session_pb.ts";
import { Stage, type StorageService } from "../../../proto/gen/parley/storage/v1/storage_pb.ts";
import { RecordSchema } from "../../../proto/gen/parley/v1/record_pb.ts";
import { Bidi } from "../../session/bidi.ts";
import { DeskClient } from "../../storage/writes.ts";
import { write } from "../../storage/writes.ts";
import { directId, newClientId } from "../../support/town.ts";
import { asked, within } from "../../support/within.ts";
import { fresh } from "./fresh.ts";
import { prefix } from "./ground.ts";
import { type Tested, instanceOf } from "./process.ts";

/** Keeps what delivery publishes. */
export class Published {
  readonly requests: PublishRequest[] = [];

  // oxlint-disable-next-line require-yield
  async *take(requests: AsyncIterable<PublishRequest>): AsyncGenerator<object, void> {
    for await (const request of requests) this.requests.push(request);
  }

  /** What was published of a conversation's log, in the order of coming. */
  records(conversationId: string) {
    return this.requests
      .flatMap(({ publications }) => publications)
      .flatMap(({ userIds, exceptOrigin, commit, payload }) => {
        const of = payload?.payload;
        if (of?.case !== "record" || of.value.conversationId !== conversationId) return [];
        return [{ userIds, exceptOrigin, commit, seq: of.value.seq, record: of.value.record }];
      });
  }

  /** To whom and what, of what is no record. */
  others(kind: "cursors" | "typing") {
    return this.requests
      .flatMap(({ publications }) => publications)
      .filter(({ payload }) => payload?.payload.case === kind);
  }

  isIndexed(commit: bigint): boolean {
    return this.requests.some(({ indexedCommits }) => indexedCommits.includes(commit));
  }
}

export interface DeliveryPlace {
  readonly tested: Tested;
  readonly client: Client<typeof DeliveryService>;
  readonly storage: Client<typeof StorageService>;
  readonly published: Published;
}

const boundMs = 40_000;

type Operation = MessageInitShape<typeof OperationSchema>;
type Exchanging = Bidi<MessageInitShape<typeof ExchangeRequestSchema>, ExchangeResponse>;

/** A gateway's stream. */
export class Exchange {
  readonly #stream: Exchanging;
  #operations = 0;

  constructor(client: Client<typeof DeliveryService>) {
    this.#stream = new Bidi((requests, options) => client.exchange(requests, options));
  }

  /** The number by which its outcome is known. */
  submit(operation: Operation): number {
    this.#operations += 1;
    const operations = [{ ...operation, operationId: this.#operations }];
    this.#stream.send({ operations });
    return this.#operations;
  }

  async outcome(operationId: number): Promise<Outcome["outcome"]> {
    const find = () =>
      this.#stream.received
        .flatMap(({ outcomes }) => outcomes)
        .find((outcome) => outcome.operationId === operationId);
    await this.#stream.until(() => find() !== undefined);
    return find()?.outcome ?? { case: undefined };
  }

  ask(operation: Operation): Promise<Outcome["outcome"]> {
    return this.outcome(this.submit(operation));
  }

  end(): void {
    this.#stream.abort();
  }
}

const content = new Uint8Array([0x0a, 1, 65]);
const origin = "g1/1";

export function send(
  userId: string,
  conversationId: string,
  more: { clientId?: Uint8Array; retry?: boolean; epoch?: bigint } = {},
): Operation {
  const { clientId = newClientId(), retry = false, epoch = 0n } = more;
  const value = { clientId, content, retry };
  return { userId, origin, conversationId, epoch, operation: { case: "send", value } };
}

const moveCursor = (
  userId: string,
  conversationId: string,
  deliveredSeq: number,
  readSeq: number,
): Operation => ({
  userId,
  origin,
  conversationId,
  operation: { case: "moveCursor", value: { deliveredSeq, readSeq } },
});

export function seqOf(outcome: Outcome["outcome"]): number {
  const why = outcome.case === "refused" ? outcome.value.message : undefined;
  assert.equal(outcome.case, "sent", why);
  return outcome.case === "sent" ? outcome.value.seq : 0;
}

export function assertRefused(outcome: Outcome["outcome"], code: Code): void {
  assert.equal(outcome.case, "refused");
  if (outcome.case !== "refused") return;
  assert.equal(outcome.value.code, code, outcome.value.message);
  assert.notEqual(outcome.value.message, "");
}

export const until = (what: string, isSo: () => boolean): Promise<true> =>
  asked(boundMs, what, () => Promise.resolve(isSo() ? true : undefined));

/** Who has the shards, by number. */
export function owners({ tested: { ground } }: DeliveryPlace): Map<number, string> {
  const below = `${prefix}/shards/`;
  return new Map(
    ground.etcd.below(below).map(({ key, value }) => [Number(key.slice(below.length)), value]),
  );
}

/** Two new users, and the conversation of both, in the shard of `isIn` where that is asked for. */
export function couple(shards: number, isIn: (shard: number) => boolean = () => true) {
  for (;;) {
    const [alice, bob] = fresh("alice", "bob");
    const conversationId = directId(alice, bob);
    if (isIn(hash32(conversationId) % shards)) return { alice, bob, conversationId };
  }
}

export const deliveryCases: Readonly<Record<string, (place: DeliveryPlace) => Promise<void>>> = {
  async "gives seqs in the order of the sends, acks what is kept, and pushes it to every member (P1 P3 P4)"(
    place,
  ) {
    const { client, storage, published, tested } = place;
    const { alice, bob, conversationId } = couple(tested.ground.shards);
    const exchange = new Exchange(client);
    const count = 50;
    const ids = Array.from({ length: count }, () => exchange.submit(send(alice, conversationId)));
    for (const [at, id] of ids.entries()) assert.equal(seqOf(await exchange.outcome(id)), at + 1);
    const { pages } = await storage.read({
      pages: [{ conversationId, userId: bob, limit: 200 }],
    });
    assert.deepEqual([pages[0]?.headSeq, pages[0]?.records.length], [count, count]);
    await until("the pushes", () => published.records(conversationId).length === count);
    const pushed = published.records(conversationId);
    assert.deepEqual(
      pushed.map(({ seq }) => seq),
      ids.map((_, at) => at + 1),
    );
    for (const [at, { record, userIds, exceptOrigin, commit }] of pushed.entries()) {
      assert.deepEqual([...userIds].sort(), [alice, bob]);
      assert.equal(exceptOrigin, origin);
      assert.deepEqual(Buffer.from(record), Buffer.from(pages[0]?.records[at] ?? []));
      const { senderId, ordinal, timeMs } = fromBinary(RecordSchema, record);
      assert.deepEqual([senderId, ordinal], [alice, at + 1]);
      assert.ok(timeMs > 0n);
      await until("the end of its commit", () => commit === 0n || published.isIndexed(commit));
    }
    exchange.end();
  },

  async "answers a send that comes again with the first one's seq, by whichever stream (P2)"(
    place,
  ) {
    const { client, tested } = place;
    const { alice, conversationId } = couple(tested.ground.shards);
    const [one, other] = [new Exchange(client), new Exchange(client)];
    const clientId = newClientId();
    assert.equal(seqOf(await one.ask(send(alice, conversationId, { clientId }))), 1);
    assert.equal(seqOf(await one.ask(send(alice, conversationId))), 2);
    for (const exchange of [one, other]) {
      const again = await exchange.ask(send(alice, conversationId, { clientId, retry: true }));
      assert.equal(seqOf(again), 1);
      assert.ok(again.case === "sent" && again.value.duplicate);
    }
    assert.equal(seqOf(await other.ask(send(alice, conversationId))), 3);
    for (const exchange of [one, other]) exchange.end();
  },

  async "moves cursors forward only, keeps them, and tells the others (P5)"(place) {
    const { client, storage, published, tested } = place;
    const { alice, bob, conversationId } = couple(tested.ground.shards);
    const exchange = new Exchange(client);
    for (let seq = 1; seq <= 5; seq += 1) await exchange.ask(send(alice, conversationId));
    const moved = async (delivered: number, read: number) => {
      const { case: kind, value } = await exchange.ask(
        moveCursor(bob, conversationId, delivered, read),
      );
      return kind === "moved" ? [value.deliveredSeq, value.readSeq] : kind;
    };
    assert.deepEqual(await moved(4, 2), [4, 2]);
    assert.deepEqual(await moved(1, 1), [4, 2]);
    assert.deepEqual(await moved(0, 3), [4, 3]);
    const { members } = await new DeskClient(storage).tail(conversationId);
    const kept = members.find(({ userId }) => userId === bob);
    assert.deepEqual([kept?.deliveredSeq, kept?.readSeq], [4, 3]);
    const told = () =>
      published.others("cursors").flatMap(({ userIds, payload }) => {
        const of = payload?.payload;
        if (of?.case !== "cursors" || !userIds.includes(alice)) return [];
        return of.value.cursors.filter(({ userId }) => userId === bob);
      });
    await until("Bob's cursor to be told", () => told().at(-1)?.readSeq === 3);
    const reads = told().map(({ readSeq }) => readSeq);
    assert.deepEqual(reads, [...reads].sort(), "it goes back");
    exchange.end();
  },

  async "lets strangers write and read nothing, as if nothing were there (P8)"(place) {
    const { client, tested } = place;
    const { alice, bob, conversationId } = couple(tested.ground.shards);
    const [eve] = fresh("eve");
    const exchange = new Exchange(client);
    assert.equal(seqOf(await exchange.ask(send(alice, conversationId))), 1);
    for (const operation of [send(eve, conversationId), moveCursor(eve, conversationId, 1, 1)])
      assertRefused(await exchange.ask(operation), Code.NotFound);
    assertRefused(await exchange.ask(send(eve, `g:none-${eve}`)), Code.NotFound);
    assert.equal(seqOf(await exchange.ask(send(bob, conversationId))), 2);
    exchange.end();
  },

  async "makes a group once, adds and removes members, and lets nobody write who is none (P2 P8)"(
    place,
  ) {
    const { client, storage } = place;
    const [alice, bob, carol] = fresh("alice", "bob", "carol");
    const exchange = new Exchange(client);
    const made = { clientId: newClientId(), title: "friends", memberIds: [bob] };
    const groups = await Promise.all(
      [1, 2].map(() => client.createGroup({ userId: alice, request: made })),
    );
    const [conversationId = "", again] = groups.map(
      ({ response }) => response?.conversation?.conversationId,
    );
    assert.match(conversationId, /^g:/);
    assert.equal(again, conversationId);
    assertRefused(await exchange.ask(send(carol, conversationId)), Code.NotFound);
    await client.updateGroup({
      userId: alice,
      request: {
        clientId: newClientId(),
        conversationId,
        addMemberIds: [carol],
        removeMemberIds: [bob],
      },
    });
    const last = seqOf(await exchange.ask(send(carol, conversationId)));
    const refused = await exchange.ask(send(bob, conversationId));
    assert.equal(refused.case, "refused");
    const page = async (userId: string) => {
      const { pages } = await storage.read({ pages: [{ conversationId, userId, limit: 50 }] });
      return pages[0];
    };
    assert.equal((await page(carol))?.headSeq, last);
    const bobs = await page(bob);
    assert.ok(bobs?.found === true && bobs.headSeq < last, "the removed read on");
    exchange.end();
  },

  async "passes typing on to the others, with no outcome"(place) {
    const { client, published, tested } = place;
    const { alice, bob, conversationId } = couple(tested.ground.shards);
    const exchange = new Exchange(client);
    await exchange.ask(send(alice, conversationId));
    exchange.submit({
      userId: alice,
      origin,
      conversationId,
      operation: { case: "typing", value: {} },
    });
    const told = () => published.others("typing").find(({ userIds }) => userIds.includes(bob));
    await until("Alice's typing", () => told() !== undefined);
    assert.equal(told()?.userIds.includes(alice), false);
    exchange.end();
  },

  async "owns every shard while it is alone, and takes nothing under another epoch"(place) {
    const { client, tested } = place;
    const { id } = await instanceOf(tested);
    const { shards } = tested.ground;
    await until("all shards to be claimed", () => {
      const all = owners(place);
      return all.size === shards && [...all.values()].every((owner) => owner === id);
    });
    const { alice, conversationId } = couple(shards);
    const exchange = new Exchange(client);
    const elsewhere = await exchange.ask(send(alice, conversationId, { epoch: 1_000_000n }));
    assert.equal(elsewhere.case, "notOwner");
    assert.equal(seqOf(await exchange.ask(send(alice, conversationId))), 1);
    exchange.end();
  },

  async "hands shards over to another, and revokes that one and takes them over when it is gone (P2 P3)"(
    place,
  ) {
    const { client, storage, tested } = place;
    const { ground } = tested;
    const own = await instanceOf(tested);
    const exchange = new Exchange(client);
    const couples = Array.from({ length: 40 }, () => couple(ground.shards));
    for (const { alice, conversationId } of couples)
      assert.equal(seqOf(await exchange.ask(send(alice, conversationId))), 1);
    const other = await ground.announce("delivery", `${ground.host}:1`);
    const has = (id: string) => [...owners(place)].filter(([, owner]) => owner === id).length;
    await until("a hand-over", () => has(other.instance.id) > 0);
    assert.ok(has(own.id) > 0, "it gave all away");
    const moved = couples.find(
      ({ conversationId }) =>
        owners(place).get(hash32(conversationId) % ground.shards) === other.instance.id,
    );
    assert.ok(moved !== undefined);
    const clientId = newClientId();
    const { alice, conversationId } = moved;
    const elsewhere = await exchange.ask(send(alice, conversationId, { clientId }));
    assert.equal(elsewhere.case, "notOwner");
    await other.leave();
    await until("a takeover", () => has(own.id) === ground.shards);
    const desk = new DeskClient(storage);
    const late = await within(
      boundMs,
      "an answer of storage",
      desk.appendAs(
        other.instance.id,
        write({ id: conversationId, from: 2, term: 1, members: [] }),
      ),
    );
    assert.deepEqual([late.stage, late.code], [Stage.FAILED, Code.Aborted], "it is not revoked");
    // Its answer may be that it is being opened still.
    const sent = await asked(boundMs, "the shard to be served", async () => {
      const outcome = await exchange.ask(send(alice, conversationId, { clientId, retry: true }));
      return outcome.case === "sent" ? outcome : undefined;
    });
    assert.equal(seqOf(sent), 2);
    exchange.end();
  },
};
