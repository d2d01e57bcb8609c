/** A short fuzz run, and that the run finds what it is there to find. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { HttpCarrier, carryRaw, judged } from "./carriers.ts";
import { inputOf } from "./inputs.ts";
import { flatBytes, runFuzz } from "./run.ts";

const inputs = 600;
const seed = Math.floor(Math.random() * 1e9);
const material = { tokens: ["token"], pictures: [{ type: "image/png", bytes: Buffer.alloc(99) }] };

describe("the edge under spoilt inputs", () => {
  it(`answers or closes, serves others, stays alive and as large as it was (P9), --inputs ${inputs} --seed ${seed}`, async function () {
    this.timeout(60_000);
    const report = await runFuzz({ inputs, seed });
    assert.deepEqual(report.findings, []);
    const done = Object.values(report.counts);
    assert.equal(
      done.reduce((sum, count) => sum + count, 0),
      inputs,
    );
    assert.ok(
      done.every((count) => count > 0),
      JSON.stringify(report.counts),
    );
    assert.ok(report.witnessed >= 3);
  });

  it("is given the same inputs for the same seed, and others for another", () => {
    const some = (from: number): unknown[] =>
      Array.from({ length: 200 }, (_, nth) => inputOf(from, nth, material));
    assert.deepEqual(some(seed), some(seed));
    assert.notDeepEqual(some(seed), some(seed + 1));
  });

  it("is caught with an internal error, in each way in which one is told", () => {
    assert.match(judged(500, "oops") ?? "", /status 500: oops/);
    assert.match(judged(200, `{"error":{"code":"internal"}}`) ?? "", /internal/);
    assert.match(judged(200, "grpc-status: 13\r\n") ?? "", /13/);
    for (const [status, text] of [
      [400, `{"code":"invalid_argument"}`],
      [503, `{"code":"unavailable"}`],
      [200, "grpc-status: 3\r\n"],
    ] as const)
      assert.equal(judged(status, text), undefined);
  });

  it("is caught answering with 500, over a library and over a bare socket", async () => {
    await withServer(
      (_, response) => void response.writeHead(500).end("a fault"),
      async (url) => {
        const http = new HttpCarrier(url);
        const headers = {};
        const body = Buffer.from("{}");
        const call = {
          kind: "call",
          method: "POST",
          path: "/",
          headers,
          body,
          streams: false,
        } as const;
        assert.match((await http.carry(call)) ?? "", /status 500: a fault/);
        http.close();
        const bytes = Buffer.from("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert.match((await carryRaw(url, bytes)) ?? "", /status 500/);
      },
    );
  });

  it("may grow by a quarter and 8 MiB, and no more", () => {
    assert.equal(flatBytes(40 * 1_048_576), 58 * 1_048_576);
  });
});

async function withServer(
  answer: RequestListener,
  use: (url: URL) => Promise<void>,
): Promise<void> {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    await use(new URL(`http://127.0.0.1:${port}`));
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
