/** /media: what may be uploaded, what is found in it, and how it comes back. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { connect as connectSocket } from "node:net";
import { crc32, deflateSync } from "node:zlib";
import { create, fromJsonString, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ServiceImpl } from "@connectrpc/connect";
import sharp from "sharp";
import type { Sharp } from "sharp";
import { createAuthenticator } from "../../gateway/auth.ts";
import { createMedia, mediaLimits } from "../../gateway/media.ts";
import type { MediaLimits } from "../../gateway/media.ts";
import { noMetrics } from "../../mesh/metrics.ts";
import { systemClock } from "../../mesh/clock.ts";
import { Identity } from "../../mesh/identity.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { PeerTable } from "../../mesh/peers.ts";
import { systemRandom } from "../../mesh/random.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import type { MediaHeader } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  AttachmentSchema,
  MembershipChangeSchema,
  RecordSchema,
} from "../../proto/gen/parley/v1/record_pb.ts";
import { closeEdges, openEdge, said, secret, silent, tokenFor } from "./edge.ts";

type Storage = ServiceImpl<typeof StorageService>;

const group = "g:friends";
const direct = "d:alice:bob";

interface Kept {
  header: MediaHeader;
  bytes: Buffer;
}

/** What of storage the media handler uses: alice and bob are in the group, carol has left it. */
class FakeStorage {
  readonly kept = new Map<string, Kept>();
  chunkSizes: number[] = [];
  readonly members = new Set(["alice", "bob"]);

  readonly service: Partial<Storage> = {
    read: ({ pages }) => ({
      pages: pages.map(({ conversationId, userId, limit }) => {
        assert.equal(limit, 1);
        const there = conversationId === group || conversationId === "g:odd id/é";
        const found = there && (this.members.has(userId) || userId === "carol");
        const removed = userId === "carol" ? ["carol"] : [];
        const value = create(MembershipChangeSchema, { removed });
        const body = { case: "membership" as const, value };
        const record = create(RecordSchema, { conversationId, seq: 9, body });
        return { found, records: found ? [toBinary(RecordSchema, record)] : [], headSeq: 9 };
      }),
    }),
    putMedia: async (parts) => {
      let header: MediaHeader | undefined;
      const chunks: Uint8Array[] = [];
      for await (const { part } of parts)
        if (part.case === "header") header = part.value;
        else if (part.case === "chunk") chunks.push(part.value);
      assert.ok(header);
      this.chunkSizes = chunks.map(({ length }) => length);
      const bytes = Buffer.concat(chunks);
      const mediaId = createHash("sha256").update(bytes).digest("hex");
      const put = { ...header, mediaId, size: bytes.length };
      this.kept.set(`${header.conversationId} ${mediaId}`, { header: put, bytes });
      return { header: put };
    },
    getMedia: async function* (
      this: FakeStorage,
      request: {
        conversationId: string;
        mediaId: string;
        offset: number;
        length: number;
        headerOnly: boolean;
      },
    ) {
      const { conversationId, mediaId, offset, length, headerOnly } = request;
      const found = this.kept.get(`${conversationId} ${mediaId}`);
      if (found === undefined) throw new ConnectError("not there", Code.NotFound);
      yield { part: { case: "header" as const, value: found.header } };
      if (headerOnly) return;
      const end = length === 0 ? found.bytes.length : offset + length;
      for (let at = offset; at < end; at += 1_000)
        yield {
          part: {
            case: "chunk" as const,
            value: found.bytes.subarray(at, Math.min(at + 1_000, end)),
          },
        };
      await Promise.resolve();
    }.bind(this),
  };
}

let storage: FakeStorage;
let url = "";
let port = 0;

async function open(limits: Partial<MediaLimits> = {}): Promise<void> {
  storage = new FakeStorage();
  const mesh = new LocalMesh({ wire: true });
  mesh.serve(StorageService, storage.service as Storage);
  const surroundings = {
    clock: systemClock,
    random: systemRandom,
    log: silent,
    metrics: noMetrics,
    identity: new Identity(systemRandom),
    peers: () => new PeerTable(),
    transport: () => mesh.transport(StorageService),
  };
  const auth = await createAuthenticator({ secret }, systemClock);
  const media = createMedia(surroundings, auth, { ...mediaLimits, ...limits });
  ({ url, port } = await openEdge({ media }));
}

type Headers = Record<string, string>;
const bearer = async (userId: string): Promise<Headers> => ({
  authorization: `Bearer ${await tokenFor(userId)}`,
});

