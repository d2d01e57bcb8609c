/** Media in a real S3-compatible store: what every place for media promises, and what happens when the store is away, slow or refuses. */
import { Code, ConnectError } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { systemClock } from "../../mesh/clock.ts";
import { retryAfterMs } from "../../mesh/errors.ts";
import { createLog } from "../../mesh/log.ts";
import { systemRandom } from "../../mesh/random.ts";
import { openMediaFolder } from "../../storage/index.ts";
import type { MediaStore } from "../../storage/index.ts";
import { openS3Media } from "../../storage/s3.ts";
import type { S3Config, S3MediaStore } from "../../storage/s3.ts";
import { newFolder } from "../support/parley.ts";
import { within } from "../support/within.ts";
import { S3Server, whyNoS3 } from "./servers/s3.ts";

const host = "127.40.0.1";
const lack = await whyNoS3();
if (lack !== undefined) console.log(`skipped: media in S3: ${lack}`);

const configOf = (endpoint: string, more: Partial<S3Config> = {}): S3Config => ({
  ...{ bucket: "images", endpoint, region: "us-east-1" },
  ...{ accessKeyId: "key", secretAccessKey: "secret" },
  ...more,
});

const deps = { clock: systemClock, random: systemRandom, log: createLog({ level: "silent" }) };
const openAt = (endpoint: string, idleMs = 10_000): S3MediaStore =>
  openS3Media(configOf(endpoint), { ...deps, idleMs });

async function* pieces(bytes: Uint8Array, pieceBytes = 65_536): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

async function read(media: MediaStore, id: string, offset = 0, length = 2 ** 30): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of media.get(id, offset, length)) {
    assert(chunk.length > 0 && chunk.length <= 65_536, `a chunk of ${chunk.length} bytes`);
    all.push(chunk);
  }
  return Buffer.concat(all);
}

const idOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function failure(run: () => Promise<unknown>): Promise<ConnectError> {
  try {
    await run();
  } catch (error) {
    assert(error instanceof ConnectError, String(error));
    return error;
  }
  throw new Error("it did not fail");
}

const spooledNow = async (): Promise<string[]> =>
  (await readdir(tmpdir())).filter((name) => name.startsWith("parley-upload-"));

const spooledBefore = new Set(await spooledNow());

/** Files that this run left. */
const spooled = async (): Promise<string[]> =>
  (await spooledNow()).filter((name) => !spooledBefore.has(name));

