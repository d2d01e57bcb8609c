/** Images: uploaded to a conversation, sent along with text, fetched by its members and by nobody else. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { fromJsonString } from "@bufbuild/protobuf";
import { AttachmentSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import type { Attachment } from "../../proto/gen/parley/v1/record_pb.ts";
import { protocols } from "../support/device.ts";
import { download, upload } from "../support/http.ts";
import { modes } from "../support/parley.ts";
import { picture } from "../support/pictures.ts";
import { Town, newClientId, syncAll, textInto, textTo } from "../support/town.ts";

for (const [mode, start] of modes.entries()) {
  describe(`images, ${mode}`, () => {
    let town: Town;
    before(async () => {
      town = await Town.start(start);
    });
    afterEach(() => town.leave());
    after(() => town.close());

    async function uploaded(
      userId: string,
      conversationId: string,
      bytes: Uint8Array<ArrayBuffer>,
    ): Promise<Attachment> {
      const { status, text } = await upload(town.url, userId, conversationId, bytes);
      assert.equal(status, 201, text);
      return fromJsonString(AttachmentSchema, text);
    }

    for (const [protocol, open] of Object.entries(protocols)) {
      it(`are sent with text over ${protocol}, as they were found, and fetched by members`, async () => {
        const [alice, bob] = [`alice-${protocol}`, `bob-${protocol}`];
        const direct = `d:${alice}:${bob}`;
        const [from, to] = await Promise.all([
          town.device(open, alice, "phone"),
          town.device(open, bob, "phone"),
        ]);
        const [png, jpeg] = [
          await picture("png", { width: 320, height: 200 }),
          await picture("jpeg"),
        ];
        const first = await uploaded(alice, direct, png);
        const second = await uploaded(alice, direct, jpeg);
        assert.deepEqual(await uploaded(alice, direct, png), first, "the same bytes, the same id");
        assert.equal(first.mediaId, createHash("sha256").update(png).digest("hex"));

        const claimed = { ...first, mediaType: "text/html", width: 1, size: 1, fileName: "a.png" };
        await from.send({
          ...textTo(bob, ""),
          content: { text: "two pictures", attachments: [claimed, second] },
        });
        const { body } = await to.inbox.record(direct, 1);
        assert.ok(body.case === "message");
        assert.equal(body.value.text, "two pictures");
        assert.deepEqual(body.value.attachments, [{ ...first, fileName: "a.png" }, second]);
        const [shown] = body.value.attachments;
        assert.deepEqual(
          [shown?.mediaType, shown?.width, shown?.height, shown?.size],
          ["image/png", 320, 200, png.length],
        );
        assert.ok(shown && shown.thumbnail.length > 0 && shown.thumbnail.length <= 4_096);

        for (const userId of [alice, bob]) {
          const response = await download(town.url, userId, direct, first.mediaId);
          assert.equal(response.status, 200);
          assert.equal(response.headers.get("content-type"), "image/png");
          assert.equal(response.headers.get("x-content-type-options"), "nosniff");
          assert.match(response.headers.get("content-security-policy") ?? "", /sandbox/);
          assert.deepEqual(new Uint8Array(await response.arrayBuffer()), png);
        }
        const part = await download(town.url, bob, direct, first.mediaId, { Range: "bytes=5-9" });
        assert.equal(part.status, 206);
        assert.deepEqual(new Uint8Array(await part.arrayBuffer()), png.subarray(5, 10));
        const etag = part.headers.get("etag") ?? "";
        const known = await download(town.url, bob, direct, first.mediaId, {
          "If-None-Match": etag,
        });
        assert.equal(known.status, 304);

        await to.send({ ...textTo(alice, ""), content: { attachments: [first] } });
        const alone = (await from.inbox.record(direct, 2)).body;
        assert.ok(alone.case === "message");
        assert.equal(alone.value.text, "");
        assert.equal(alone.value.attachments.length, 1);
      });
    }

    it("P8: are refused to others with the answer that what is not there gets", async () => {
      const [ann, ben] = [await town.onSocket("ann"), await town.onSocket("ben")];
      const { conversation } = await ann.createGroup({
        clientId: newClientId(),
        title: "friends",
        memberIds: ["ben"],
      });
      const id = conversation?.conversationId ?? "";
      const other = `g:${"A".repeat(22)}`;
      const png = await picture("png");
      const { mediaId } = await uploaded("ann", id, png);
      await ann.send({ ...textInto(id, ""), content: { attachments: [{ mediaId }] } });

      const answer = async (userId: string, conversationId: string, media: string) => {
        const response = await download(town.url, userId, conversationId, media);
        const kept = [...response.headers].filter(([name]) => name !== "date");
        const text = (await response.text()).replaceAll(conversationId, "ID");
        return { status: response.status, headers: kept, text };
      };
      const missing = await answer("mallory", other, mediaId);
      assert.equal(missing.status, 404);
      assert.deepEqual(await answer("mallory", id, mediaId), missing);
      assert.deepEqual(await answer("mallory", id, "0".repeat(64)), missing);
      const put = await upload(town.url, "mallory", id, png);
      const nowhere = await upload(town.url, "mallory", other, png);
      assert.equal(put.status, 404);
      assert.deepEqual(
        [put.code, put.message.replace(id, "ID")],
        [nowhere.code, nowhere.message.replace(other, "ID")],
      );

      await ann.updateGroup({
        conversationId: id,
        clientId: newClientId(),
        removeMemberIds: ["ben"],
      });
      await ben.inbox.record(id, 3);
      const late = await uploaded("ann", id, await picture("jpeg"));
      assert.equal((await upload(town.url, "ben", id, png)).status, 404);
      assert.equal((await download(town.url, "ben", id, mediaId)).status, 200);
      await ann.send({ ...textInto(id, ""), content: { attachments: [late] } });
      const none = await fetch(`${town.url}/media/${encodeURIComponent(id)}/${mediaId}`);
      assert.equal(none.status, 401);
    });

    it("P1: are there after a restart", async () => {
      const carol = await town.onSocket("carol");
      const webp = await picture("webp");
      const { mediaId } = await uploaded("carol", "d:carol:dave", webp);
      await carol.send({ ...textTo("dave", ""), content: { attachments: [{ mediaId }] } });
      await town.restart();
      const dave = await town.onSocket("dave");
      const { conversations } = await syncAll(dave);
      const { body } = conversations[0]?.records[0] ?? {};
      assert.equal(body?.case === "message" && body.value.attachments[0]?.mediaId, mediaId);
      const response = await download(town.url, "dave", "d:carol:dave", mediaId);
      assert.deepEqual(new Uint8Array(await response.arrayBuffer()), webp);
    });
  });
}
