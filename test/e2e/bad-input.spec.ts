/** Bad input: each kind gets a clear error that says what to do, on WebSocket and on Connect, and costs nobody anything. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { fromJsonString } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { seededRandom } from "../../mesh/random.ts";
import { AttachmentSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import { chatClient, protocols } from "../support/device.ts";
import type { Device, SocketDevice } from "../support/device.ts";
import { download, postCall, upload } from "../support/http.ts";
import { modes, tokenFor } from "../support/parley.ts";
import { bomb, picture } from "../support/pictures.ts";
import { SocketClient, batchOf } from "../support/socket-client.ts";
import type { Closed } from "../support/socket-client.ts";
import { Town, directId, newClientId, syncAll, textInto, textOf, textTo } from "../support/town.ts";
import { asked, within } from "../support/within.ts";

const base64 = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Tokens that open nothing, and what is said about each. */
const badTokens: Readonly<Record<string, [make: () => Promise<string>, said: RegExp]>> = {
  "no token": [() => Promise.resolve(""), /a token is needed.*JWT/],
  "a token that is none": [() => Promise.resolve("no.jwt.at-all"), /malformed.*a signed JWT/],
  "an expired token": [() => tokenFor("alice", -60), /expired at .*get a new one/],
  "a token with a wrong signature": [
    async () => (await tokenFor("alice")).replace(/\.[^.]*$/, `.${"A".repeat(43)}`),
    /signature is wrong/,
  ],
  "a token with another user in a good one's place": [
    async () => (await tokenFor("alice")).replace(/\.[^.]*\./, `.${base64({ sub: "bob" })}.`),
    /signature is wrong/,
  ],
  "a token with alg none": [
    () => Promise.resolve(`${base64({ alg: "none" })}.${base64({ sub: "alice" })}.`),
    /algorithm is not allowed here; allowed: HS256/,
  ],
};