/** What every place for media promises. */
function promises(open: () => MediaStore): void {
  it("gives back what it was given, whole and in part", async () => {
    const media = open();
    const bytes = randomBytes(300_001);
    const { mediaId, size } = await media.put(pieces(bytes));
    assert.deepEqual([mediaId, size], [idOf(bytes), bytes.length]);
    assert(await media.has(mediaId));
    assert((await read(media, mediaId)).equals(bytes));
    assert((await read(media, mediaId, 70_000, 100_000)).equals(bytes.subarray(70_000, 170_000)));
    assert((await read(media, mediaId, 299_990, 1_000)).equals(bytes.subarray(299_990)));
    assert((await read(media, mediaId, 0, 1)).equals(bytes.subarray(0, 1)));
    for (const [offset, length] of [
      [300_001, 10],
      [500_000, 10],
      [0, 0],
      [500_000, 0],
    ] as const)
      assert.equal((await read(media, mediaId, offset, length)).length, 0);
  });

  it("keeps 20 MB", async () => {
    const media = open();
    const bytes = randomBytes(20 * 1_048_576);
    const { mediaId, size } = await media.put(pieces(bytes));
    assert.equal(size, bytes.length);
    assert((await read(media, mediaId)).equals(bytes));
  });

  it("takes the same bytes again, in other pieces, at once", async () => {
    const media = open();
    const bytes = randomBytes(100_000);
    const kept = await Promise.all([1_000, 33_333, 65_536].map((n) => media.put(pieces(bytes, n))));
    assert.deepEqual(new Set(kept.map(({ mediaId }) => mediaId)), new Set([idOf(bytes)]));
    assert((await read(media, idOf(bytes))).equals(bytes));
  });

  it("keeps nothing of an upload that fails", async () => {
    const media = open();
    const bytes = randomBytes(100_000);
    async function* broken(): AsyncGenerator<Uint8Array, void> {
      yield* pieces(bytes);
      throw new ConnectError("the caller left", Code.Canceled);
    }
    assert.equal((await failure(() => media.put(broken()))).code, Code.Canceled);
    assert.equal(await media.has(idOf(bytes)), false);
  });

  it("forgets what it is told to forget, and takes it again", async () => {
    const media = open();
    const bytes = randomBytes(1_000);
    const { mediaId } = await media.put(pieces(bytes));
    await media.remove(mediaId);
    assert.equal(await media.has(mediaId), false);
    await media.remove(mediaId);
    await media.put(pieces(bytes));
    assert.deepEqual(await read(media, mediaId), bytes);
  });

  it("answers NOT_FOUND for what it does not have", async () => {
    const media = open();
    for (const id of [
      idOf(randomBytes(10)),
      "",
      "..",
      "../images",
      idOf(randomBytes(10)).toUpperCase(),
    ]) {
      assert.equal((await failure(() => read(media, id))).code, Code.NotFound);
      assert.equal((await failure(() => read(media, id, 0, 0))).code, Code.NotFound);
      assert.equal(await media.has(id), false);
    }
  });

  it("serves others when a reader leaves early", async () => {
    const media = open();
    const bytes = randomBytes(4 * 1_048_576);
    const { mediaId } = await media.put(pieces(bytes));
    for (let n = 0; n < 20; n++) {
      for await (const chunk of media.get(mediaId, 0, bytes.length)) {
        assert(chunk.length > 0);
        break;
      }
    }
    assert(
      (await read(media, mediaId, 1_000_000, 10)).equals(bytes.subarray(1_000_000, 1_000_010)),
    );
  });
}

describe("media in a folder", () => {
  let media: MediaStore;
  let folder: Awaited<ReturnType<typeof newFolder>>;
  before(async () => {
    folder = await newFolder();
    media = await openMediaFolder(folder.path, systemRandom);
  });
  after(() => folder.remove());
  promises(() => media);
});

describe("media in S3", function () {
  this.timeout(120_000);
  let server: S3Server;
  before(async function () {
    if (lack !== undefined) return this.skip();
    server = await S3Server.start(host);
    await server.makeBucket("images");
  });
  after(() => server?.stop());

  promises(() => openAt(server.endpoint));

  it("uploads what is there already not again, and leaves no file behind", async () => {
    const media = openAt(server.endpoint);
    const bytes = randomBytes(1_000);
    await media.put(pieces(bytes));
    const before = await server.keys("images");
    await media.put(pieces(bytes));
    assert.deepEqual(await server.keys("images"), before);
    assert(before.includes(idOf(bytes)));
    assert.deepEqual(await spooled(), []);
  });

  it("refuses more uploads than it has room for", async () => {
    const media = openAt(server.endpoint);
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    async function* slow(n: number): AsyncGenerator<Uint8Array, void> {
      await gate;
      yield Buffer.from(`upload ${n}`);
    }
    const all = Array.from({ length: 64 }, (_, n) => media.put(slow(n)));
    const error = await failure(() => media.put(slow(64)));
    assert.equal(error.code, Code.ResourceExhausted);
    assert(retryAfterMs(error) > 0);
    go();
    await Promise.all(all);
    await media.put(slow(65));
  });

  it("waits for a bucket that is not there yet, and for a store that is not there yet, and says so once", async () => {
    const other = openS3Media(configOf(server.endpoint, { bucket: "later" }), deps);
    const said: string[] = [];
    let told: () => void = () => undefined;
    const first = new Promise<void>((resolve) => (told = resolve));
    const there = other.waitForBucket((reason) => {
      said.push(reason);
      told();
    }, AbortSignal.timeout(60_000));
    await within(10_000, "a reason", first);
    await server.makeBucket("later");
    await within(20_000, "the bucket", there);
    assert.equal(said.length, 1);
    assert.match(
      said.join(),
      /the bucket later at http:.* cannot be used: there is none of that name/,
    );

    const away = openAt("http://127.40.0.2:9");
    const abort = new AbortController();
    let reason = "";
    const never = away.waitForBucket((why) => {
      reason = why;
      abort.abort(new Error("enough"));
    }, abort.signal);
    await assert.rejects(within(20_000, "the end", never), /enough/);
    assert.match(reason, /ECONNREFUSED/);
  });

  it("says which bucket it does not find", async () => {
    const media = openS3Media(configOf(server.endpoint, { bucket: "none" }), deps);
    const error = await failure(() => read(media, idOf(randomBytes(1)), 0, 10));
    assert.equal(error.code, Code.Unavailable);
    assert.match(error.rawMessage, /the bucket none at http:.*NoSuchBucket/);
  });

  it("answers UNAVAILABLE while the store is away, and goes on when it is back", async () => {
    let own = await S3Server.start(host);
    const { port, endpoint } = own;
    await own.makeBucket("images");
    const media = openAt(endpoint);
    const bytes = randomBytes(1_000);
    await media.put(pieces(bytes));
    await own.stop();
    for (const run of [
      () => media.put(pieces(bytes)),
      () => read(media, idOf(bytes)),
      () => media.has(idOf(bytes)),
    ]) {
      const error = await failure(run);
      assert.equal(error.code, Code.Unavailable);
      assert.match(error.rawMessage, /ECONNREFUSED/);
      assert(error.cause !== undefined && retryAfterMs(error) > 0);
    }
    assert.deepEqual(await spooled(), []);
    own = await S3Server.start(host, port);
    await own.makeBucket("images");
    await media.put(pieces(bytes));
    assert((await read(media, idOf(bytes))).equals(bytes));
    await own.stop();
  });
});

