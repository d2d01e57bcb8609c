/** ChatService's operations as Connect's side of the edge calls them: unary calls, long poll, Subscribe. */
import assert from "node:assert/strict";
import { create, fromBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { GatewayConfig } from "../../gateway/index.ts";
import type { Caller } from "../../gateway/ports.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { peerOf } from "../../mesh/peers.ts";
import {
  GatewayService,
  WatchPresenceRequestSchema as WatchByStreamSchema,
} from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { WatchPresenceRequest as WatchByStream } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import {
  CloseReason,
  HistoryRequestSchema,
  ListMembersRequestSchema,
  MoveCursorRequestSchema,
  SendRequestSchema,
  SubscribeRequestSchema,
  SyncRequestSchema,
  WatchPresenceRequestSchema,
} from "../../proto/gen/parley/v1/chat_pb.ts";
import type { SubscribeResponse } from "../../proto/gen/parley/v1/chat_pb.ts";
import { RecordSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import { World, clientId, record, refused, row, turns, until } from "./world.ts";

const ab = "d:alice:bob";
const alice: Caller = { userId: "alice", deviceId: "web", origin: "" };

describe("calls without a WebSocket", () => {
  let world: World;
  const open = async (config: Partial<GatewayConfig> = {}): Promise<World> => {
    world = await new World(config).open();
    return world;
  };
  afterEach(() => world.close());

  const code =
    (expected: Code, message = /./) =>
    (error: unknown) =>
      error instanceof ConnectError && error.code === expected && message.test(error.rawMessage);

  const send = (init: MessageInitShape<typeof SendRequestSchema>) =>
    world.gateway.calls.send(alice, create(SendRequestSchema, init));
  const to = { case: "conversationId" as const, value: ab };

  describe("unary", () => {
    it("send and moveCursor", async () => {
      await open();
      const sent = await send({ to, clientId: clientId(1), content: { text: "hi" } });
      assert.deepEqual([sent.conversationId, sent.seq, sent.duplicate], [ab, 1, false]);
      assert.equal(world.delivery.operations[0]?.origin, "");
      const moved = await world.gateway.calls.moveCursor(
        alice,
        create(MoveCursorRequestSchema, { conversationId: ab, deliveredSeq: 1 }),
      );
      assert.equal(moved.cursor?.deliveredSeq, 1);
    });

    it("refuse what is wrong as the WebSocket does", async () => {
      await open();
      const { calls } = world.gateway;
      await assert.rejects(
        send({ to, clientId: clientId(1) }),
        code(Code.InvalidArgument, /empty/),
      );
      await assert.rejects(
        send({ to, clientId: clientId(1), content: { text: "x".repeat(16_385) } }),
        code(Code.InvalidArgument, /16384/),
      );
      await assert.rejects(
        send({ to, clientId: new Uint8Array(15), content: { text: "x" } }),
        code(Code.InvalidArgument, /15 bytes/),
      );
      const history = (init: MessageInitShape<typeof HistoryRequestSchema>) =>
        calls.history(alice, create(HistoryRequestSchema, init));
      await assert.rejects(history({ conversationId: ab }), code(Code.NotFound));
      await assert.rejects(history({}), code(Code.InvalidArgument));
      await assert.rejects(
        history({ conversationId: ab, limit: 201 }),
        code(Code.InvalidArgument, /200/),
      );
      const sync = (init: MessageInitShape<typeof SyncRequestSchema>) =>
        calls.sync(alice, create(SyncRequestSchema, init));
      await assert.rejects(sync({ waitMs: 60_001 }), code(Code.InvalidArgument));
      await assert.rejects(sync({ recordsPerConversation: 51 }), code(Code.InvalidArgument));
      await assert.rejects(
        sync({ token: Uint8Array.of(7) }),
        code(Code.InvalidArgument, /empty token/),
      );
      await assert.rejects(
        calls.listMembers(
          alice,
          create(ListMembersRequestSchema, { conversationId: ab, limit: 1_001 }),
        ),
        code(Code.InvalidArgument),
      );
      const userIds = Array.from({ length: 1_001 }, (_, at) => `u${at}`);
      await assert.rejects(
        calls.watchPresence(alice, create(WatchPresenceRequestSchema, { userIds })),
        code(Code.InvalidArgument, /1000/),
      );
    });

    it("a refusal keeps its code and its time", async () => {
      await open();
      world.delivery.answer = () => refused(Code.Unavailable, 321);
      await assert.rejects(
        send({ to, clientId: clientId(1), content: { text: "x" } }),
        (error: unknown) =>
          error instanceof ConnectError &&
          error.code === Code.Unavailable &&
          error.metadata.get("retry-after-ms") === "321",
      );
    });

    it("presence without a connection is told once", async () => {
      await open();
      const { presences } = await world.gateway.calls.watchPresence(
        alice,
        create(WatchPresenceRequestSchema, { userIds: ["bob", "bob"] }),
      );
      assert.deepEqual(
        presences.map(({ userId }) => userId),
        ["bob"],
      );
      await until(() => world.presence.ended.length === 1);
    });
  });

  describe("history", () => {
    const log = (count: number, size = 1) =>
      Array.from({ length: count }, (_, at) => record(ab, at + 1, "bob", "x".repeat(size)));
    const page = async (init: MessageInitShape<typeof HistoryRequestSchema>): Promise<number[]> => {
      const request = create(HistoryRequestSchema, { conversationId: ab, ...init });
      const { records } = await world.gateway.calls.history(alice, request);
      return records.map(({ seq }) => seq);
    };
    const range = (from: number, to_: number): number[] =>
      Array.from({ length: to_ - from + 1 }, (_, at) => from + at);

    it("is the newest 50, or what was asked for, from either end", async () => {
      await open();
      world.storage.rows.set("alice", [row(ab, "alice", 300)]);
      world.storage.logs.set(ab, log(300));
      assert.deepEqual(await page({}), range(251, 300));
      assert.deepEqual(await page({ limit: 200 }), range(101, 300));
      assert.deepEqual(await page({ limit: 100, beforeSeq: 150 }), range(50, 149));
      assert.deepEqual(await page({ limit: 100, afterSeq: 150 }), range(151, 250));
      assert.deepEqual(await page({ afterSeq: 10, beforeSeq: 14 }), range(11, 13));
      assert.deepEqual(await page({ limit: 200, beforeSeq: 30 }), range(1, 29));
      assert.deepEqual(await page({ limit: 200, afterSeq: 250 }), range(251, 300));
      assert.deepEqual(await page({ afterSeq: 300 }), []);
    });

    it("P9 is cut where it is large, without holes, from the side asked for", async () => {
      await open();
      world.storage.rows.set("alice", [row(ab, "alice", 300)]);
      world.storage.logs.set(ab, log(300, 16_000));
      const newest = await page({ limit: 200 });
      assert.ok(newest.length < 80 && newest.length > 30, String(newest.length));
      assert.deepEqual(newest, range(301 - newest.length, 300));
      const oldest = await page({ limit: 200, afterSeq: 5 });
      assert.deepEqual(oldest, range(6, 5 + oldest.length));
    });
  });

  describe("sync", () => {
    it("pages through everything, with the newest records", async () => {
      await open();
      const rows = Array.from({ length: 250 }, (_, at) => row(`g:${at}`, "alice", 3));
      world.storage.rows.set("alice", rows);
      for (const { conversationId } of rows) {
        const records = [1, 2, 3].map((seq) => record(conversationId, seq, "bob"));
        world.storage.logs.set(conversationId, records);
      }
      const seen = new Set<string>();
      let token: Uint8Array = new Uint8Array(0);
      for (let pages = 1; ; pages += 1) {
        const request = create(SyncRequestSchema, { token, recordsPerConversation: 2 });
        const answer = await world.gateway.calls.sync(alice, request);
        assert.ok(answer.conversations.length <= 110);
        for (const { conversation, records } of answer.conversations) {
          seen.add(conversation?.conversationId ?? "");
          assert.deepEqual(
            records.map(({ seq }) => seq),
            [2, 3],
          );
        }
        ({ token } = answer);
        if (answer.complete) {
          assert.ok(pages >= 3);
          break;
        }
      }
      assert.equal(seen.size, 250);
      const again = await world.gateway.calls.sync(alice, create(SyncRequestSchema, { token }));
      assert.deepEqual([again.conversations, again.complete], [[], true]);
    });

    it("records end at the head of the row, though the log has grown since", async () => {
      await open();
      world.storage.rows.set("alice", [row(ab, "alice", 2)]);
      world.storage.logs.set(
        ab,
        [1, 2, 3].map((seq) => record(ab, seq, "bob")),
      );
      const request = create(SyncRequestSchema, { recordsPerConversation: 50 });
      const { conversations } = await world.gateway.calls.sync(alice, request);
      assert.deepEqual(
        conversations[0]?.records.map(({ seq }) => seq),
        [1, 2],
      );
    });

    const poll = (token: Uint8Array, waitMs = 30_000, signal?: AbortSignal) =>
      world.gateway.calls.sync(alice, create(SyncRequestSchema, { token, waitMs }), signal);
    const tokenNow = async () =>
      (await world.gateway.calls.sync(alice, create(SyncRequestSchema))).token;

    it("a long poll answers at once where something has changed", async () => {
      await open();
      world.storage.rows.set("alice", [row(ab, "alice", 1)]);
      assert.equal((await poll(new Uint8Array(0))).conversations.length, 1);
      await until(() => world.session.attached.size === 0);
    });

    it("a long poll answers with what is pushed, also where the index shows it later", async () => {
      await open();
      const token = await tokenNow();
      const polled = poll(token);
      await until(() => world.session.attached.size === 1);
      await turns(10);
      world.session.push(["alice"], {
        case: "typing",
        value: { conversationId: ab, userId: "bob" },
      });
      world.session.pushRecord(["alice"], ab, 1, "bob");
      await turns(10);
      world.storage.rows.set("alice", [row(ab, "alice", 1)]);
      world.clock.advance(20);
      await turns(10);
      world.clock.advance(40);
      const { conversations } = await polled;
      assert.equal(conversations[0]?.conversation?.headSeq, 1);
      await until(() => world.session.attached.size === 0);
    });

    it("a long poll ends with its time, unchanged", async () => {
      await open();
      const token = await tokenNow();
      const polled = poll(token, 5_000);
      await until(() => world.session.attached.size === 1);
      await turns(10);
      world.clock.advance(5_000);
      const answer = await polled;
      assert.deepEqual([answer.conversations, answer.complete], [[], true]);
      assert.deepEqual(answer.token, token);
    });

    it("a long poll ends when its caller goes, and leaves nothing", async () => {
      await open();
      const token = await tokenNow();
      const gone = new AbortController();
      const polled = poll(token, 30_000, gone.signal);
      await until(() => world.session.attached.size === 1);
      await turns(10);
      gone.abort();
      await assert.rejects(polled, code(Code.Canceled));
      await until(() => world.session.attached.size === 0);
    });
  });

  describe("subscribe", () => {
    async function subscribed(config: Partial<GatewayConfig> = {}) {
      await open(config);
      world.storage.rows.set("alice", [row(ab, "alice", 1)]);
      const gone = new AbortController();
      const events: SubscribeResponse["event"][] = [];
      const request = create(SubscribeRequestSchema);
      const ended = (async () => {
        for await (const { event } of world.gateway.calls.subscribe(alice, request, gone.signal)) {
          events.push(event);
        }
      })();
      const next = async () => await until(() => events.shift());
      return { next, ended, gone, events };
    }

    it("syncs, then tells what is pushed, then heartbeats", async () => {
      const { next, gone, ended } = await subscribed();
      const sync = await next();
      assert.ok(sync.case === "sync" && sync.value.complete);
      world.session.pushRecord(["alice"], ab, 2, "bob");
      const pushed = await next();
      assert.ok(pushed.case === "pushed");
      assert.deepEqual(pushed.value.records[0], fromBinary(RecordSchema, record(ab, 2, "bob")));
      await world.pass(30_000);
      const beat = await next();
      assert.ok(beat.case === "heartbeat");
      assert.equal(beat.value.headSum, 42n);
      gone.abort();
      await ended;
      await until(() => world.session.attached.size === 0);
    });

    it("its watch is the device's: changes are pushed to it", async () => {
      const { next, gone, ended } = await subscribed();
      await next();
      const request = create(WatchPresenceRequestSchema, { userIds: ["bob"] });
      await world.gateway.calls.watchPresence(alice, request);
      const [number] = world.session.attached.keys();
      world.presence.change([number ?? 0], "bob");
      const pushed = await next();
      assert.ok(pushed.case === "pushed");
      assert.equal(pushed.value.presences[0]?.userId, "bob");
      gone.abort();
      await ended;
      await until(() => world.presence.ended.length === 1);
    });

    it("its watch is the device's, too, where another gateway was asked", async () => {
      const { next, gone, ended } = await subscribed();
      await next();
      const { watchPresence } = world.gateway.service;
      const ask = async (deviceId: string) =>
        await watchPresence?.call(
          world.gateway.service,
          create(WatchByStreamSchema, { userId: "alice", deviceId, userIds: ["bob"] }),
          {} as never,
        );
      assert.deepEqual(
        (await ask("web"))?.presences?.map(({ userId }) => userId),
        ["bob"],
      );
      const [number] = world.session.attached.keys();
      world.presence.change([number ?? 0], "bob");
      const pushed = await next();
      assert.ok(pushed.case === "pushed");
      assert.equal(pushed.value.presences[0]?.userId, "bob");
      await assert.rejects(ask("phone"), code(Code.NotFound, /no stream/));
      gone.abort();
      await ended;
    });

    describe("at another gateway", () => {
      const other = new LocalMesh();
      const asked: string[] = [];
      let fails: Code | undefined;
      other.serve(GatewayService, {
        watchPresence: ({ userId, deviceId, userIds }: WatchByStream) => {
          asked.push(`${userId}/${deviceId}: ${userIds.join()}`);
          if (fails !== undefined) throw new ConnectError("no", fails);
          return { presences: [{ userId: "bob", availability: 2, lastSeenMs: 7n }] };
        },
      } as never);
      after(() => other.close());

      const watched = async () => {
        await open();
        asked.length = 0;
        world.peers(GatewayService).replace([peerOf("two", other.transport(GatewayService))]);
        const at = (deviceId: string, bootId: string): void => {
          const $typeName = "parley.session.v1.Session";
          world.session.elsewhere.push({
            $typeName,
            gatewayId: "g",
            connection: 1,
            deviceId,
            bootId,
          });
        };
        at("phone", "one");
        at("web", "two");
        const request = create(WatchPresenceRequestSchema, { userIds: ["bob"] });
        return await world.gateway.calls.watchPresence(alice, request);
      };

      it("watches for the device whose call came here", async () => {
        fails = undefined;
        const { presences } = await watched();
        assert.deepEqual(asked, ["alice/web: bob"]);
        assert.equal(presences[0]?.lastSeenMs, 7n);
        assert.equal(world.presence.sets.length, 0);
      });

      for (const code of [Code.NotFound, Code.Unimplemented])
        it(`answers ${Code[code]}, as it goes or is older: the device is told how things are`, async () => {
          fails = code;
          const { presences } = await watched();
          assert.deepEqual([asked.length, presences[0]?.lastSeenMs], [1, 0n]);
        });

      it("gives no answer: nor has the device one", async () => {
        fails = Code.Unavailable;
        await assert.rejects(watched(), code(Code.Unavailable));
      });
    });

    it("ends with a Goodbye when the gateway drains", async () => {
      const { next, ended } = await subscribed();
      await next();
      await world.gateway.drain(0);
      const goodbye = await next();
      assert.ok(goodbye.case === "goodbye");
      assert.equal(goodbye.value.reason, CloseReason.DRAINING);
      await ended;
      const again = world.gateway.calls.subscribe(
        alice,
        create(SubscribeRequestSchema),
        new AbortController().signal,
      );
      await assert.rejects(async () => {
        for await (const _ of again);
      }, code(Code.Unavailable));
    });

    it("P9 that is not read is ended as slow", async () => {
      await open();
      const gone = new AbortController();
      const request = create(SubscribeRequestSchema);
      const stream = world.gateway.calls
        .subscribe(alice, request, gone.signal)
        [Symbol.asyncIterator]();
      await stream.next();
      const first = stream.next();
      await turns(10);
      for (let seq = 1; seq < 1_200; seq += 1) world.session.pushRecord(["alice"], ab, seq, "bob");
      await first;
      await turns(2_500);
      let last: SubscribeResponse | undefined;
      for (let one = await stream.next(); one.done !== true; one = await stream.next()) {
        last = one.value;
      }
      assert.ok(last?.event.case === "goodbye");
      assert.equal(last.event.value.reason, CloseReason.SLOW);
    });

    it("ends where session does not know it in time", async () => {
      await open();
      world.session.acks = false;
      const stream = world.gateway.calls
        .subscribe(alice, create(SubscribeRequestSchema), new AbortController().signal)
        [Symbol.asyncIterator]();
      const first = stream.next();
      await until(() => world.session.attached.size === 1);
      await world.pass(10_000);
      const { value } = await first;
      assert.equal((value as SubscribeResponse).event.case, "goodbye");
      await stream.return?.();
    });
  });
});
