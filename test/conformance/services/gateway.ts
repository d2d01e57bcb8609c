/** What every gateway must do: the suite is the devices, over WebSocket and over Connect; the services behind it are ours, over a store in memory. */
import assert from "node:assert/strict";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { CloseReason } from "../../../proto/gen/parley/v1/chat_pb.ts";
import { Availability } from "../../../proto/gen/parley/v1/record_pb.ts";
import type { GatewayService } from "../../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { SessionService } from "../../../proto/gen/parley/session/v1/session_pb.ts";
import { type Device, protocols } from "../../support/device.ts";
import { tokenFor } from "../../support/parley.ts";
import { directId, syncAll, textOf, textTo, wholeLog } from "../../support/town.ts";
import { asked } from "../../support/within.ts";
import { fresh } from "./fresh.ts";
import type { Tested } from "./process.ts";

export interface GatewayPlace {
  readonly tested: Tested;
  /** Where clients connect. */
  readonly url: string;
  readonly client: Client<typeof GatewayService>;
  readonly session: Client<typeof SessionService>;
}

type OpenDevice = (userId: string, deviceId?: string) => Promise<Device>;
type Case = (place: GatewayPlace, open: OpenDevice) => Promise<void>;

const boundMs = 20_000;

const direct: Readonly<Record<string, Case>> = {
  async "passes messages on in their sender's order, and answers when they are kept (P1 P3 P4 P6)"(
    _place,
    open,
  ) {
    const [alice, bob] = fresh("alice", "bob");
    const [phone, desk, peer] = [await open(alice), await open(alice, "desk"), await open(bob)];
    const texts = Array.from({ length: 20 }, (_, at) => `text ${at + 1}`);
    const sent = await Promise.all(texts.map((text) => phone.send(textTo(bob, text))));
    assert.deepEqual(
      sent.map(({ seq }) => seq),
      texts.map((_, at) => at + 1),
    );
    const conversationId = directId(alice, bob);
    for (const device of [peer, desk]) {
      const last = await device.inbox.until("the last one", ({ records }) =>
        records.find(({ seq }) => seq === texts.length),
      );
      assert.equal(last.senderId, alice);
      const seqs = device.inbox.records.map(({ seq }) => seq);
      assert.deepEqual(
        [...new Set(seqs)],
        [...new Set(seqs)].toSorted((a, b) => a - b),
      );
      assert.deepEqual((await wholeLog(device, conversationId)).map(textOf), texts);
    }
  },

  async "gives a device that comes later what it lacks, and only that (P6)"(_place, open) {
    const [alice, bob] = fresh("alice", "bob");
    const phone = await open(alice);
    await phone.send(textTo(bob, "one"));
    const peer = await open(bob);
    const first = await syncAll(peer);
    assert.deepEqual(first.conversations[0]?.records.map(textOf), ["one"]);
    assert.deepEqual(
      (await syncAll(peer, { token: new Uint8Array(first.token) })).conversations,
      [],
    );
    await phone.send(textTo(bob, "two"));
    const then = await asked(boundMs, "the second one", async () => {
      const answer = await syncAll(peer, { token: new Uint8Array(first.token) });
      return answer.conversations[0];
    });
    assert.equal(then.conversation?.headSeq, 2);
  },

  async "answers a send that comes again with the first one's seq (P2)"(_place, open) {
    const [alice, bob] = fresh("alice", "bob");
    const phone = await open(alice);
    const send = textTo(bob, "once");
    assert.equal((await phone.send(send)).seq, 1);
    const again = await phone.send({ ...send, retry: true });
    assert.deepEqual([again.seq, again.duplicate], [1, true]);
  },

  async "tells the sender how far the others have come (P5)"(_place, open) {
    const [alice, bob] = fresh("alice", "bob");
    const [phone, peer] = [await open(alice), await open(bob)];
    await phone.send(textTo(bob, "read me"));
    const conversationId = directId(alice, bob);
    await peer.inbox.until("the message", ({ records }) => records[0]);
    await peer.moveCursor({ conversationId, deliveredSeq: 1, readSeq: 1 });
    const cursor = await phone.inbox.until("Bob's cursor", ({ cursors }) =>
      cursors.find(({ userId, readSeq }) => userId === bob && readSeq === 1),
    );
    assert.deepEqual([cursor.conversationId, cursor.deliveredSeq], [conversationId, 1]);
  },

  async "shows nothing to who is no member (P8)"(_place, open) {
    const [alice, bob, eve] = fresh("alice", "bob", "eve");
    const [phone, stranger] = [await open(alice), await open(eve)];
    await phone.send(textTo(bob, "a secret"));
    const conversationId = directId(alice, bob);
    const history = stranger.history({ conversationId, limit: 10 });
    await assert.rejects(history, { code: Code.NotFound });
    await assert.rejects(stranger.moveCursor({ conversationId, readSeq: 1 }), {
      code: Code.NotFound,
    });
    assert.deepEqual((await syncAll(stranger)).conversations, []);
    assert.deepEqual(stranger.inbox.records, []);
  },

  async "attaches connections at session, and detaches them when they end (P7)"(place, open) {
    const [alice, bob] = fresh("alice", "bob");
    const [phone, peer] = [await open(alice), await open(bob)];
    await phone.send(textTo(bob, "hello"));
    const { sessions } = await place.session.listSessions({ userId: bob });
    const { connections } = await place.client.listConnections({ userId: bob });
    assert.deepEqual(
      sessions.map(({ connection, deviceId }) => [connection, deviceId]),
      connections.map(({ connection, deviceId }) => [connection, deviceId]),
    );
    assert.equal(sessions.length, 1);
    const { presences } = await phone.watchPresence({ userIds: [bob] });
    assert.equal(presences[0]?.availability, Availability.ONLINE);
    await peer.close();
    await asked(boundMs, "its session to end", async () => {
      const left = (await place.session.listSessions({ userId: bob })).sessions;
      return left.length === 0 ? true : undefined;
    });
    await phone.inbox.until("Bob to be offline", ({ presences: told }) =>
      told.find(
        ({ userId, availability }) => userId === bob && availability === Availability.OFFLINE,
      ),
    );
  },

  async "sends a device away where operators ask for it, and takes it again"(place, open) {
    const [alice] = fresh("alice");
    const phone = await open(alice);
    const target = { case: "userId", value: alice } as const;
    assert.equal((await place.client.disconnect({ target })).ended, 1);
    const { reason } = await phone.inbox.until("a goodbye", ({ goodbye }) => goodbye);
    assert.equal(reason, CloseReason.DRAINING);
    assert.deepEqual((await (await open(alice)).sync({})).conversations, []);
  },
};

