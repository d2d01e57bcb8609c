/** A gRPC server that closes: what is under way ends as it must, and everything ends in time. */
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import { createConnection } from "node:net";
import { ManualClock } from "../../mesh/clock.ts";
import { serveGrpc } from "../../mesh/grpc/server.ts";
import { createGrpcTransport } from "../../mesh/grpc/transport.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { createLog } from "../../mesh/log.ts";
import {
  RevokeRequestSchema,
  StorageService,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { within } from "../support/within.ts";
import { Event, failure, fired, serve } from "./fake-storage.ts";

const log = createLog({ level: "silent" });

describe("a gRPC server that closes", () => {
  async function serving() {
    const clock = new ManualClock();
    const mesh = new LocalMesh();
    const [began, go] = [new Event(), new Event()];
    serve(mesh, {
      async revoke({ incarnation }) {
        if (incarnation === "") return {};
        began.happen();
        await go.happened;
        return {};
      },
      async *open(_, { signal }) {
        yield {};
        await fired(signal);
      },
    });
    const { handlers } = mesh;
    const server = await serveGrpc({
      ...{ host: "127.0.0.1", port: 0, handlers, log, clock },
    });
    return { server, began, go, clock };
  }

  it("tells its connections to end only when no call is under way on them, and serves meanwhile", async () => {
    const { server, began, go } = await serving();
    const session = connect(`http://127.0.0.1:${server.port}`);
    let told = false;
    session.on("goaway", () => (told = true));
    const ended = once(session, "close");
    const ask = (method: string, incarnation: string): Promise<unknown> => {
      const stream = session.request({
        ":method": "POST",
        ":path": `/${StorageService.typeName}/${method}`,
        "content-type": "application/grpc",
        te: "trailers",
      });
      const body = toBinary(RevokeRequestSchema, create(RevokeRequestSchema, { incarnation }));
      const head = Buffer.alloc(5);
      head.writeUInt32BE(body.length, 1);
      stream.end(Buffer.concat([head, body]));
      stream.resume();
      return new Promise((resolve) => {
        stream.once("trailers", (trailers) => resolve(trailers["grpc-status"]));
        // An error is told with the headers.
        stream.once("response", (headers) => {
          if (headers["grpc-status"] !== undefined) resolve(headers["grpc-status"]);
        });
      });
    };
    const slow = ask("Revoke", "slow");
    await began.happened;
    const closed = server.close(5_000);
    assert.equal(await ask("Revoke", ""), "0");
    assert.equal(await ask("Open", ""), String(Code.Unavailable));
    assert(!told, "told while a call was under way");
    go.happen();
    assert.equal(await slow, "0");
    await within(5_000, "the end", Promise.all([closed, ended]));
    assert(told);
  });

  it("takes no new connections", async () => {
    const { server, began, go } = await serving();
    const transport = createGrpcTransport({ address: `127.0.0.1:${server.port}` });
    const slow = createClient(StorageService, transport).revoke({ incarnation: "slow" });
    await began.happened;
    const closed = server.close(5_000);
    const late = createGrpcTransport({ address: `127.0.0.1:${server.port}` });
    const error = await failure(() => createClient(StorageService, late).revoke({}));
    assert.equal(error.code, Code.Unavailable);
    go.happen();
    await slow;
    await closed;
    transport.close();
    late.close();
  });

  it("is closed after its grace whatever its peers do", async () => {
    const { server, clock } = await serving();
    // Says nothing, and never answers the end of its connection.
    const socket = createConnection({ host: "127.0.0.1", port: server.port });
    socket.on("error", () => undefined);
    await once(socket, "connect");
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.write(Buffer.from("000000040000000000", "hex"));
    await once(socket, "data");
    socket.pause();
    const transport = createGrpcTransport({ address: `127.0.0.1:${server.port}` });
    const stream = createClient(StorageService, transport).open({})[Symbol.asyncIterator]();
    await stream.next();
    const closed = server.close(5_000);
    assert.equal((await failure(() => stream.next())).code, Code.Unavailable);
    clock.advance(5_000);
    await within(5_000, "the end", closed);
    socket.destroy();
    transport.close();
  });
});
