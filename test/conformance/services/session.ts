/** What every session must do, with nothing but gRPC between it and the suite, which plays gateways, publishers and presence. */
import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code } from "@connectrpc/connect";
import { Ring } from "../../../mesh/ring.ts";
import type {
  AttachRequestSchema,
  AttachResponse,
  PublishRequestSchema,
  PublishResponse,
  Push,
  SessionService,
  WatchOnlineRequestSchema,
  WatchOnlineResponse,
} from "../../../proto/gen/parley/session/v1/session_pb.ts";
import { Bidi } from "../../session/bidi.ts";

export type Attaching = Bidi<MessageInitShape<typeof AttachRequestSchema>, AttachResponse>;
export type Publishing = Bidi<MessageInitShape<typeof PublishRequestSchema>, PublishResponse>;
export type WatchingOnline = Bidi<object, WatchOnlineResponse>;

export interface SessionWorld {
  readonly client: Client<typeof SessionService>;
}

/** The streams of one case, which end with it. */
export class Streams {
  readonly client: Client<typeof SessionService>;
  readonly #open: { abort(): void }[] = [];

  constructor({ client }: SessionWorld) {
    this.client = client;
  }

  readonly attach = (gatewayId: string, bootId = "b1"): Attaching => {
    const stream: Attaching = this.#kept(
      new Bidi((requests, options) => this.client.attach(requests, options)),
    );
    stream.send({ gatewayId, bootId });
    return stream;
  };

  readonly publish = (): Publishing =>
    this.#kept(new Bidi((requests, options) => this.client.publish(requests, options)));

  readonly watch = (
    asked: MessageInitShape<typeof WatchOnlineRequestSchema> = {},
  ): WatchingOnline =>
    this.#kept(new Bidi((_requests, options) => this.client.watchOnline(asked, options)));

  /** What the session held for them goes with them: nobody is online when this resolves. */
  async end(): Promise<void> {
    const watcher = this.watch();
    await watcher.until((received) => received.some(({ initialComplete }) => initialComplete));
    for (const stream of this.#open) if (stream !== watcher) stream.abort();
    await watcher.until((received) => online(received).length === 0);
    watcher.abort();
  }

  #kept<S extends { abort(): void }>(stream: S): S {
    this.#open.push(stream);
    return stream;
  }
}

export const attachedOf = (received: AttachResponse[]) =>
  received.flatMap(({ attached }) => attached);
export const replacedOf = (received: AttachResponse[]) =>
  received.flatMap(({ replaced }) => replaced);
export const pushesOf = (received: AttachResponse[]): Push[] =>
  received.flatMap(({ pushes }) => pushes);
export const seqOf = ({ payload }: Push) =>
  payload?.payload.case === "record" ? payload.payload.value.seq : undefined;
export const seqsOf = (received: AttachResponse[]) => pushesOf(received).map(seqOf);

export const record = (
  userIds: string[],
  seq: number,
  more: { exceptOrigin?: string; onlyOrigin?: string; commit?: bigint } = {},
  bytes = 3,
) => ({
  userIds,
  payload: {
    payload: {
      case: "record" as const,
      value: { conversationId: "g:1", seq, record: new Uint8Array(bytes) },
    },
  },
  ...more,
});

/** What a watcher knows after all that it was told. */
export function online(received: WatchOnlineResponse[]): string[] {
  const users = new Set<string>();
  for (const { onlineUserIds, offlineUserIds } of received) {
    for (const userId of onlineUserIds) users.add(userId);
    for (const userId of offlineUserIds) users.delete(userId);
  }
  return [...users].sort();
}

