/** P9: a device that does not read, or that sends without end, costs only itself. */
import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import { ConnectError } from "@connectrpc/connect";
import { chatClient } from "../support/device.ts";
import type { Device } from "../support/device.ts";
import { postCall, subscribeUnread } from "../support/http.ts";
import { modes, tokenFor } from "../support/parley.ts";
import { batchOf } from "../support/socket-client.ts";
import { Town, newClientId, textInto, textOf, textTo, wholeLog } from "../support/town.ts";
import { asked, within } from "../support/within.ts";

const sixteenKiB = "x".repeat(16_384);
const outboxMaxBytes = 262_144;
/** What systems keep for a reader that does not read, and much more than that. */
const messagesMax = 3_000;

for (const [mode, start] of modes.entries()) {
  describe(`P9, ${mode}`, () => {
    let town: Town;
    before(async () => {
      town = await Town.start(start, {
        PARLEY_OUTBOX_MAX_BYTES: String(outboxMaxBytes),
        PARLEY_BYTES_PER_SECOND: String(256 * 1_024 * 1_024),
        PARLEY_RATE_PER_SECOND: "500",
      });
    });
    afterEach(() => town.leave());
    after(() => town.close());

    async function groupOf(by: Device, ...memberIds: string[]): Promise<string> {
      const request = { clientId: newClientId(), title: "all", memberIds };
      const { conversation } = await by.createGroup(request);
      return conversation?.conversationId ?? "";
    }

    /** Sends, at the pace of those who read, until `enough`; answers with the last seq. */
    async function fill(
      from: Device,
      id: string,
      readers: Device[],
      enough: () => Promise<boolean>,
    ): Promise<number> {
      for (let sent = 0; sent < messagesMax; sent += 8) {
        const sends = Array.from({ length: 8 }, () => from.send(textInto(id, sixteenKiB)));
        const last = (await Promise.all(sends)).at(-1)?.seq ?? 0;
        await Promise.all(readers.map(({ inbox }) => inbox.record(id, last)));
        if (await enough()) return last;
      }
      throw new Error(`not enough after ${messagesMax} messages`);
    }

    /** All that one who comes back may read. */
    async function whole(device: Device, conversationId: string): Promise<number[]> {
      return (await wholeLog(device, conversationId)).map(({ seq }) => seq);
    }

    const upTo = (seq: number): number[] => Array.from({ length: seq }, (_, at) => at + 1);

    it("closes a WebSocket that is not read with 4002; others have everything; so has it on coming back", async function () {
      this.timeout(60_000);
      const alice = await town.onSocket("alice");
      const bob = await town.onSocket("bob");
      const slow = await town.onSocket("slow");
      const id = await groupOf(alice, "bob", "slow");
      await slow.inbox.record(id, 1);
      slow.socket.pause();
      const last = await fill(alice, id, [bob], async () => {
        const connections = await town.connectionsOf("slow");
        return connections.length === 0;
      });
      assert.deepEqual(
        bob.inbox.records.map(({ seq }) => seq),
        upTo(last),
      );
      slow.socket.resume();
      const { code, reason } = await within(10_000, "the end", slow.socket.closed);
      assert.equal(code, 4_002);
      assert.match(reason, /does not read fast enough/);
      const got = slow.inbox.records.map(({ seq }) => seq);
      assert.deepEqual(got, upTo(got.length), "what came, came in order");
      assert.ok(got.length < last);

      const back = await town.onSocket("slow");
      assert.deepEqual(await whole(back, id), upTo(last));
      await alice.send(textInto(id, "welcome back"));
      assert.equal(textOf(await back.inbox.record(id, last + 1)), "welcome back");
    });

    it("ends a Subscribe stream that is not read; so has its device everything on coming back", async function () {
      this.timeout(60_000);
      const alice = await town.onSocket("alice");
      const bob = await town.onConnect("bob");
      const id = await groupOf(alice, "bob", "idler");
      const other = await town.onConnect("idler", "other");
      const unread = await subscribeUnread(town.url, "idler");
      await asked(5_000, "a stream", async () =>
        (await town.connectionsOf("idler")).length === 2 ? true : undefined,
      );
      let last = await fill(alice, id, [bob, other], async () => {
        const waiting = (await town.connectionsOf("idler")).map(({ outboxBytes }) => outboxBytes);
        return Math.max(...waiting) > outboxMaxBytes - 2 * sixteenKiB.length;
      });
      // One round more than there is room for.
      last = await fill(alice, id, [bob, other], () => Promise.resolve(true));
      const events = await within(20_000, "the end", unread.rest());
      assert.deepEqual(events.at(-2), {
        goodbye: { reason: "CLOSE_REASON_SLOW" },
      });
      assert.ok(events.length < last);
      assert.equal(other.inbox.goodbye, undefined, "the one that reads stays");
      assert.deepEqual(await whole(other, id), upTo(last));
      assert.deepEqual(await whole(await town.onConnect("idler"), id), upTo(last));
    });

    it("closes a WebSocket that floods with 4004; what was acked stays, and others go on", async () => {
      const [alice, bob] = [await town.onSocket("alice"), await town.onSocket("bob")];
      const flood = await town.onSocket("flood");
      const { conversationId } = await flood.send(textTo("victim", "begin"));
      const acked = new Map<string, number>();
      const answers: Promise<void>[] = [];
      for (let n = 0; n < 60; n += 1) {
        const sends = Array.from({ length: 50 }, (_, at) =>
          textInto(conversationId, `flood ${n * 50 + at}`),
        );
        flood.socket
          .callAll(sends.map((value) => ({ case: "send", value })))
          .forEach((answer, at) => {
            const text = sends[at]?.content.text ?? "";
            const keep = answer.then(
              (frame) => void (frame.case === "send" && acked.set(text, frame.value.seq)),
              () => undefined,
            );
            answers.push(keep);
          });
      }
      const talk = async () => {
        for (let n = 0; n < 20; n += 1) {
          const { seq } = await alice.send(textTo("bob", `calm ${n}`));
          await bob.inbox.record("d:alice:bob", seq);
        }
      };
      const [closed] = await Promise.all([
        within(10_000, "the end", flood.socket.closed),
        within(5_000, "the others' talk", talk()),
      ]);
      assert.equal(closed.code, 4_004);
      assert.match(closed.reason, /too many frames or bytes/);
      assert.ok((flood.inbox.goodbye?.reconnectAfterMs ?? 0) > 0);
      await Promise.all(answers);

      const back = await town.onSocket("flood");
      const records = await wholeLog(back, conversationId);
      const texts = new Map(records.map((record) => [record.seq, textOf(record)]));
      for (const [text, seq] of acked) assert.equal(texts.get(seq), text);
      const kept = [...texts.values()].filter((text) => text.startsWith("flood "));
      assert.deepEqual(
        kept,
        kept.map((_, at) => `flood ${at}`),
        "the first ones, in order",
      );
    });

    it("refuses calls of a user who makes too many, and says when to come again", async function () {
      this.timeout(30_000);
      const [alice, bob] = [await town.onConnect("alice"), await town.onConnect("bob")];
      const token = await tokenFor("caller");
      const client = chatClient(town.url, token, "phone");
      await client.send(textTo("callee", "begin"));
      let refused: ConnectError | undefined;
      const worker = async (): Promise<void> => {
        for (let n = 0; n < 400 && refused === undefined; n += 1) {
          const { code, status, headers, message } = await postCall(town.url, token, "SetTyping", {
            conversationId: "d:callee:caller",
          });
          if (status === 200) continue;
          assert.deepEqual([status, code], [429, "resource_exhausted"], message);
          assert.ok(Number(headers.get("retry-after-ms")) > 0);
          refused ??= new ConnectError(message);
        }
      };
      await Promise.all(Array.from({ length: 16 }, worker));
      assert.match(refused?.rawMessage ?? "", /too many calls of this user/);
      const { seq, conversationId } = await alice.send(textTo("bob", "all is well here"));
      assert.equal(textOf(await bob.inbox.record(conversationId, seq)), "all is well here");
      const again = await asked(5_000, "the caller's turn", () =>
        client.history({ conversationId: "d:callee:caller" }).catch(() => undefined),
      );
      assert.equal(again.headSeq, 1);
    });

    it("takes no more connections of a user than it may have", async () => {
      const token = await tokenFor("many");
      const hello = async (n: number) => {
        const socket = await town.socket();
        await socket.hello({ token, deviceId: `device ${n}` });
        return socket;
      };
      const sockets = await Promise.all(Array.from({ length: 50 }, (_, n) => hello(n)));
      await assert.rejects(hello(50), /more than 50 connections: close some first/);
      await sockets[0]?.close();
      await asked(5_000, "room", async () =>
        (await town.connectionsOf("many")).length === 49 ? true : undefined,
      );
      await hello(51);
    });

    it("hangs up on frames that would make it work for nothing: pings and long polls without end", async () => {
      const pinging = await town.onSocket("pinging");
      for (let n = 0; n < 2_000; n += 1) pinging.socket.ping();
      const { code } = await within(10_000, "the end", pinging.socket.closed);
      assert.equal(code, 4_004, "sent away for its rate, not cut");
      const client = chatClient(town.url, await tokenFor("poller"), "");
      const leaving = new AbortController();
      setMaxListeners(100, leaving.signal);
      const { token } = await client.sync({});
      const polls = Array.from({ length: 40 }, () =>
        client
          .sync({ token, waitMs: 20_000 }, { signal: leaving.signal })
          .then(() => "answered")
          .catch((error: unknown) => ConnectError.from(error).rawMessage),
      );
      const early = await within(5_000, "a refusal", Promise.race(polls));
      assert.match(early, /too many streams and long polls/);
      leaving.abort();
      await Promise.all(polls);
    });

    it("takes a batch of many calls and answers each", async () => {
      const carol = await town.onSocket("carol");
      const { conversationId } = await carol.send(textTo("dave", "hello"));
      const frames = Array.from(
        { length: 256 },
        () => ({ case: "history", value: { conversationId } }) as const,
      );
      const answers = await Promise.all(carol.socket.callAll(frames));
      assert.ok(answers.every((one) => one.case === "history" && one.value.headSeq === 1));
      carol.socket.raw(batchOf([{ requestId: 1, frame: { case: "heartbeatReply", value: {} } }]));
      assert.ok(carol.socket.open);
    });
  });
}
