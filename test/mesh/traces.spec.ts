/** Traces as the collector gets them: times by the clock, ids by chance, and what becomes of them where it does not answer. */
import assert from "node:assert/strict";
import { ManualClock } from "../../mesh/clock.ts";
import { EnvReader } from "../../mesh/env.ts";
import { Identity } from "../../mesh/identity.ts";
import { createLog } from "../../mesh/log.ts";
import { seededRandom } from "../../mesh/random.ts";
import { openOtlp, perSecondMax, queueMax } from "../../mesh/trace-otlp.ts";
import { openTracing, traceConfig } from "../../mesh/trace-config.ts";
import { traceIdOf } from "../../mesh/trace.ts";
import { NotedMetrics } from "../support/noted-metrics.ts";
import { TraceReceiver } from "../support/trace-receiver.ts";

function outside() {
  const random = seededRandom(7);
  const warnings: string[] = [];
  return {
    clock: new ManualClock(),
    random,
    warnings,
    log: createLog({ to: { write: (line: string) => void warnings.push(line) } }),
    metrics: new NotedMetrics(),
    identity: new Identity(random),
  };
}

describe("traces", () => {
  let receiver: TraceReceiver;
  beforeEach(async () => {
    receiver = await TraceReceiver.open();
  });
  afterEach(() => receiver.close());

  const settings = (ratio: number) => ({ url: `${receiver.url}/v1/traces`, ratio });

  it("have the clock's times, steps under the spans whose context came along, and faults", async () => {
    const around = outside();
    const { tracer, close } = openOtlp(settings(1), "one", around);
    const first = tracer.begin("first", { "parley.user": "alice" });
    around.clock.advance(5);
    const step = tracer.step(first.context, "step", { "parley.seq": 7 });
    step.note("half");
    around.clock.advance(20);
    step.end("it is full");
    first.end();
    assert.equal(first.context.length, 24);
    await close();
    const [one, other] = [receiver.one("first"), receiver.one("step")];
    assert.equal(one.traceId, traceIdOf(first.context));
    assert.equal(other.traceId, one.traceId);
    assert.deepEqual([one.parentSpanId, other.parentSpanId], ["", one.spanId]);
    const ms = BigInt(around.clock.now() - 25) * 1_000_000n;
    assert.deepEqual([one.startNs, one.endNs], [ms, ms + 25_000_000n]);
    assert.deepEqual([other.startNs, other.endNs], [ms + 5_000_000n, ms + 25_000_000n]);
    assert.deepEqual([one.fault, other.fault, other.events], ["", "it is full", ["half"]]);
    assert.deepEqual([other.service, other.attributes], ["one", { "parley.seq": "7" }]);
    assert.equal(around.metrics.of("parley_spans_sent_total"), 2);
  });

  it("are of as many messages as the ratio says, by the chance that is given, and of so many in a second at most", () => {
    for (const ratio of [0, 0.25, 1]) {
      const around = outside();
      const { tracer } = openOtlp(settings(ratio), "one", around);
      let chosen = 0;
      for (let second = 0; second < 20; second += 1) {
        for (let n = 0; n < 50; n += 1) if (tracer.chosen()) chosen += 1;
        around.clock.advance(1_000);
      }
      assert.ok(Math.abs(chosen - 1_000 * ratio) <= 320 * ratio * (1 - ratio), `${chosen}`);
      const flood = Array.from({ length: 10_000 }, () => tracer.chosen()).filter(Boolean).length;
      assert.equal(flood, ratio === 0 ? 0 : perSecondMax);
    }
  });

  it("are given up, logged and counted where the collector does not take them", async () => {
    receiver.status = 400;
    const around = outside();
    const { tracer, close } = openOtlp(settings(1), "one", around);
    tracer.begin("first", {}).end();
    await close();
    assert.equal(around.metrics.of("parley_spans_lost_total"), 1);
    assert.equal(around.metrics.of("parley_spans_sent_total"), 0);
    assert.equal(around.warnings.filter((line) => line.includes("traces are lost")).length, 1);
  });

  it("are given up, logged once and counted beyond what may wait", async () => {
    const around = outside();
    const { tracer, close } = openOtlp(settings(1), "one", around);
    // All in one turn, in which a batch of 512 is handed on and no other one.
    for (let n = 0; n < queueMax + 512 + 10; n += 1) tracer.begin("first", {}).end();
    const counted = (): number[] =>
      ["sent", "lost"].map((what) => around.metrics.of(`parley_spans_${what}_total`) ?? NaN);
    assert.equal(counted()[1], 10);
    assert.equal(around.warnings.filter((line) => line.includes("wait already")).length, 1);
    await close();
    assert.deepEqual(counted(), [queueMax + 512, 10]);
  });

  it("are off where no address is set, and a wrong one is named", async () => {
    const read = (values: Record<string, string>) => {
      const reader = new EnvReader(values, "PARLEY_");
      return reader.done({ trace: traceConfig(reader) }).trace;
    };
    assert.equal((await openTracing(read({}), "one", outside())).tracer, undefined);
    assert.deepEqual(
      read({ PARLEY_OTLP_URL: "http://collector:4318", PARLEY_TRACE_RATIO: "0.5" }),
      {
        url: "http://collector:4318/v1/traces",
        ratio: 0.5,
      },
    );
    assert.equal(read({ PARLEY_OTLP_URL: "https://a.example/b" })?.url, "https://a.example/b");
    for (const wrong of ["collector:4318", "ftp://a", "nothing"])
      assert.throws(() => read({ PARLEY_OTLP_URL: wrong }), /PARLEY_OTLP_URL must be like/);
    for (const wrong of ["1.5", "-1", "often", "1e-3"])
      assert.throws(() => read({ PARLEY_TRACE_RATIO: wrong }), /PARLEY_TRACE_RATIO must be/);
  });
});