async function strange({ url }: GatewayPlace): Promise<void> {
  for (const [protocol, open] of Object.entries(protocols)) {
    const opened = open({ url, token: "no token", deviceId: "phone" }).then((device) =>
      device.sync({}),
    );
    // An inbox says why it was cut off by its cause.
    const isUnauthenticated = (error: unknown): boolean =>
      /4100/.test(String(error)) ||
      [error, error instanceof Error ? error.cause : undefined].some(
        (one) => one instanceof ConnectError && one.code === Code.Unauthenticated,
      );
    await assert.rejects(opened, isUnauthenticated, protocol);
  }
}

function over(open: (typeof protocols)[string], passes: Case) {
  return async (place: GatewayPlace): Promise<void> => {
    const devices: Device[] = [];
    try {
      await passes(place, async (userId, deviceId = "phone") => {
        const token = await tokenFor(userId);
        const device = await open({ url: place.url, token, deviceId });
        devices.push(device);
        return device;
      });
    } finally {
      await Promise.all(devices.map((device) => device.close()));
    }
  };
}

export const gatewayCases: Readonly<Record<string, (place: GatewayPlace) => Promise<void>>> = {
  ...Object.fromEntries(
    Object.entries(protocols).flatMap(([protocol, open]) =>
      Object.entries(direct).map(([title, passes]) => [
        `over ${protocol}: ${title}`,
        over(open, passes),
      ]),
    ),
  ),
  "lets nobody in without a token": strange,
};
