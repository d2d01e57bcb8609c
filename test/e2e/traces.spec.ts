/** A message that is followed leaves one trace, from its sender's frame to the frames of its receivers. */
import assert from "node:assert/strict";
import { modes } from "../support/parley.ts";
import { directId, textOf, textTo, Town } from "../support/town.ts";
import { TraceReceiver } from "../support/trace-receiver.ts";
import { asked } from "../support/within.ts";

const boundMs = 15_000;
const direct = directId("alice", "bob");

for (const [mode, start] of modes.entries()) {
  describe(`traces, ${mode}`, function () {
    let receiver: TraceReceiver;
    let town: Town;
    beforeEach(async () => {
      receiver = await TraceReceiver.open();
    });
    afterEach(async () => {
      await town.close();
      await receiver.close();
    });

    const open = async (ratio: string): Promise<void> => {
      const settings = { PARLEY_OTLP_URL: receiver.url, PARLEY_TRACE_RATIO: ratio };
      town = await Town.start(start, settings);
    };
    /** Waits until those are there; the processes send what they have when they end. */
    const spans = async (...names: string[]): Promise<void> => {
      await town.close();
      await asked(boundMs, names.join(), () => {
        const there = names.every((name) => receiver.spans.some((span) => span.name === name));
        return Promise.resolve(there ? true : undefined);
      });
    };

    it("show all hops of a message, each under the one that caused it, and nothing of what it says", async () => {
      await open("1");
      const [alice, bob] = [await town.onSocket("alice"), await town.onSocket("bob")];
      await alice.send(textTo("bob", "Schweinebraten"));
      assert.equal(textOf(await bob.inbox.record(direct, 1)), "Schweinebraten");
      await spans("gateway send", "storage append", "gateway push");

      const first = receiver.one("gateway send");
      const kept = receiver.one("delivery send");
      const pushed = receiver.one("gateway push");
      const routed = receiver.spans.find(({ spanId }) => spanId === pushed.parentSpanId);
      assert.deepEqual(new Set(receiver.spans.map(({ traceId }) => traceId)).size, 1);
      assert.equal(first.parentSpanId, "");
      assert.equal(kept.parentSpanId, first.spanId);
      assert.equal(receiver.one("storage append").parentSpanId, kept.spanId);
      assert.equal(routed?.name, "session publish");
      for (const { parentSpanId } of receiver.spans.filter(({ name }) => name === routed?.name))
        assert.equal(parentSpanId, kept.spanId);

      assert.deepEqual(
        [first.attributes["parley.user"], first.attributes["parley.conversation"]],
        ["alice", direct],
      );
      for (const { attributes } of [first, kept, routed, pushed])
        assert.equal(attributes["parley.seq"], "1");
      for (const { startNs, endNs, fault, name } of receiver.spans) {
        assert.ok(startNs <= endNs, name);
        assert.ok(startNs >= first.startNs - 1_000_000n, `${name} began before the frame came`);
        assert.equal(fault, "");
      }
      assert.doesNotMatch(receiver.text, /Schweinebraten/);
      const hops = [first, kept, receiver.one("storage append"), routed, pushed];
      const services = ["gateway", "delivery", "storage", "session", "gateway"];
      const alone = services.map(() => "parley").join();
      const apart = services.map((service) => `parley-${service}`).join();
      assert.ok([alone, apart].includes(hops.map(({ service }) => service).join()));
    });

    it("are of calls over Connect, too, and say why a message was refused", async () => {
      await open("1");
      const alice = await town.onConnect("alice");
      const content = { text: "Hello", replyToSeq: 9 };
      await assert.rejects(alice.send({ ...textTo("bob", ""), content }));
      await spans("gateway send", "delivery send");
      const [first, kept] = [receiver.one("gateway send"), receiver.one("delivery send")];
      assert.equal(kept.parentSpanId, first.spanId);
      assert.match(first.fault, /^reply_to_seq 9 is beyond/);
      assert.equal(kept.fault, first.fault);
    });

    it("are of no message where chance says so", async () => {
      await open("0");
      const [alice, bob] = [await town.onSocket("alice"), await town.onSocket("bob")];
      await alice.send(textTo("bob", "Hello"));
      await bob.inbox.record(direct, 1);
      await town.close();
      assert.deepEqual(receiver.spans, []);
    });
  });
}
