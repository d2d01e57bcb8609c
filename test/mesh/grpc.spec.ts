/** What only a gRPC server has: limits, closing, health, reflection. */
import { Client, credentials, Metadata, status } from "@grpc/grpc-js";
import type { ServiceError } from "@grpc/grpc-js";
import { Code, createClient } from "@connectrpc/connect";
import type { HandlerContext } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ManualClock, systemClock } from "../../mesh/clock.ts";
import { addHealth } from "../../mesh/grpc/health.ts";
import { GrpcMesh } from "../../mesh/grpc/mesh.ts";
import { handshakeMs } from "../../mesh/grpc/limits.ts";
import { addReflection } from "../../mesh/grpc/reflection.ts";
import { serveGrpc } from "../../mesh/grpc/server.ts";
import { createGrpcTransport } from "../../mesh/grpc/transport.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { createLog } from "../../mesh/log.ts";
import { noMetrics } from "../../mesh/metrics.ts";
import { systemRandom } from "../../mesh/random.ts";
import { keepStream } from "../../mesh/stream.ts";
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../proto/gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../proto/gen/grpc/reflection/v1/reflection_pb.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { within } from "../support/within.ts";
import { collect, Event, failure, fired, serve, settled } from "./fake-storage.ts";

const log = createLog({ level: "silent" });
const buf = fileURLToPath(new URL("../../node_modules/.bin/buf", import.meta.url));

describe("a gRPC mesh with small messages", () => {
  let mesh: GrpcMesh;
  beforeEach(async () => (mesh = await GrpcMesh.listen({ log, maxMessageBytes: 10_000 })));
  afterEach(() => mesh.close());

  async function* one(bytes: number) {
    yield { part: { case: "chunk" as const, value: new Uint8Array(bytes) } };
  }

  it("refuses to send what is too large, by its caller", async () => {
    const client = serve(mesh, { putMedia: () => Promise.resolve({}) });
    const error = await failure(() => client.putMedia(one(10_001)));
    assert.equal(error.code, Code.ResourceExhausted);
    assert.match(error.rawMessage, /PutMediaRequest of 100\d\d bytes .* 10000 bytes/);
  });

  it("refuses to send what is too large, by its handler", async () => {
    const client = serve(mesh, { getMedia: () => one(10_001) });
    const error = await failure(() => collect(client.getMedia({})));
    assert.equal(error.code, Code.ResourceExhausted);
    assert.match(error.rawMessage, /GetMediaResponse/);
  });

  it("refuses to take what is too large", async () => {
    const context = new Event<HandlerContext>();
    serve(mesh, {
      async putMedia(requests, handling) {
        context.happen(handling);
        await collect(requests);
        return {};
      },
    });
    const transport = createGrpcTransport({ address: `127.0.0.1:${mesh.port}` });
    const error = await failure(() =>
      createClient(StorageService, transport).putMedia(one(10_001)),
    );
    transport.close();
    assert.equal(error.code, Code.ResourceExhausted);
    await fired((await context.happened).signal);
  });

  it("takes what is just small enough", async () => {
    const client = serve(mesh, {
      async putMedia(requests) {
        return { header: { size: (await collect(requests)).length } };
      },
    });
    assert.equal((await client.putMedia(one(9_990))).header?.size, 1);
  });
});

