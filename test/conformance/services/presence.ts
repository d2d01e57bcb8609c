/** What every presence must do, with nothing but gRPC between it and the suite, which plays session, storage and the gateways. */
import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type {
  PresenceService,
  WatchRequestSchema,
  WatchResponse,
} from "../../../proto/gen/parley/presence/v1/presence_pb.ts";
import { changesOf, snapshotsOf, textOf } from "../../presence/texts.ts";
import type { ScriptedSession, SmallStorage } from "../../presence/world.ts";
import { Bidi } from "../../session/bidi.ts";
import { asked } from "../../support/within.ts";
import { fresh } from "./fresh.ts";

export interface PresenceWorld {
  readonly client: Client<typeof PresenceService>;
  readonly session: ScriptedSession;
  readonly storage: SmallStorage;
  /** As the service is set. */
  readonly graceMs: number;
  readonly watchMax: number;
  /** A part of the grace after which nobody can be offline yet, however late what happened is noticed. */
  readonly earlyMs: number;
  /** The service's calendar, and how much later than told it may notice what happened. */
  now(): number;
  readonly lateMs: number;
  /** Lets that much of the service's time pass. */
  elapse(ms: number): Promise<void>;
}

export type PresenceCase = (world: PresenceWorld) => Promise<void>;
export type Watching = Bidi<MessageInitShape<typeof WatchRequestSchema>, WatchResponse>;

const boundMs = 30_000;

export const watch = ({ client }: Pick<PresenceWorld, "client">): Watching =>
  new Bidi((requests, options) => client.watch(requests, options));

/** A connection's watch, answered. */
export async function watching(
  stream: Watching,
  connection: number,
  userIds: readonly string[],
  userId = "me",
): Promise<void> {
  const before = snapshotsOf(stream.received).length;
  stream.send({ sets: [{ connection, userId, userIds: [...userIds] }] });
  await stream.until((received) => snapshotsOf(received).length > before);
}

export async function shown(
  { client }: Pick<PresenceWorld, "client">,
  userId: string,
): Promise<string> {
  return textOf((await client.getPresences({ userIds: [userId] })).presences[0]);
}

/** Changes reach presence in their order, so once this user's is seen all before are. */
export async function settled(
  world: Pick<PresenceWorld, "client"> & { readonly session: ScriptedSession },
): Promise<void> {
  const [marker] = fresh("marker");
  world.session.begins(marker);
  await asked(boundMs, "what session said", async () => {
    // It may not know yet, or ask a storage that is away.
    const now = await shown(world, marker).catch((error: unknown) => String(error));
    return now === `${marker} online` ? true : undefined;
  });
}

/** Lets time pass until it is so. */
export async function passing(
  { elapse }: Pick<PresenceWorld, "elapse">,
  what: string,
  isSo: () => boolean,
): Promise<void> {
  for (const untilMs = performance.now() + boundMs; !isSo(); await elapse(50))
    if (performance.now() > untilMs) throw new Error(`${what}: not within ${boundMs} ms`);
}

/** The change says that the user is offline since a moment between these two. */
export function assertOffline(
  change: string | undefined,
  userId: string,
  from: number,
  to: number,
) {
  const lastSeenMs = new RegExp(`${userId} offline (\\d+)$`).exec(change ?? "")?.[1];
  assert.ok(lastSeenMs !== undefined, `${userId} offline, not "${change}"`);
  assert.ok(
    Number(lastSeenMs) >= from && Number(lastSeenMs) <= to,
    `last seen ${lastSeenMs}, not from ${from} to ${to}`,
  );
}