async function upload(
  bytes: Uint8Array,
  type = "application/octet-stream",
  userId = "alice",
  conversation = group,
): Promise<Response> {
  return fetch(`${url}/media?conversation=${encodeURIComponent(conversation)}`, {
    method: "POST",
    headers: { ...(await bearer(userId)), "content-type": type },
    body: bytes,
  });
}

async function download(
  mediaId: string,
  headers: Headers = {},
  userId = "bob",
  { method = "GET", conversation = group } = {},
): Promise<Response> {
  const address = `${url}/media/${encodeURIComponent(conversation)}/${mediaId}`;
  return fetch(address, { method, headers: { ...(await bearer(userId)), ...headers } });
}

async function refused(answer: Promise<Response>, status: number, message: RegExp): Promise<void> {
  const response = await answer;
  const { code, message: told } = await said(response);
  assert.match(String(told), message);
  assert.equal(response.status, status, String(told));
  assert.equal(typeof code, "string");
  assert.equal(storage.kept.size, 0, "nothing is kept");
}

const photo = sharp({
  create: { width: 400, height: 300, channels: 3, background: "orange" },
});
const noise = (width: number, height: number, channels: 3 | 4 = 3): Sharp =>
  sharp(systemRandom.bytes(width * height * channels), { raw: { width, height, channels } });

