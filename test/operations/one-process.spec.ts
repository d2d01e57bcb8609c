/** docs/operations.md for operators, on one process: each command does what the document says that it prints. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { SocketDevice } from "../support/device.ts";
import { newFolder, secret, tokenFor } from "../support/parley.ts";
import { ServerProcess } from "../support/server-process.ts";
import { Terminal, blocks, grpcurl, installMs, needsCluster, settled } from "./commands.ts";

describe("docs/operations.md answers an operator's questions, by one process", () => {
  let folder: Awaited<ReturnType<typeof newFolder>>;
  let server: ServerProcess | undefined;
  let terminal: Terminal | undefined;
  let alice: SocketDevice | undefined;

  before(async function () {
    this.timeout(installMs);
    const had = await grpcurl();
    if ("lack" in had) {
      console.log(`skipped: ${had.lack}`);
      return this.skip();
    }
    folder = await newFolder();
    const data = join(folder.path, "data");
    server = await ServerProcess.start(data, { PARLEY_GATEWAY_ID: "gateway-0" });
    const { url, meshUrl } = server;
    const { hostname, port } = new URL(meshUrl);
    terminal = new Terminal({
      grpcurlFolder: had.folder,
      flags: `-plaintext`,
      address: `${hostname}:${port}`,
      settings: {
        PARLEY_MESH: `${hostname}:${port}`,
        PARLEY_URL: url,
        PARLEY_DATA: data,
        PARLEY_JWT_SECRET: secret,
      },
    });
    await terminal.open();
    alice = await SocketDevice.open({ url, token: await tokenFor("alice"), deviceId: "phone" });
  });
  after(async () => {
    terminal?.close();
    await alice?.close();
    await server?.end("SIGTERM");
    await folder?.remove();
  });

  it("has commands, of both kinds", () => {
    const all = blocks.map(({ commands }) => commands).join("\n");
    for (const command of ["processes", "connections", "sessions", "shard", "explain", "log"])
      assert.ok(all.includes(`npx parley ${command}`), command);
    assert.ok((all.match(/^grpcurl /gm) ?? []).length >= 8);
  });

  for (const block of blocks.filter((one) => !needsCluster(one))) {
    it(block.name, async () => {
      assert.ok(terminal);
      const output = await terminal.run(block);
      if (block.output !== undefined) assert.equal(settled(output), settled(block.output));
    });
  }

  it("says what to do where it cannot answer", async function () {
    this.timeout(180_000);
    assert.ok(terminal);
    for (const [command, said] of [
      ["drain gateway-7", /there is no gateway gateway-7; there are: gateway-0/],
      ["explain d:alice:eve 1", /there is no conversation d:alice:eve/],
      ["move d:alice:bob x", /there is no delivery process x; there are: /],
      ["move 7 x", /there is no shard 7: they are numbered up to 0/],
      ["log d:alice:bob --limit 201", /limit is more than 200/],
      ["explain d:alice:bob", /Give its number, or --sender and --client-id/],
      ["processes --mesh 127.0.0.1:1", /ECONNREFUSED.*--mesh names another/],
      ["processes --tls-ca-file ca.pem", /belong together/],
    ] as const) {
      const { code, output } = await terminal.try(`npx parley ${command}`);
      assert.equal(code, 1, command);
      assert.match(output, said, command);
    }
  });
});
