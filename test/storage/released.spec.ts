/** Data directories that released versions wrote and were killed with: they open here, whole. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { fromBinary } from "@bufbuild/protobuf";
import { RecordSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import { verifyData } from "../../storage/index.ts";
import { newFolder, openIn, removeFolder, settings } from "./folder.ts";

/**
 * How one is made: a `parley start` of the version; alice writes "written by" and the version to bob, bob answers, alice sends a picture and makes
 * a group with bob and carol, writes once more; `kill -9`; `tar -cz` of the directory without its secret, locks and `media/arriving`.
 */
const archives = fileURLToPath(new URL("./released/", import.meta.url));

describe("a data directory of a released version", () => {
  for (const archive of readdirSync(archives)) {
    const version = archive.replace(".tar.gz", "");
    it(`${version} opens, with all that it had`, async () => {
      const folder = await newFolder();
      try {
        execFileSync("tar", ["-xzf", archives + archive, "-C", folder]);
        const { store } = await openIn(folder);
        const cells = await store.cells("d:alice:bob", 1, 100);
        const texts = cells.map(({ record }) => {
          const { senderId, body } = fromBinary(RecordSchema, record);
          return `${senderId}: ${body.case === "message" ? body.value.text : ""}`;
        });
        assert.deepEqual(texts, [
          `alice: written by ${version}`,
          "bob: answered",
          "alice: a dot",
          "alice: in the journal alone",
        ]);
        const index = await store.index("bob");
        assert.deepEqual(
          index.map(({ state }) => state?.memberCount),
          [2, 3],
        );
        await store.close();
        const verified = await verifyData(folder, settings());
        assert.deepEqual(verified, { conversations: 2, records: 5, media: 1, findings: [] });
      } finally {
        await removeFolder(folder);
      }
    });
  }
});
