/** The processes of the benchmark, with the relay: started, put under load, measured, ended. */
import assert from "node:assert/strict";
import { faultCount } from "../../bench/check.ts";
import { measurable } from "../../bench/cpu.ts";
import type { RelayJob } from "../../bench/job.ts";
import { generate, startRelay } from "../../bench/processes.ts";
import { runBench } from "../../bench/run.ts";

const quiet = (): void => undefined;

describe("bench: processes", () => {
  it("measures the relay from a generator of its own", async () => {
    const relay = await startRelay();
    try {
      const phases = { run: "t", warmMs: 50, measureMs: 300 };
      const { target } = relay;
      const job: RelayJob = { kind: "relay", target, ...phases, connections: 4, window: 2 };
      const result = await generate(job, 20_000, quiet);
      assert.ok(result.kind === "load");
      assert.equal(faultCount(result.faults), 0);
      assert.ok(result.measured.count > 0);
      if (measurable()) assert.ok((result.measured.serverSeconds ?? 0) > 0);
    } finally {
      await relay.stop();
    }
  }).timeout(40_000);

  it("says what the generator could not do", async () => {
    const target = { host: "127.0.0.1", port: 1, secret: "", pid: undefined };
    const job: RelayJob = {
      kind: "relay",
      target,
      run: "t",
      warmMs: 1,
      measureMs: 1,
      connections: 2,
      window: 1,
    };
    await assert.rejects(generate(job, 20_000, quiet), /ECONNREFUSED/);
  }).timeout(40_000);

  it("reports a scenario that failed, and is then unsound", async () => {
    const said: string[] = [];
    const report = await runBench({
      only: ["latency"],
      url: "http://127.0.0.1:1",
      print: (text) => said.push(text),
      progress: quiet,
    });
    assert.match(report.failures[0]?.message ?? "", /PARLEY_JWT_SECRET/);
    assert.match(said.join("\n"), /FAILED latency/);
  });
});
