/** /metrics of a process: what it counts, that nothing names a user, that clients cannot see it, and that alerts and dashboard ask for what there is. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { pino } from "pino";
import { createNodeClient } from "../../client/node.ts";
import { type Parley, parleyConfig, startParley } from "../../embedded/index.ts";
import { newFolder, testSettings, tokenFor } from "../support/parley.ts";
import { textOf } from "../support/tree.ts";
import { asked, within } from "../support/within.ts";

const boundMs = 10_000;

describe("metrics", () => {
  let folder: Awaited<ReturnType<typeof newFolder>>;
  let parley: Parley;
  let url: string;

  before(async () => {
    folder = await newFolder();
    const port = await freePort();
    url = `http://127.0.0.1:${port}/metrics`;
    const settings = testSettings(folder.path, { PARLEY_METRICS_PORT: String(port) });
    parley = await startParley(parleyConfig(settings), { log: pino({ level: "silent" }) });
  });
  after(async () => {
    await parley?.close();
    await folder?.remove();
  });

  const text = async (): Promise<string> => (await fetch(url)).text();
  /** A series' value; undefined: there is no such series. */
  const value = async (series: string): Promise<number | undefined> => {
    const line = (await text()).split("\n").find((one) => one.startsWith(`${series} `));
    return line === undefined ? undefined : Number(line.slice(series.length + 1));
  };
  const becomes = (series: string, wanted: number): Promise<true> =>
    asked(boundMs, `${series} ${wanted}`, async () =>
      (await value(series)) === wanted ? true : undefined,
    );

  it("say that it is ready", async () => {
    assert.equal(await value("parley_ready"), 1);
  });

  it("count a message from its sender to a device, and connections while they last", async () => {
    const edge = `http://127.0.0.1:${parley.port}`;
    const [alice, bob] = await Promise.all(
      ["alice", "bob"].map(async (user) =>
        createNodeClient({ url: edge, token: await tokenFor(user) }),
      ),
    );
    assert.ok(alice !== undefined && bob !== undefined);
    try {
      alice.connect();
      bob.connect();
      await becomes("parley_gateway_connections", 2);
      // The first may come with what bob lacks when he connects; the second is pushed.
      for (const seq of [1, 2]) {
        const got = new Promise<void>((resolve) =>
          bob.on("record", ({ record }) => record.seq === seq && resolve()),
        );
        await alice.send({ user: "bob" }, "Hello").sent;
        await within(boundMs, `record ${seq}`, got);
      }
      assert.equal(await value("parley_gateway_sends_total"), 2);
      assert.equal(await value("parley_gateway_send_failures_total"), 0);
      assert.equal(await value("parley_gateway_ack_seconds_count"), 2);
      assert.ok(((await value("parley_gateway_pushes_total")) ?? 0) >= 1);
      for (const what of ["delivery_batch_conversations", "delivery_commit_seconds"])
        assert.ok(((await value(`parley_${what}_count`)) ?? 0) >= 1, what);
      assert.ok(((await value("parley_storage_commit_seconds_count")) ?? 0) >= 1);
      assert.doesNotMatch(await text(), /alice|bob/);
    } finally {
      await Promise.all([alice.close(), bob.close()]);
    }
    await becomes("parley_gateway_connections", 0);
  });

  it("are not where clients connect", async () => {
    const { status } = await fetch(`http://127.0.0.1:${parley.port}/metrics`);
    assert.equal(status, 404);
    assert.equal((await fetch(url.replace("/metrics", "/"))).status, 404);
  });

  it("have all that the alert rules and the dashboard ask for", async () => {
    const there = await text();
    const files = ["helm/parley/files/rules.yaml", "helm/parley/files/dashboard.json"];
    const names = files.flatMap(
      (path) => textOf(path).match(/\b(parley|nodejs)_[a-z0-9_]+/g) ?? [],
    );
    assert.ok(names.length > 10);
    const missing = [...new Set(names)].filter(
      (name) => !new RegExp(`^(# TYPE )?${name}[ {]`, "m").test(there),
    );
    assert.deepEqual(missing, []);
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no address");
  return address.port;
}
