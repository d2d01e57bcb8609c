/** How what is counted is shown to Prometheus, and what every process of a cluster counts of its lease. */
import assert from "node:assert/strict";
import { ManualClock } from "../../mesh/clock.ts";
import { Identity } from "../../mesh/identity.ts";
import { serveMetrics } from "../../mesh/metrics-http.ts";
import type { Metrics } from "../../mesh/metrics.ts";
import { countLease } from "../../mesh/process-meter.ts";
import { seededRandom } from "../../mesh/random.ts";
import { NotedMetrics } from "../support/noted-metrics.ts";

/** The lines of one name that Prometheus gets, comments included. */
async function shown(name: string, count: (metrics: Metrics) => void): Promise<string[]> {
  const server = await serveMetrics({ host: "127.0.0.1", port: 0 });
  try {
    count(server.metrics);
    const text = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
    return text.split("\n").filter((line) => new RegExp(`\\b${name}(_|\\b)`).test(line));
  } finally {
    await server.close();
  }
}

describe("/metrics", () => {
  it("shows a spread's buckets, sum and count, by its labels", async () => {
    const lines = await shown("parley_test_seconds", (metrics) => {
      const of = (kind: string) =>
        metrics.spread("parley_test_seconds", "How.", [1, 2.5], { kind });
      for (const value of [0, 1, 1.5, 2.5, 7]) of("a").observe(value);
      of("b").observe(2);
    });
    assert.deepEqual(lines, [
      "# HELP parley_test_seconds How.",
      "# TYPE parley_test_seconds histogram",
      'parley_test_seconds_bucket{le="1",kind="a"} 2',
      'parley_test_seconds_bucket{le="2.5",kind="a"} 4',
      'parley_test_seconds_bucket{le="+Inf",kind="a"} 5',
      'parley_test_seconds_sum{kind="a"} 12',
      'parley_test_seconds_count{kind="a"} 5',
      'parley_test_seconds_bucket{le="1",kind="b"} 0',
      'parley_test_seconds_bucket{le="2.5",kind="b"} 1',
      'parley_test_seconds_bucket{le="+Inf",kind="b"} 1',
      'parley_test_seconds_sum{kind="b"} 2',
      'parley_test_seconds_count{kind="b"} 1',
    ]);
  });

  it("shows a tally that goes down again, and adds up what has the same labels", async () => {
    const lines = await shown("parley_test", (metrics) => {
      metrics.tally("parley_test", "How.", { kind: "a" }).add(3);
      metrics.tally("parley_test", "How.", { kind: "a" }).add(-1);
      metrics.tally("parley_test", "How.", { kind: "b" }).add();
    });
    assert.deepEqual(lines, [
      "# HELP parley_test How.",
      "# TYPE parley_test gauge",
      'parley_test{kind="a"} 2',
      'parley_test{kind="b"} 1',
    ]);
  });

  it("shows how late the event loop is", async () => {
    const name = "nodejs_eventloop_lag_p99_seconds";
    const [value = ""] = (await shown(name, () => undefined)).slice(-1);
    assert.ok(Number(value.split(" ")[1]) >= 0, value);
  });
});

it("a lease's age grows until it is renewed, and its loss is counted", () => {
  const metrics = new NotedMetrics();
  const clock = new ManualClock();
  const identity = new Identity(seededRandom(1));
  const lease: { renewedMs?: number } = {};
  countLease(metrics, clock, identity, () => lease.renewedMs);
  assert.ok(Number.isNaN(metrics.of("parley_lease_age_seconds")));
  lease.renewedMs = clock.monotonic();
  clock.advance(2_500);
  assert.equal(metrics.of("parley_lease_age_seconds"), 2.5);
  assert.equal(metrics.of("parley_leases_lost_total"), 0);
  identity.end(identity.id);
  assert.equal(metrics.of("parley_leases_lost_total"), 1);
});
