/** What a presence must do when instances of session and of presence come and go: the suite announces them, and takes them away. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { Ring } from "../../../mesh/ring.ts";
import { PresenceService } from "../../../proto/gen/parley/presence/v1/presence_pb.ts";
import { SessionService } from "../../../proto/gen/parley/session/v1/session_pb.ts";
import { changesOf, snapshotsOf } from "../../presence/texts.ts";
import { ScriptedSession } from "../../presence/world.ts";
import { within } from "../../support/within.ts";
import { fresh } from "./fresh.ts";
import type { Neighbour } from "./ground.ts";
import type { PresenceWorld } from "./presence.ts";
import { assertOffline, passing, settled, shown, watch, watching } from "./presence.ts";
import { type Tested, instanceOf } from "./process.ts";

export interface PresencePlace {
  readonly tested: Tested;
  readonly world: PresenceWorld;
}

const boundMs = 30_000;

/** A user for each of two instances. */
function oneOfEach(one: string, two: string): [string, string] {
  const [name] = fresh("user");
  const ring = new Ring([one, two]);
  const fallingTo = (id: string): string => {
    for (let at = 0; ; at += 1) if (ring.of(`${name} ${at}`) === id) return `${name} ${at}`;
  };
  return [fallingTo(one), fallingTo(two)];
}

/** Another instance, which nobody reaches. */
const another = ({ tested }: PresencePlace): Promise<Neighbour> =>
  tested.ground.serve("presence", PresenceService, {});

const askedAbout = (session: ScriptedSession, count: number) => (): boolean =>
  session.asked.at(-1)?.presenceIds.length === count;

export const presenceClusterCases: Readonly<
  Record<string, (place: PresencePlace) => Promise<void>>
> = {
  async "shares users with another instance by rendezvous hashing, and says nothing of that one's users (P7)"(
    place,
  ) {
    const { world, tested } = place;
    const { session, client } = world;
    const own = await instanceOf(tested);
    await settled(world);
    const { watches } = session;
    const other = await another(place);
    const ids = [own.id, other.instance.id].sort();
    await passing(world, "session to be asked anew", () => session.watches > watches);
    await passing(world, "session to be asked anew", askedAbout(session, 2));
    assert.deepEqual([...(session.asked.at(-1)?.presenceIds ?? [])].sort(), ids);
    assert.equal(session.asked.at(-1)?.presenceId, own.id);
    for (let pairs = 0; pairs < 20; pairs += 1) {
      const [mine, theirs] = oneOfEach(own.id, other.instance.id);
      session.begins(mine, theirs);
      const gateway = watch(world);
      await watching(gateway, 1, [mine]);
      assert.match(snapshotsOf(gateway.received)[0] ?? "", /^1: user-\S+ \d+ (online|offline 0)$/);
      await assert.rejects(client.getPresences({ userIds: [theirs] }), { code: Code.Unavailable });
      gateway.abort();
    }
    await other.leave();
    await passing(world, "session to be asked anew", askedAbout(session, 1));
    await settled(world);
  },

  async "ends the watches of users who fall to another instance, and lets them go without a word (P7)"(
    place,
  ) {
    const { world, tested } = place;
    const { session, storage } = world;
    const own = await instanceOf(tested);
    await settled(world);
    const other = await another(place);
    const [mine, theirs] = oneOfEach(own.id, other.instance.id);
    await passing(world, "session to be asked anew", askedAbout(session, 2));
    await other.leave();
    await passing(world, "session to be asked anew", askedAbout(session, 1));
    session.begins(mine, theirs);
    await settled(world);
    const [concerned, unconcerned] = [watch(world), watch(world)];
    await watching(concerned, 1, [mine, theirs]);
    await watching(unconcerned, 1, [mine]);
    assert.deepEqual(snapshotsOf(concerned.received), [`1: ${mine} online, ${theirs} online`]);
    // The same users fall to the same place again.
    const again = await tested.ground.announceAs(other.instance);
    const ended = await within(boundMs, "the end of the watch", concerned.ended);
    assert.equal(ended?.code, Code.Unavailable);
    assert.deepEqual(changesOf(concerned.received), []);
    await passing(world, "session to be asked anew", askedAbout(session, 2));
    await world.elapse(2 * world.graceMs);
    assert.equal(await shown(world, mine), `${mine} online`);
    assert.equal(storage.seenMs.has(theirs), false, "nobody saw that user leave");
    assert.deepEqual(changesOf(unconcerned.received), []);
    unconcerned.abort();
    await again.leave();
    await passing(world, "session to be asked anew", askedAbout(session, 1));
    await settled(world);
  },

  async "answers about users who newly fall to it once session told all, and about the others meanwhile (P7)"(
    place,
  ) {
    const { world, tested } = place;
    const { session, client } = world;
    const own = await instanceOf(tested);
    await settled(world);
    const other = await another(place);
    const [mine, theirs] = oneOfEach(own.id, other.instance.id);
    await passing(world, "session to be asked anew", askedAbout(session, 2));
    session.begins(mine, theirs);
    const gateway = watch(world);
    await watching(gateway, 1, [mine]);
    session.completes = false;
    try {
      await other.leave();
      await passing(world, "session to be asked anew", askedAbout(session, 1));
      gateway.send({ sets: [{ connection: 2, userId: "me", userIds: [mine, theirs] }] });
      await watching(gateway, 3, [mine]);
      assert.equal(snapshotsOf(gateway.received).at(-1), `3: ${mine} online`);
      await assert.rejects(client.getPresences({ userIds: [theirs] }), { code: Code.Unavailable });
    } finally {
      session.complete();
    }
    await gateway.until((received) => snapshotsOf(received).length === 3);
    assert.equal(snapshotsOf(gateway.received).at(-1), `2: ${mine} online, ${theirs} online`);
    assert.deepEqual(changesOf(gateway.received), []);
    gateway.abort();
  },

  async "shows a user online while any session instance says so, and gives those of one that is gone their grace (P7)"(
    place,
  ) {
    const { world, tested } = place;
    const { session, graceMs, earlyMs, lateMs } = world;
    const [ann, bob] = fresh("ann", "bob");
    const two = new ScriptedSession();
    await settled(world);
    const gateway = watch(world);
    await watching(gateway, 1, [ann, bob]);
    two.online.add(ann);
    two.online.add(bob);
    const instance = await tested.ground.serve("session", SessionService, two.service);
    await gateway.until((received) => changesOf(received).length === 2);
    session.begins(ann);
    await settled(world);
    two.ends(ann);
    await world.elapse(2 * graceMs);
    assert.equal(await shown(world, ann), `${ann} online`);
    const endedMs = world.now();
    await instance.leave();
    await world.elapse(earlyMs);
    assert.equal(await shown(world, bob), `${bob} online`);
    await passing(world, "Bob's grace", () => changesOf(gateway.received).length === 3);
    assertOffline(changesOf(gateway.received)[2], bob, endedMs, endedMs + lateMs);
    assert.equal(await shown(world, ann), `${ann} online`);
    gateway.abort();
  },
};