describe("a gRPC transport", () => {
  it("answers UNAVAILABLE where nobody listens, and is well again when somebody does", async () => {
    const socket = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => socket.once("listening", resolve));
    const { port } = socket.address() as AddressInfo;
    await new Promise((resolve) => socket.close(resolve));
    const transport = createGrpcTransport({ address: `127.0.0.1:${port}` });
    const client = createClient(StorageService, transport);
    assert.equal((await failure(() => client.revoke({}))).code, Code.Unavailable);
    const mesh = await GrpcMesh.listen({ log, port });
    serve(mesh, { revoke: () => ({}) });
    const back = new Event();
    const stream = keepStream(
      { clock: systemClock, random: systemRandom, log, metrics: noMetrics },
      "test",
      async () => {
        await client.revoke({}, { timeoutMs: 5_000 });
        back.happen();
      },
    );
    await back.happened;
    await stream.close();
    transport.close();
    await mesh.close();
  });

  it("gives up a server that lets itself be connected to and says nothing, and asks again", async () => {
    const sockets: Socket[] = [];
    const heard = new Event();
    const silent = createServer((socket) => {
      sockets.push(socket.on("error", () => undefined));
      socket.once("data", () => heard.happen());
    });
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    const { port } = silent.address() as AddressInfo;
    const clock = new ManualClock();
    const transport = createGrpcTransport({ address: `127.0.0.1:${port}`, clock });
    const asked = failure(() => createClient(StorageService, transport).revoke({}));
    await heard.happened;
    clock.advance(handshakeMs);
    assert.equal((await within(5_000, "the end of the call", asked)).code, Code.Unavailable);
    await within(5_000, "another connection", once(silent, "connection"));
    transport.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => silent.close(resolve));
  });

  it("refuses more calls than it may have under way", async () => {
    const mesh = await GrpcMesh.listen({ log });
    const began = new Event();
    serve(mesh, {
      async revoke({ incarnation }, { signal }) {
        if (incarnation === "quick") return {};
        began.happen();
        await fired(signal);
        return {};
      },
    });
    const transport = createGrpcTransport({ address: `127.0.0.1:${mesh.port}`, maxCalls: 1 });
    const client = createClient(StorageService, transport);
    for (const incarnation of ["quick", "quick"]) await client.revoke({ incarnation });
    assert.equal((await failure(() => collect(client.open({})))).code, Code.Unimplemented);
    const first = failure(() => client.revoke({}));
    await began.happened;
    assert.equal((await failure(() => client.revoke({}))).code, Code.ResourceExhausted);
    transport.close();
    assert.equal((await first).code, Code.Unavailable);
    await mesh.close();
  });

  it("answers bytes that are no such message with INVALID_ARGUMENT", async () => {
    const mesh = await GrpcMesh.listen({ log });
    serve(mesh, { revoke: () => ({}) });
    const client = new Client(`127.0.0.1:${mesh.port}`, credentials.createInsecure());
    const same = (bytes: Buffer): Buffer => bytes;
    const path = "/parley.storage.v1.StorageService/Revoke";
    const error = await new Promise<ServiceError | null>((resolve) => {
      client.makeUnaryRequest(path, same, same, Buffer.from([0xff]), new Metadata(), {}, resolve);
    });
    client.close();
    await mesh.close();
    assert.equal(error?.code, status.INVALID_ARGUMENT);
    assert.match(error.details, /not a parley.storage.v1.RevokeRequest/);
  });
});

describe("closing a gRPC server", () => {
  it("ends streams at once, lets unary calls end within the grace, and ends them after it", async () => {
    const clock = new ManualClock();
    const mesh = new LocalMesh();
    const began = new Event();
    const [quick, go] = [new Event(), new Event()];
    serve(mesh, {
      async revoke({ incarnation }, { signal }) {
        if (incarnation === "slow") began.happen();
        if (incarnation === "slow") await fired(signal);
        else {
          quick.happen();
          await go.happened;
        }
        return {};
      },
      async *open(_, { signal }) {
        yield {};
        await fired(signal);
      },
    });
    const server = await serveGrpc({
      host: "127.0.0.1",
      port: 0,
      handlers: mesh.handlers,
      log,
      clock,
    });
    const transport = createGrpcTransport({ address: `127.0.0.1:${server.port}` });
    const client = createClient(StorageService, transport);
    const opened = new Event();
    const stream = failure(async () => {
      for await (const answer of client.open({})) {
        assert(answer);
        opened.happen();
      }
    });
    await opened.happened;
    const finishing = client.revoke({ incarnation: "quick" });
    const slow = failure(() => client.revoke({ incarnation: "slow" }));
    await Promise.all([began.happened, quick.happened]);

    const closed = server.close(5_000);
    assert.equal((await stream).code, Code.Unavailable);
    go.happen();
    await finishing;
    clock.advance(5_000);
    assert.equal((await slow).code, Code.Unavailable);
    await closed;
    transport.close();
  });
});