/** A PNG of `size` x `size` zeros by hand: small in bytes, huge in memory. */
function pngOfZeros(size: number): Buffer {
  const chunk = (name: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(name, "latin1"), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length, 0);
    body.copy(out, 4);
    out.writeUInt32BE(crc32(body), body.length + 4);
    return out;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(size, 0);
  head.writeUInt32BE(size, 4);
  head.set([1, 0, 0, 0, 0], 8);
  const data = deflateSync(Buffer.alloc(size * (Math.ceil(size / 8) + 1)), { level: 9 });
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    chunk("IHDR", head),
    chunk("IDAT", data),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

describe("an upload", () => {
  beforeEach(() => open());
  afterEach(closeEdges);

  for (const format of ["png", "jpeg", "webp", "gif", "avif"] as const)
    it(`of ${format} answers with an attachment that can be sent as it is`, async () => {
      const bytes = await photo.clone().toFormat(format).toBuffer();
      const response = await upload(bytes, `image/${format}`);
      assert.equal(response.status, 201);
      const attachment = fromJsonString(AttachmentSchema, await response.text());
      const { mediaId, mediaType, size, width, height, thumbnail } = attachment;
      const found = { mediaType, size, width, height };
      assert.deepEqual(found, {
        mediaType: `image/${format}`,
        size: bytes.length,
        width: 400,
        height: 300,
      });
      assert.equal(mediaId, createHash("sha256").update(bytes).digest("hex"));
      assert.ok(thumbnail.length > 0 && thumbnail.length <= 4_096);
      const preview = await sharp(thumbnail).metadata();
      assert.deepEqual([preview.format, preview.width, preview.height], ["webp", 160, 120]);
      const kept = storage.kept.get(`${group} ${mediaId}`);
      assert.deepEqual(kept?.bytes, bytes, "the bytes are kept as they came");
      assert.deepEqual(Buffer.from(kept?.header.thumbnail ?? []), Buffer.from(thumbnail));
    });

  it("goes to storage in chunks of at most 64 KiB", async () => {
    const bytes = await noise(300, 300).png().toBuffer();
    assert.equal((await upload(bytes)).status, 201);
    assert.ok(storage.chunkSizes.length > 2 && Math.max(...storage.chunkSizes) <= 65_536);
  });

  it("has the size as it is shown, where the camera was turned", async () => {
    const turned = await photo.clone().withMetadata({ orientation: 6 }).jpeg().toBuffer();
    const { width, height } = await said(await upload(turned, "image/jpeg"));
    assert.deepEqual([width, height], [300, 400]);
  });

  it("of noise still has a small preview", async () => {
    for (const image of [noise(600, 600), noise(640, 640, 4), noise(8_000, 40)]) {
      const { thumbnail = "" } = await said(await upload(await image.png().toBuffer()));
      const bytes = Buffer.from(String(thumbnail), "base64");
      assert.ok(bytes.length > 0 && bytes.length <= 4_096, `${bytes.length}`);
    }
  });

  it("may say nothing of its type, or call it by another name", async () => {
    const jpeg = await photo.clone().jpeg().toBuffer();
    for (const type of ["application/x-www-form-urlencoded", "image/jpg", "IMAGE/JPEG; q=1"])
      assert.equal((await upload(jpeg, type)).status, 201, type);
  });

  it("that lies about its type is refused", async () => {
    const png = await photo.clone().png().toBuffer();
    const lie = /Content-Type says image\/jpeg, but the bytes are image\/png/;
    await refused(upload(png, "image/jpeg"), 415, lie);
    await refused(upload(png, "text/html"), 415, /says text\/html/);
    await refused(
      upload(Buffer.from("<script>alert(1)</script>"), "image/png"),
      415,
      /no known type/,
    );
    const svg = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script/></svg>';
    await refused(upload(Buffer.from(svg), "image/png"), 415, /can be sent: image\/png/);
    await refused(upload(Buffer.from("%PDF-1.7\n"), "application/pdf"), 415, /application\/pdf/);
    const form = upload(png, "multipart/form-data; boundary=x");
    await refused(form, 415, /not as a form/);
  });

  it("that only begins like an image is refused", async () => {
    const heads = ["\x89PNG\r\n\x1a\n", "\xff\xd8\xff\xe0", "GIF89a", "RIFF\x10\0\0\0WEBPVP8 "];
    for (const head of heads) {
      const bytes = Buffer.concat([Buffer.from(head, "latin1"), Buffer.alloc(200, 7)]);
      const response = await upload(bytes);
      assert.ok([400, 415].includes(response.status), `${response.status}`);
    }
    assert.equal(storage.kept.size, 0);
  });

  for (const format of ["png", "jpeg", "webp", "gif", "avif"] as const)
    it(`of ${format} that is cut off is refused`, async () => {
      const whole = await noise(300, 200).toFormat(format).toBuffer();
      for (const share of [0.2, 0.6, 0.99])
        await refused(
          upload(whole.subarray(0, Math.floor(whole.length * share))),
          400,
          /broken or cut off/,
        );
    });

  it("that is a decompression bomb is refused at once", async () => {
    const bomb = pngOfZeros(20_000);
    assert.ok(bomb.length < 100_000, `${bomb.length}`);
    await refused(upload(bomb, "image/png"), 422, /at most 50000000 pixels/);
    const pages = await sharp(Buffer.alloc(2_000 * 2_000 * 3 * 2), {
      raw: { width: 2_000, height: 4_000, channels: 3, pageHeight: 2_000 },
    })
      .gif()
      .toBuffer();
    assert.equal((await upload(pages)).status, 201, "an animation within bounds is none");
  });

  it("that is empty is refused", () => refused(upload(Buffer.alloc(0)), 400, /body is empty/));

  it("without a good token is refused", async () => {
    const response = await fetch(`${url}/media?conversation=${group}`, {
      method: "POST",
      body: "x",
    });
    assert.equal(response.status, 401);
    assert.equal((await said(response))["code"], "unauthenticated");
  });

  it("is for members only, who learn the same of what is not there (P8)", async () => {
    const png = await photo.clone().png().toBuffer();
    const answers: unknown[] = [];
    for (const [userId, conversation] of [
      ["mallory", group],
      ["carol", group],
      ["mallory", "g:nowhere"],
      ["mallory", direct],
    ] as const) {
      const response = await upload(png, "image/png", userId, conversation);
      const { code, message } = await said(response);
      answers.push([response.status, code, String(message).replace(conversation, "C")]);
    }
    const same = [404, "not_found", "there is no conversation C that you are a member of"];
    assert.deepEqual(answers, [same, same, same, same]);
    assert.equal(storage.kept.size, 0);
  });

  it("may come before the first message of a direct conversation", async () => {
    const png = await photo.clone().png().toBuffer();
    assert.equal((await upload(png, "image/png", "alice", direct)).status, 201);
    for (const wrong of ["d:bob:alice", "d:alice:alice", "d:alice:bob:carol", "d:alice"])
      assert.equal((await upload(png, "image/png", "alice", wrong)).status, 404, wrong);
  });

  it("names its conversation", async () => {
    await refused(upload(Buffer.alloc(1), "image/png", "alice", ""), 400, /name the conversation/);
  });
});

describe("an upload's bounds", () => {
  afterEach(closeEdges);

  /** Writes bytes as they are, and answers with all that comes back. */
  function raw(parts: (string | Buffer)[], { end = false } = {}): Promise<string> {
    return new Promise((resolve) => {
      let text = "";
      const socket = connectSocket(port, "127.0.0.1");
      socket.on("data", (data) => (text += data.toString("latin1")));
      socket.on("error", () => undefined);
      socket.on("close", () => resolve(text));
      for (const part of parts) socket.write(part);
      if (end) socket.end();
    });
  }

  async function head(length: string, ...more: string[]): Promise<string> {
    const { authorization } = await bearer("alice");
    const lines = [`POST /media?conversation=${group} HTTP/1.1`, "host: edge", length, ...more];
    return [...lines, `authorization: ${authorization}`, "", ""].join("\r\n");
  }

  it("refuse more than the limit, whether it says so or not, and read no further", async () => {
    await open({ mediaMaxBytes: 100_000 });
    const bytes = Buffer.alloc(100_001);
    await refused(upload(bytes), 413, /100001 bytes; at most 100000/);
    const endless = await raw([
      await head("transfer-encoding: chunked"),
      ...Array.from({ length: 2_000 }, () =>
        Buffer.concat([Buffer.from("400\r\n"), Buffer.alloc(1_024), Buffer.from("\r\n")]),
      ),
    ]);
    assert.match(endless, /^HTTP\/1.1 413 /);
    assert.match(endless, /too large; at most 100000 bytes/);
    assert.equal(storage.kept.size, 0);
  });

  it("keep nothing of what does not come whole", async () => {
    await open();
    const png = await photo.clone().png().toBuffer();
    await raw([await head(`content-length: ${png.length + 1}`), png], { end: true });
    await raw([await head("transfer-encoding: chunked"), "10\r\n", png.subarray(0, 8)], {
      end: true,
    });
    assert.equal(storage.kept.size, 0);
    assert.equal((await upload(png)).status, 201, "the places are free again");
  });

  it("end an upload that stands still", async () => {
    await open({ silentMs: 50 });
    const answer = await raw([await head("content-length: 1000"), "abc"]);
    assert.match(answer, /^HTTP\/1.1 408 /);
    assert.match(answer, /came too slowly/);
  });

  it("bound the uploads of a user that are under way, and say when to come again", async () => {
    await open({ uploadsPerUserMax: 1, silentMs: 200 });
    const first = raw([await head("content-length: 1000", "expect: 100-continue"), "abc"]);
    let busy = await upload(Buffer.alloc(1));
    // Until the first one has its place.
    while (busy.status !== 429) busy = await upload(Buffer.alloc(1));
    assert.equal(busy.headers.get("retry-after-ms"), "2000");
    assert.equal((await upload(Buffer.alloc(1), "image/png", "bob")).status, 415);
    await first;
  });

  it("bound the requests of a user", async () => {
    await open({ requestsPerSecond: 1, requestsBurst: 1 });
    await upload(Buffer.alloc(1));
    const response = await upload(Buffer.alloc(1));
    assert.equal(response.status, 429);
    assert.ok(Number(response.headers.get("retry-after-ms")) > 0);
  });

  it("bound the images that wait to be looked at", async () => {
    const image = { ...mediaLimits.image, atOnceMax: 1, waitingMax: 0 };
    await open({ image, uploadsPerUserMax: 8 });
    const png = await noise(1_500, 1_000).png().toBuffer();
    const answers = await Promise.all([upload(png), upload(png), upload(png), upload(png)]);
    const statuses = new Set(answers.map(({ status }) => status));
    assert.deepEqual([...statuses].sort(), [201, 429]);
    assert.equal((await upload(png)).status, 201);
  });
});

describe("a download", () => {
  let bytes: Buffer;
  let mediaId = "";

  beforeEach(async () => {
    await open();
    bytes = await noise(100, 100).png().toBuffer();
    mediaId = String((await said(await upload(bytes)))["mediaId"]);
  });
  afterEach(closeEdges);

  const bodyOf = async (response: Response): Promise<Buffer> =>
    Buffer.from(await response.arrayBuffer());

  it("gives the bytes, cacheable, in a way that no browser runs", async () => {
    const response = await download(mediaId);
    assert.equal(response.status, 200);
    assert.deepEqual(await bodyOf(response), bytes);
    const wanted: Headers = {
      "content-type": "image/png",
      "content-length": String(bytes.length),
      etag: `"${mediaId}"`,
      "cache-control": "private, max-age=31536000, immutable",
      "accept-ranges": "bytes",
      "x-content-type-options": "nosniff",
      "content-security-policy": "default-src 'none'; sandbox",
      "content-disposition": "inline",
      "cross-origin-resource-policy": "same-site",
    };
    for (const [name, value] of Object.entries(wanted))
      assert.equal(response.headers.get(name), value, name);
  });

  it("of what is no image is a file to save", async () => {
    const id = "a".repeat(64);
    const header: MediaHeader = {
      $typeName: "parley.storage.v1.MediaHeader",
      conversationId: group,
      mediaId: id,
      mediaType: "text/html",
      size: 3,
      width: 0,
      height: 0,
      thumbnail: new Uint8Array(),
    };
    storage.kept.set(`${group} ${id}`, { header, bytes: Buffer.from("<b>") });
    const { headers } = await download(id);
    assert.equal(headers.get("content-disposition"), "attachment");
    assert.equal(headers.get("content-type"), "application/octet-stream");
  });

  it("is not sent again to whoever has it", async () => {
    for (const tag of [`"${mediaId}"`, `W/"${mediaId}"`, `"x", "${mediaId}"`, "*"]) {
      const response = await download(mediaId, { "if-none-match": tag });
      assert.equal(response.status, 304, tag);
      assert.equal((await bodyOf(response)).length, 0);
    }
    assert.equal((await download(mediaId, { "if-none-match": '"x"' })).status, 200);
  });

  it("gives a range", async () => {
    const last = bytes.length - 1;
    const ranges: [string, number, number][] = [
      ["bytes=0-0", 0, 0],
      ["bytes=10-99", 10, 99],
      [`bytes=${last}-`, last, last],
      ["bytes=500-999999999", 500, last],
      ["bytes=-7", last - 6, last],
      ["bytes=-999999999", 0, last],
    ];
    for (const [range, first, end] of ranges) {
      const response = await download(mediaId, { range });
      assert.equal(response.status, 206, range);
      assert.equal(response.headers.get("content-range"), `bytes ${first}-${end}/${bytes.length}`);
      assert.deepEqual(await bodyOf(response), bytes.subarray(first, end + 1), range);
    }
  });

  it("gives all where the range is none, are several, or is for other bytes", async () => {
    for (const range of [
      "bytes=",
      "bytes=-",
      "bytes=5-2",
      "bytes=a-b",
      "lines=0-1",
      "bytes=0-1,3-4",
    ]) {
      const response = await download(mediaId, { range });
      assert.equal(response.status, 200, range);
      assert.deepEqual(await bodyOf(response), bytes);
    }
    const stale = await download(mediaId, { range: "bytes=0-1", "if-range": '"x"' });
    assert.equal(stale.status, 200);
    const fresh = await download(mediaId, { range: "bytes=0-1", "if-range": `"${mediaId}"` });
    assert.equal(fresh.status, 206);
  });

  it("refuses a range beyond the end", async () => {
    for (const range of [`bytes=${bytes.length}-`, "bytes=-0", "bytes=99999999-999999999"]) {
      const response = await download(mediaId, { range });
      assert.equal(response.status, 416, range);
      assert.equal(response.headers.get("content-range"), `bytes */${bytes.length}`);
      assert.equal(response.headers.get("cache-control"), "no-store");
    }
  });

  it("by HEAD has no body", async () => {
    const response = await download(mediaId, {}, "bob", { method: "HEAD" });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-length"), String(bytes.length));
    assert.equal((await bodyOf(response)).length, 0);
  });

  it("is for those who are or were members; the others learn nothing (P8)", async () => {
    assert.equal((await download(mediaId, {}, "carol")).status, 200);
    const stranger = await download(mediaId, {}, "mallory");
    const nowhere = await download(mediaId, {}, "mallory", { conversation: "g:nowhere" });
    assert.deepEqual([stranger.status, nowhere.status], [404, 404]);
    const { message } = await said(stranger);
    assert.equal(String(message).replace(group, "g:nowhere"), (await said(nowhere))["message"]);
    assert.equal((await fetch(`${url}/media/${group}/${mediaId}`)).status, 401);
  });

  it("finds nothing under another name", async () => {
    assert.equal((await download("b".repeat(64))).status, 404);
    assert.equal((await download(mediaId, {}, "alice", { conversation: direct })).status, 404);
    const headers = await bearer("bob");
    for (const path of [
      "/media/",
      "/media/x",
      `/media/${group}/..%2f`,
      `/media/%zz/${mediaId}`,
      `/media/${group}/${mediaId}/x`,
    ]) {
      const response = await fetch(url + path, { headers });
      assert.equal(response.status, 404, path);
      assert.match(String((await said(response))["message"]), /address is \/media\//);
    }
    assert.equal((await fetch(`${url}/media`, { headers })).status, 405);
  });

  it("takes ids that need escapes", async () => {
    const conversation = "g:odd id/é";
    const kept = await said(await upload(bytes, "image/png", "alice", conversation));
    const response = await download(String(kept["mediaId"]), {}, "bob", { conversation });
    assert.equal(response.status, 200);
  });
});
