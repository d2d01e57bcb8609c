import assert from "node:assert/strict";
import type { DescService, MessageInitShape } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import { ManualClock } from "../../mesh/clock.ts";
import type { Mesh } from "../../mesh/mesh.ts";
import { PeerTable, peerOf } from "../../mesh/peers.ts";
import type { Peer } from "../../mesh/peers.ts";
import { Ring } from "../../mesh/ring.ts";
import { PresenceServer } from "../../presence/service.ts";
import type {
  WatchRequestSchema,
  WatchResponse,
} from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import { PresenceService } from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import type { AttachRequestSchema } from "../../proto/gen/parley/session/v1/session_pb.ts";
import { SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { createSession } from "../../session/index.ts";
import { Bidi, eventually } from "../session/bidi.ts";
import { meshes, surroundingsOn } from "../session/meshes.ts";
import { changesOf, snapshotsOf, textOf } from "./texts.ts";
import { ScriptedSession, SmallStorage } from "./world.ts";

type Watching = Bidi<MessageInitShape<typeof WatchRequestSchema>, WatchResponse>;

const graceMs = 10_000;
const config = { graceMs, watchMax: 1_000, outboxMax: 10_000, unsavedMax: 10_000 };

/** So many users that fall to the one of these ids. */
function fallingTo(id: string, ids: string[], count: number): string[] {
  const ring = new Ring(ids);
  const users: string[] = [];
  for (let at = 0; users.length < count; at += 1)
    if (ring.of(`user ${at}`) === id) users.push(`user ${at}`);
  return users;
}

/** For each of two ids a user that falls to it. */
const oneOfEach = (one: string, two: string): [string, string] => {
  const [first = ""] = fallingTo(one, [one, two], 1);
  const [second = ""] = fallingTo(two, [one, two], 1);
  return [first, second];
};

for (const [name, startMesh] of Object.entries(meshes)) {
  describe(`presence with several session and presence instances over the ${name}`, () => {
    let clock: ManualClock;
    let beganMs: number;
    let storage: SmallStorage;
    let sessions: PeerTable;
    let presences: PeerTable;
    let ends: (() => Promise<void>)[];
    let seed = 0;
    let markers = 0;

    beforeEach(() => {
      clock = new ManualClock();
      beganMs = clock.now();
      storage = new SmallStorage();
      sessions = new PeerTable();
      presences = new PeerTable();
      ends = [];
      seed = 0;
    });

    afterEach(async () => {
      for (const end of ends.toReversed()) await end();
    });

    async function mesh(): Promise<Mesh> {
      const started = await startMesh();
      ends.push(() => started.close());
      return started;
    }

    /** A session instance that is not in the list yet. */
    async function session(id: string): Promise<{ said: ScriptedSession; peer: Peer }> {
      const said = new ScriptedSession();
      const served = await mesh();
      served.serve(SessionService, said.service);
      return { said, peer: peerOf(id, served.transport(SessionService)) };
    }

    async function twoSessions(): Promise<[ScriptedSession, ScriptedSession, Peer, Peer]> {
      const [one, two] = [await session("s1"), await session("s2")];
      sessions.replace([one.peer, two.peer]);
      return [one.said, two.said, one.peer, two.peer];
    }

    /** A presence instance, in the list unless told otherwise. */
    async function presence({ isListed = true } = {}) {
      seed += 1;
      const served = await mesh();
      const peersOf = (service: DescService) => (service === SessionService ? sessions : presences);
      const around = surroundingsOn(served, clock, peersOf, seed);
      const server = new PresenceServer(
        {
          ...around,
          transport: (service) =>
            service === StorageService ? storage.transport : served.transport(service),
        },
        config,
      );
      served.serve(PresenceService, server.service);
      const { identity, warnings } = around;
      const transport = served.transport(PresenceService);
      const client = createClient(PresenceService, transport);
      const tested = {
        server,
        identity,
        warnings,
        client,
        peer: (): Peer => peerOf(identity.id, transport),
        shown: async (userId: string) =>
          textOf((await client.getPresences({ userIds: [userId] })).presences[0]),
        watch: (): Watching => new Bidi((requests, options) => client.watch(requests, options)),
        ready: () => eventually(() => server.problems().length === 0),
      };
      if (isListed) presences.replace([...presences.present, tested.peer()]);
      await server.start();
      ends.push(() => server.close());
      return tested;
    }

    type Tested = Awaited<ReturnType<typeof presence>>;

    async function watching(stream: Watching, connection: number, ...userIds: string[]) {
      const before = snapshotsOf(stream.received).length;
      stream.send({ sets: [{ connection, userId: "me", userIds }] });
      await stream.until((received) => snapshotsOf(received).length > before);
    }

    /** What the session instance said so far has come. */
    async function heard({ server }: Tested, said: ScriptedSession): Promise<void> {
      markers += 1;
      // One of them falls to the instance, whoever else there is.
      const some = Array.from({ length: 20 }, (_, at) => `marker ${markers}.${at}`);
      said.begins(...some);
      await eventually(() => some.some((marker) => server.roster.find(marker) !== undefined));
    }

    /** The stream of the session instance broke, and presence knows. */
    async function broken({ warnings }: Tested, said: ScriptedSession): Promise<void> {
      const before = warnings.length;
      said.breakDown();
      await eventually(() => warnings.length > before);
    }

    const codesOf = (received: WatchResponse[]) =>
      received.flatMap(({ snapshots }) => snapshots).map(({ code }) => code);

    it("shows a user online while any session instance says so (P7)", async () => {
      const [one, two] = await twoSessions();
      one.online.add("ann");
      const tested = await presence();
      await tested.ready();
      const gateway = tested.watch();
      await watching(gateway, 1, "ann");
      two.begins("ann");
      await heard(tested, two);
      one.ends("ann");
      await heard(tested, one);
      clock.advance(60_000);
      assert.equal(await tested.shown("ann"), "ann online");
      two.ends("ann");
      await heard(tested, two);
      clock.advance(graceMs - 1);
      assert.equal(await tested.shown("ann"), "ann online");
      clock.advance(1);
      await gateway.until((received) => changesOf(received).length > 0);
      assert.deepEqual(changesOf(gateway.received), [`1: ann offline ${beganMs + 60_000}`]);
    });

    it("ends no grace while the user's session instance is not heard, and holds no other up (P7)", async () => {
      const [one, two] = await twoSessions();
      const [ann, bob] = oneOfEach("s1", "s2");
      // Joe falls to the first one, but his last connection was at the second one.
      const [, joe = ""] = fallingTo("s1", ["s1", "s2"], 2);
      one.online.add(ann);
      for (const userId of [bob, joe]) two.online.add(userId);
      const tested = await presence();
      await tested.ready();
      const gateway = tested.watch();
      await watching(gateway, 1, ann, bob, joe);
      one.ends(ann);
      two.ends(bob, joe);
      for (const said of [one, two]) await heard(tested, said);
      one.completes = false;
      await broken(tested, one);
      clock.advance(60_000);
      await gateway.until((received) => changesOf(received).length > 0);
      assert.deepEqual(changesOf(gateway.received), [`1: ${bob} offline ${beganMs}`]);
      one.begins(joe);
      await eventually(() => one.watches === 2);
      one.complete();
      await gateway.until((received) => changesOf(received).length > 1);
      assert.deepEqual(changesOf(gateway.received).slice(1), [`1: ${ann} offline ${beganMs}`]);
      assert.equal(await tested.shown(joe), `${joe} online`);
    });

    it("gives those of a session instance that is gone the grace to be announced elsewhere (P7)", async () => {
      const [one, two, , peer] = await twoSessions();
      for (const userId of ["ann", "bob", "joe"]) one.online.add(userId);
      const tested = await presence();
      await tested.ready();
      const gateway = tested.watch();
      await watching(gateway, 1, "ann", "bob", "joe");
      one.ends("joe");
      await heard(tested, one);
      await broken(tested, one);
      clock.advance(30_000);
      sessions.replace([peer]);
      two.begins("ann");
      await heard(tested, two);
      clock.advance(graceMs - 1);
      // Joe may have been back where nobody was heard.
      for (const userId of ["ann", "bob", "joe"])
        assert.equal(await tested.shown(userId), `${userId} online`);
      clock.advance(1);
      await gateway.until((received) => changesOf(received).length > 1);
      assert.deepEqual(changesOf(gateway.received).sort(), [
        `1: bob offline ${beganMs + 30_000}`,
        `1: joe offline ${beganMs}`,
      ]);
      assert.equal(await tested.shown("ann"), "ann online");
    });

    it("lets nobody go offline while there is no session instance at all (P7)", async () => {
      const [one] = await twoSessions();
      for (const userId of ["ann", "bob", "joe"]) one.online.add(userId);
      const tested = await presence();
      await tested.ready();
      one.ends("joe");
      await heard(tested, one);
      sessions.replace([]);
      clock.advance(60_000);
      for (const userId of ["ann", "bob"])
        assert.equal(await tested.shown(userId), `${userId} online`);
      const three = await session("s3");
      sessions.replace([three.peer]);
      three.said.begins("ann");
      await heard(tested, three.said);
      clock.advance(graceMs - 1);
      assert.equal(await tested.shown("bob"), "bob online");
      clock.advance(1);
      assert.equal(await tested.shown("bob"), `bob offline ${beganMs + 60_000}`);
      assert.equal(await tested.shown("ann"), "ann online");
    });

    it("spreads users over the presence instances: each is told of its own", async () => {
      const [one, two] = await twoSessions();
      const users = Array.from({ length: 100 }, (_, at) => `user ${at}`);
      for (const [at, userId] of users.entries()) (at % 2 === 0 ? one : two).online.add(userId);
      const both = [await presence(), await presence()];
      for (const tested of both) await tested.ready();
      const ring = new Ring(presences.present.map(({ id }) => id));
      for (const { client, identity, server } of both) {
        const mine = users.filter((userId) => ring.of(userId) === identity.id);
        await eventually(() => mine.every((userId) => server.roster.find(userId) !== undefined));
        const { presences: found } = await client.getPresences({ userIds: mine });
        assert.deepEqual(
          found.map(textOf),
          mine.map((userId) => `${userId} online`),
        );
        assert.equal(server.roster.size.people, mine.length);
        const others = users.filter((userId) => ring.of(userId) !== identity.id);
        await assert.rejects(client.getPresences({ userIds: others.slice(0, 1) }), {
          code: Code.Unavailable,
        });
      }
    });

    it("lets those go quietly who fall to another instance, and ends what watches them (P7)", async () => {
      const [one] = await twoSessions();
      const tested = await presence();
      const other = "other instance";
      const ids = [tested.identity.id, other];
      const [mine = ""] = fallingTo(tested.identity.id, ids, 1);
      const [theirs = "", theirsLeaving = ""] = fallingTo(other, ids, 2);
      await tested.ready();
      one.begins(mine, theirs, theirsLeaving);
      await heard(tested, one);
      const [concerned, unconcerned] = [tested.watch(), tested.watch()];
      await watching(concerned, 1, mine, theirs, theirsLeaving);
      await watching(unconcerned, 1, mine);
      clock.advance(1_000);
      one.ends(theirsLeaving);
      await heard(tested, one);
      one.completes = false;
      presences.replace([tested.peer(), peerOf(other, tested.peer().transport)]);
      assert.equal((await concerned.ended)?.code, Code.Unavailable);
      await assert.rejects(tested.shown(theirs), { code: Code.Unavailable });
      assert.equal(await tested.shown(mine), `${mine} online`);
      assert.deepEqual(changesOf(concerned.received), []);
      await eventually(() => one.asked.at(-1)?.presenceIds.length === 2);
      assert.equal(one.asked.at(-1)?.presenceId, tested.identity.id);
      one.complete();
      await heard(tested, one);
      clock.advance(60_000);
      assert.equal(await tested.shown(mine), `${mine} online`);
      await assert.rejects(tested.shown(theirs), { code: Code.Unavailable });
      await eventually(() => storage.seenMs.size > 0);
      assert.deepEqual([...storage.seenMs], [[theirsLeaving, beganMs + 1_000]]);
      one.ends(mine);
      await heard(tested, one);
      clock.advance(graceMs);
      await unconcerned.until((received) => changesOf(received).length > 0);
      assert.deepEqual(changesOf(unconcerned.received), [`1: ${mine} offline ${beganMs + 61_000}`]);
    });

    it("answers about users who newly fall to it once every session instance told all, and about the others meanwhile (P7)", async () => {
      const [one, two] = await twoSessions();
      const tested = await presence({ isListed: false });
      const other = peerOf("other instance", tested.peer().transport);
      presences.replace([tested.peer(), other]);
      const ids = [tested.identity.id, other.id];
      const [mine = ""] = fallingTo(tested.identity.id, ids, 1);
      const [theirs = ""] = fallingTo(other.id, ids, 1);
      for (const userId of [mine, theirs]) two.online.add(userId);
      await tested.ready();
      await eventually(() => tested.server.roster.find(mine) !== undefined);
      const gateway = tested.watch();
      await watching(gateway, 1, mine);
      two.completes = false;
      two.online.delete(theirs);
      presences.replace([tested.peer()]);
      await eventually(() => two.asked.at(-1)?.presenceIds.length === 1);
      await heard(tested, one);
      gateway.send({ sets: [{ connection: 2, userId: "me", userIds: [mine, theirs] }] });
      await watching(gateway, 3, mine);
      assert.deepEqual(snapshotsOf(gateway.received), [`1: ${mine} online`, `3: ${mine} online`]);
      await assert.rejects(tested.shown(theirs), { code: Code.Unavailable });
      two.begins(theirs);
      two.complete();
      await gateway.until((received) => snapshotsOf(received).length === 3);
      assert.equal(snapshotsOf(gateway.received)[2], `2: ${mine} online, ${theirs} online`);
      assert.deepEqual(changesOf(gateway.received), []);
      clock.advance(60_000);
      assert.equal(await tested.shown(mine), `${mine} online`);
    });

    it("holds a set for users of another instance for a while, then says that it is not known (P7)", async () => {
      const [one] = await twoSessions();
      const tested = await presence();
      const other = peerOf("other instance", tested.peer().transport);
      const ids = [tested.identity.id, other.id];
      const [mine = ""] = fallingTo(tested.identity.id, ids, 1);
      const [theirs = ""] = fallingTo(other.id, ids, 1);
      presences.replace([tested.peer(), other]);
      for (const userId of [mine, theirs]) one.online.add(userId);
      await tested.ready();
      await eventually(() => tested.server.roster.find(mine) !== undefined);
      const gateway = tested.watch();
      const send = (connection: number, ...userIds: string[]) =>
        gateway.send({ sets: [{ connection, userId: "me", userIds }] });
      send(1, mine, theirs);
      send(2, mine, theirs);
      await watching(gateway, 3, mine);
      // The newer set of a connection does not wait for the one that it replaces.
      send(2, mine);
      await gateway.until((received) => snapshotsOf(received).length === 3);
      assert.deepEqual(snapshotsOf(gateway.received).slice(1), ["2: ", `2: ${mine} online`]);
      clock.advance(4_999);
      await watching(gateway, 4, mine);
      assert.equal(snapshotsOf(gateway.received).length, 4);
      clock.advance(1);
      await gateway.until((received) => snapshotsOf(received).length === 5);
      await watching(gateway, 5, theirs);
      assert.deepEqual(codesOf(gateway.received).slice(4), [Code.Unavailable, Code.Unavailable]);
      assert.equal(storage.seenMs.size, 0);
      // The other one is gone: now it is this one that is asked.
      presences.replace([tested.peer()]);
      await watching(gateway, 6, theirs);
      assert.equal(snapshotsOf(gateway.received).at(-1), `6: ${theirs} online`);
      assert.deepEqual(changesOf(gateway.received), []);
    });

    it("answers the newest set of a connection as soon as it can, whatever is held before it", async () => {
      const [one] = await twoSessions();
      const tested = await presence();
      const { transport } = tested.peer();
      const others = ["other one", "other two"].map((id) => peerOf(id, transport));
      const ids = [tested.identity.id, "other one"];
      const ring = new Ring([...ids, "other two"]);
      const [moving = ""] = fallingTo(tested.identity.id, ids, 30).filter(
        (userId) => ring.of(userId) === "other two",
      );
      const [theirs = ""] = fallingTo("other one", ids, 1);
      presences.replace([tested.peer(), ...others]);
      one.online.add(moving);
      await tested.ready();
      const gateway = tested.watch();
      for (const userId of [theirs, moving])
        gateway.send({ sets: [{ connection: 1, userId: "me", userIds: [userId] }] });
      const other = tested.watch();
      await watching(other, 1, ...fallingTo(tested.identity.id, [...ring.ids], 1));
      assert.deepEqual(gateway.received, []);
      presences.replace([tested.peer(), ...others.slice(0, 1)]);
      await gateway.until((received) => snapshotsOf(received).length === 2);
      assert.deepEqual(snapshotsOf(gateway.received), ["1: ", `1: ${moving} online`]);
    });

    it("answers nothing about who fell to another instance while storage was asked (P7)", async () => {
      await twoSessions();
      const tested = await presence();
      const other = peerOf("other instance", tested.peer().transport);
      const [theirs = ""] = fallingTo(other.id, [tested.identity.id, other.id], 1);
      await tested.ready();
      let open: () => void = () => undefined;
      storage.gate = new Promise((resolve) => (open = resolve));
      const gateway = tested.watch();
      gateway.send({ sets: [{ connection: 1, userId: "me", userIds: [theirs] }] });
      const asked = tested.shown(theirs);
      await eventually(() => storage.calls === 2);
      presences.replace([tested.peer(), other]);
      open();
      await assert.rejects(asked, { code: Code.Unavailable });
      await gateway.until((received) => codesOf(received).length === 1);
      assert.deepEqual(codesOf(gateway.received), [Code.Unavailable]);
    });

    it("holds a bounded number of sets and reads no further meanwhile (P9)", async () => {
      await twoSessions();
      const tested = await presence();
      const other = peerOf("other instance", tested.peer().transport);
      presences.replace([tested.peer(), other]);
      const ids = [tested.identity.id, other.id];
      const [mine = ""] = fallingTo(tested.identity.id, ids, 1);
      const [theirs = ""] = fallingTo(other.id, ids, 1);
      await tested.ready();
      const [gateway, quick] = [tested.watch(), tested.watch()];
      const sets = Array.from({ length: 1_024 }, (_, connection) => ({
        connection,
        userId: "me",
        userIds: [theirs],
      }));
      for (let from = 0; from < sets.length; from += 64)
        gateway.send({ sets: sets.slice(from, from + 64) });
      gateway.send({ sets: [{ connection: 5_000, userId: "me", userIds: [mine] }] });
      for (let round = 0; round < 50; round += 1) await watching(quick, 1, mine);
      assert.deepEqual(gateway.received, []);
      clock.advance(5_000);
      await gateway.until((received) => codesOf(received).length === sets.length + 1);
      assert.equal(codesOf(gateway.received).filter((code) => code === 0).length, 1);
      assert.equal(storage.calls, 2 * 51);
    });

    it("has everybody where no instance is in the list, and nobody where others are", async () => {
      const [one] = await twoSessions();
      one.online.add("ann");
      const tested = await presence({ isListed: false });
      await tested.ready();
      assert.deepEqual(one.asked.at(-1)?.presenceIds, []);
      assert.equal(await tested.shown("ann"), "ann online");
      presences.replace([peerOf("other instance", tested.peer().transport)]);
      await eventually(() => one.watches === 2);
      await tested.ready();
      await assert.rejects(tested.shown("ann"), { code: Code.Unavailable });
      assert.equal(tested.server.roster.size.people, 0);
    });

    it("does not call those offline at once whose session instance went away with another presence instance (P7)", async () => {
      const [one, two, , peer] = await twoSessions();
      const tested = await presence();
      const other = peerOf("other instance", tested.peer().transport);
      const [theirs = ""] = fallingTo(other.id, [tested.identity.id, other.id], 1);
      presences.replace([tested.peer(), other]);
      one.online.add(theirs);
      await tested.ready();
      sessions.replace([peer]);
      presences.replace([tested.peer()]);
      await eventually(() => two.asked.at(-1)?.presenceIds.length === 1);
      await heard(tested, two);
      await assert.rejects(tested.shown(theirs), { code: Code.Unavailable });
      clock.advance(graceMs - 1);
      await assert.rejects(tested.shown(theirs), { code: Code.Unavailable });
      two.begins(theirs);
      await heard(tested, two);
      clock.advance(1);
      assert.equal(await tested.shown(theirs), `${theirs} online`);
    });

    it("says nobody is offline who may be announced elsewhere still, where a session instance went away before it began (P7)", async () => {
      const { said, peer } = await session("s2");
      sessions.replace([peer]);
      said.lostMsAgo = 4_000;
      const tested = await presence();
      await heard(tested, said);
      await assert.rejects(tested.shown("alice"), { code: Code.Unavailable });
      clock.advance(graceMs - 4_001);
      await assert.rejects(tested.shown("alice"), { code: Code.Unavailable });
      said.begins("alice");
      await heard(tested, said);
      clock.advance(1);
      await tested.ready();
      assert.equal(await tested.shown("alice"), "alice online");
      assert.equal(await tested.shown("bob"), "bob offline 0");
    });

    it("waits for nobody to be announced where a session instance went away as it said", async () => {
      const [, two, one, peer] = await twoSessions();
      const tested = await presence();
      const other = peerOf("other instance", tested.peer().transport);
      const [theirs = ""] = fallingTo(other.id, [tested.identity.id, other.id], 1);
      presences.replace([tested.peer(), other]);
      two.online.add(theirs);
      await tested.ready();
      sessions.replace([{ ...one, draining: true }, peer]);
      sessions.replace([peer]);
      presences.replace([tested.peer()]);
      const gateway = tested.watch();
      await watching(gateway, 1, theirs);
      assert.deepEqual(snapshotsOf(gateway.received), [`1: ${theirs} online`]);
    });

    it("asks again under its new name when another life begins, and has nobody until it is announced", async () => {
      const [one] = await twoSessions();
      one.online.add("ann");
      const tested = await presence();
      await tested.ready();
      const gateway = tested.watch();
      await watching(gateway, 1, "ann");
      const before = tested.identity.id;
      tested.identity.end(before);
      assert.equal((await gateway.ended)?.code, Code.Unavailable);
      await eventually(() => one.asked.at(-1)?.presenceId === tested.identity.id);
      assert.deepEqual(one.asked.at(-1)?.presenceIds, [before]);
      await assert.rejects(tested.shown("ann"), { code: Code.Unavailable });
      presences.replace([]);
      presences.replace([tested.peer()]);
      await eventually(() => one.asked.at(-1)?.presenceIds[0] === tested.identity.id);
      const again = tested.watch();
      await watching(again, 1, "ann");
      assert.deepEqual(snapshotsOf(again.received), ["1: ann online"]);
      assert.equal(storage.seenMs.size, 0);
    });

    for (const draining of [false, true])
      it(`keeps ${draining ? "whoever is online as seen at the end, where all go" : "nobody as seen at its end who is online, where another instance stays"}`, async () => {
        const [one] = await twoSessions();
        const tested = await presence();
        const { transport } = tested.peer();
        presences.replace([tested.peer(), peerOf("other instance", transport)]);
        const ids = [tested.identity.id, "other instance"];
        const [mine = ""] = fallingTo(tested.identity.id, ids, 1);
        await tested.ready();
        one.begins(mine);
        await heard(tested, one);
        if (draining)
          presences.replace([
            { ...tested.peer(), draining },
            peerOf("other instance", transport, { draining }),
          ]);
        await tested.server.close();
        assert.equal(storage.seenMs.get(mine), draining ? beganMs : undefined);
      });

    it("shows who moves to another session instance as online all the while (P7)", async () => {
      const served = [await mesh(), await mesh()];
      const limits = { outboxMax: 1_000, outboxBytesMax: 1_000_000, edgesMax: 1_000 };
      const running = served.map((one) => {
        const around = surroundingsOn(one, clock);
        const made = createSession(around, { ...limits, userSessionsMax: 10 });
        one.serve(SessionService, made.service);
        ends.push(() => made.close());
        return made;
      });
      const peers = served.map((one, at) => peerOf(`s${at}`, one.transport(SessionService)));
      const attach = (peer: Peer | undefined, isAgain: boolean): void => {
        if (peer === undefined) throw new Error("there is no such instance");
        const client = createClient(SessionService, peer.transport);
        const stream = new Bidi<MessageInitShape<typeof AttachRequestSchema>, object>(
          (requests, options) => client.attach(requests, options),
        );
        const attached = [{ connection: 1, userId: "ann", deviceId: "phone", again: isAgain }];
        stream.send({ gatewayId: "g1", bootId: "b1", attached });
      };
      sessions.replace(peers.slice(0, 1));
      const tested = await presence();
      await tested.ready();
      const gateway = tested.watch();
      await watching(gateway, 1, "ann");
      attach(peers[0], false);
      await gateway.until((received) => changesOf(received).length === 1);
      await running[0]?.close();
      await eventually(() => tested.server.problems().length > 0);
      clock.advance(5_000);
      sessions.replace(peers.slice(1));
      await tested.ready();
      clock.advance(graceMs - 1);
      attach(peers[1], true);
      await eventually(() => tested.server.roster.size.leaving === 0);
      clock.advance(60_000);
      assert.equal(await tested.shown("ann"), "ann online");
      assert.deepEqual(changesOf(gateway.received), ["1: ann online"]);
    });
  });
}
