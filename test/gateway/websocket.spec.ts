/** The gateway's WebSocket from outside: hello, calls, pushes, bad input, limits. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { WebSocket } from "ws";
import type { GatewayConfig } from "../../gateway/index.ts";
import {
  DisconnectRequestSchema,
  ListConnectionsRequestSchema,
} from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { ClientBatchSchema } from "../../proto/gen/parley/v1/frame_pb.ts";
import { CloseReason } from "../../proto/gen/parley/v1/chat_pb.ts";
import type { Device } from "./world.ts";
import { World, clientId, record, refused, row, turns, until } from "./world.ts";

const ab = "d:alice:bob";

for (const wire of [false, true])
  describe(`the gateway's WebSocket${wire ? ", other services behind a wire" : ""}`, () => {
    let world: World;
    const open = async (config: Partial<GatewayConfig> = {}): Promise<World> => {
      world = await new World(config, wire).open();
      return world;
    };
    afterEach(() => world.close());

    describe("hello", () => {
      it("welcomes, syncs with request_id 0, and attaches before it syncs", async () => {
        await open();
        world.session.acks = false;
        world.storage.rows.set("alice", [row(ab, "alice", 3)]);
        const device = await world.connect();
        device.hello("alice");
        await until(() => world.session.attached.size === 1);
        await turns(20);
        assert.equal(world.storage.lists, 0, "it synced before session knew it");
        world.session.ack([...world.session.attached.keys()]);
        const welcome = await device.until(({ frame }) => frame.case === "welcome");
        assert.equal(welcome.requestId, 1);
        const sync = await device.until(({ frame }) => frame.case === "sync");
        assert.equal(sync.requestId, 0);
        assert.ok(sync.frame.case === "sync" && sync.frame.value.complete);
        assert.deepEqual(
          sync.frame.value.conversations.map(({ conversation }) => conversation?.conversationId),
          [ab],
        );
      });

      it("tells what it is", async () => {
        await open({ heartbeatMs: 7_000 });
        const device = await world.connect();
        device.hello("alice");
        const { $typeName, ...welcome } = await device.frame("welcome");
        assert.deepEqual(
          [$typeName, welcome],
          [
            "parley.v1.Welcome",
            {
              userId: "alice",
              gatewayId: "g1",
              heartbeatMs: 7_000,
              maxFrameBytes: 262_144,
              framesPerSecond: 2_000,
              bytesPerSecond: 2_097_152,
            },
          ],
        );
        assert.deepEqual(
          [...world.session.attached.values()].map(({ userId: u, deviceId }) => [u, deviceId]),
          [["alice", "phone"]],
        );
      });

      it("takes the token of the upgrade's Authorization header", async () => {
        await open();
        const device = await world.connect({ authorization: "Bearer alice" });
        device.hello("");
        assert.equal((await device.frame("welcome")).userId, "alice");
      });

      for (const [name, token] of [
        ["no token", ""],
        ["a wrong token", "?!"],
      ] as const) {
        it(`${name}: a failure with code 16, then close 4100`, async () => {
          await open();
          const device = await world.connect();
          device.hello(token);
          const failure = await device.failure(1);
          assert.equal(failure.code, Code.Unauthenticated);
          assert.match(failure.message, /token/);
          assert.equal((await device.frame("goodbye")).reason, CloseReason.UNAUTHENTICATED);
          assert.equal((await device.closed).code, 4_100);
          assert.equal(world.session.attached.size, 0);
        });
      }

      it("none in time: close 4003", async () => {
        await open();
        const device = await world.connect();
        await world.pass(9_000);
        await turns(5);
        assert.equal(device.ended, undefined);
        await world.pass(1_000);
        assert.deepEqual(await device.closed, { code: 4_003, reason: "no Hello within 10000 ms" });
      });

      it("ends where session does not answer in time, to be tried again", async () => {
        await open();
        world.session.acks = false;
        const device = await world.connect();
        device.hello("alice");
        await until(() => world.session.attached.size === 1);
        await world.pass(10_000);
        const { reason, reconnectAfterMs } = await device.frame("goodbye");
        assert.equal(reason, CloseReason.DRAINING);
        assert.ok(reconnectAfterMs > 0);
        assert.equal((await device.closed).code, 4_001);
      });

      it("an expiring token ends the connection with 4100 when it has expired", async () => {
        await open();
        const device = await world.device("alice@soon");
        const beats = setInterval(() =>
          device.send({ frame: { case: "heartbeatReply", value: {} } }),
        );
        for (let s = 0; s < 59; s += 1) {
          await world.pass(1_000);
          await turns(3);
        }
        assert.equal(device.ended, undefined);
        await world.pass(1_000);
        clearInterval(beats);
        assert.deepEqual(await device.closed, { code: 4_100, reason: "the token has expired" });
      });

      it("answers calls that came right behind the Hello", async () => {
        await open();
        const device = await world.connect();
        device.hello("alice");
        device.say(2, ab, "at once");
        const answer = await device.answer(2);
        assert.equal(answer.case, "send");
      });

      it("holds pushes until the sync is done, and tells them after it", async () => {
        await open();
        world.session.acks = false;
        world.storage.rows.set("bob", [row(ab, "bob", 1)]);
        const device = await world.connect();
        device.hello("bob");
        await until(() => world.session.attached.size === 1);
        world.session.ack([...world.session.attached.keys()]);
        world.session.pushRecord(["bob"], ab, 2, "alice");
        await device.until(({ frame }) => frame.case === "pushed");
        assert.deepEqual(
          device.frames.map(({ frame }) => frame.case),
          ["welcome", "sync"],
          "the push came before the sync",
        );
      });

      it("a user with too many connections is refused", async () => {
        await open({ connectionsPerUserMax: 1 });
        await world.device("alice", "one");
        const device = await world.connect();
        device.hello("alice", "two");
        assert.equal((await device.failure(1)).code, Code.ResourceExhausted);
        assert.equal((await device.closed).code, 4_004);
      });

      it("tries a sync again, then gives the device back", async () => {
        await open();
        const { ConnectError } = await import("@connectrpc/connect");
        world.storage.fault = new ConnectError("away", Code.Unavailable);
        const device = await world.connect();
        device.hello("alice");
        await device.frame("welcome");
        for (const tries of [1, 2, 3]) {
          await until(() => world.storage.lists === tries);
          await turns(5);
          world.clock.advance(1_000);
        }
        assert.equal((await device.closed).code, 4_001);
      });
    });

    describe("bad input", () => {
      const cases: [string, (device: Device) => void, RegExp][] = [
        ["a text message", (d) => d.socket.send("hello"), /text message/],
        ["an empty message", (d) => d.socket.send(Buffer.alloc(0)), /empty message/],
        ["random bytes", (d) => d.socket.send(Buffer.from([0xff, 0x12, 0x9c, 0x01])), /./],
        ["a frame cut off", (d) => d.socket.send(Buffer.from([0x0a, 0x20, 0x08])), /ends beyond/],
        [
          "a batch without frames",
          (d) => d.socket.send(Buffer.from([0x10, 0x01])),
          /without a frame/,
        ],
        ["1,000 frames in a batch", (d) => d.send(...Array.from({ length: 1_000 }, beat)), /256/],
      ];
      const beat = () => ({ frame: { case: "heartbeatReply" as const, value: {} } });

      for (const [name, send, reason] of cases) {
        it(`${name}: a failure, a Goodbye, close 4101 with the reason`, async () => {
          await open();
          const device = await world.device("alice");
          send(device);
          const failure = await device.failure(0);
          assert.equal(failure.code, Code.InvalidArgument);
          assert.match(failure.message, reason);
          assert.equal((await device.frame("goodbye")).reason, CloseReason.PROTOCOL);
          const closed = await device.closed;
          assert.equal(closed.code, 4_101);
          assert.match(closed.reason, reason);
        });

        it(`${name} before the Hello: close 4101`, async () => {
          await open();
          const device = await world.connect();
          send(device);
          assert.equal((await device.closed).code, 4_101);
        });
      }

      it("a message over the limit: Goodbye and close 4101, and nothing of it is kept", async () => {
        await open();
        const device = await world.device("alice");
        device.socket.send(Buffer.alloc(262_145));
        assert.equal((await device.frame("goodbye")).reason, CloseReason.PROTOCOL);
        const { code, reason } = await device.closed;
        assert.equal(code, 4_101);
        assert.match(reason, /over the limit/);
      });

      it("bytes that are no WebSocket frame: close 4101", async () => {
        await open();
        const device = await world.device("alice");
        const raw = (device.socket as unknown as { _socket: NodeJS.WritableStream })._socket;
        raw.write(Buffer.from([0xff, 0xff, 0xff, 0xff]));
        assert.equal((await device.closed).code, 4_101);
      });

      it("a second Hello: close 4101", async () => {
        await open();
        const device = await world.device("alice");
        device.hello("alice");
        assert.match((await device.closed).reason, /4101|second Hello/);
        assert.equal(device.ended?.code, 4_101);
      });

      it("a call before the Hello: close 4101", async () => {
        await open();
        const device = await world.connect();
        device.say(2, ab, "too early");
        const { code, reason } = await device.closed;
        assert.deepEqual([code, reason], [4_101, "the first frame must be a Hello"]);
        assert.equal(world.delivery.operations.length, 0);
      });

      for (const [name, id] of [
        ["no device id", ""],
        ["a device id of 65 characters", "x".repeat(65)],
      ] as const) {
        it(`${name}: close 4101`, async () => {
          await open();
          const device = await world.connect();
          device.hello("alice", id);
          assert.match((await device.closed).reason, /device_id/);
          assert.equal(device.ended?.code, 4_101);
        });
      }

      it("request_id 0 in a call: close 4101", async () => {
        await open();
        const device = await world.device("alice");
        device.say(0, ab, "to nobody");
        assert.match((await device.closed).reason, /request_id 0/);
      });

      it("a frame of a kind that is not known: UNIMPLEMENTED for it alone", async () => {
        await open();
        const device = await world.device("alice");
        // ClientFrame{request_id: 9, field 99: ""}
        device.socket.send(Buffer.from([0x0a, 5, 0x08, 9, 0x9a, 0x06, 0]));
        assert.equal((await device.failure(9)).code, Code.Unimplemented);
        device.say(10, ab, "still here");
        assert.equal((await device.answer(10)).case, "send");
      });

      it("no subprotocol: 400", async () => {
        await open();
        const head = await rawUpgrade(world.port, "");
        assert.match(head, /^HTTP\/1\.1 400 /);
        assert.match(head, /parley\.v1/);
      });

      it("no compression, though it is asked for", async () => {
        await open();
        const socket = new WebSocket(`ws://127.0.0.1:${world.port}/ws`, "parley.v1");
        await new Promise((resolve, reject) => {
          socket.once("open", resolve);
          socket.once("error", reject);
        });
        assert.equal(socket.extensions, "");
        socket.terminate();
      });

      it("quotes what is not ASCII within a close reason of 123 bytes", async () => {
        await open();
        const device = await world.connect();
        device.hello(`${"é".repeat(200)}`);
        assert.equal((await device.closed).code, 4_100);
      });
    });

    describe("calls", () => {
      it("send: P3 the answer has its call's id, and delivery gets the content's bytes as they were", async () => {
        await open();
        const device = await world.device("alice");
        device.say(7, ab, "hi bob");
        const answer = await device.answer(7);
        assert.ok(answer.case === "send");
        const { conversationId, seq, timeMs, duplicate } = answer.value;
        assert.deepEqual(
          { conversationId, seq, timeMs, duplicate },
          { conversationId: ab, seq: 1, timeMs: 1_700_000_000_123n, duplicate: false },
        );
        const [operation] = world.delivery.operations;
        assert.ok(operation?.operation.case === "send");
        assert.deepEqual(
          [operation.userId, operation.conversationId, operation.origin.split("/")[0]],
          ["alice", ab, "g1"],
        );
        assert.deepEqual(
          Buffer.from(operation.operation.value.content),
          Buffer.from("\n\x06hi bob"),
        );
        assert.deepEqual(Buffer.from(operation.operation.value.clientId), Buffer.from(clientId(7)));
      });

      it("send to a user goes to the direct conversation of the two, in either direction", async () => {
        await open();
        const device = await world.device("bob");
        const value = { clientId: clientId(1), content: { text: "x" } };
        device.send({
          requestId: 2,
          frame: { case: "send", value: { ...value, to: { case: "userId", value: "alice" } } },
        });
        const answer = await device.answer(2);
        assert.ok(answer.case === "send");
        assert.equal(answer.value.conversationId, ab);
      });

      it("a batch's answers come in one message", async () => {
        await open();
        const device = await world.device("alice");
        const before = device.messages;
        device.send(
          ...[2, 3, 4, 5].map((requestId) => ({
            requestId,
            frame: {
              case: "send" as const,
              value: {
                to: { case: "conversationId" as const, value: ab },
                clientId: clientId(requestId),
                content: { text: "x" },
              },
            },
          })),
        );
        const seqs = [];
        for (const id of [2, 3, 4, 5]) {
          const answer = await device.answer(id);
          assert.ok(answer.case === "send");
          seqs.push(answer.value.seq);
        }
        assert.deepEqual(seqs, [1, 2, 3, 4]);
        assert.ok(device.messages - before <= 4);
      });

      const to = { case: "conversationId" as const, value: ab };
      const text = (bytes: number) => ({ text: "x".repeat(bytes) });
      const media = (count: number) => ({
        attachments: Array.from({ length: count }, () => ({ mediaId: "0".repeat(64) })),
      });
      const wrong: [string, object, RegExp][] = [
        ["no content", { to, clientId: clientId(1) }, /empty/],
        ["empty content", { to, clientId: clientId(1), content: {} }, /empty/],
        ["a text over 16 KiB", { to, clientId: clientId(1), content: text(16_385) }, /16384/],
        ["11 attachments", { to, clientId: clientId(1), content: media(11) }, /at most 10/],
        [
          "an attachment of elsewhere",
          { to, clientId: clientId(1), content: media(1) },
          /uploaded/,
        ],
        ["a client_id of 15 bytes", { to, clientId: new Uint8Array(15), content: text(1) }, /15/],
        ["no client_id", { to, content: text(1) }, /client_id/],
        ["no destination", { clientId: clientId(1), content: text(1) }, /to whom/],
        [
          "oneself",
          { to: { case: "userId", value: "alice" }, clientId: clientId(1), content: text(1) },
          /own/,
        ],
        [
          "no user id",
          { to: { case: "userId", value: "b:ob" }, clientId: clientId(1), content: text(1) },
          /user_id/,
        ],
        [
          "an endless conversation id",
          {
            to: { case: "conversationId", value: "g".repeat(5_000) },
            clientId: clientId(1),
            content: text(1),
          },
          /259/,
        ],
      ];
      for (const [name, value, message] of wrong) {
        it(`send with ${name}: INVALID_ARGUMENT for it alone`, async () => {
          await open();
          const device = await world.device("alice");
          device.send({ requestId: 2, frame: { case: "send", value } });
          const failure = await device.failure(2);
          assert.equal(failure.code, Code.InvalidArgument);
          assert.match(failure.message, message);
          assert.equal(failure.retryAfterMs, 0);
          assert.equal(world.delivery.operations.length, 0);
          device.say(3, ab, "all is well");
          assert.equal((await device.answer(3)).case, "send");
        });
      }

      it("send with invalid UTF-8: INVALID_ARGUMENT for it alone", async () => {
        await open();
        const device = await world.device("alice");
        const send = Buffer.concat([
          Buffer.from([0x0a, ab.length]),
          Buffer.from(ab),
          Buffer.from([0x1a, 16]),
          clientId(1),
          Buffer.from([0x22, 4, 0x0a, 2, 0xc3, 0x28]),
        ]);
        const frame = Buffer.concat([Buffer.from([0x08, 2, 0x22, send.length]), send]);
        device.socket.send(Buffer.concat([Buffer.from([0x0a, frame.length]), frame]));
        const failure = await device.failure(2);
        assert.equal(failure.code, Code.InvalidArgument);
        assert.match(failure.message, /UTF-8/);
      });

      it("attachments take what the upload found, and keep their place among sends (P2, P4)", async () => {
        await open();
        const mediaId = "ab".repeat(32);
        world.storage.uploads.set(`${ab} ${mediaId}`, {
          $typeName: "parley.storage.v1.MediaHeader",
          conversationId: ab,
          mediaId,
          mediaType: "image/png",
          size: 100,
          width: 3,
          height: 4,
          thumbnail: Uint8Array.of(1),
        });
        const device = await world.device("alice");
        const claimed = { mediaId, mediaType: "text/html", size: 1, fileName: "cat.png" };
        const value = { to, clientId: clientId(1), content: { attachments: [claimed] } };
        device.send({ requestId: 2, frame: { case: "send", value } });
        device.say(3, ab, "after it");
        const first = await device.answer(2);
        const second = await device.answer(3);
        assert.ok(first.case === "send" && second.case === "send");
        assert.deepEqual([first.value.seq, second.value.seq], [1, 2]);
        const { fromBinary } = await import("@bufbuild/protobuf");
        const { ContentSchema } = await import("../../proto/gen/parley/v1/record_pb.ts");
        const { operation } = world.delivery.operations[0] ?? {};
        assert.ok(operation?.case === "send");
        const waited = world.delivery.operations.map((one) => one.operation);
        assert.ok(
          waited.every((one) => one.case === "send" && one.value.retry),
          "its device may have sent it elsewhere while it waited (P2)",
        );
        const [kept] = fromBinary(ContentSchema, operation.value.content).attachments;
        assert.deepEqual(
          [kept?.mediaType, kept?.size, kept?.width, kept?.height, kept?.fileName],
          ["image/png", 100, 3, 4, "cat.png"],
        );
      });

      it("P8 an attachment of a conversation that is not one's own tells nothing of it", async () => {
        await open();
        const device = await world.device("mallory");
        const value = { to, clientId: clientId(1), content: media(1) };
        device.send({ requestId: 2, frame: { case: "send", value } });
        assert.equal((await device.failure(2)).code, Code.NotFound);
      });

      it("moveCursor answers with the cursor", async () => {
        await open();
        const device = await world.device("alice");
        device.move(5, ab, 9, 4);
        const answer = await device.answer(5);
        assert.ok(answer.case === "moveCursor");
        const { conversationId, userId, deliveredSeq, readSeq } = answer.value.cursor ?? {};
        assert.deepEqual([conversationId, userId, deliveredSeq, readSeq], [ab, "alice", 9, 4]);
      });

      it("a refusal of delivery is the call's failure, with its code and time", async () => {
        await open();
        world.delivery.answer = () => refused(Code.ResourceExhausted, 700);
        const device = await world.device("alice");
        device.move(5, ab, 9);
        const { code, retryAfterMs } = await device.failure(5);
        assert.deepEqual([code, retryAfterMs], [Code.ResourceExhausted, 700]);
      });

      it("an operation without an outcome fails after 10 s, to be tried again", async () => {
        await open();
        world.delivery.answer = () => undefined;
        const device = await world.device("alice");
        device.say(2, ab, "lost");
        await until(() => world.delivery.operations.length === 1);
        await world.pass(10_000);
        const { code, retryAfterMs } = await device.failure(2);
        assert.deepEqual([code, retryAfterMs], [Code.Unavailable, 500]);
      });

      it("a broken stream to delivery: what is under way waits, and comes again over the next one (P2)", async () => {
        await open();
        world.delivery.answer = () => undefined;
        const device = await world.device("alice");
        device.say(2, ab, "lost");
        await until(() => world.delivery.operations.length === 1);
        world.delivery.break();
        await until(() => world.gateway.problems().length > 0);
        device.move(3, ab, 1);
        await turns(10);
        world.delivery.answer = (operation) => world.delivery.usual(operation);
        await world.pass(1_000);
        assert.equal((await device.answer(2)).case, "send");
        assert.equal((await device.answer(3)).case, "moveCursor");
        const sends = world.delivery.operations.map(({ operation }) =>
          operation.case === "send" ? operation.value.retry : undefined,
        );
        // The first one waited for an owner that shows itself, so that it may have been sent elsewhere.
        assert.deepEqual(sends, [true, true, undefined]);
      });

      it("P4 after a refusal later first tries wait for it to come again", async () => {
        await open();
        let refuse = true;
        world.delivery.answer = (operation) => {
          if (!refuse) return world.delivery.usual(operation);
          refuse = false;
          return refused(Code.Unavailable, 500);
        };
        const device = await world.device("alice");
        device.say(2, ab, "first", 2);
        device.say(3, ab, "second", 3);
        device.say(4, "d:alice:carol", "elsewhere", 4);
        assert.equal((await device.failure(2)).code, Code.Unavailable);
        // It waited for the first one's outcome.
        assert.equal((await device.failure(3)).code, Code.Unavailable);
        device.say(5, ab, "third", 5);
        assert.equal((await device.failure(5)).code, Code.Unavailable);
        assert.equal((await device.answer(4)).case, "send");
        device.say(6, ab, "first", 2, true);
        device.say(9, ab, "second", 3, true);
        device.say(7, ab, "third", 5, true);
        assert.equal((await device.answer(6)).case, "send");
        assert.equal((await device.answer(9)).case, "send");
        assert.equal((await device.answer(7)).case, "send");
        device.say(8, ab, "fourth", 8);
        assert.equal((await device.answer(8)).case, "send");
      });

      it("P4 what comes again keeps the place of its first try, though that has no outcome yet", async () => {
        await open();
        const device = await world.device("alice");
        device.say(1, ab, "zeroth", 1);
        assert.equal((await device.answer(1)).case, "send");
        world.delivery.answer = () => undefined;
        const { operations } = world.delivery;
        device.say(2, ab, "first", 2);
        device.say(3, ab, "second", 3);
        device.say(4, ab, "first", 2, true);
        device.say(5, ab, "second", 3, true);
        await until(() => operations[4]);
        for (const [at, requestId] of [
          [1, 2],
          [3, 4],
          [4, 5],
          [2, 3],
        ] as const) {
          const operation = operations[at];
          assert.ok(operation !== undefined);
          world.delivery.refuse(operation, Code.Unavailable, 500);
          assert.equal((await device.failure(requestId)).code, Code.Unavailable);
        }
        world.delivery.answer = (operation) => world.delivery.usual(operation);
        device.say(6, ab, "second", 3, true);
        assert.equal((await device.failure(6)).code, Code.Unavailable);
        device.say(7, ab, "first", 2, true);
        device.say(8, ab, "second", 3, true);
        assert.equal((await device.answer(7)).case, "send");
        assert.equal((await device.answer(8)).case, "send");
      });

      it("sync, history, members, groups, presence and typing are answered", async () => {
        await open();
        world.storage.rows.set("alice", [row(ab, "alice", 3)]);
        world.storage.logs.set(
          ab,
          [1, 2, 3].map((seq) => record(ab, seq, "bob")),
        );
        world.storage.members = ["alice", "bob"].map((userId) => ({
          $typeName: "parley.storage.v1.Member",
          userId,
          floorSeq: 1,
          leftSeq: 0,
          deliveredSeq: 2,
          readSeq: 1,
          readOrdinal: 1,
        }));
        const device = await world.device("alice");
        device.send(
          { requestId: 2, frame: { case: "sync", value: { recordsPerConversation: 2 } } },
          { requestId: 3, frame: { case: "history", value: { conversationId: ab, limit: 2 } } },
          { requestId: 4, frame: { case: "listMembers", value: { conversationId: ab, limit: 1 } } },
          {
            requestId: 5,
            frame: { case: "createGroup", value: { clientId: clientId(1), title: "t" } },
          },
          {
            requestId: 6,
            frame: {
              case: "updateGroup",
              value: { clientId: clientId(1), conversationId: "g:new" },
            },
          },
          { requestId: 7, frame: { case: "watchPresence", value: { userIds: ["bob"] } } },
          { requestId: 8, frame: { case: "setTyping", value: { conversationId: ab } } },
        );
        const sync = await device.answer(2);
        assert.ok(sync.case === "sync");
        assert.deepEqual(
          sync.value.conversations[0]?.records.map(({ seq }) => seq),
          [2, 3],
        );
        const history = await device.answer(3);
        assert.ok(history.case === "history");
        assert.deepEqual(
          [
            history.value.records.map(({ seq }) => seq),
            history.value.headSeq,
            history.value.floorSeq,
          ],
          [[2, 3], 3, 1],
        );
        const members = await device.answer(4);
        assert.ok(members.case === "listMembers");
        assert.deepEqual(
          [members.value.members.map(({ userId }) => userId), members.value.nextPageToken],
          [["alice"], "alice"],
        );
        const group = await device.answer(5);
        assert.ok(group.case === "createGroup");
        assert.equal(group.value.conversation?.conversationId, "g:new");
        assert.equal((await device.answer(6)).case, "updateGroup");
        const watch = await device.answer(7);
        assert.ok(watch.case === "watchPresence");
        assert.deepEqual(
          watch.value.presences.map(({ userId }) => userId),
          ["bob"],
        );
        assert.equal((await device.answer(8)).case, "setTyping");
        assert.ok(world.delivery.operations.some(({ operation }) => operation.case === "typing"));
        const [number] = world.session.attached.keys();
        world.presence.change([number ?? 0], "bob");
        const pushed = await device.frame("pushed");
        assert.deepEqual(
          pushed.presences.map(({ userId, lastSeenMs }) => [userId, lastSeenMs]),
          [["bob", 9n]],
        );
      });

      it("a conversation that is not there and one of others are answered alike", async () => {
        await open();
        world.storage.logs.set("d:bob:carol", [record("d:bob:carol", 1, "bob")]);
        const device = await world.device("alice");
        const ask = (requestId: number, conversationId: string) =>
          device.send({ requestId, frame: { case: "history", value: { conversationId } } });
        ask(2, "d:bob:carol");
        ask(3, "d:bob:david");
        const theirs = await device.failure(2);
        const nobodys = await device.failure(3);
        assert.equal(theirs.code, Code.NotFound);
        assert.equal(theirs.message.replace("carol", ""), nobodys.message.replace("david", ""));
      });

      it("a change comes after the answer that it changes (P7)", async () => {
        await open();
        world.presence.answers = false;
        const device = await world.device("alice");
        device.send({
          requestId: 2,
          frame: { case: "watchPresence", value: { userIds: ["bob"] } },
        });
        await until(() => world.presence.sets.length === 1);
        const [set] = world.presence.sets;
        assert.ok(set);
        world.presence.snapshot(set, "bob");
        const order = await until(() => {
          const cases = device.frames.map(({ frame }) => frame.case);
          return cases.includes("pushed") && cases;
        });
        const answered = order.indexOf("watchPresence");
        assert.ok(answered !== -1 && answered < order.indexOf("pushed"), String(order));
      });

      it("watches are set again when presence comes back, and told", async () => {
        await open();
        const device = await world.device("alice");
        device.send({
          requestId: 2,
          frame: { case: "watchPresence", value: { userIds: ["bob"] } },
        });
        await device.answer(2);
        world.presence.break();
        await until(() => world.gateway.problems().length > 0);
        await world.pass(1_000);
        const pushed = await device.frame("pushed");
        assert.equal(pushed.presences[0]?.userId, "bob");
        assert.equal(world.presence.sets.length, 2);
      });

      it("ends the watch with the connection", async () => {
        await open();
        const device = await world.device("alice");
        device.send({
          requestId: 2,
          frame: { case: "watchPresence", value: { userIds: ["bob"] } },
        });
        await device.answer(2);
        device.socket.close();
        await until(() => world.presence.ended.length === 1);
        assert.equal(world.session.attached.size, 0);
      });
    });

    describe("pushes", () => {
      it("records, cursors, typing and resync reach the connections they are for", async () => {
        await open();
        const bob = await world.device("bob");
        const carol = await world.device("carol");
        world.session.pushRecord(["bob"], ab, 1, "alice");
        const cursor = { conversationId: ab, userId: "alice", deliveredSeq: 1, readSeq: 1 };
        world.session.push(["bob"], { case: "cursors", value: { cursors: [cursor] } });
        const typing = { conversationId: ab, userId: "alice" };
        world.session.push(["bob"], { case: "typing", value: typing });
        world.session.push(["bob", "carol"], { case: "resync", value: true });
        const [one] = (await bob.frame("pushed")).records;
        assert.ok(one?.body.case === "message");
        assert.deepEqual([one.seq, one.body.value.text], [1, "m1"]);
        const [told] = (await bob.frame("pushed")).cursors;
        assert.deepEqual([told?.userId, told?.deliveredSeq, told?.readSeq], ["alice", 1, 1]);
        assert.equal((await bob.frame("pushed")).typings[0]?.userId, "alice");
        assert.ok((await bob.frame("pushed")).resync);
        assert.ok((await carol.frame("pushed")).resync);
        assert.equal(carol.frames.length, 0);
      });

      it("P6 what is not acked is pushed again from storage, then the device is taken for dead", async () => {
        await open({ unackedRetryMs: 10_000, unackedTries: 2 });
        world.storage.rows.set("bob", [row(ab, "bob", 2)]);
        const device = await world.device("bob");
        world.storage.logs.set(ab, [record(ab, 1, "alice"), record(ab, 2, "alice")]);
        const alive = () => device.send({ frame: { case: "heartbeatReply", value: {} } });
        world.session.pushRecord(["bob"], ab, 1, "alice");
        world.session.pushRecord(["bob"], ab, 2, "alice");
        for (const seq of [1, 2]) assert.equal((await device.frame("pushed")).records[0]?.seq, seq);
        await world.pass(10_000);
        for (const seq of [1, 2]) assert.equal((await device.frame("pushed")).records[0]?.seq, seq);
        alive();
        await turns(20);
        await world.pass(19_000);
        assert.equal(device.frames.filter(({ frame }) => frame.case === "pushed").length, 0);
        await world.pass(2_000);
        for (const seq of [1, 2]) assert.equal((await device.frame("pushed")).records[0]?.seq, seq);
        alive();
        await turns(20);
        await world.pass(38_000);
        assert.equal(device.ended, undefined);
        await world.pass(3_000);
        assert.equal((await device.closed).code, 4_003);
      });

      it("an ack of any device of the user ends the waiting", async () => {
        await open({ heartbeatMs: 600_000 });
        const phone = await world.device("bob", "phone");
        const laptop = await world.device("bob", "laptop");
        world.session.pushRecord(["bob"], ab, 1, "alice");
        await phone.frame("pushed");
        await laptop.frame("pushed");
        laptop.move(2, ab, 1);
        await laptop.answer(2);
        await world.pass(100_000);
        assert.equal(world.storage.reads.length, 0);
        assert.equal(phone.ended, undefined);
      });

      it("one's own message on another device needs no ack", async () => {
        await open({ heartbeatMs: 600_000 });
        const device = await world.device("bob");
        world.session.pushRecord(["bob"], ab, 1, "bob");
        await device.frame("pushed");
        await world.pass(100_000);
        assert.equal(world.storage.reads.length, 0);
        assert.equal(device.ended, undefined);
      });

      it("a device that connects again replaces its connection: close 4102", async () => {
        await open();
        const device = await world.device("alice");
        const [number] = world.session.attached.keys();
        world.session.replace(number ?? 0);
        assert.equal((await device.frame("goodbye")).reason, CloseReason.REPLACED);
        assert.equal((await device.closed).code, 4_102);
      });

      it("when session was away, connections are announced again, then told to sync", async () => {
        await open();
        const device = await world.device("alice");
        world.session.acks = false;
        world.session.break();
        await until(() => world.gateway.problems().length > 0);
        await world.pass(1_000);
        await until(() => world.session.attached.size === 1);
        await turns(10);
        assert.equal(device.frames.length, 0, "told to sync before session knew it");
        world.session.ack([...world.session.attached.keys()]);
        assert.ok((await device.frame("pushed")).resync);
      });
    });

    describe("limits", () => {
      it("P9 a device that reads slowly is sent away, and its memory is bounded", async () => {
        await open({ outboxMaxBytes: 65_536 });
        const device = await world.device("bob");
        device.socket.pause();
        const big = record(ab, 1, "alice", "x".repeat(60_000));
        let ended = false;
        for (let seq = 1; seq < 2_000 && !ended; seq += 1) {
          world.session.push(["bob"], {
            case: "record",
            value: { conversationId: ab, seq, record: big },
          });
          await turns(2);
          ended = world.session.attached.size === 0;
        }
        assert.ok(ended, "never sent away");
        device.socket.resume();
        assert.equal((await device.closed).code, 4_002);
      });

      it("P9 a flood is ended with 4004", async () => {
        await open({ ratePerSecond: 10 });
        const device = await world.device("alice");
        for (let id = 2; id < 40; id += 1) device.move(id, ab, 1);
        const { reason, reconnectAfterMs } = await device.frame("goodbye");
        assert.equal(reason, CloseReason.RATE);
        assert.ok(reconnectAfterMs > 0);
        assert.equal((await device.closed).code, 4_004);
        assert.ok(world.delivery.operations.length <= 20);
      });

      it("P9 a flood of pings is one, too", async () => {
        await open({ ratePerSecond: 10 });
        const device = await world.device("alice");
        for (let at = 0; at < 40; at += 1) device.socket.ping();
        assert.equal((await device.closed).code, 4_004);
      });

      it("P9 many pings at once get their pongs, and too many are a flood like any other", async () => {
        await open({ ratePerSecond: 500 });
        const device = await world.device("alice");
        const pongs: string[] = [];
        device.socket.on("pong", (data) => pongs.push(data.toString()));
        for (let at = 0; at < 500; at += 1) device.socket.ping(String(at));
        await until(() => pongs.length === 500);
        assert.equal(pongs.at(-1), "499");
        for (let at = 0; at < 5_000; at += 1) device.socket.ping();
        assert.equal((await device.closed).code, 4_004);
      });

      it("P9 pongs that are not read are too much like all else that is not read", async () => {
        const much = { ratePerSecond: 1_000_000, bytesPerSecond: 1_073_741_824 };
        await open({ outboxMaxBytes: 65_536, ...much });
        const device = await world.device("alice");
        device.socket.pause();
        const payload = "x".repeat(125);
        const ended = (): boolean => world.session.attached.size === 0;
        while (!ended()) {
          for (let at = 0; at < 1_000; at += 1) device.socket.ping(payload);
          await turns(10);
        }
        device.socket.resume();
        assert.equal((await device.closed).code, 4_002);
      });

      it("more calls under way than the limit: it stops reading, and goes on when they are done", async () => {
        await open({ inFlightMax: 4 });
        const device = await world.device("alice");
        // The first one goes ahead of the others, until its owner has answered.
        device.say(100, ab, "ahead");
        await device.answer(100);
        world.delivery.operations.length = 0;
        world.delivery.answer = () => undefined;
        for (let id = 2; id < 10; id += 1) {
          device.say(id, ab, "x");
          await turns(10);
        }
        await turns(50);
        assert.equal(world.delivery.operations.length, 4);
        world.delivery.answer = (operation) => world.delivery.usual(operation);
        for (const operation of [...world.delivery.operations]) {
          const outcome = world.delivery.usual(operation);
          if (outcome !== undefined) world.delivery.settle(operation, outcome);
        }
        for (let id = 2; id < 10; id += 1) assert.equal((await device.answer(id)).case, "send");
      });

      it("heartbeats: silence for two of them ends the connection, any frame keeps it", async () => {
        await open({ heartbeatMs: 30_000 });
        const quiet = await world.device("alice");
        const lively = await world.device("bob");
        await world.pass(30_000);
        await quiet.frame("heartbeat");
        await lively.frame("heartbeat");
        lively.send({ frame: { case: "heartbeatReply", value: {} } });
        await turns(20);
        await world.pass(31_000);
        assert.equal((await quiet.closed).code, 4_003);
        assert.equal(lively.ended, undefined);
      });

      it("every so many heartbeats one has the sum of heads, the first one too", async () => {
        await open({ heartbeatMs: 10_000, headSumEvery: 2 });
        const device = await world.device("alice");
        const sums = [];
        for (let at = 0; at < 3; at += 1) {
          await world.pass(10_000);
          sums.push((await device.frame("heartbeat")).headSum);
          device.send({ frame: { case: "heartbeatReply", value: {} } });
          await turns(20);
        }
        assert.deepEqual(sums, [42n, undefined, 42n]);
      });

      it("too many from one address that do not say who they are: 429; those that said so count no longer", async () => {
        await open({ strangersPerAddressMax: 1 });
        const stranger = await world.connect();
        const protocol = "Sec-WebSocket-Protocol: parley.v1\r\n";
        assert.match(await rawUpgrade(world.port, protocol), /^HTTP\/1\.1 429 .*retry-after/is);
        stranger.hello("alice");
        await stranger.frame("welcome");
        const another = await world.connect();
        assert.match(await rawUpgrade(world.port, protocol), /^HTTP\/1\.1 429 /);
        another.hello("nobody's");
        assert.equal((await another.closed).code, 4_100);
        await world.device("bob");
      });

      it("too many connections: 503 with Retry-After", async () => {
        await open({ connectionsMax: 1 });
        await world.device("alice");
        const head = await rawUpgrade(world.port, "Sec-WebSocket-Protocol: parley.v1\r\n");
        assert.match(head, /^HTTP\/1\.1 503 /);
        assert.match(head, /retry-after: \d/i);
      });
    });

    describe("operators", () => {
      it("list, disconnect and drain", async () => {
        await open();
        const alice = await world.device("alice");
        const bob = await world.device("bob");
        const { service } = world.gateway;
        const context = {} as never;
        const list = await service.listConnections(
          create(ListConnectionsRequestSchema, { limit: 1 }),
          context,
        );
        assert.equal(list.total, 2);
        assert.deepEqual(
          list.connections?.map(({ userId, kind }) => [userId, kind]),
          [["alice", "websocket"]],
        );
        const target = { case: "userId", value: "alice" } as const;
        assert.equal(
          (await service.disconnect(create(DisconnectRequestSchema, { target }), context)).ended,
          1,
        );
        assert.equal((await alice.closed).code, 4_001);
        await allGone(world, 1);
        const drained = world.gateway.drain(0);
        const { reason, reconnectAfterMs } = await bob.frame("goodbye");
        assert.equal(reason, CloseReason.DRAINING);
        assert.ok((reconnectAfterMs ?? 0) > 0);
        assert.equal((await bob.closed).code, 4_001);
        assert.equal(await drained, 1);
        const head = await rawUpgrade(world.port, "Sec-WebSocket-Protocol: parley.v1\r\n");
        assert.match(head, /^HTTP\/1\.1 503 /);
        assert.match(head, /retry-after/i);
      });

      it("drain spreads the goodbyes over the time", async () => {
        await open({ heartbeatMs: 600_000 });
        const devices = await Promise.all(["a", "b", "c", "d"].map((user) => world.device(user)));
        const drained = world.gateway.drain(4_000);
        const gone = () => devices.filter(({ ended }) => ended !== undefined).length;
        for (let ms = 0; ms < 2_000; ms += 50) {
          world.clock.advance(50);
          await turns(3);
        }
        await until(() => gone() > 0);
        assert.ok(gone() < 4, "all at once");
        const passing = setInterval(() => world.clock.advance(50), 1);
        assert.equal(await drained, 4);
        clearInterval(passing);
      });
    });

    it("a batch that protobuf-es wrote is read, unknown fields and all", async () => {
      await open();
      const device = await world.device("alice");
      const batch = toBinary(
        ClientBatchSchema,
        create(ClientBatchSchema, {
          frames: [
            {
              requestId: 3,
              frame: { case: "moveCursor", value: { conversationId: ab, deliveredSeq: 1 } },
            },
          ],
        }),
      );
      device.socket.send(Buffer.concat([batch, Buffer.from([0xf8, 0x3f, 0x01])]));
      assert.equal((await device.answer(3)).case, "moveCursor");
    });
  });

/** Until only so many connections are left. */
async function allGone(world: World, left: number): Promise<void> {
  for (;;) {
    const request = create(ListConnectionsRequestSchema);
    const { total } = await world.gateway.service.listConnections(request, {} as never);
    if (total === left) return;
    await turns(1);
  }
}

/** The answer to a request for an upgrade, up to its end. */
function rawUpgrade(port: number, protocol: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    let text = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => (text += chunk));
    socket.on("end", () => resolve(text));
    socket.on("error", reject);
    socket.write(
      `GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${Buffer.alloc(16).toString("base64")}\r\n${protocol}\r\n`,
    );
  });
}
