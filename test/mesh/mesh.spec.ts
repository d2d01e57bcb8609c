import { Code, ConnectError } from "@connectrpc/connect";
import type { HandlerContext } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { retryAfterMs, unavailable } from "../../mesh/errors.ts";
import type { Mesh } from "../../mesh/mesh.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import type { AppendRequest } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { collect, Event, failure, fired, meshes, numbers, serve, settled } from "./fake-storage.ts";
import type { Storage, StorageClient } from "./fake-storage.ts";

type CallOptions = { signal?: AbortSignal; timeoutMs?: number; headers?: Record<string, string> };

/** One call of each kind against a handler that answers nothing, with what its handler comes to see. */
const silentCalls: Record<
  string,
  (client: StorageClient, options: CallOptions) => Promise<unknown>
> = {
  unary: (client, options) => client.revoke({ incarnation: "i" }, options),
  "server stream": (client, options) => collect(client.open({ conversationId: "c" }, options)),
  "client stream": (client, options) => client.putMedia(endless(), options),
  "bidi stream": (client, options) => collect(client.append(endless(), options)),
};

/** One message, then nothing, without an end. */
async function* endless(): AsyncGenerator<Record<string, never>, void> {
  yield {};
  await new Promise(() => undefined);
}

/** Handlers that wait until they are told that their call is over. */
function silent(): { methods: Partial<Storage>; began: Event<HandlerContext>; left: Event } {
  const began = new Event<HandlerContext>();
  const left = new Event();
  const wait = async (context: HandlerContext): Promise<never> => {
    began.happen(context);
    await fired(context.signal);
    left.happen();
    throw new ConnectError("told", Code.Aborted);
  };
  /** These wait for their input only, and must be let go by its end. */
  const drain = async (
    requests: AsyncIterable<unknown>,
    context: HandlerContext,
  ): Promise<void> => {
    began.happen(context);
    try {
      for await (const request of requests) assert(request);
    } finally {
      left.happen();
    }
  };
  const methods: Partial<Storage> = {
    revoke: (_, context) => wait(context),
    async *open(_, context) {
      yield await wait(context);
    },
    async putMedia(requests, context) {
      await drain(requests, context);
      return {};
    },
    async *append(requests, context) {
      await drain(requests, context);
      yield {};
    },
  };
  return { methods, began, left };
}