const cases: Readonly<Record<string, (streams: Streams) => Promise<void>>> = {
  async "pushes what is published after the ack, in the publisher's order (P6)"({
    attach,
    publish,
  }) {
    const gateway = attach("g1");
    const publisher = publish();
    gateway.send({ attached: [{ connection: 5, userId: "ann", deviceId: "phone" }] });
    await gateway.until((received) => attachedOf(received).includes(5));
    for (let seq = 1; seq <= 100; seq += 1)
      publisher.send({ publications: [record(["ann"], seq)] });
    await gateway.until((received) => pushesOf(received).length === 100);
    assert.deepEqual(
      seqsOf(gateway.received),
      Array.from({ length: 100 }, (_, at) => at + 1),
    );
    assert.ok(pushesOf(gateway.received).every(({ connections }) => connections[0] === 5));
  },

  async "leaves the origin out, or reaches it alone"({ attach, publish }) {
    const gateway = attach("g1");
    const publisher = publish();
    gateway.send({
      attached: [
        { connection: 1, userId: "ann", deviceId: "phone" },
        { connection: 2, userId: "ann", deviceId: "laptop" },
      ],
    });
    await gateway.until((received) => attachedOf(received).length === 2);
    publisher.send({
      publications: [
        record(["ann"], 1, { exceptOrigin: "g1/1" }),
        record(["ann"], 2, { onlyOrigin: "g1/1" }),
      ],
    });
    await gateway.until((received) => pushesOf(received).length === 2);
    assert.deepEqual(
      pushesOf(gateway.received).map((push) => [seqOf(push), push.connections]),
      [
        [1, [2]],
        [2, [1]],
      ],
    );
  },

  async "reports a replaced device to the gateway that had it and routes to the new one"({
    attach,
    publish,
    client,
  }) {
    const [old, young] = [attach("g1"), attach("g2")];
    const publisher = publish();
    old.send({ attached: [{ connection: 1, userId: "ann", deviceId: "phone" }] });
    await old.until((received) => attachedOf(received).length === 1);
    young.send({ attached: [{ connection: 1, userId: "ann", deviceId: "phone" }] });
    await old.until((received) => replacedOf(received).includes(1));
    await young.until((received) => attachedOf(received).includes(1));
    publisher.send({ publications: [record(["ann"], 1)] });
    await young.until((received) => pushesOf(received).length === 1);
    assert.deepEqual(replacedOf(young.received), []);
    const { sessions } = await client.listSessions({ userId: "ann" });
    assert.deepEqual(
      sessions.map(({ gatewayId, connection, deviceId, bootId }) => [
        gatewayId,
        connection,
        deviceId,
        bootId,
      ]),
      [["g2", 1, "phone", "b1"]],
    );
  },

  async "lists everybody online first, in bounded messages, then tells every change (P7)"({
    attach,
    watch,
  }) {
    const gateway = attach("g1");
    const users = Array.from({ length: 2_500 }, (_, at) => `user ${at}`);
    gateway.send({ attached: users.map((userId, at) => ({ connection: at, userId })) });
    await gateway.until((received) => attachedOf(received).length === 2_500);
    const watcher = watch();
    await watcher.until((received) => received.some(({ initialComplete }) => initialComplete));
    assert.equal(online(watcher.received).length, 2_500);
    assert.ok(watcher.received.every(({ onlineUserIds }) => onlineUserIds.length <= 1_000));
    gateway.send({ detached: [0, 1], attached: [{ connection: 9_000, userId: "ann" }] });
    await watcher.until((received) => online(received).includes("ann"));
    await watcher.until((received) => online(received).length === 2_499);
    assert.equal(online(watcher.received).includes("user 0"), false);
  },

  async "ends the connections of a gateway however its stream ends (P7)"({
    attach,
    watch,
    client,
  }) {
    const watcher = watch();
    const [finishing, aborting] = [attach("g1"), attach("g2")];
    finishing.send({ attached: [{ connection: 1, userId: "ann" }] });
    aborting.send({ attached: [{ connection: 1, userId: "bob" }] });
    await watcher.until((received) => online(received).length === 2);
    finishing.finish();
    await watcher.until((received) => online(received).join() === "bob");
    assert.equal(await finishing.ended, undefined);
    aborting.abort();
    await watcher.until((received) => online(received).length === 0);
    assert.deepEqual((await client.listSessions({ userId: "bob" })).sessions, []);
  },

  async "ends a gateway's stream when the gateway comes again"({ attach, client }) {
    const old = attach("g1", "b1");
    old.send({ attached: [{ connection: 1, userId: "ann" }] });
    await old.until((received) => attachedOf(received).length === 1);
    const young = attach("g1", "b2");
    young.send({ attached: [{ connection: 1, userId: "bob" }] });
    assert.equal((await old.ended)?.code, Code.Aborted);
    await young.until((received) => attachedOf(received).length === 1);
    assert.deepEqual((await client.listSessions({ userId: "ann" })).sessions, []);
    assert.equal((await client.listSessions({ userId: "bob" })).sessions[0]?.bootId, "b2");
  },

  async "keeps both of two that are announced again, and neither beside one that is new"({
    attach,
    client,
  }) {
    const [one, two] = [attach("g1"), attach("g2")];
    one.send({ attached: [{ connection: 1, userId: "ann", deviceId: "phone", again: true }] });
    await one.until((received) => attachedOf(received).includes(1));
    two.send({ attached: [{ connection: 2, userId: "ann", deviceId: "phone", again: true }] });
    await two.until((received) => attachedOf(received).includes(2));
    assert.deepEqual(replacedOf(one.received), []);
    two.send({ attached: [{ connection: 3, userId: "ann", deviceId: "phone" }] });
    await one.until((received) => replacedOf(received).includes(1));
    await two.until((received) => replacedOf(received).includes(2));
    one.send({ attached: [{ connection: 4, userId: "ann", deviceId: "phone", again: true }] });
    await one.until((received) => replacedOf(received).includes(4));
    assert.deepEqual(attachedOf(one.received), [1]);
    const { sessions } = await client.listSessions({ userId: "ann" });
    assert.deepEqual(
      sessions.map(({ connection }) => connection),
      [3],
    );
  },

  async "tells devices to sync that attached between a commit and its index, and no others (P6)"({
    attach,
    publish,
  }) {
    const gateway = attach("g1");
    const publisher = publish();
    const resyncs = () =>
      pushesOf(gateway.received)
        .filter(({ payload }) => payload?.payload.case === "resync")
        .flatMap(({ connections }) => connections);
    const attached = async (connection: number, userId: string) => {
      gateway.send({ attached: [{ connection, userId }] });
      await gateway.until((received) => attachedOf(received).includes(connection));
    };
    await attached(1, "ann");
    publisher.send({ publications: [record(["ann", "bob"], 1, { commit: 7n })] });
    await gateway.until((received) => seqsOf(received).includes(1));
    await attached(2, "bob");
    await attached(3, "eve");
    // In one request too: the record passes first.
    publisher.send({
      publications: [record(["ann"], 2, { commit: 8n })],
      indexedCommits: [7n, 8n],
    });
    await gateway.until(() => resyncs().length > 0);
    await attached(4, "ann");
    publisher.send({ publications: [record(["ann"], 3, { commit: 9n })], indexedCommits: [9n] });
    await gateway.until((received) => seqsOf(received).includes(3));
    assert.deepEqual(resyncs(), [2]);
  },

  async "tells each instance of presence of its own users only, and one that is not among them of none"({
    attach,
    watch,
  }) {
    const gateway = attach("g1");
    const presenceIds = ["p1", "p2", "p3"];
    const users = Array.from({ length: 300 }, (_, at) => `user ${at}`);
    const first = users.slice(0, 150);
    gateway.send({ attached: first.map((userId, at) => ({ connection: at, userId })) });
    await gateway.until((received) => attachedOf(received).length === first.length);
    const watchers = [...presenceIds, "p4"].map((presenceId) => watch({ presenceIds, presenceId }));
    const all = watch();
    for (const watcher of [...watchers, all])
      await watcher.until((received) => received.some(({ initialComplete }) => initialComplete));
    gateway.send({
      attached: users.slice(150).map((userId, at) => ({ connection: 150 + at, userId })),
      detached: [0, 1, 2],
    });
    await all.until((received) => online(received).length === 297);
    const ring = new Ring(presenceIds);
    for (const [at, presenceId] of [...presenceIds, "p4"].entries()) {
      const mine = users.slice(3).filter((userId) => ring.of(userId) === presenceId);
      const watcher = watchers[at];
      await watcher?.until((received) => online(received).length === mine.length);
      assert.deepEqual(online(watcher?.received ?? []), mine.sort());
      const told = watcher?.received.flatMap((one) => [
        ...one.onlineUserIds,
        ...one.offlineUserIds,
      ]);
      assert.ok(told?.every((userId) => ring.of(userId) === presenceId));
    }
  },

  async "answers bad input with what is wrong"({ attach, client }) {
    const nameless = attach("");
    assert.match((await nameless.ended)?.rawMessage ?? "", /gateway_id and boot_id/);
    const gateway = attach("g1");
    gateway.send({ attached: [{ connection: 1, userId: "" }] });
    assert.equal((await gateway.ended)?.code, Code.InvalidArgument);
    await assert.rejects(client.listSessions({}), { code: Code.InvalidArgument });
  },
};

export const sessionCases: Readonly<Record<string, (world: SessionWorld) => Promise<void>>> =
  Object.fromEntries(
    Object.entries(cases).map(([title, passes]) => [
      title,
      async (world: SessionWorld) => {
        const streams = new Streams(world);
        await passes(streams);
        await streams.end();
      },
    ]),
  );
