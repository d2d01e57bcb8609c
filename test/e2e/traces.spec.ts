/** A message that is followed leaves one trace, from its sender's frame to the frames of its receivers. */
import assert from "node:assert/strict";
import { modes } from "../support/parley.ts";
import { directId, textOf, textTo, Town } from "../support/town.ts";
import { type ReceivedSpan, TraceReceiver } from "../support/trace-receiver.ts";
import { asked } from "../support/within.ts";

const boundMs = 15_000;
const direct = directId("alice", "bob");

for (const [mode, start] of modes.entries()) {
  describe(`traces, ${mode}`, () => {
    let receiver: TraceReceiver;
    let town: Town | undefined;

    /** The only span of the name in the trace of a message that was kept, or of one that was not. */
    const one = (name: string, kept: boolean): ReceivedSpan => {
      const first = receiver.spans.find(
        (span) => span.name === "gateway send" && (span.fault === "") === kept,
      );
      const [span, ...more] = receiver.spans.filter(
        (each) => each.name === name && each.traceId === first?.traceId,
      );
      if (span === undefined || more.length > 0) throw new Error(`${more.length} more: ${name}`);
      return span;
    };

    before(async () => {
      receiver = await TraceReceiver.open();
      const settings = { PARLEY_OTLP_URL: receiver.url, PARLEY_TRACE_RATIO: "1" };
      town = await Town.start(start, settings);
      const [alice, bob] = [await town.onSocket("alice"), await town.onSocket("bob")];
      await alice.send(textTo("bob", "Schweinebraten"));
      assert.equal(textOf(await bob.inbox.record(direct, 1)), "Schweinebraten");
      const tablet = await town.onConnect("alice", "tablet");
      const content = { text: "Hello", replyToSeq: 9 };
      await assert.rejects(tablet.send({ ...textTo("bob", ""), content }));
      // The processes send what they have when they end.
      await town.close();
      town = undefined;
      const names = ["gateway send", "delivery send", "storage append", "gateway push"];
      await asked(boundMs, names.join(), () => {
        const there = names.every((name) => receiver.spans.some((span) => span.name === name));
        return Promise.resolve(there && receiver.spans.length >= 7 ? true : undefined);
      });
    });
    after(async () => {
      await town?.close();
      await receiver?.close();
    });

    it("show all hops of a message, each under the one that caused it, and nothing of what it says", () => {
      const [first, kept] = [one("gateway send", true), one("delivery send", true)];
      const [append, pushed] = [one("storage append", true), one("gateway push", true)];
      const routed = receiver.spans.find(({ spanId }) => spanId === pushed.parentSpanId);
      assert.equal(first.parentSpanId, "");
      assert.equal(kept.parentSpanId, first.spanId);
      assert.equal(append.parentSpanId, kept.spanId);
      assert.equal(routed?.name, "session publish");
      for (const { parentSpanId } of receiver.spans.filter(({ name }) => name === routed?.name))
        assert.equal(parentSpanId, kept.spanId);

      assert.deepEqual(
        [first.attributes["parley.user"], first.attributes["parley.conversation"]],
        ["alice", direct],
      );
      for (const { attributes } of [first, kept, routed, pushed])
        assert.equal(attributes["parley.seq"], "1");
      const hops = [first, kept, append, routed, pushed];
      for (const { startNs, endNs, fault, name } of hops) {
        assert.ok(startNs <= endNs, name);
        assert.ok(startNs >= first.startNs - 1_000_000n, `${name} began before the frame came`);
        assert.equal(fault, "");
      }
      assert.doesNotMatch(receiver.text, /Schweinebraten/);
      const services = ["gateway", "delivery", "storage", "session", "gateway"];
      const alone = services.map(() => "parley").join();
      const apart = services.map((service) => `parley-${service}`).join();
      assert.ok([alone, apart].includes(hops.map(({ service }) => service).join()));
    });

    it("are of calls over Connect, too, and say why a message was refused", () => {
      const [first, kept] = [one("gateway send", false), one("delivery send", false)];
      assert.equal(kept.parentSpanId, first.spanId);
      assert.match(first.fault, /^reply_to_seq 9 is beyond/);
      assert.equal(kept.fault, first.fault);
    });
  });
}