for (const [mode, start] of modes.entries()) {
  describe(`bad input, ${mode}`, () => {
    let town: Town;
    let witness: SocketDevice;
    let other: Device;
    /** What was sent between the two who watch that nobody else is harmed. */
    let said: string[] = [];
    let part = 0;

    before(async () => {
      town = await Town.start(start, {
        PARLEY_HELLO_MS: "1000",
        PARLEY_MAX_FRAME_BYTES: String(2 * 1_024 * 1_024),
        PARLEY_BYTES_PER_SECOND: String(64 * 1_024 * 1_024),
      });
    });
    beforeEach(async () => {
      part += 1;
      said = [];
      [witness, other] = [
        await town.onSocket(`witness${part}`),
        await town.onConnect(`other${part}`),
      ];
      await talk("before");
    });
    afterEach(async () => {
      try {
        await talk("after");
        const id = directId(`witness${part}`, `other${part}`);
        const { records } = await other.history({ conversationId: id, limit: 200 });
        assert.deepEqual(records.map(textOf), said);
        assert.deepEqual(
          records.map(({ seq }) => seq),
          said.map((_, at) => at + 1),
        );
        assert.equal((await fetch(`${town.url}/readyz`)).status, 200);
      } finally {
        await town.leave();
      }
    });
    after(() => town.close());

    async function talk(text: string): Promise<void> {
      const { conversationId, seq } = await witness.send(textTo(`other${part}`, text));
      said.push(text);
      assert.equal(textOf(await other.inbox.record(conversationId, seq)), text);
    }

    const closing = (socket: SocketClient): Promise<Closed> =>
      within(5_000, "the end of the socket", socket.closed);

    describe("who calls", () => {
      for (const [name, [make, expected]] of Object.entries(badTokens)) {
        it(`${name}, on WebSocket`, async () => {
          for (const inHeader of [false, true]) {
            const token = await make();
            if (inHeader && token === "") continue;
            const headers = { Authorization: `Bearer ${token}` };
            const socket = await town.socket(inHeader ? { headers } : {});
            await assert.rejects(
              socket.hello({ deviceId: "phone", token: inHeader ? "" : token }),
              { code: Code.Unauthenticated, message: expected },
            );
            const { code, reason } = await closing(socket);
            assert.equal(code, 4_100);
            assert.match(reason, expected);
          }
        });

        it(`${name}, on Connect`, async () => {
          const token = await make();
          const client = chatClient(town.url, token === "" ? undefined : token, "phone");
          const refused = { code: Code.Unauthenticated, message: expected };
          await assert.rejects(client.sync({}), refused);
          await assert.rejects(client.send(textTo("bob", "let me in")), refused);
          await assert.rejects(async () => {
            for await (const _ of client.subscribe({})) void _;
          }, refused);
          const media = await fetch(`${town.url}/media/x/y`, {
            headers: token === "" ? {} : { Authorization: `Bearer ${token}` },
          });
          assert.equal(media.status, 401);
        });
      }

      it("no Hello in time", async () => {
        const socket = await town.socket();
        const { code, reason } = await closing(socket);
        assert.equal(code, 4_003);
        assert.match(reason, /no Hello within 1000 ms/);
      });

      it("a first frame that is no Hello, and a Hello without a device", async () => {
        const socket = await town.socket();
        socket.raw(batchOf([{ requestId: 1, frame: { case: "sync", value: {} } }]));
        const first = await closing(socket);
        assert.deepEqual([first.code, first.reason], [4_101, "the first frame must be a Hello"]);
        const nameless = await town.socket();
        nameless.hello({ token: await tokenFor("alice") }).catch(() => undefined);
        const second = await closing(nameless);
        assert.equal(second.code, 4_101);
        assert.match(second.reason, /device_id has 0 characters: give it 1 to 64/);
      });

      it("a WebSocket without the subprotocol, and one at another path", async () => {
        await assert.rejects(
          SocketClient.open(town.url, { protocol: "chat" }),
          /400 .*subprotocol parley\.v1/,
        );
        await assert.rejects(SocketClient.open(`${town.url}/x`), /404 .*\/ws/);
        assert.equal((await fetch(`${town.url}/ws`)).status, 426);
      });
    });

    describe("frames", () => {
      /** The end of a socket that sends this, before and after its Hello. */
      async function ends(data: Uint8Array | string, reason: RegExp): Promise<void> {
        const greeting = await town.socket();
        const { socket: live } = await town.onSocket(`eve${part}`);
        for (const socket of [greeting, live]) {
          socket.raw(data);
          const closed = await closing(socket);
          assert.equal(closed.code, 4_101, closed.reason);
          assert.match(closed.reason, reason);
          if (data.length > 0 && data.length < 1_000_000)
            assert.match(socket.failures.at(-1)?.message ?? "", reason);
        }
      }

      it("a text message", () => ends("hello", /a text message: send binary ones/));
      it("an empty message", () => ends(new Uint8Array(), /an empty message: .*a frame at least/));
      it("a batch that is cut off", () =>
        ends(Uint8Array.from([0x0a, 0x7f, 0x08]), /ends beyond its message/));

      it("a message over the limit", async () => {
        const { socket } = await town.onSocket(`eve${part}`);
        const large = new Uint8Array(2 * 1_024 * 1_024 + 1);
        socket.raw(large);
        const { code, reason } = await closing(socket);
        assert.equal(code, 4_101);
        assert.match(reason, /over the limit: the Welcome says how large/);
        const token = await tokenFor("alice");
        const answer = await postCall(town.url, token, "Send", new Uint8Array(1_048_577));
        assert.equal(answer.status, 413);
        assert.match(answer.message, /too large; at most 1048576 bytes/);
      });

      it("1,000 frames in one batch", () => {
        const frame = { case: "heartbeatReply", value: {} } as const;
        const batch = batchOf(Array.from({ length: 1_000 }, () => ({ requestId: 1, frame })));
        return ends(batch, /more than 256 frames in a batch/);
      });

      it("a call without a request_id, and a second Hello", async () => {
        const { socket } = await town.onSocket(`eve${part}`);
        socket.raw(batchOf([{ frame: { case: "sync", value: {} } }]));
        assert.match((await closing(socket)).reason, /request_id 0 in a call: choose another/);
        const { socket: again } = await town.onSocket(`eve${part}`);
        again.hello({ deviceId: "phone" }).catch(() => undefined);
        assert.match((await closing(again)).reason, /a second Hello/);
      });

      it("random bytes", async () => {
        const seed = Number(process.env["SEED"] ?? 4711);
        const random = seededRandom(seed);
        for (let round = 0; round < 60; round += 1) {
          const bytes = random.bytes(1 + Math.floor(random.unit() * 60));
          // Every other one looks like a batch with a frame, so that it gets farther.
          if (round % 2 === 1) bytes.set([0x0a, bytes.length - 2].slice(0, bytes.length));
          const socket = round % 4 < 2 ? await town.socket() : await live(`eve${part}`);
          const what = `SEED=${seed}, round ${round}`;
          socket.raw(bytes);
          // Bytes that happen to be frames that may be ignored are followed by one that may not.
          socket.raw("enough");
          const { code, reason } = await within(5_000, what, socket.closed);
          assert.equal(code, 4_101, `${what}: ${reason}`);
          assert.notEqual(reason, "", what);
          const posted = await postCall(town.url, await tokenFor("eve"), "Send", bytes);
          assert.ok(posted.status === 400 && posted.message !== "", `${what}: ${posted.text}`);
        }
      });

      const live = async (userId: string): Promise<SocketClient> =>
        (await town.onSocket(userId)).socket;

      it("requests that are none, on Connect", async () => {
        const token = await tokenFor("alice");
        for (const [body, type, status, message] of [
          ["hello", "text/plain", 415, /send application\/json/],
          ["hello", "application/json", 400, /JSON/],
          ["", "application/json", 400, /./],
          [`{"clientId": "AAAA"}`, "application/json", 400, /to whom/],
          [`{"clientId": "!"}`, "application/json", 400, /client_?id/i],
        ] as const) {
          const answer = await postCall(town.url, token, "Send", body, type);
          assert.equal(answer.status, status, answer.text);
          assert.match(answer.message, message);
        }
        const method = await postCall(town.url, token, "Sned", {});
        assert.equal(method.status, 404);
        assert.match(method.message, /methods Send, MoveCursor/);
        assert.equal((await fetch(`${town.url}/parley.v1.ChatService/Send`)).status, 405);
      });
    });

    for (const [protocol, open] of Object.entries(protocols)) {
      describe(`what is said, on ${protocol}`, () => {
        let eve: Device;
        let own = "";
        beforeEach(async () => {
          eve = await town.device(open, `eve${part}`, "phone");
          own = directId(`eve${part}`, `friend${part}`);
          await eve.send(textTo(`friend${part}`, "hello"));
        });

        const refused = async (content: object, message: RegExp): Promise<void> => {
          const send = { ...textInto(own, ""), content };
          await assert.rejects(eve.send(send), { code: Code.InvalidArgument, message });
          const { headSeq } = await eve.history({ conversationId: own });
          assert.equal(headSeq, 1, "nothing of it is kept");
        };

        it("empty content", async () => {
          await refused({}, /empty: a message has text or an attachment/);
          await refused({ text: "", attachments: [] }, /empty/);
          await refused({ replyToSeq: 1 }, /empty/);
          const none = { to: textInto(own, "").to, clientId: newClientId() };
          await assert.rejects(eve.send(none), { code: Code.InvalidArgument, message: /empty/ });
        });

        it("a text over 16 KiB; one of exactly 16 KiB is fine", async () => {
          await refused({ text: "x".repeat(16_385) }, /16385 bytes: at most 16384/);
          await refused({ text: "é".repeat(8_193) }, /16386 bytes: at most 16384/);
          for (const text of ["x".repeat(16_384), "é".repeat(8_192)]) {
            const { seq } = await eve.send(textInto(own, text));
            const page = await eve.history({ conversationId: own, afterSeq: seq - 1 });
            assert.deepEqual(page.records.map(textOf), [text]);
          }
        });

        it("11 attachments; 10 are fine", async () => {
          const answer = await upload(town.url, `eve${part}`, own, await picture("png"));
          const one = fromJsonString(AttachmentSchema, answer.text);
          const eleven = Array.from({ length: 11 }, () => one);
          await refused({ attachments: eleven }, /11 attachments: at most 10/);
          const ten = { ...textInto(own, ""), content: { attachments: eleven.slice(1) } };
          assert.equal((await eve.send(ten)).seq, 2);
        });

        it("an attachment of another conversation, and one that is nowhere", async () => {
          const elsewhere = directId(`eve${part}`, `enemy${part}`);
          const answer = await upload(town.url, `eve${part}`, elsewhere, await picture("jpeg"));
          assert.equal(answer.status, 201, answer.text);
          const one = fromJsonString(AttachmentSchema, answer.text);
          await refused({ attachments: [one] }, /was not uploaded to d:/);
          await refused({ attachments: [{ mediaId: "0".repeat(64) }] }, /was not uploaded to d:/);
          await refused({ attachments: [{ mediaId: "../../etc" }] }, /media_id/);
        });

        it("a client_id of 15 bytes", async () => {
          const clientId = newClientId().subarray(1);
          const expected = { code: Code.InvalidArgument, message: /client_id has 15 bytes.* 16 / };
          await assert.rejects(eve.send({ ...textInto(own, "x"), clientId }), expected);
          const group = { clientId, title: "friends", memberIds: ["bob"] };
          await assert.rejects(eve.createGroup(group), expected);
          await assert.rejects(
            eve.updateGroup({ clientId, conversationId: `g:${"A".repeat(22)}`, title: "x" }),
            (error) => ConnectError.from(error).code !== Code.Internal,
          );
        });

        it("P8: a conversation that is not there and one that is not one's own, to the same answer", async () => {
          const group = await witness.createGroup({
            clientId: newClientId(),
            title: "private",
            memberIds: [`other${part}`],
          });
          const real = group.conversation?.conversationId ?? "";
          const pairs = [
            [real, `g:${"A".repeat(22)}`],
            [directId(`other${part}`, `witness${part}`), directId(`other${part}`, "nobodyatall")],
          ] as const;
          for (const [present, absent] of pairs) {
            for (const [what, call] of Object.entries(calls(eve))) {
              const [one, two] = [await failure(call(present)), await failure(call(absent))];
              if (present === real)
                assert.equal(one.code, Code.NotFound, `${what}: ${one.message}`);
              assert.equal(
                one.rawMessage.replaceAll(present, "ID"),
                two.rawMessage.replaceAll(absent, "ID"),
                what,
              );
              if (present === real) assert.match(one.rawMessage, /that you are a member of/);
              assert.deepEqual([one.code, metadataOf(one)], [two.code, metadataOf(two)], what);
            }
          }
        });

        it("a cursor beyond the head", async () => {
          for (const where of [{ deliveredSeq: 2 }, { readSeq: 2 }, { readSeq: 2 ** 32 - 1 }]) {
            await assert.rejects(eve.moveCursor({ conversationId: own, ...where }), {
              code: Code.InvalidArgument,
              message: /beyond the conversation's head 1: sync first/,
            });
          }
          const { cursor } = await eve.moveCursor({ conversationId: own, readSeq: 1 });
          assert.equal(cursor?.readSeq, 1);
        });

        it("calls without what they need, or with too much", async () => {
          const wrong = (message: RegExp) => ({ code: Code.InvalidArgument, message });
          const { clientId, content } = textInto(own, "x");
          await assert.rejects(eve.send({ clientId, content }), wrong(/to whom/));
          const self = textTo(`eve${part}`, "x");
          await assert.rejects(eve.send(self), wrong(/your own/));
          await assert.rejects(eve.send(textTo("not a user", "x")), wrong(/A-Z a-z 0-9/));
          await assert.rejects(eve.history({}), wrong(/conversation_id is empty/));
          const limit = 100_000;
          await assert.rejects(eve.history({ conversationId: own, limit }), wrong(/200/));
          await assert.rejects(eve.listMembers({ conversationId: own, limit }), wrong(/1000/));
          await assert.rejects(eve.sync({ recordsPerConversation: 51 }), wrong(/50/));
          await assert.rejects(eve.sync({ waitMs: 60_001 }), wrong(/60,?000/));
          const token = Uint8Array.from([7, 7, 7]);
          await assert.rejects(eve.sync({ token }), wrong(/empty token/));
          const userIds = Array.from({ length: 1_001 }, (_, at) => `u${at}`);
          await assert.rejects(eve.watchPresence({ userIds }), wrong(/at most 1,?000/));
        });

        it("a group with 100,001 members; 100,000 are fine", async function () {
          this.timeout(120_000);
          const many = Array.from({ length: 100_000 }, (_, at) => `u${at.toString(36)}`);
          const request = { clientId: newClientId(), title: "everybody", memberIds: many };
          await assert.rejects(eve.createGroup(request), {
            code: Code.InvalidArgument,
            message: /at most 100000 members, not 100001/,
          });
          const some = { ...request, memberIds: many.slice(1) };
          // A store may take longer for so many than a call may last: trying again answers with the same group.
          const { conversation } = await asked(90_000, "so large a group", () =>
            eve.createGroup(some).catch((error: unknown) => {
              const { code } = ConnectError.from(error);
              if (code === Code.Unavailable || code === Code.DeadlineExceeded) return undefined;
              throw error;
            }),
          );
          assert.equal(conversation?.memberCount, 100_000);
          const id = conversation?.conversationId ?? "";
          const member = await town.device(open, "u1", `phone-${part}`);
          assert.equal((await eve.send(textInto(id, "to all"))).seq, 2);
          assert.equal(textOf(await member.inbox.record(id, 2)), "to all");
          const found: string[] = [];
          for (let pageToken = ""; ;) {
            const page = await eve.listMembers({ conversationId: id, pageToken, limit: 1_000 });
            found.push(...page.members.map(({ userId }) => userId));
            if ((pageToken = page.nextPageToken) === "") break;
          }
          assert.deepEqual(found, [...some.memberIds, `eve${part}`].toSorted());
          const { conversations } = await syncAll(member);
          const one = conversations.find((delta) => delta.conversation?.conversationId === id);
          assert.equal(one?.conversation?.unreadCount, 1);
        });
      });
    }

    it("a text that is not UTF-8", async () => {
      const eve = await town.onSocket(`eve${part}`);
      const { conversationId } = await eve.send(textTo("friend", "hello"));
      const bytes = (field: number, value: Uint8Array): Uint8Array<ArrayBuffer> =>
        new Uint8Array(
          new BinaryWriter().tag(field, WireType.LengthDelimited).bytes(value).finish(),
        );
      const send = Buffer.concat([
        bytes(1, Buffer.from(conversationId)),
        bytes(3, newClientId()),
        bytes(4, bytes(1, Uint8Array.from([0x68, 0x69, 0xff, 0xfe]))),
      ]);
      const id = new BinaryWriter().tag(1, WireType.Varint).uint32(77).finish();
      eve.socket.raw(bytes(1, Buffer.concat([id, bytes(4, send)])));
      // The answer to a call that the client does not know of, and then one that it does.
      const failure = new Promise<string>((resolve) => {
        eve.socket.onUnknown = (_, frame) =>
          resolve(frame.case === "failure" ? `${frame.value.code} ${frame.value.message}` : "");
      });
      assert.equal(await within(5_000, "an answer", failure), "3 the text is not valid UTF-8");

      const token = await tokenFor(`eve${part}`);
      const proto = await postCall(town.url, token, "Send", new Uint8Array(send));
      assert.deepEqual([proto.status, proto.code], [400, "invalid_argument"]);
      assert.match(proto.message, /UTF-?8/i);
      const clientId = Buffer.from(newClientId()).toString("base64");
      const json = Buffer.concat([
        Buffer.from(
          `{"conversationId":"${conversationId}","clientId":"${clientId}","content":{"text":"`,
        ),
        Buffer.from([0x68, 0x69, 0xff, 0xfe]),
        Buffer.from(`"}}`),
      ]);
      const said2 = await postCall(
        town.url,
        token,
        "Send",
        new Uint8Array(json),
        "application/json",
      );
      assert.deepEqual([said2.status, said2.code], [400, "invalid_argument"], said2.text);
      assert.equal((await eve.history({ conversationId })).headSeq, 1);
    });

    describe("media", () => {
      const own = () => directId(`eve${part}`, "friend");
      const put = (bytes: Uint8Array<ArrayBuffer>, type?: string) =>
        upload(town.url, `eve${part}`, own(), bytes, type);

      it("an upload that lies about its type", async () => {
        const jpeg = await picture("jpeg");
        const lie = await put(jpeg, "image/png");
        assert.equal(lie.status, 415);
        assert.match(lie.message, /says image\/png, but the bytes are image\/jpeg/);
        const page = new TextEncoder().encode("<html><script>alert(1)</script></html>");
        for (const type of ["image/png", "text/html"]) {
          const answer = await put(new Uint8Array(page), type);
          assert.equal(answer.status, 415);
          assert.match(answer.message, /can be sent: image\/png/);
        }
        const truth = await put(jpeg, "image/jpeg");
        assert.equal(truth.status, 201);
      });

      it("an upload that is truncated: the image, and the request", async () => {
        const png = await picture("png", { width: 300, height: 300 });
        const cut = await put(png.slice(0, png.length - 30));
        assert.equal(cut.status, 400, cut.text);
        assert.match(cut.message, /broken or cut off/);
        assert.equal((await put(new Uint8Array())).status, 400);

        const { hostname, port } = new URL(town.url);
        const socket = connect(Number(port), hostname);
        const gone = new Promise<void>((resolve) => socket.once("close", () => resolve()));
        socket.on("error", () => undefined);
        const head = [
          `POST /media?conversation=${encodeURIComponent(own())} HTTP/1.1`,
          `Host: ${hostname}`,
          `Authorization: Bearer ${await tokenFor(`eve${part}`)}`,
          `Content-Length: ${png.length}`,
        ];
        await new Promise<void>((resolve) => {
          const bytes = Buffer.concat([
            Buffer.from(`${head.join("\r\n")}\r\n\r\n`),
            png.subarray(0, 100),
          ]);
          socket.write(bytes, () => resolve());
        });
        socket.destroy();
        await gone;
        assert.equal((await put(png)).status, 201);
      });

      it("a decompression bomb", async () => {
        const bytes = bomb();
        assert.ok(bytes.length < 100_000);
        const before = process.memoryUsage().rss;
        const answer = await put(bytes, "image/png");
        assert.equal(answer.status, 422, answer.text);
        assert.match(answer.message, /pixels; at most 50000000/);
        assert.ok(process.memoryUsage().rss - before < 200 * 1_024 * 1_024);
      });

      it("an upload that is too large, and addresses that are none", async () => {
        const large = await put(new Uint8Array(20_971_521));
        assert.equal(large.status, 413);
        assert.match(large.message, /at most 20971520/);
        assert.equal((await upload(town.url, "eve", "", await picture("png"))).status, 400);
        const up = await download(town.url, `eve${part}`, own(), "..%2f..%2fjwt-secret");
        assert.equal(up.status, 404);
      });
    });
  });
}

/** Every call that names a conversation. */
const calls = (device: Device): Record<string, (conversationId: string) => Promise<unknown>> => ({
  send: (id) => device.send(textInto(id, "x")),
  retry: (id) => device.send({ ...textInto(id, "x"), retry: true }),
  attachment: (id) =>
    device.send({ ...textInto(id, "x"), content: { attachments: [{ mediaId: "0".repeat(64) }] } }),
  rename: (conversationId) =>
    device.updateGroup({ conversationId, clientId: newClientId(), title: "mine" }),
  history: (conversationId) => device.history({ conversationId }),
  moveCursor: (conversationId) => device.moveCursor({ conversationId, readSeq: 1 }),
  "moveCursor beyond": (conversationId) => device.moveCursor({ conversationId, readSeq: 9_999 }),
  listMembers: (conversationId) => device.listMembers({ conversationId }),
});

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const answer = await call.then(
    () => undefined,
    (error: unknown) => ConnectError.from(error),
  );
  assert.ok(answer, "the call was answered");
  return answer;
}

/** But for what is of the moment. */
const metadataOf = (error: ConnectError): string[] =>
  [...error.metadata].filter(([name]) => !/^(date|content-length)$/.test(name)).map(String);