for (const [name, start] of Object.entries(meshes)) {
  describe(`the ${name} mesh`, () => {
    let mesh: Mesh;
    beforeEach(async () => (mesh = await start()));
    afterEach(() => mesh.close());

    it("carries a unary call, its headers and its trailers", async () => {
      const client = serve(mesh, {
        listIndex({ userId }, { requestHeader, responseHeader, responseTrailer }) {
          responseHeader.set("x-greeting", `to ${requestHeader.get("x-name")}`);
          responseTrailer.set("x-cost", "3");
          return { rows: [{ conversationId: `d:${userId}:bob` }] };
        },
      });
      const seen = { header: new Headers(), trailer: new Headers() };
      const { rows } = await client.listIndex(
        { userId: "alice" },
        {
          headers: { "x-name": "alice" },
          onHeader: (header) => (seen.header = header),
          onTrailer: (trailer) => (seen.trailer = trailer),
        },
      );
      assert.deepEqual(
        rows.map(({ $typeName, conversationId, state }) => [$typeName, conversationId, state]),
        [["parley.storage.v1.IndexRow", "d:alice:bob", undefined]],
      );
      assert.equal(seen.header.get("x-greeting"), "to alice");
      assert.equal(seen.trailer.get("x-cost"), "3");
    });

    it("carries a server stream in order, its headers and its trailers", async () => {
      const client = serve(mesh, {
        async *open({ conversationId }, { responseHeader, responseTrailer }) {
          responseHeader.set("x-of", conversationId);
          for (const n of numbers(1_000)) yield { members: [{ userId: `u${n}` }] };
          responseTrailer.set("x-count", "1000");
        },
      });
      const seen: unknown[] = [];
      const answers = client.open(
        { conversationId: "c" },
        {
          onHeader: (header) => seen.push(header.get("x-of")),
          onTrailer: (trailer) => seen.push(trailer.get("x-count")),
        },
      );
      for await (const { members } of answers) seen.push(members[0]?.userId);
      assert.deepEqual(seen, ["c", ...Array.from(numbers(1_000), (n) => `u${n}`), "1000"]);
    });

    it("carries a client stream in order", async () => {
      const client = serve(mesh, {
        async putMedia(requests) {
          const sizes: number[] = [];
          for await (const { part } of requests) {
            if (part.case === "chunk") sizes.push(part.value.length);
          }
          return { header: { mediaId: sizes.join() } };
        },
      });
      async function* chunks() {
        for (const n of numbers(100))
          yield { part: { case: "chunk" as const, value: new Uint8Array(n) } };
      }
      const { header } = await client.putMedia(chunks());
      assert.equal(header?.mediaId, Array.from(numbers(100)).join());
    });

    it("carries both ways of a bidi stream in order, each answer before the next question", async () => {
      const client = serve(mesh, {
        async *append(requests) {
          for await (const { batchId } of requests) yield { batchId: batchId * 2n };
        },
      });
      let answered = new Event();
      async function* questions() {
        for (const n of numbers(200)) {
          yield { batchId: BigInt(n) };
          await answered.happened;
          answered = new Event();
        }
      }
      const seen: bigint[] = [];
      for await (const { batchId } of client.append(questions())) {
        seen.push(batchId);
        answered.happen();
      }
      assert.deepEqual(
        seen,
        Array.from(numbers(200), (n) => BigInt(n * 2)),
      );
    });

    it("makes a sender wait while the handler does not read", async () => {
      const go = new Event();
      const client = serve(mesh, {
        async putMedia(requests) {
          let count = 0;
          for await (const request of requests) {
            assert.equal(request.part.case, "chunk");
            if (++count === 1) await go.happened;
          }
          return { header: { mediaId: String(count) } };
        },
      });
      let sent = 0;
      async function* chunks() {
        for (const _ of numbers(500)) {
          sent++;
          yield { part: { case: "chunk" as const, value: new Uint8Array(16_384) } };
        }
      }
      const answer = client.putMedia(chunks());
      const stopped = await settled(() => sent);
      assert(stopped >= 1 && stopped < 50, `the sender went on to ${stopped}`);
      go.happen();
      assert.equal((await answer).header?.mediaId, "500");
      assert.equal(sent, 500);
    });

    it("makes a handler wait while the caller does not read, and nobody else", async () => {
      let sent = 0;
      const client = serve(mesh, {
        async *getMedia() {
          for (const _ of numbers(500)) {
            sent++;
            yield { part: { case: "chunk" as const, value: new Uint8Array(16_384) } };
          }
        },
        revoke: () => ({}),
      });
      const answers = client.getMedia({})[Symbol.asyncIterator]();
      await answers.next();
      const stopped = await settled(() => sent);
      assert(stopped >= 1 && stopped < 50, `the handler went on to ${stopped}`);
      await client.revoke({}, { timeoutMs: 5_000 });
      let read = 1;
      while ((await answers.next()).done !== true) read++;
      assert.equal(read, 500);
    });

    for (const [kind, call] of Object.entries(silentCalls)) {
      it(`ends a ${kind} on both sides at its deadline`, async () => {
        const { methods, began, left } = silent();
        const client = serve(mesh, methods);
        const error = await failure(() => call(client, { timeoutMs: 40 }));
        assert.equal(error.code, Code.DeadlineExceeded);
        const { signal, timeoutMs } = await began.happened;
        assert((timeoutMs() ?? Infinity) <= 40);
        await fired(signal);
        await left.happened;
      });

      it(`ends a ${kind} on both sides when its caller aborts`, async () => {
        const { methods, began, left } = silent();
        const client = serve(mesh, methods);
        const abort = new AbortController();
        const failed = failure(() => call(client, { signal: abort.signal }));
        const { signal } = await began.happened;
        assert.equal(signal.aborted, false);
        abort.abort();
        assert.equal((await failed).code, Code.Canceled);
        await fired(signal);
        await left.happened;
      });

      it(`does not begin a ${kind} that is over before it begins`, async () => {
        const { methods, began } = silent();
        let handled = false;
        void began.happened.then(() => (handled = true));
        const client = serve(mesh, methods);
        const aborted = await failure(() => call(client, { signal: AbortSignal.abort() }));
        assert.equal(aborted.code, Code.Canceled);
        const late = await failure(() => call(client, { timeoutMs: 0 }));
        assert.equal(late.code, Code.DeadlineExceeded);
        assert.equal(handled, false);
      });

      it(`ends a ${kind} under way with UNAVAILABLE when it closes`, async () => {
        const { methods, began, left } = silent();
        const client = serve(mesh, methods);
        const failed = failure(() => call(client, {}));
        const { signal } = await began.happened;
        await mesh.close();
        assert.equal((await failed).code, Code.Unavailable);
        await fired(signal);
        await left.happened;
        assert.equal((await failure(() => call(client, {}))).code, Code.Unavailable);
      });

      it(`answers a ${kind} that nobody serves with UNIMPLEMENTED`, async () => {
        const client = serve(mesh, {});
        assert.equal((await failure(() => call(client, {}))).code, Code.Unimplemented);
      });
    }

    it("keeps the code, the message and the metadata of an error", async () => {
      const fail = (): never => {
        throw unavailable("the store is full: 100% of “disk”", 1_234);
      };
      const client = serve(mesh, {
        revoke: fail,
        open: fail,
        async *append() {
          yield { batchId: 7n };
          fail();
        },
      });
      const seen: bigint[] = [];
      const runs = [
        () => client.revoke({}),
        () => collect(client.open({})),
        async () => {
          for await (const { batchId } of client.append(endless())) seen.push(batchId);
        },
      ];
      for (const run of runs) {
        const error = await failure(run);
        assert.equal(error.code, Code.Unavailable);
        assert.equal(error.rawMessage, "the store is full: 100% of “disk”");
        assert.equal(error.metadata.get("retry-after-ms"), "1234");
        assert.equal(retryAfterMs(error), 1_234);
      }
      assert.deepEqual(seen, [7n]);
    });

    it("tells a caller nothing of an error that is not ours", async () => {
      const client = serve(mesh, {
        revoke() {
          throw new TypeError("/home/secret: no such thing");
        },
        open() {
          throw new TypeError("/home/secret: no such thing");
        },
      });
      for (const run of [() => client.revoke({}), () => collect(client.open({}))]) {
        const error = await failure(run);
        assert.equal(error.code, Code.Internal);
        assert.equal(error.rawMessage, "internal error");
        assert.equal(error.cause, undefined);
        assert(!`${error.stack}`.includes("secret"));
      }
    });

    it("ends the handler when the reader returns early", async () => {
      const left = new Event();
      const context = new Event<HandlerContext>();
      serve(mesh, {
        async *open(_, handling) {
          context.happen(handling);
          try {
            for (;;) yield {};
          } finally {
            left.happen();
          }
        },
      });
      async function* one() {
        yield { conversationId: "c" };
      }
      const { message } = await mesh
        .transport(StorageService)
        .stream(StorageService.method.open, undefined, undefined, undefined, one());
      for await (const answer of message) {
        assert(answer);
        break;
      }
      await left.happened;
      await fired((await context.happened).signal);
    });

    it("fails a call whose input fails, on both sides", async () => {
      const { methods, began, left } = silent();
      const client = serve(mesh, methods);
      async function* broken(): AsyncGenerator<Record<string, never>, void> {
        yield {};
        await began.happened;
        throw new ConnectError("the source is gone", Code.DataLoss);
      }
      const error = await failure(() => collect(client.append(broken())));
      assert.deepEqual([error.code, error.rawMessage], [Code.DataLoss, "the source is gone"]);
      await left.happened;
      await fired((await began.happened).signal);
    });

    it("lets go of a sender whose handler answered without reading on", async () => {
      const left = new Event();
      const client = serve(mesh, {
        async putMedia(requests) {
          for await (const request of requests) {
            assert(request);
            break;
          }
          return { header: { mediaId: "enough" } };
        },
      });
      async function* forever(): AsyncGenerator<Record<string, never>, void> {
        try {
          for (;;) yield {};
        } finally {
          left.happen();
        }
      }
      assert.equal((await client.putMedia(forever())).header?.mediaId, "enough");
      await left.happened;
    });

    it("leaves nothing behind at a signal that outlives its calls", async () => {
      const client = serve(mesh, {
        revoke: () => ({}),
        async *open() {
          yield {};
          throw new Error("no");
        },
      });
      const { signal } = new AbortController();
      await client.revoke({}, { signal, timeoutMs: 60_000 });
      await failure(() => collect(client.open({}, { signal, timeoutMs: 60_000 })));
      assert.deepEqual(getEventListeners(signal, "abort"), []);
    });

    it("ends the signal of a handler whose call ended well", async () => {
      const context = new Event<HandlerContext>();
      const client = serve(mesh, {
        revoke(_, handling) {
          context.happen(handling);
          return {};
        },
      });
      await client.revoke({});
      await fired((await context.happened).signal);
    });

    it("carries a message of 1 MiB both ways", async () => {
      const chunk = Uint8Array.from({ length: 2 ** 20 }, (_, at) => (at * 7) & 255);
      const client = serve(mesh, {
        async *append(requests) {
          for await (const { writes } of requests)
            yield { message: Buffer.from(writes[0]?.cells[0]?.record ?? []).toString("latin1") };
        },
      });
      async function* one() {
        yield { writes: [{ cells: [{ record: chunk }] }] };
      }
      const [answer] = await collect(client.append(one()));
      assert.equal(answer?.message, Buffer.from(chunk).toString("latin1"));
    });

    it("tells the reader of a stream that failed before it was read", async () => {
      const client = serve(mesh, {});
      const answers = client.open({});
      await settled(() => 0);
      assert.equal((await failure(() => collect(answers))).code, Code.Unimplemented);
    });

    it("fails a call whose source cannot even be asked", async () => {
      const client = serve(mesh, silent().methods);
      const broken = {
        [Symbol.asyncIterator]: () => ({
          next(): never {
            throw new ConnectError("no source", Code.DataLoss);
          },
        }),
      };
      const error = await failure(() => collect(client.append(broken)));
      assert.deepEqual([error.code, error.rawMessage], [Code.DataLoss, "no source"]);
    });

    it("ends any number of calls by one signal, without a warning", async () => {
      const warnings: Error[] = [];
      const warn = (warning: Error): void => void warnings.push(warning);
      process.on("warning", warn);
      const client = serve(mesh, {
        async revoke(_, { signal }) {
          await fired(signal);
          return {};
        },
      });
      const abort = new AbortController();
      const calls = Array.from(numbers(30), () =>
        failure(() => client.revoke({}, { signal: abort.signal })),
      );
      await settled(() => 0);
      abort.abort();
      for (const { code } of await Promise.all(calls)) assert.equal(code, Code.Canceled);
      process.off("warning", warn);
      assert.deepEqual(warnings, []);
    });

    it("lets many calls overlap", async () => {
      const client = serve(mesh, {
        async *append(requests: AsyncIterable<AppendRequest>) {
          for await (const { batchId } of requests) yield { batchId };
        },
        headSums: ({ userIds }) => ({ sums: userIds.map(BigInt) }),
      });
      await Promise.all(
        Array.from(numbers(50), async (n) => {
          async function* some() {
            for (const k of numbers(20)) yield { batchId: BigInt(n * 100 + k) };
          }
          const answers = await collect(client.append(some()));
          assert.deepEqual(
            answers.map(({ batchId }) => Number(batchId) - n * 100),
            Array.from(numbers(20)),
          );
          const { sums } = await client.headSums({ userIds: [String(n)] });
          assert.deepEqual(sums, [BigInt(n)]);
        }),
      );
    });
  });
}
