/** The export of a user: all that they may read and uploaded, as files; an export that broke off goes on. */
import assert from "node:assert/strict";
import { appendFile, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { Export } from "../../cli/export.ts";
import { createGrpcTransport } from "../../mesh/grpc/transport.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { upload } from "../support/http.ts";
import { modes, newFolder } from "../support/parley.ts";
import { picture } from "../support/pictures.ts";
import { Town, directId, newClientId, textInto, textTo } from "../support/town.ts";

for (const [mode, start] of modes.entries()) {
  describe(`export of a user, ${mode}`, () => {
    let town: Town;
    let folder: Awaited<ReturnType<typeof newFolder>>;
    before(async () => {
      town = await Town.start(start);
      folder = await newFolder();
    });
    after(async () => {
      await town.close();
      await folder.remove();
    });

    async function exported(user: string): Promise<object> {
      const [url = ""] = town.meshUrls(StorageService.typeName);
      const transport = createGrpcTransport({ address: new URL(url).host });
      try {
        const storage = createClient(StorageService, transport);
        return await new Export(storage, user, folder.path, "test", () => undefined).run();
      } finally {
        transport.close();
      }
    }

    const lines = async (name: string): Promise<unknown[]> =>
      (await readFile(join(folder.path, name), "utf8"))
        .split("\n")
        .flatMap((line): unknown[] => (line === "" ? [] : [JSON.parse(line)]));

    it("has the conversations, the records that the user may read, and media", async () => {
      const [alice, bob] = [await town.onSocket("alice"), await town.onSocket("bob")];
      await alice.send(textTo("bob", "before"));
      const request = { clientId: newClientId(), title: "friends", memberIds: ["cleo"] };
      const group = (await bob.createGroup(request)).conversation?.conversationId ?? "";
      await bob.send(textInto(group, "alice must not read this"));
      const add = { conversationId: group, clientId: newClientId(), addMemberIds: ["alice"] };
      await bob.updateGroup(add);
      const { text } = await upload(town.url, "alice", group, await picture("png"));
      const { mediaId } = JSON.parse(text) as { mediaId: string };
      await alice.send({
        ...textInto(group, "a picture"),
        content: { attachments: [{ mediaId }] },
      });
      const unsent = await upload(town.url, "alice", group, await picture("png", { red: 9 }));
      const { mediaId: second } = JSON.parse(unsent.text) as { mediaId: string };
      await exported("alice");
      const direct = directId("alice", "bob");
      const names = [direct, group].map((id) => `records/${encodeURIComponent(id)}.ndjson`);
      const [one, two] = await Promise.all(names.map(lines));
      assert.match(JSON.stringify(one), /"before"/);
      assert.doesNotMatch(JSON.stringify(two), /must not read/);
      assert.deepEqual(
        two?.map((record) => (record as { seq: number }).seq),
        [3, 4],
      );
      const rows = (await lines("conversations.ndjson")) as { conversationId: string }[];
      assert.deepEqual(
        rows.map(({ conversationId }) => conversationId),
        [direct, group].toSorted(),
      );
      const media = await readdir(join(folder.path, "media"));
      assert.deepEqual(media.toSorted(), [mediaId, second].toSorted());
      await town.leave();
    });

    it("goes on after it broke off, and adds what is new", async () => {
      const alice = await town.onSocket("alice");
      const file = join(
        folder.path,
        "records",
        `${encodeURIComponent(directId("alice", "bob"))}.ndjson`,
      );
      const whole = await readFile(file, "utf8");
      const numbers = Array.from({ length: 210 }, (_, at) => textTo("bob", `number ${at}`));
      await Promise.all(numbers.map((number) => alice.send(number)));
      // A line that a crash left half written.
      await appendFile(file, '{"conversationId":"d:alice:bo');
      const [medium = ""] = await readdir(join(folder.path, "media"));
      await rm(join(folder.path, "media", medium));
      const summary = await exported("alice");
      assert((await readFile(file, "utf8")).startsWith(whole));
      const records = (await lines(
        join("records", encodeURIComponent(directId("alice", "bob")) + ".ndjson"),
      )) as { seq: number }[];
      assert.deepEqual(
        records.map(({ seq }) => seq),
        Array.from({ length: 211 }, (_, at) => at + 1),
      );
      assert.deepEqual(
        { ...summary, folder: "", exportedMs: 0 },
        {
          user: "alice",
          lastSeenMs: (summary as { lastSeenMs: number }).lastSeenMs,
          conversations: 2,
          records: 213,
          own: 212,
          media: 1,
          mediaMissing: 0,
          uploads: 2,
          exportedMs: 0,
          version: "test",
          folder: "",
        },
      );
      await town.leave();
    });
  });
}
