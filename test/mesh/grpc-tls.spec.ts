/** Services of one mesh know one another by certificates: who is taken, who is refused with which words, and what happens when files change. */
import { Code, createClient } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectPlain } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { ManualClock } from "../../mesh/clock.ts";
import type { Clock } from "../../mesh/clock.ts";
import { meshCredentials } from "../../mesh/grpc/tls.ts";
import type { MeshCredentials } from "../../mesh/grpc/tls.ts";
import { serveGrpc } from "../../mesh/grpc/server.ts";
import type { GrpcServer } from "../../mesh/grpc/server.ts";
import { createGrpcTransport } from "../../mesh/grpc/transport.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { createLog } from "../../mesh/log.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { TestCa } from "../support/ca.ts";
import type { Service } from "../support/ca.ts";
import { within } from "../support/within.ts";
import { failure, serve } from "./fake-storage.ts";
import type { StorageClient } from "./fake-storage.ts";

const hourMs = 3_600_000;

/** A log that a test reads and waits for. */
class Lines {
  readonly all: string[] = [];
  readonly #waiting = new Set<() => void>();
  readonly log = createLog({
    level: "debug",
    to: {
      write: (line) => {
        this.all.push(line);
        for (const look of this.#waiting) look();
      },
    },
  });

  has(pattern: RegExp): Promise<void> {
    const found = new Promise<void>((resolve) => {
      const look = (): void => {
        if (!this.all.some((line) => pattern.test(line))) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
    return within(5_000, `a line like ${String(pattern)}`, found);
  }
}

describe("certificates between services", () => {
  let folder: string;
  let ca: TestCa;
  let other: TestCa;
  let lines: Lines;
  let closing: (() => unknown)[];
  before(async () => ([ca, other] = await Promise.all([TestCa.create(), TestCa.create("Other")])));
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "parley-tls-"));
    lines = new Lines();
    closing = [];
  });
  afterEach(async () => {
    for (const close of closing.toReversed()) await close();
    await rm(folder, { recursive: true });
  });

  async function writeFiles(name: string, service: Service = {}, of = ca, trusted = of) {
    await mkdir(join(folder, name), { recursive: true });
    return of.write(join(folder, name), service, trusted);
  }

  async function credentialsOf(
    name: string,
    service: Service = {},
    of = ca,
    trusted = of,
    clock?: Clock,
  ): Promise<MeshCredentials> {
    const files = await writeFiles(name, service, of, trusted);
    const made = meshCredentials(files, {
      log: lines.log,
      ...(clock === undefined ? {} : { clock }),
    });
    closing.push(() => made.close());
    return made;
  }

  async function server(credentials: MeshCredentials): Promise<GrpcServer> {
    const mesh = new LocalMesh();
    serve(mesh, { revoke: () => ({}) });
    const made = await serveGrpc({
      host: "127.0.0.1",
      port: 0,
      handlers: mesh.handlers,
      log: lines.log,
      credentials: credentials.server,
    });
    closing.push(() => made.close(0));
    return made;
  }

  function client({ port }: GrpcServer, credentials?: MeshCredentials): StorageClient {
    const transport = createGrpcTransport({
      address: `127.0.0.1:${port}`,
      ...(credentials === undefined ? {} : { credentials: credentials.channel }),
    });
    closing.push(() => transport.close());
    return createClient(StorageService, transport);
  }

  it("let peers of one authority talk", async () => {
    const serving = await server(await credentialsOf("server"));
    const one = client(serving, await credentialsOf("client"));
    await one.revoke({}, { timeoutMs: 5_000 });
    await Promise.all(Array.from({ length: 50 }, () => one.revoke({}, { timeoutMs: 5_000 })));
  });

  const refused: [string, () => Promise<MeshCredentials>, RegExp][] = [
    [
      "another authority's",
      () => credentialsOf("client", {}, other, ca),
      /the certificate is not valid: UNABLE_TO/,
    ],
    [
      "an expired one",
      () => credentialsOf("client", { fromMs: -2 * hourMs, untilMs: -hourMs }),
      /the certificate is not valid: CERT_HAS_EXPIRED/,
    ],
    [
      "one that is not valid yet",
      () => credentialsOf("client", { fromMs: hourMs }),
      /the certificate is not valid: CERT_NOT_YET_VALID/,
    ],
    [
      "one with another name",
      () => credentialsOf("client", { names: ["parley.example"] }),
      /the certificate lacks the name parley\.mesh/,
    ],
    [
      "one that is for servers only",
      () => credentialsOf("client", { uses: ["server"] }),
      /the certificate is not valid: INVALID_PURPOSE/,
    ],
  ];
  for (const [what, of, reason] of refused) {
    it(`refuse a client with ${what}, and say so on both sides`, async () => {
      const serving = await server(await credentialsOf("server"));
      const one = client(serving, await of());
      const error = await failure(() => one.revoke({}, { timeoutMs: 5_000 }));
      assert.equal(error.code, Code.Unavailable);
      assert.match(error.rawMessage, /refuses this process/);
      assert.match(error.rawMessage, reason);
      await lines.has(/a peer was refused/);
      assert(
        lines.all.some((line) => reason.test(line)),
        lines.all.join(""),
      );
    });
  }

  const distrusted: [string, () => Promise<MeshCredentials>, RegExp][] = [
    ["another authority's", () => credentialsOf("server", {}, other, ca), /unable to|self-signed/],
    [
      "an expired one",
      () => credentialsOf("server", { fromMs: -2 * hourMs, untilMs: -hourMs }),
      /certificate has expired/,
    ],
    [
      "one with another name",
      () => credentialsOf("server", { names: ["parley.example"] }),
      /parley\.mesh\. is not in the cert's altnames/,
    ],
    [
      "one that is for clients only",
      () => credentialsOf("server", { uses: ["client"] }),
      /purpose/,
    ],
  ];
  for (const [what, of, reason] of distrusted) {
    it(`do not let a client trust a server with ${what}`, async () => {
      const serving = await server(await of());
      const one = client(serving, await credentialsOf("client"));
      const error = await failure(() => one.revoke({}, { timeoutMs: 5_000 }));
      assert.equal(error.code, Code.Unavailable);
      assert.match(error.rawMessage, /not to be trusted/);
      assert.match(error.rawMessage, reason);
    });
  }

  it("refuse a client without any, and whoever does not encrypt", async () => {
    const { port } = await server(await credentialsOf("server"));
    const socket = connectTls({ host: "127.0.0.1", port, ca: ca.pem, servername: "parley.mesh" });
    const said = new Promise<string>((resolve) =>
      socket.once("data", (data) => resolve(String(data))),
    );
    assert.equal(
      await within(5_000, "the refusal", said),
      "parley refuses: no certificate was shown",
    );
    await within(5_000, "the end", new Promise((resolve) => socket.once("close", resolve)));
    await lines.has(/no certificate was shown/);

    const error = await failure(() =>
      client({ port, close: () => Promise.resolve() }).revoke({}, { timeoutMs: 5_000 }),
    );
    assert.equal(error.code, Code.Unavailable);
    await lines.has(/not encrypted as it must be/);
  });

  it("let nobody in again by an earlier session", async () => {
    const { port } = await server(await credentialsOf("server"));
    const { cert, key } = await ca.issue();
    const servername = "parley.mesh";
    const session = connectHttp2(`https://127.0.0.1:${port}`, {
      ...{ cert, key, ca: ca.pem, servername },
      ALPNProtocols: ["h2"],
    });
    const ticket = new Promise<Buffer>((resolve) =>
      session.once("connect", (_, socket) => socket.once("session", resolve)),
    );
    const early = await within(5_000, "a session", ticket);
    session.close();
    await within(5_000, "the end", new Promise((resolve) => session.once("close", resolve)));

    const again = connectTls({ host: "127.0.0.1", port, ca: ca.pem, servername, session: early });
    const said = new Promise<string>((resolve) =>
      again.once("data", (data) => resolve(String(data))),
    );
    assert.match(await within(5_000, "the refusal", said), /no certificate was shown/);
    again.destroy();
  });

  it("are used anew by new connections when their files change, on both sides", async () => {
    const clock = new ManualClock(Date.now());
    const [serverSide, clientSide] = [
      await credentialsOf("server", {}, ca, ca, clock),
      await credentialsOf("client", {}, ca, ca, clock),
    ];
    const serving = await server(serverSide);
    const early = client(serving, clientSide);
    await early.revoke({}, { timeoutMs: 5_000 });

    await writeFiles("server", {}, other);
    clock.advance(5_000);
    // The connection that is there stays; a new one sees the new certificate.
    await early.revoke({}, { timeoutMs: 5_000 });
    const between = await failure(() =>
      client(serving, clientSide).revoke({}, { timeoutMs: 5_000 }),
    );
    assert.match(between.rawMessage, /not to be trusted/);

    await writeFiles("client", {}, other);
    clock.advance(5_000);
    await client(serving, clientSide).revoke({}, { timeoutMs: 5_000 });
    await early.revoke({}, { timeoutMs: 5_000 });
  });

  it("stay in use when their files become bad, and say so", async () => {
    const clock = new ManualClock(Date.now());
    const side = await credentialsOf("server", {}, ca, ca, clock);
    const serving = await server(side);
    const clientSide = await credentialsOf("client");
    assert.deepEqual([...side.problems(), ...side.warnings()], []);
    const certFile = join(folder, "server", "mesh.crt");

    const bad: [string, () => Promise<void>, RegExp][] = [
      ["absent", () => rm(certFile), /mesh\.crt cannot be read: ENOENT/],
      ["garbage", () => writeFile(certFile, "garbage"), /mesh\.crt cannot be used/],
      [
        "another key's",
        async () => writeFile(certFile, (await ca.issue()).cert),
        /mesh\.key cannot be used: .*mismatch/,
      ],
      [
        "an empty authority",
        async () => {
          await writeFiles("server");
          await writeFile(join(folder, "server", "ca.crt"), "");
        },
        /ca\.crt cannot be used/,
      ],
    ];
    for (const [what, make, reason] of bad) {
      await make();
      clock.advance(5_000);
      assert.deepEqual(side.problems(), [], what);
      const [warning = ""] = side.warnings();
      assert.match(warning, reason, what);
      assert.match(warning, /the one before stays in use/, what);
      await lines.has(reason);
      await client(serving, clientSide).revoke({}, { timeoutMs: 5_000 });
    }
    await writeFiles("server");
    clock.advance(5_000);
    assert.deepEqual(side.warnings(), []);
  });

  it("may come later than the process", async () => {
    const clock = new ManualClock(Date.now());
    const at = join(folder, "late");
    await mkdir(at);
    const files = {
      certFile: join(at, "mesh.crt"),
      keyFile: join(at, "mesh.key"),
      caFile: join(at, "ca.crt"),
    };
    const late = meshCredentials(files, { log: lines.log, clock });
    closing.push(() => late.close());
    assert.match(late.problems().join(), /late\/mesh\.crt cannot be read/);
    const peer = await credentialsOf("peer");
    const [itself, peers] = [await server(late), await server(peer)];
    const error = await failure(() => client(peers, late).revoke({}, { timeoutMs: 5_000 }));
    assert.match(error.rawMessage, /mesh\.crt cannot be read/);
    const handshake = await failure(() => client(itself, peer).revoke({}, { timeoutMs: 5_000 }));
    assert.equal(handshake.code, Code.Unavailable);

    await ca.write(at);
    clock.advance(5_000);
    assert.deepEqual(late.problems(), []);
    await client(peers, late).revoke({}, { timeoutMs: 5_000 });
    await client(itself, peer).revoke({}, { timeoutMs: 5_000 });
  });

  it("warn a day before they expire, and are a problem when they have", async () => {
    const clock = new ManualClock(Date.now());
    const side = await credentialsOf("server", { untilMs: 30 * hourMs }, ca, ca, clock);
    assert.deepEqual([...side.problems(), ...side.warnings()], []);
    clock.advance(7 * hourMs);
    assert.deepEqual(side.problems(), []);
    assert.match(side.warnings().join(), /mesh\.crt expires on .* GMT/);
    await lines.has(/mesh\.crt expires on/);
    clock.advance(24 * hourMs);
    assert.deepEqual(side.warnings(), []);
    assert.match(side.problems().join(), /mesh\.crt expired on .* GMT/);
  });

  it("are a problem where they cannot be what they must be", async () => {
    const side = await credentialsOf("server", { names: ["parley.example"], uses: ["server"] });
    assert.match(side.problems().join("\n"), /lacks the name parley\.mesh\n.*is not for clients/);
  });

  it("do not keep a server from closing while somebody does not finish the handshake", async () => {
    const serving = await server(await credentialsOf("server"));
    const socket = connectPlain({ host: "127.0.0.1", port: serving.port });
    await new Promise((resolve) => socket.once("connect", resolve));
    const ended = new Promise((resolve) => socket.once("close", resolve));
    socket.on("error", () => undefined);
    // The server has it: a connection that came later is served.
    await client(serving, await credentialsOf("client")).revoke({}, { timeoutMs: 5_000 });
    await within(5_000, "closing", serving.close(1_000));
    await within(5_000, "the end", ended);
  });
});