describe("gRPC health", () => {
  it("checks, lists and watches", async () => {
    const clock = new ManualClock();
    const mesh = new LocalMesh({ clock });
    let problems: string[] = [];
    serve(mesh, {});
    addHealth(mesh.handlers, () => problems, clock);
    const client = createClient(Health, mesh.transport(Health));
    const { typeName } = StorageService;
    assert.equal((await client.check({ service: typeName })).status, Serving.SERVING);
    assert.equal((await client.check({})).status, Serving.SERVING);
    assert.equal((await failure(() => client.check({ service: "none" }))).code, Code.NotFound);

    const abort = new AbortController();
    const watched = client
      .watch({ service: typeName }, { signal: abort.signal })
      [Symbol.asyncIterator]();
    assert.equal((await watched.next()).value?.status, Serving.SERVING);
    problems = ["the disk is full"];
    const change = watched.next();
    await settled(() => 0);
    clock.advance(500);
    assert.equal((await change).value?.status, Serving.NOT_SERVING);
    const { statuses } = await client.list({});
    assert.deepEqual(
      Object.entries(statuses).map(([name, { status }]) => [name, status]),
      ["", typeName, Health.typeName].map((name) => [name, Serving.NOT_SERVING]),
    );
    const ended = failure(() => watched.next());
    abort.abort();
    assert.equal((await ended).code, Code.Canceled);

    const unknown = client.watch({ service: "none" })[Symbol.asyncIterator]();
    assert.equal((await unknown.next()).value?.status, Serving.SERVICE_UNKNOWN);
    await mesh.close();
  });
});

describe("gRPC reflection", () => {
  let mesh: GrpcMesh;
  before(async () => {
    mesh = await GrpcMesh.listen({ log });
    serve(mesh, { listIndex: ({ userId }) => ({ rows: [{ conversationId: `d:${userId}:bob` }] }) });
    addHealth(mesh.handlers, () => []);
    addReflection(mesh.handlers);
  });
  after(() => mesh.close());

  async function curl(...args: string[]): Promise<string> {
    const all = ["curl", "--http2-prior-knowledge", "--protocol", "grpc", ...args];
    const { stdout } = await promisify(execFile)(buf, all, { timeout: 15_000 });
    return stdout.trim();
  }
  const url = (path = ""): string => `http://127.0.0.1:${mesh.port}${path}`;
  const names = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "parley.storage.v1.StorageService",
  ];

  it("lets buf curl list the services and their methods, and call one", async () => {
    assert.deepEqual((await curl("--list-services", url())).split("\n").toSorted(), names);
    const methods = (await curl("--list-methods", url())).split("\n");
    assert(methods.includes("parley.storage.v1.StorageService/ListIndex"), methods.join());
    const answer = await curl(
      "--data",
      '{"userId":"alice"}',
      url("/parley.storage.v1.StorageService/ListIndex"),
    );
    assert.deepEqual(JSON.parse(answer), { rows: [{ conversationId: "d:alice:bob" }] });
    const health = await curl("--data", "{}", url("/grpc.health.v1.Health/Check"));
    assert.deepEqual(JSON.parse(health), { status: "SERVING" });
  }).timeout(60_000);

  for (const version of ["grpc-v1", "grpc-v1alpha"]) {
    it(`answers in ${version}`, async () => {
      const args = ["--reflect-protocol", version, "--list-services", url()];
      assert.deepEqual((await curl(...args)).split("\n").toSorted(), names);
    }).timeout(30_000);
  }

  it("describes services, methods, messages, fields and enums, and says what is not there", async () => {
    const client = createClient(ServerReflection, mesh.transport(ServerReflection));
    const asked = [
      "parley.storage.v1.StorageService",
      "parley.storage.v1.StorageService.Append",
      "parley.storage.v1.Cell",
      "parley.storage.v1.Cell.record",
      "parley.storage.v1.Kind",
      "grpc.health.v1.HealthCheckResponse.ServingStatus",
      "parley.storage.v1.None",
    ];
    async function* questions() {
      for (const value of asked)
        yield { messageRequest: { case: "fileContainingSymbol" as const, value } };
      yield {
        messageRequest: {
          case: "fileByFilename" as const,
          value: "parley/storage/v1/storage.proto",
        },
      };
      yield { messageRequest: { case: "fileByFilename" as const, value: "none.proto" } };
      yield {};
    }
    const answers = await collect(client.serverReflectionInfo(questions()));
    const seen = answers.map(({ messageResponse: { case: kind, value } }) =>
      kind === "errorResponse" ? value.errorCode : kind,
    );
    const file = "fileDescriptorResponse";
    assert.deepEqual(seen, [file, file, file, file, file, file, 5, file, 5, 3]);
  });
});
