/** The pure parts: percentiles, the checks of order, the report, tokens, CPU time. */
import { jwtVerify } from "jose";
import assert from "node:assert/strict";
import { noFaults, SeqCheck, StreamCheck } from "../../bench/check.ts";
import { CpuMeter, measurable, residentBytes } from "../../bench/cpu.ts";
import { Histogram } from "../../bench/histogram.ts";
import type { LoadResult, Measured } from "../../bench/job.ts";
import { met, printed, short, sound, type Goal, type Report } from "../../bench/report.ts";
import { medianOf } from "../../bench/stage.ts";
import { signToken } from "../../bench/token.ts";

const measured = (count: number, serverSeconds: number | undefined): Measured => ({
  count,
  seconds: 2,
  serverSeconds,
  generatorSeconds: 1,
  ack: undefined,
  delivery: undefined,
});

describe("bench: figures", () => {
  it("has percentiles within 1.6 %", () => {
    const histogram = new Histogram();
    for (let ms = 0.1; ms <= 1000; ms += 0.1) histogram.add(ms);
    const quantiles = histogram.quantiles();
    const near = (value: number | undefined, wanted: number): void =>
      assert.ok(Math.abs((value ?? 0) / wanted - 1) < 0.02, `${value} for ${wanted}`);
    near(quantiles?.p50Ms, 500);
    near(quantiles?.p99Ms, 990);
    near(quantiles?.p999Ms, 999);
    near(quantiles?.maxMs, 1000);
    assert.equal(new Histogram().quantiles(), undefined);
  });

  it("tells lost, doubled and reordered apart", () => {
    const stream = new StreamCheck();
    for (const counter of [0, 1, 3, 2, 2, 4, 6]) stream.take(counter);
    assert.equal(stream.received, 6);
    assert.equal(stream.reordered, 1);
    assert.equal(stream.doubled, 1);
    assert.equal(stream.lost(7, 0), 1);
    assert.equal(stream.lost(7, 1), 0);
  });

  it("wants every seq once, pushes in order", () => {
    const seqs = new SeqCheck();
    seqs.pushed(1);
    seqs.sent(3);
    assert.equal(seqs.contiguous, false);
    seqs.pushed(2);
    assert.equal(seqs.contiguous, true);
    assert.equal(seqs.reordered, 0);
    seqs.pushed(2);
    assert.equal(seqs.contiguous, false);
    assert.equal(seqs.reordered, 1);
  });

  it("takes the median round and the faults of all", () => {
    const one = (count: number, lost: number): LoadResult => ({
      kind: "load",
      measured: measured(count, 1),
      faults: { ...noFaults(), lost },
      residentBytes: undefined,
    });
    const result = medianOf([one(10, 1), one(30, 0), one(20, 2)]);
    assert.equal(result.measured.count, 20);
    assert.equal(result.faults.lost, 3);
  });

  it("prints goals, faults and failures, and is unsound with any", () => {
    const goal: Goal = { what: "ratio", value: 0.9, limit: 0.8, bound: "at least", unit: "" };
    const report: Report = {
      machine: {
        cpu: "cpu",
        cores: 2,
        memoryGiB: 4,
        kernel: "k",
        node: "v20",
        commit: "abc",
        load: "0.1",
        dataOn: "ext4",
      },
      settings: { quick: true },
      rows: [
        { scenario: "direct", what: "1:1", measured: measured(200_000, 0.5), faults: noFaults() },
      ],
      goals: [goal, { ...goal, bound: "at most" }, { ...goal, value: undefined }],
      failures: [],
      loadAtEnd: "0.2",
    };
    assert.equal(sound(report), true);
    assert.deepEqual(report.goals.map(met), [true, false, undefined]);
    assert.match(printed(report), /1:1 +100\.0k +400\.0k +2\.50 +25%/);
    assert.match(printed(report), /no message was lost/);
    const failed = { ...report, failures: [{ scenario: "idle", message: "no" }] };
    assert.equal(sound(failed), false);
    assert.match(printed(failed), /FAILED idle: no/);
    const lossy = {
      ...report,
      rows: [{ scenario: "a", what: "b", faults: { ...noFaults(), lost: 2 } }],
    };
    assert.equal(sound(lossy), false);
    assert.match(printed(lossy), /FAULTS b: 2 lost/);
    assert.equal(short(undefined), "-");
  });

  it("signs tokens that jose takes", async () => {
    const token = signToken("a secret of some length", "alice", Date.now());
    const secret = new TextEncoder().encode("a secret of some length");
    const { payload } = await jwtVerify(token, secret, { algorithms: ["HS256"] });
    assert.equal(payload.sub, "alice");
  });

  it("reads CPU time and memory of a process", function () {
    if (!measurable()) this.skip();
    const meter = new CpuMeter(process.pid);
    const before = process.cpuUsage();
    while (process.cpuUsage(before).user < 100_000) Math.sqrt(2);
    assert.ok(meter.seconds() > 0.05);
    assert.ok((residentBytes(process.pid) ?? 0) > 10e6);
  });
});
