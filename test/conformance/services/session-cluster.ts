/** What a session must do when gateways and other sessions come and go: the suite announces them, and takes them away. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { sleep, systemClock } from "../../../mesh/clock.ts";
import { asked, within } from "../../support/within.ts";
import { fresh } from "./fresh.ts";
import type { SessionWorld } from "./session.ts";
import { Streams, attachedOf } from "./session.ts";
import type { Tested } from "./process.ts";

export interface SessionPlace {
  readonly tested: Tested;
  readonly world: SessionWorld;
}

const boundMs = 20_000;
/** How late what happens is noticed on a loaded machine. */
const lateMs = 500;

/** Where nobody listens: a gateway is not called by session. */
const nowhere = ({ tested }: SessionPlace): string => `${tested.ground.host}:1`;

export const sessionClusterCases: Readonly<Record<string, (place: SessionPlace) => Promise<void>>> =
  {
    async "ends a gateway's connections with its lease (P7)"(place) {
      const { tested, world } = place;
      const streams = new Streams(world);
      const [g1, g2, ann] = fresh("g1", "g2", "ann");
      const [leased, other] = await Promise.all([
        tested.ground.announce("gateway", nowhere(place)),
        tested.ground.announce("gateway", nowhere(place)),
      ]);
      const [first, second] = [
        streams.attach(g1, leased.instance.id),
        streams.attach(g2, other.instance.id),
      ];
      for (const [at, gateway] of [first, second].entries()) {
        gateway.send({ attached: [{ connection: 1, userId: `${ann} ${at}` }] });
        await gateway.until((received) => attachedOf(received).length === 1);
      }
      await leased.leave();
      const error = await within(boundMs, "the end of the stream", first.ended);
      assert.equal(error?.code, Code.Aborted);
      assert.deepEqual((await world.client.listSessions({ userId: `${ann} 0` })).sessions, []);
      second.send({ attached: [{ connection: 2, userId: ann }] });
      await second.until((received) => attachedOf(received).length === 2);
      const back = streams.attach(g1, "another life");
      back.send({ attached: [{ connection: 1, userId: ann }] });
      await back.until((received) => attachedOf(received).length === 1);
      await other.leave();
      await streams.end();
    },

    async "keeps a gateway from another's id while that one lives, and lets it in afterwards"(
      place,
    ) {
      const { tested, world } = place;
      const streams = new Streams(world);
      const [g1, ann] = fresh("g1", "ann");
      const named = await tested.ground.announce("gateway", nowhere(place), g1);
      const holder = streams.attach(g1, named.instance.id);
      holder.send({ attached: [{ connection: 1, userId: ann }] });
      await holder.until((received) => attachedOf(received).length === 1);
      const other = streams.attach(g1, "another one");
      const refused = await within(boundMs, "a refusal", other.ended);
      assert.equal(refused?.code, Code.AlreadyExists);
      await named.leave();
      assert.equal((await within(boundMs, "its end", holder.ended))?.code, Code.Aborted);
      const later = streams.attach(g1, "another one");
      later.send({ attached: [{ connection: 2, userId: ann }] });
      await later.until((received) => attachedOf(received).length === 1);
      await streams.end();
    },

    async "says with the list how long ago another session went away without a word (P7)"(place) {
      const { tested, world } = place;
      const streams = new Streams(world);
      const lostMsAgo = async (): Promise<number> => {
        const watcher = streams.watch();
        await watcher.until((received) => received.some(({ initialComplete }) => initialComplete));
        return watcher.received.find(({ initialComplete }) => initialComplete)?.lostMsAgo ?? -1;
      };
      const lost = await tested.ground.announce("session", nowhere(place));
      await lost.leave();
      const leftMs = performance.now();
      const ago = await asked(boundMs, "a list that says so", async () => {
        const told = await lostMsAgo();
        // Less than the time since: it was this one, not one before.
        return told > 0 && told <= performance.now() - leftMs + lateMs ? told : undefined;
      });
      const drained = await tested.ground.announce("session", nowhere(place));
      await drained.drain();
      await drained.leave();
      await sleep(systemClock, 2 * lateMs);
      const later = await lostMsAgo();
      assert.ok(later >= ago + 2 * lateMs, "the other one said that it goes away");
      await streams.end();
    },
  };
