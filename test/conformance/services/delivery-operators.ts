/** What every delivery must do for operators: tell what it holds, claim shards that it is given, and take nothing of who is erased. */
import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { hash32 } from "../../../mesh/hash.ts";
import { newId, systemRandom } from "../../../mesh/random.ts";
import { Ring } from "../../../mesh/ring.ts";
import { RecordSchema } from "../../../proto/gen/parley/v1/record_pb.ts";
import { DeskClient } from "../../storage/writes.ts";
import { newClientId } from "../../support/town.ts";
import { type DeliveryPlace, Exchange, couple } from "./delivery.ts";
import { owners, send, seqOf, until } from "./delivery.ts";
import { asked } from "../../support/within.ts";
import { fresh } from "./fresh.ts";
import { instanceOf } from "./process.ts";

const boundMs = 40_000;

/** What the process announces that it claims. */
async function announced({ tested }: DeliveryPlace): Promise<readonly number[]> {
  const key = tested.ground.keyOf(await instanceOf(tested));
  const said = JSON.parse(key?.value ?? "{}") as { pinned?: number[] };
  return said.pinned ?? [];
}

type Case = (place: DeliveryPlace, exchange: Exchange) => Promise<void>;

const cases: Readonly<Record<string, Case>> = {
  async "tells what it holds of a conversation, and loads nothing to tell it"(place, exchange) {
    const { client, tested } = place;
    const { alice, conversationId } = couple(tested.ground.shards);
    const unknown = await client.inspectConversation({ conversationId });
    const shard = hash32(conversationId) % tested.ground.shards;
    assert.deepEqual([unknown.shard, unknown.loaded, unknown.headSeq], [shard, false, 0]);
    assert.ok(unknown.epoch > 0n && unknown.taking, "it is the owner");
    for (let seq = 1; seq <= 3; seq += 1)
      assert.equal(seqOf(await exchange.ask(send(alice, conversationId))), seq);
    await asked(boundMs, "the last commit to be indexed", async () => {
      const now = await client.inspectConversation({ conversationId });
      assert.deepEqual([now.loaded, now.headSeq, now.epoch], [true, 3, unknown.epoch]);
      return now.committedSeq === 3 && now.waiting === 0 ? true : undefined;
    });
  },

  async "keeps shards that it was told to claim, and lets go of them when told so"(place) {
    const { client, tested } = place;
    const { ground } = tested;
    const own = await instanceOf(tested);
    const ownedBy = (id: string): number[] =>
      [...owners(place)].filter(([, owner]) => owner === id).map(([shard]) => shard);
    await until("all shards to be claimed", () => ownedBy(own.id).length === ground.shards);
    const half = Array.from({ length: ground.shards / 2 }, (_, shard) => shard);
    const otherId = sharing(own.id, ground.shards);
    for (const shard of half) await client.pinShard({ shard, pinned: true });
    assert.deepEqual([...(await announced(place))].sort(byNumber), half);
    const said = { name: "", address: `${ground.host}:1`, region: "", url: "", draining: false };
    const other = await ground.announceAs({ service: "delivery", id: otherId, ...said });
    const falling = falls(own.id, otherId, ground.shards);
    const others = falling.filter((shard) => !half.includes(shard));
    await until("a hand-over of the others", () =>
      others.every((shard) => ownedBy(otherId).includes(shard)),
    );
    assert.deepEqual(ownedBy(otherId).sort(byNumber), others);
    for (const shard of half) await client.pinShard({ shard, pinned: false });
    await until("a hand-over of what is claimed no more", () =>
      falling.every((shard) => ownedBy(otherId).includes(shard)),
    );
    assert.deepEqual(await announced(place), []);
    await assert.rejects(client.pinShard({ shard: ground.shards, pinned: true }), {
      code: Code.InvalidArgument,
    });
    await other.leave();
    await until("a takeover", () => ownedBy(own.id).length === ground.shards);
  },

  async "takes nothing more of who is erased, tells the other one what is, and nobody writes to them"(
    place,
    exchange,
  ) {
    const { client, storage, published, tested } = place;
    const { alice, bob, conversationId } = couple(tested.ground.shards);
    for (let seq = 1; seq <= 3; seq += 1) await exchange.ask(send(alice, conversationId));
    await storage.beginErasure({ userId: alice });
    const asked = { userId: alice, conversationId };
    for (let times = 0; times < 2; times += 1)
      assert.equal((await client.eraseMember(asked)).headSeq, 3);
    for (const sender of [alice, bob]) {
      const refused = await exchange.ask(send(sender, conversationId));
      assert.equal(refused.case, "refused", `${sender} writes on`);
    }
    const erased = [{ firstSeq: 1, lastSeq: 3 }];
    assert.equal((await client.eraseMember({ ...asked, erased })).headSeq, 4);
    await until("it to be told", () => published.records(conversationId).at(-1)?.seq === 4);
    const last = published.records(conversationId).at(-1);
    assert.deepEqual(last?.userIds, [bob]);
    const { senderId, ordinal, body } = fromBinary(RecordSchema, last.record);
    assert.deepEqual([senderId, ordinal, body.case], ["", 3, "erasure"]);
    assert.deepEqual(
      body.case === "erasure" && body.value.ranges.map((one) => [one.firstSeq, one.lastSeq]),
      [[1, 3]],
    );
    await assert.rejects(client.eraseMember({ ...asked, userId: "" }), {
      code: Code.InvalidArgument,
    });
  },

  async "has who is erased leave a group, and lets them in no more (P8)"(place, exchange) {
    const { client, storage, published } = place;
    const [alice, bob, carol] = fresh("alice", "bob", "carol");
    const made = { clientId: newClientId(), title: "friends", memberIds: [bob, carol] };
    const group = await client.createGroup({ userId: alice, request: made });
    const conversationId = group.response?.conversation?.conversationId ?? "";
    assert.equal(seqOf(await exchange.ask(send(bob, conversationId))), 2);
    await storage.beginErasure({ userId: bob });
    assert.equal((await client.eraseMember({ userId: bob, conversationId })).headSeq, 3);
    assert.equal((await exchange.ask(send(bob, conversationId))).case, "refused");
    assert.equal(seqOf(await exchange.ask(send(alice, conversationId))), 4);
    await until("it to be told", () => published.records(conversationId).length === 4);
    const [, , left, next] = published.records(conversationId);
    const { body } = fromBinary(RecordSchema, left?.record ?? new Uint8Array());
    assert.deepEqual(body.case === "membership" && body.value.removed, [bob]);
    assert.deepEqual([...(next?.userIds ?? [])].sort(), [alice, carol].sort());
    const { members } = await new DeskClient(storage).tail(conversationId);
    const present = members.filter(({ leftSeq }) => leftSeq === 0).map(({ userId }) => userId);
    assert.deepEqual(present.sort(), [alice, carol].sort());
    const request = { clientId: newClientId(), conversationId, addMemberIds: [bob] };
    await assert.rejects(client.updateGroup({ userId: alice, request }), {
      code: Code.PermissionDenied,
    });
  },
};

/** Each with a gateway's stream of its own, which ends with it. */
export const deliveryOperatorCases = Object.fromEntries(
  Object.entries(cases).map(([title, passes]) => [
    title,
    async (place: DeliveryPlace): Promise<void> => {
      const exchange = new Exchange(place.client);
      await passes(place, exchange).finally(() => exchange.end());
    },
  ]),
);

const byNumber = (one: number, other: number): number => one - other;

/** The shards that fall to the other one of two processes. */
function falls(ownId: string, otherId: string, shards: number): number[] {
  const ring = new Ring([ownId, otherId]);
  const all = Array.from({ length: shards }, (_, shard) => shard);
  return all.filter((shard) => ring.of(`shard ${shard}`) === otherId);
}

/** The id of a process to which some of the lower half fall, and some of the upper. */
function sharing(ownId: string, shards: number): string {
  for (;;) {
    const otherId = newId(systemRandom);
    const fallen = falls(ownId, otherId, shards);
    if ([true, false].every((lower) => fallen.some((shard) => shard < shards / 2 === lower)))
      return otherId;
  }
}