describe("media in an S3 that misbehaves", function () {
  this.timeout(60_000);
  let fake: Server;
  let endpoint: string;
  let answer: RequestListener;
  before(async () => {
    fake = createServer((request, response) => answer(request, response));
    fake.listen(0, "127.40.0.1");
    await once(fake, "listening");
    const address = fake.address();
    assert(typeof address === "object" && address !== null);
    endpoint = `http://127.40.0.1:${address.port}`;
  });
  after(() => {
    fake.closeAllConnections();
    fake.close();
  });

  it("ends every wait where the store says nothing", async () => {
    answer = () => undefined;
    const media = openAt(endpoint, 200);
    for (const run of [
      () => media.has(idOf(Buffer.from("x"))),
      () => media.put(pieces(randomBytes(10))),
      () => read(media, idOf(Buffer.from("x"))),
    ]) {
      const error = await within(20_000, "the error", failure(run));
      assert.equal(error.code, Code.Unavailable);
    }
    assert.deepEqual(await spooled(), []);
  });

  it("ends an upload that the store stops taking", async () => {
    answer = (request, response) => {
      if (request.method === "HEAD") response.writeHead(404).end();
      else request.pause();
    };
    const bytes = randomBytes(30 * 1_048_576);
    const error = await within(
      30_000,
      "the error",
      failure(() => openAt(endpoint, 200).put(pieces(bytes))),
    );
    assert.equal(error.code, Code.Unavailable);
    assert.deepEqual(await spooled(), []);
  });

  it("ends a download that stops midway", async () => {
    answer = (_, response) => {
      response.writeHead(206, { "content-length": 1_000_000 });
      response.write(randomBytes(1_000));
    };
    const error = await within(
      20_000,
      "the error",
      failure(() => read(openAt(endpoint, 200), idOf(Buffer.from("x")))),
    );
    assert.equal(error.code, Code.Unavailable);
  });

  for (const [status, code] of [
    [503, Code.ResourceExhausted],
    [429, Code.ResourceExhausted],
    [500, Code.Unavailable],
    [403, Code.Unavailable],
  ] as const) {
    it(`answers ${Code[code]} to ${status}`, async () => {
      answer = (_, response) => void response.writeHead(status).end();
      const error = await failure(() => openAt(endpoint).has(idOf(Buffer.from("x"))));
      assert.equal(error.code, code);
      assert(error.cause !== undefined && retryAfterMs(error) > 0);
    });
  }
});
