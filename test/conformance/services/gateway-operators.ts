/** What every gateway must do for operators: who is where, whose a shard is and where it goes, what a log says and what became of a message, and the erasure of a user. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { hash32 } from "../../../mesh/hash.ts";
import { serviceNames } from "../../../mesh/directory.ts";
import { Fate, MessageState } from "../../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { Availability } from "../../../proto/gen/parley/v1/record_pb.ts";
import { type Device, SocketDevice, chatClient } from "../../support/device.ts";
import { tokenFor } from "../../support/parley.ts";
import { directId, syncAll, textOf, textTo, wholeLog } from "../../support/town.ts";
import { asked } from "../../support/within.ts";
import { fresh } from "./fresh.ts";
import type { GatewayPlace } from "./gateway.ts";
import { startOwn } from "./own.ts";
import { everywhere } from "./settings.ts";

const boundMs = 20_000;

/** A conversation of two, with devices at the gateway. */
async function talking(place: GatewayPlace) {
  const [alice, bob] = fresh("alice", "bob");
  const open = async (userId: string): Promise<Device> =>
    SocketDevice.open({ url: place.url, token: await tokenFor(userId), deviceId: "phone" });
  const [phone, peer] = [await open(alice), await open(bob)];
  const { conversationId, seq } = await phone.send(textTo(bob, "a secret"));
  const end = async (): Promise<void> => void (await Promise.all([phone.close(), peer.close()]));
  return { alice, bob, phone, peer, conversationId, seq, end };
}

type Talk = Awaited<ReturnType<typeof talking>>;

