/** Devices that come and go: presence, heartbeats, a device that connects twice, what operators see of it. */
import assert from "node:assert/strict";
import { CloseReason } from "../../proto/gen/parley/v1/chat_pb.ts";
import { Availability } from "../../proto/gen/parley/v1/record_pb.ts";
import type { Presence } from "../../proto/gen/parley/v1/record_pb.ts";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { ConnectDevice, SocketDevice, protocols } from "../support/device.ts";
import { type Start, tokenFor } from "../support/parley.ts";
import { Town, textTo } from "../support/town.ts";
import { within } from "../support/within.ts";

const graceMs = 700;
const heartbeatMs = 1_000;

const is =
  (userId: string, availability: Availability) =>
  (one: Presence): boolean =>
    one.userId === userId && one.availability === availability;

export function devicesSuite(mode: string, start: Start): void {
  for (const [protocol, open] of Object.entries(protocols)) {
    describe(`devices over ${protocol}, ${mode}`, () => {
      let town: Town;
      before(async () => {
        town = await Town.start(start, {
          PARLEY_PRESENCE_GRACE_MS: String(graceMs),
          PARLEY_HEARTBEAT_MS: String(heartbeatMs),
          PARLEY_HEAD_SUM_EVERY: "1",
        });
      });
      afterEach(() => town.leave());
      after(() => town.close());

      it("P7: online while a device is there, offline a grace after the last one, last seen kept", async () => {
        const alice = await town.device(open, "alice", "phone");
        await alice.send(textTo("bob", "hello"));
        const before = await alice.watchPresence({ userIds: ["bob", "nobody"] });
        assert.deepEqual(
          before.presences.map(({ userId, availability, lastSeenMs }) => [
            userId,
            availability,
            lastSeenMs,
          ]),
          [["bob", Availability.OFFLINE, 0n]],
        );
        const { inbox } = alice;
        const [phone, desk] = await Promise.all([
          town.device(open, "bob", "phone"),
          town.device(open, "bob", "desk"),
        ]);
        await inbox.until("bob online", (one) =>
          one.presences.find(is("bob", Availability.ONLINE)),
        );
        await phone.close();
        const beganMs = performance.now();
        const wallMs = Date.now();
        await desk.close();
        const offline = await inbox.until("bob offline", (one) =>
          one.presences.find(is("bob", Availability.OFFLINE)),
        );
        const tookMs = performance.now() - beganMs;
        assert.ok(tookMs >= graceMs * 0.9, `offline after ${tookMs} ms already`);
        assert.ok(Math.abs(Number(offline.lastSeenMs) - wallMs) < 2_000);
        assert.equal(inbox.presences.filter(is("bob", Availability.ONLINE)).length, 1);
        const after = await alice.watchPresence({ userIds: ["bob"] });
        assert.equal(after.presences[0]?.lastSeenMs, offline.lastSeenMs);
      });

      it("P7: nobody is offline who comes back within the grace", async () => {
        const carol = await town.device(open, "carol", "phone");
        await carol.send(textTo("dave", "hello"));
        const dave = await town.device(open, "dave", "phone");
        await carol.watchPresence({ userIds: ["dave"] });
        await dave.close();
        await town.device(open, "dave", "phone");
        // What comes last shows that nothing came before it.
        const erin = await town.device(open, "erin", "phone");
        await carol.send(textTo("erin", "hello"));
        await carol.watchPresence({ userIds: ["dave", "erin"] });
        await erin.close();
        const { inbox } = carol;
        await inbox.until("erin offline", (one) =>
          one.presences.find(is("erin", Availability.OFFLINE)),
        );
        assert.deepEqual(inbox.presences.filter(is("dave", Availability.OFFLINE)), []);
      });

      it("P6: heartbeats come, and say how much the user should have", async () => {
        const frank = await town.device(open, "frank", "phone");
        for (const text of ["one", "two"]) await frank.send(textTo("grace", text));
        await frank.send(textTo("heidi", "three"));
        const { headSum } = await frank.inbox.until("a head sum", ({ heartbeats }) =>
          heartbeats.find((one) => one.headSum === 3n),
        );
        assert.equal(headSum, 3n);
      });

      it("replaces a device that connects again", async () => {
        const first = await town.device(open, "ivan", "phone");
        const other = await town.device(open, "ivan", "desk");
        const second = await town.device(open, "ivan", "phone");
        const { reason } = await first.inbox.until("a goodbye", ({ goodbye }) => goodbye);
        assert.equal(reason, CloseReason.REPLACED);
        const connections = await town.connectionsOf("ivan");
        assert.deepEqual(connections.map(({ deviceId }) => deviceId).toSorted(), ["desk", "phone"]);
        for (const one of [other, second]) assert.equal(one.inbox.goodbye, undefined);
      });

      it("comes back when operators send it away", async () => {
        const judy = await town.device(open, "judy", "phone");
        const target = { case: "userId", value: "judy" } as const;
        const answers = await Promise.all(
          town.operators(GatewayService).map((gateway) => gateway.disconnect({ target })),
        );
        assert.equal(
          answers.reduce((sum, { ended }) => sum + ended, 0),
          1,
        );
        const { reason } = await judy.inbox.until("a goodbye", ({ goodbye }) => goodbye);
        assert.equal(reason, CloseReason.DRAINING);
        const back = await town.device(open, "judy", "phone");
        assert.equal((await back.send(textTo("kim", "back"))).seq, 1);
      });
    });
  }

  describe(`sockets, ${mode}`, () => {
    let town: Town;
    before(async () => {
      town = await Town.start(start, {
        PARLEY_HEARTBEAT_MS: String(heartbeatMs),
        PARLEY_UNACKED_RETRY_MS: "100",
        PARLEY_UNACKED_TRIES: "2",
      });
    });
    afterEach(() => town.leave());
    after(() => town.close());

    it("P7: keep those that answer heartbeats, and close those that do not", async () => {
      const answering = await town.onSocket("alice");
      const silent = await town.onSocket("bob");
      silent.socket.answersHeartbeats = false;
      const { code } = await within(10_000, "the silent one's end", silent.socket.closed);
      assert.equal(code, 4003);
      assert.equal(silent.inbox.goodbye?.reason, CloseReason.SILENT);
      assert.ok(answering.socket.open);
      assert.ok(answering.inbox.heartbeats.length > 0);
    });

    it("are closed by code 4102 when their device connects again", async () => {
      const first = await town.onSocket("carol");
      await town.onSocket("carol");
      const { code, reason } = await within(5_000, "the end", first.socket.closed);
      assert.equal(code, 4_102);
      assert.match(reason, /same device/);
    });

    it("are closed by code 4100 when their token expires; so do streams end", async () => {
      /** With a token that ends soon, but not before it is open, however slow the machine is. */
      const briefly = async <T>(open: (token: string) => Promise<T>, seconds = 1): Promise<T> => {
        const opened = open(await tokenFor("judy", seconds));
        return seconds > 8 ? opened : opened.catch(() => briefly(open, 3 * seconds));
      };
      const { url } = town;
      const [{ socket }, stream] = await Promise.all([
        briefly((token) => SocketDevice.open({ url, token, deviceId: "phone" })),
        briefly((token) => ConnectDevice.open({ url, token, deviceId: "desk" })),
      ]);
      const { code, reason } = await within(15_000, "the end", socket.closed);
      assert.deepEqual([code, reason], [4_100, "the token has expired"]);
      await within(15_000, "the stream's end", stream.ended);
      assert.equal(stream.inbox.goodbye?.reason, CloseReason.UNAUTHENTICATED);
    });

    it("P6: push again what is not acked, then take the device for dead", async () => {
      const [dave, erin] = await Promise.all([town.onSocket("dave"), town.onSocket("erin")]);
      await dave.send(textTo("erin", "are you there?"));
      await erin.inbox.until("the record again", ({ records }) => records[1]);
      const { code } = await within(10_000, "the end", erin.socket.closed);
      assert.equal(code, 4_003);
      const seqs = erin.inbox.records.map(({ seq }) => seq);
      assert.deepEqual([...new Set(seqs)], [1]);
      const back = await town.onSocket("erin", "phone", { recordsPerConversation: 1 });
      const [sync] = back.inbox.syncs;
      assert.equal(sync?.conversations[0]?.records.length, 1);
    });
  });
}
