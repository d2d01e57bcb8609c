import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { ManualClock } from "../../mesh/clock.ts";
import { fetchMedia, uploadMedia, type MediaSettings } from "../../client/media.ts";

describe("the client's media", () => {
  function settings(answer: () => Promise<Response>): {
    asked: [string, RequestInit | undefined][];
    media: MediaSettings;
    clock: ManualClock;
  } {
    const asked: [string, RequestInit | undefined][] = [];
    const clock = new ManualClock();
    const fetch: typeof globalThis.fetch = (input, init) => {
      asked.push([typeof input === "string" ? input : "", init]);
      return answer();
    };
    const token = (): Promise<string> => Promise.resolve("secret");
    return { asked, clock, media: { baseUrl: "http://chat", token, fetch, clock } };
  }

  it("uploads bytes and gives the attachment", async () => {
    const said = { mediaId: "m1", mediaType: "image/png", size: 3, thumbnail: "AQI=" };
    const { asked, media } = settings(() => Promise.resolve(Response.json(said, { status: 201 })));
    const attachment = await uploadMedia(media, "d:alice:bob", new Uint8Array([1, 2, 3]), "a.png");
    assert.deepEqual(
      [attachment.mediaId, attachment.size, attachment.fileName],
      ["m1", 3, "a.png"],
    );
    assert.equal(asked[0]?.[0], "http://chat/media?conversation=d%3Aalice%3Abob");
    assert.deepEqual(asked[0]?.[1]?.headers, { authorization: "Bearer secret" });
  });

  it("gives the server's error as one", async () => {
    const said = { code: "not_found", message: "no such conversation" };
    const { asked, media } = settings(() => Promise.resolve(Response.json(said, { status: 404 })));
    await assert.rejects(fetchMedia(media, "g:x", "m1"), {
      code: Code.NotFound,
      rawMessage: "no such conversation",
    });
    assert.equal(asked[0]?.[0], "http://chat/media/g%3Ax/m1");
    const proxy = settings(() => Promise.resolve(new Response("<html>", { status: 502 })));
    await assert.rejects(fetchMedia(proxy.media, "g:x", "m1"), { code: Code.Unavailable });
  });
});