const cases: Readonly<Record<string, (place: GatewayPlace, talk: Talk) => Promise<void>>> = {
  async "lists the processes that are announced, and knows itself by its name"({ client }) {
    const { processes } = await client.listProcesses({});
    assert.deepEqual(
      [...new Set(processes.map(({ service }) => service))].sort(),
      [...serviceNames].sort(),
    );
    for (const { processId, address, draining } of processes)
      assert.ok(processId !== "" && address !== "" && !draining);
    assert.ok(processes.some(({ service, name }) => service === "gateway" && name === "tested"));
    const shards = processes.map((one) => one.shards).reduce((sum, one) => sum + one, 0);
    assert.ok(shards > 0, "nobody owns a shard");
    for (const call of [
      client.listConnections({ gatewayId: "none" }),
      client.drain({ gatewayId: "none" }),
    ])
      await assert.rejects(call, { code: Code.NotFound });
  },

  async "tells where a user is: presence, sessions and connections"(place, talk) {
    const { alice } = talk;
    const user = await asked(boundMs, "the user to be online", async () => {
      const now = await place.client.getUser({ userId: alice });
      return now.presence?.availability === Availability.ONLINE ? now : undefined;
    });
    assert.deepEqual(user.unanswered, []);
    const [session] = user.sessions;
    const [connection] = user.connections;
    assert.deepEqual([user.sessions.length, user.connections.length], [1, 1]);
    assert.deepEqual(
      [session?.connection, session?.deviceId, session?.gatewayId],
      [connection?.connection, "phone", "tested"],
    );
    assert.deepEqual([connection?.kind, connection?.userId], ["websocket", alice]);
    const [nobody] = fresh("nobody");
    const { presence, sessions } = await place.client.getUser({ userId: nobody });
    assert.deepEqual([presence?.availability, sessions], [Availability.OFFLINE, []]);
  },

  async "tells whose a shard is, and moves it to a process that is named, and back"(place, talk) {
    const { client, tested } = place;
    const { ground } = tested;
    const { phone, bob, conversationId } = talk;
    const which = { case: "conversationId", value: conversationId } as const;
    const { shard: before } = await client.getShard({ which });
    assert.ok(before !== undefined);
    assert.deepEqual(
      [before.shard, before.count, before.ownerPresent, before.pinnedToId],
      [hash32(conversationId) % ground.shards, ground.shards, true, ""],
    );
    const other = await startOwn("delivery", ground, { ...everywhere, PARLEY_LEASE_SECONDS: "5" });
    try {
      const otherId = await asked(boundMs, "the other one to be heard of", async () => {
        const { processes } = await client.listProcesses({});
        return processes.find(({ address }) => address === other.mesh)?.processId;
      });
      const there = (await client.getShard({ which })).shard?.ownerId ?? "";
      const toProcessId = there === otherId ? before.ownerId : otherId;
      const moved = await client.moveShard({ which, toProcessId, waitMs: boundMs });
      assert.deepEqual([moved.shard?.ownerId, moved.shard?.pinnedToId], [toProcessId, toProcessId]);
      assert.equal((await phone.send(textTo(bob, "after it"))).seq, 2);
      await client.moveShard({ which });
      const again = await asked(boundMs, "it to be placed by hashing", async () => {
        const { shard } = await client.getShard({ which });
        return shard?.pinnedToId === "" ? shard : undefined;
      });
      assert.ok(again.epoch > before.epoch);
      assert.equal((await phone.send(textTo(bob, "and after that"))).seq, 3);
      const wrong = { case: "shard", value: ground.shards } as const;
      await assert.rejects(client.getShard({ which: wrong }), { code: Code.InvalidArgument });
      await assert.rejects(client.moveShard({ which, toProcessId: "nobody" }), {
        code: Code.NotFound,
      });
    } finally {
      await other.stop();
    }
  },

  async "reads a log without what was said, and with it where it is asked for"(place, talk) {
    const { client } = place;
    const { alice, conversationId } = talk;
    for (const content of [false, true]) {
      const { records, headSeq } = await client.readLog({ conversationId, content });
      assert.deepEqual([headSeq, records.map(({ senderId }) => senderId)], [1, [alice]]);
      assert.equal(/a secret/.test(JSON.stringify(records[0]?.body)), content);
    }
    await assert.rejects(client.readLog({ conversationId: "d:a:b" }), { code: Code.NotFound });
    for (const method of ["ReadLog", "ExplainMessage", "MoveShard", "EraseUser"]) {
      const path = `${place.url}/parley.gateway.v1.GatewayService/${method}`;
      const headers = { "content-type": "application/json" };
      const body = JSON.stringify({ conversationId });
      assert.equal((await fetch(path, { method: "POST", headers, body })).status, 404, method);
    }
  },

  async "explains what became of a message: on its way, delivered, read, not in the log"(
    place,
    talk,
  ) {
    const { client } = place;
    const { bob, peer, conversationId, seq } = talk;
    const explain = (value: number) =>
      client.explainMessage({ conversationId, message: { case: "seq", value }, userId: bob });
    const { state, record, headSeq, members, owner, unanswered } = await explain(seq);
    assert.deepEqual([state, record?.seq, headSeq, unanswered], [MessageState.SENT, seq, 1, []]);
    assert.doesNotMatch(JSON.stringify(record?.body), /a secret/);
    assert.deepEqual([owner?.taking, owner?.headSeq], [true, 1]);
    assert.deepEqual(
      members.map(({ userId, fate }) => [userId, fate]),
      [[bob, Fate.UNACKED]],
    );
    await peer.moveCursor({ conversationId, deliveredSeq: seq });
    assert.equal((await explain(seq)).members[0]?.fate, Fate.DELIVERED);
    await peer.moveCursor({ conversationId, readSeq: seq });
    assert.equal((await explain(seq)).members[0]?.fate, Fate.READ);
    assert.equal((await explain(99)).state, MessageState.ABSENT);
    await assert.rejects(
      client.explainMessage({ conversationId: "d:a:b", message: { case: "seq", value: 1 } }),
      { code: Code.NotFound },
    );
  },

  async "erases a user: tells how far it is, ends their connections, leaves the others their own"(
    place,
    talk,
  ) {
    const { client } = place;
    const { alice, bob, phone, peer, conversationId } = talk;
    await peer.send(textTo(alice, "mine"));
    const erase = async () => {
      const told = [];
      for await (const step of client.eraseUser({ userId: alice })) told.push(step);
      return told;
    };
    const told = await erase();
    assert.equal(told[0]?.conversationsLeft, 1);
    const receipt = told.at(-1)?.receipt;
    assert.ok(receipt !== undefined && receipt.finishedMs > 0n);
    assert.deepEqual([receipt.conversations, receipt.messages], [1, 1n]);
    assert.deepEqual((await erase()).at(-1)?.receipt, receipt);
    await phone.inbox.until("the end of its connection", ({ goodbye }) => goodbye);
    await peer.inbox.until("what is erased", ({ records }) =>
      records.find(({ body }) => body.case === "erasure"),
    );
    assert.equal(conversationId, directId(alice, bob));
    const log = await wholeLog(peer, conversationId);
    assert.deepEqual(log.map(textOf), ["", "mine", "<erasure>"]);
    assert.equal((await syncAll(peer)).conversations.length, 1);
    const gone = chatClient(place.url, await tokenFor(alice), "phone");
    await assert.rejects(gone.sync({}), { code: Code.Unauthenticated });
    await assert.rejects(peer.send(textTo(alice, "?")), { code: Code.PermissionDenied });
  },
};

export const gatewayOperatorCases = Object.fromEntries(
  Object.entries(cases).map(([title, passes]) => [
    title,
    async (place: GatewayPlace): Promise<void> => {
      const talk = await talking(place);
      try {
        await passes(place, talk);
      } finally {
        await talk.end();
      }
    },
  ]),
);