export const presenceCases: Readonly<Record<string, PresenceCase>> = {
  async "answers a set with how things are, then tells changes (P7)"(world) {
    const { session, storage, lateMs } = world;
    const [ann, bob, eve] = fresh("ann", "bob", "eve");
    session.begins(ann);
    storage.seenMs.set(bob, 123);
    await settled(world);
    const gateway = watch(world);
    await watching(gateway, 1, [ann, bob, eve]);
    assert.deepEqual(snapshotsOf(gateway.received), [
      `1: ${ann} online, ${bob} offline 123, ${eve} offline 0`,
    ]);
    session.begins(bob);
    await gateway.until((received) => changesOf(received).length === 1);
    const endedMs = world.now();
    session.ends(ann);
    await settled(world);
    await world.elapse(world.earlyMs);
    assert.equal(await shown(world, ann), `${ann} online`);
    await world.elapse(world.graceMs - world.earlyMs);
    await gateway.until((received) => changesOf(received).length === 2);
    const [first, second] = changesOf(gateway.received);
    assert.equal(first, `1: ${bob} online`);
    assertOffline(second, ann, endedMs, endedMs + lateMs);
    gateway.abort();
  },

  async "tells nothing of a user who is back within the grace (P7)"(world) {
    const { session } = world;
    const [ann, bob] = fresh("ann", "bob");
    session.begins(ann);
    await settled(world);
    const gateway = watch(world);
    await watching(gateway, 1, [ann, bob]);
    session.ends(ann);
    await settled(world);
    await world.elapse(world.earlyMs);
    session.begins(ann);
    await settled(world);
    await world.elapse(2 * world.graceMs);
    session.begins(bob);
    await gateway.until((received) => changesOf(received).length > 0);
    assert.deepEqual(changesOf(gateway.received), [`1: ${bob} online`]);
    gateway.abort();
  },

  async "lets nobody go offline when session is away, and gives the missing their grace (P7)"(
    world,
  ) {
    const { session, lateMs } = world;
    const [ann, bob, joe] = fresh("ann", "bob", "joe");
    session.begins(ann, bob, joe);
    await settled(world);
    const gateway = watch(world);
    await watching(gateway, 1, [ann, bob, joe]);
    session.ends(joe);
    await settled(world);
    const { refused } = session;
    session.away = true;
    session.breakDown();
    await passing(world, "presence to notice it", () => session.refused > refused);
    // Joe comes back while nobody can say so; Ann leaves.
    session.online.add(joe);
    session.online.delete(ann);
    await world.elapse(2 * world.graceMs);
    assert.deepEqual(changesOf(gateway.received), []);
    const { watches } = session;
    session.away = false;
    const heardMs = world.now();
    await passing(world, "session to be asked again", () => session.watches > watches);
    await settled(world);
    assert.equal(await shown(world, joe), `${joe} online`);
    await world.elapse(world.earlyMs);
    assert.equal(await shown(world, ann), `${ann} online`);
    await passing(world, "Ann's grace", () => changesOf(gateway.received).length > 0);
    const [change] = changesOf(gateway.received);
    // It is asked again after a pause of a second at most.
    assertOffline(change, ann, heardMs, heardMs + 1_000 + lateMs);
    assert.equal(await shown(world, bob), `${bob} online`);
    gateway.abort();
  },

  async "shows only people who share a conversation with the watcher (P8)"(world) {
    const { session, storage } = world;
    const [me, you, ann, bob] = fresh("me", "you", "ann", "bob");
    storage.acquainted.set(me, [ann]);
    storage.acquainted.set(you, [bob]);
    await settled(world);
    const gateway = watch(world);
    gateway.send({
      sets: [
        { connection: 1, userId: me, userIds: [ann, bob] },
        { connection: 2, userId: you, userIds: [ann, bob] },
      ],
    });
    await gateway.until((received) => snapshotsOf(received).length === 2);
    assert.deepEqual(snapshotsOf(gateway.received).sort(), [
      `1: ${ann} offline 0`,
      `2: ${bob} offline 0`,
    ]);
    session.begins(ann, bob);
    await gateway.until((received) => changesOf(received).length === 2);
    assert.deepEqual(changesOf(gateway.received).sort(), [`1: ${ann} online`, `2: ${bob} online`]);
    gateway.abort();
  },

  async "tells a change once to a gateway, with all its connections, and to no other gateway"(
    world,
  ) {
    const { session } = world;
    const [ann, bob, eve] = fresh("ann", "bob", "eve");
    await settled(world);
    const [gateway, other] = [watch(world), watch(world)];
    await watching(gateway, 1, [ann]);
    await watching(gateway, 2, [ann, bob]);
    await watching(gateway, 3, [bob]);
    await watching(other, 1, [eve]);
    session.begins(ann);
    session.begins(eve);
    await other.until((received) => changesOf(received).length === 1);
    await gateway.until((received) => changesOf(received).length === 1);
    assert.deepEqual(changesOf(gateway.received), [`1 2: ${ann} online`]);
    assert.deepEqual(changesOf(other.received), [`1: ${eve} online`]);
    for (const one of [gateway, other]) one.abort();
  },

  async "misses no change between the filter and the snapshot (P7)"(world) {
    const { session, storage } = world;
    const [ann, bob] = fresh("ann", "bob");
    await settled(world);
    const gateway = watch(world);
    await watching(gateway, 1, []);
    const gated = () => {
      let open: () => void = () => undefined;
      storage.gate = new Promise((resolve) => (open = resolve));
      return open;
    };
    const openFilter = gated();
    const { filters, lookups } = storage;
    gateway.send({ sets: [{ connection: 1, userId: "me", userIds: [ann, bob] }] });
    await gateway.until(() => storage.filters === filters + 1);
    session.begins(ann);
    const openLookup = gated();
    openFilter();
    await gateway.until(() => storage.lookups > lookups);
    // Registered now, the lookup of last-seen times under way.
    session.begins(bob);
    storage.gate = Promise.resolve();
    await settled(world);
    openLookup();
    await gateway.until((received) => snapshotsOf(received).length === 2);
    assert.equal(snapshotsOf(gateway.received)[1], `1: ${ann} online, ${bob} online`);
    assert.deepEqual(changesOf(gateway.received), [], "all of it was in the snapshot");
    session.ends(ann, bob);
    await settled(world);
    await world.elapse(world.graceMs);
    await gateway.until((received) => changesOf(received).length === 2);
    gateway.abort();
  },

  async "answers each set once, those of a connection in their order"(world) {
    const [prefix] = fresh("user");
    await settled(world);
    const gateway = watch(world);
    const count = 100;
    for (let at = 0; at < count; at += 1)
      gateway.send({
        sets: [1, 2].map((connection) => ({
          connection,
          userId: "me",
          userIds: [`${prefix} ${at}`],
        })),
      });
    await gateway.until((received) => snapshotsOf(received).length === 2 * count);
    for (const connection of [1, 2])
      assert.deepEqual(
        snapshotsOf(gateway.received).filter((text) => text.startsWith(`${connection}:`)),
        Array.from({ length: count }, (_, at) => `${connection}: ${prefix} ${at} offline 0`),
      );
    gateway.abort();
  },

  async "replaces a connection's set and ends it with the connection"(world) {
    const { session } = world;
    const [ann, bob, joe, eve] = fresh("ann", "bob", "joe", "eve");
    await settled(world);
    const gateway = watch(world);
    await watching(gateway, 1, [ann]);
    await watching(gateway, 1, [bob]);
    await watching(gateway, 2, [joe, ann]);
    gateway.send({ ended: [2] });
    await watching(gateway, 3, [eve]);
    session.begins(ann, joe, bob, eve);
    await gateway.until((received) => changesOf(received).length === 2);
    assert.deepEqual(changesOf(gateway.received).sort(), [`1: ${bob} online`, `3: ${eve} online`]);
    gateway.abort();
  },

  async "refuses a set of too many, or of nobody's, and goes on (P9)"(world) {
    const { session, client, watchMax } = world;
    const [ann, user] = fresh("ann", "user");
    await settled(world);
    const gateway = watch(world);
    await watching(gateway, 1, [ann]);
    const crowd = Array.from({ length: 1_001 }, (_, at) => `${user} ${at}`);
    await watching(gateway, 1, crowd.slice(0, watchMax + 1));
    gateway.send({ sets: [{ connection: 2, userId: "", userIds: [ann] }] });
    await gateway.until((received) => snapshotsOf(received).length === 3);
    const [, many, nobodys] = gateway.received.flatMap(({ snapshots }) => snapshots);
    assert.equal(many?.code, Code.InvalidArgument);
    assert.match(many.message, new RegExp(`at most ${watchMax}`));
    assert.equal(nobodys?.code, Code.InvalidArgument);
    session.begins(ann);
    await settled(world);
    await watching(gateway, 3, [ann]);
    assert.deepEqual(changesOf(gateway.received), [], "the first connection watches nobody now");
    await assert.rejects(client.getPresences({ userIds: crowd }), { code: Code.InvalidArgument });
    gateway.abort();
  },

  async "asks storage again while it is away, and says so where it stays away"(world) {
    const { storage } = world;
    const [ann, bob] = fresh("ann", "bob");
    await settled(world);
    const gateway = watch(world);
    const { filters } = storage;
    storage.failure = new ConnectError("away", Code.Unavailable);
    try {
      gateway.send({ sets: [{ connection: 1, userId: "me", userIds: [ann] }] });
      await gateway.until(() => storage.filters > filters);
      storage.failure = undefined;
      await passing(world, "storage to be asked again", () => gateway.received.length === 1);
      assert.deepEqual(snapshotsOf(gateway.received), [`1: ${ann} offline 0`]);
      storage.failure = new ConnectError("away", Code.Unavailable);
      gateway.send({ sets: [{ connection: 1, userId: "me", userIds: [bob] }] });
      await passing(world, "an answer all the same", () => gateway.received.length === 2);
      assert.equal(gateway.received.at(-1)?.snapshots[0]?.code, Code.Unavailable);
    } finally {
      storage.failure = undefined;
    }
    gateway.abort();
  },

  async "keeps when users were last seen, again until storage takes it"(world) {
    const { session, storage, lateMs } = world;
    const [ann] = fresh("ann");
    session.begins(ann);
    await settled(world);
    await world.elapse(100);
    const { calls } = storage;
    storage.failure = new ConnectError("full", Code.ResourceExhausted);
    const endedMs = world.now();
    try {
      session.ends(ann);
      await settled(world);
      await passing(world, "storage to be asked", () => storage.calls > calls);
    } finally {
      storage.failure = undefined;
    }
    await passing(world, "the time to be kept", () => storage.seenMs.has(ann));
    const seenMs = storage.seenMs.get(ann) ?? 0;
    assert.ok(seenMs >= endedMs && seenMs <= endedMs + lateMs, `${seenMs}, ended ${endedMs}`);
    await world.elapse(2 * world.graceMs);
    assert.equal(await shown(world, ann), `${ann} offline ${seenMs}`);
  },
};
