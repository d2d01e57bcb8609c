/** docs/operations.md for operators, on a cluster with mTLS: each command works as it is written, asked of another gateway than the one that clients use. */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Terminal, blocks, grpcurl, installMs, settled } from "../operations/commands.ts";
import { TestCa } from "../support/ca.ts";
import { SocketDevice } from "../support/device.ts";
import { secret, tokenFor } from "../support/parley.ts";
import { Cluster } from "./cluster.ts";
import { optionsOn, sharedGround } from "./ground.ts";

/** What the document says that it prints, but for numbers and names of one place. */
const wordsOf = (text: string): string[] => settled(text).match(/\b[a-z][a-zA-Z]{3,}\b/g) ?? [];

describe("docs/operations.md answers an operator's questions, by a cluster", () => {
  let cluster: Cluster | undefined;
  let terminal: Terminal | undefined;
  let alice: SocketDevice | undefined;
  let remove: (() => Promise<void>) | undefined;

  before(async function () {
    this.timeout(installMs);
    const had = await grpcurl();
    if ("lack" in had) {
      console.log(`skipped: ${had.lack}`);
      return this.skip();
    }
    const own = await optionsOn(await sharedGround());
    remove = own.remove;
    const certificates = join(own.options.folder, "certificates");
    await mkdir(certificates);
    const { certFile, keyFile, caFile } = await (await TestCa.create()).write(certificates);
    const tls = {
      PARLEY_TLS_CERT_FILE: certFile,
      PARLEY_TLS_KEY_FILE: keyFile,
      PARLEY_TLS_CA_FILE: caFile,
    };
    const all = {
      ...tls,
      PARLEY_SHARDS: "64",
      PARLEY_LEASE_SECONDS: "20",
      PARLEY_LOG_LEVEL: "warn",
    };
    cluster = await Cluster.start({ ...own.options, settings: { all } });
    const { url } = cluster.process("gateway-0");
    const { mesh } = cluster.process("gateway-1");
    terminal = new Terminal({
      grpcurlFolder: had.folder,
      flags: `-cacert ${caFile} -cert ${certFile} -key ${keyFile} -authority parley.mesh`,
      address: mesh,
      settings: {
        ...tls,
        PARLEY_MESH: mesh,
        PARLEY_URL: url,
        PARLEY_JWT_SECRET: secret,
      },
    });
    await terminal.open();
    alice = await SocketDevice.open({ url, token: await tokenFor("alice"), deviceId: "phone" });
  });
  after(async function () {
    this.timeout(120_000);
    terminal?.close();
    await alice?.close();
    await cluster?.close("SIGKILL");
    await remove?.();
  });

  for (const block of blocks) {
    it(block.name, async () => {
      assert.ok(terminal);
      const output = await terminal.run(block);
      const said = new Set(wordsOf(output));
      const lacks = wordsOf(block.output ?? "").filter((word) => !said.has(word));
      assert.deepEqual(lacks, [], output);
    });
  }

  it("P2 P3: a shard goes to whom it is moved, and its messages go on", async function () {
    this.timeout(300_000);
    assert.ok(terminal);
    const operator = terminal;
    const shard = async (): Promise<string> =>
      (await operator.try("npx parley shard d:alice:dave")).output;
    const ids = await terminal.try("npx parley processes delivery --quiet");
    const deliveries = ids.output.trim().split("\n");
    assert.equal(deliveries.length, 2, ids.output);
    for (const [at, id] of [...deliveries, ...deliveries].entries()) {
      const { code, output } = await terminal.try(`npx parley move d:alice:dave ${id}`);
      assert.equal(code, 0, output);
      assert.match(await shard(), new RegExp(`delivery ${id} .*moved there by an operator`));
      const sent = await terminal.try("npx parley send --as alice --with dave 'and now?'");
      assert.equal(sent.output.trim(), `sent: d:alice:dave #${at + 1}`);
    }
    assert.equal((await terminal.try("npx parley move d:alice:dave")).code, 0);
    assert.doesNotMatch(await shard(), /operator/);
  });

  it("a process that does not answer is named, and the others' answers are there", async function () {
    this.timeout(120_000);
    assert.ok(terminal && cluster);
    const { id } = cluster.process("session-0");
    cluster.pause("session-0");
    try {
      const { code, output } = await terminal.try(
        terminal.told(
          `grpcurl -plaintext -d '{"userId": "alice"}' 127.0.0.1:9090 parley.gateway.v1.GatewayService/GetUser`,
        ),
      );
      assert.equal(code, 0, output);
      assert.match(output, new RegExp(`"unanswered"[^]*"session"[^]*"${id}"`));
      assert.match(output, /"presence"/);
    } finally {
      cluster.resume("session-0");
    }
  });

  it("not without a certificate, and not at the port of clients", async () => {
    assert.ok(terminal && cluster);
    const { mesh, url } = cluster.process("gateway-1");
    const plain = await terminal.try(`grpcurl -plaintext -max-time 5 ${mesh} list`);
    assert.notEqual(plain.code, 0, plain.output);
    const { status } = await fetch(`${url}/parley.gateway.v1.GatewayService/ListProcesses`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    assert.equal(status, 404);
  });
});
