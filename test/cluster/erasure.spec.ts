/** Erasure on real Cassandra: no table has anything of the user any more, and once tombstones are old enough and files are compacted, no file. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { systemRandom } from "../../mesh/random.ts";
import { openMediaFolder } from "../../storage/index.ts";
import { Kind } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { newFolder } from "../support/parley.ts";
import { root } from "../support/tree.ts";
import { Desk, member, write } from "../storage/writes.ts";
import { tables } from "../sim/store/schema.ts";
import { Keyspace } from "./keyspace.ts";
import { Members } from "./members.ts";

const run = promisify(execFile);
const script = join(root, "test/cluster/servers/cassandra/nodetool.sh");
const nodetool = (...args: string[]): Promise<unknown> =>
  run(script, [String(jmxPort), ...args], { timeout: 240_000 });

const network = process.env["TEST_NETWORK"] ?? "127.51";
const jmxPort = 17_199;
const userId = "mallory-the-user";
const members = [member(userId), member("bob")];

/** A direct conversation's id has both users' ids, and is the other one's. */
const direct = `d:bob:${userId}`;

/** Compactions remove files meanwhile. */
function folderOrGone(error: NodeJS.ErrnoException): Buffer {
  if (error.code === "EISDIR" || error.code === "ENOENT") return Buffer.alloc(0);
  throw error;
}

function without(bytes: Buffer, part: string): Buffer {
  return part === "" ? bytes : Buffer.from(bytes.toString("latin1").replaceAll(part, ""), "latin1");
}

describe("erasure on Cassandra", function () {
  this.timeout(300_000);
  let node: Members;
  let keyspace: Keyspace;
  let folder: Awaited<ReturnType<typeof newFolder>>;
  let desk: Desk;

  before(async () => {
    node = await Members.start("cassandra", [`${network}.3.1`], {
      CASSANDRA_JVM_OPTS: `-Dcassandra.jmx.local.port=${jmxPort}`,
    });
    keyspace = await Keyspace.migrated(node.endpoints);
    folder = await newFolder();
    const media = await openMediaFolder(folder.path, systemRandom);
    desk = new Desk({ store: await keyspace.open(), media });
  });

  after(async () => {
    await desk?.close();
    await keyspace?.close();
    await node?.close();
    await folder?.remove();
  });

  /** Each table that has it, by a scan of all rows; but not where it is a part of this. */
  async function tablesWith(text: string, partOf = ""): Promise<string[]> {
    const found: string[] = [];
    for (const name of tables.keys()) {
      const rows = await keyspace.ask(`SELECT * FROM ${keyspace.name}.${name}`);
      const bytes = rows.flatMap((row) =>
        row
          .values()
          .map((value) => Buffer.from(value instanceof Uint8Array ? value : String(value))),
      );
      const rest = bytes.map((value) => without(value, partOf));
      if (rest.some((value) => value.includes(text))) found.push(name);
    }
    return found;
  }

  async function erase(whom: string, ...conversationIds: string[]): Promise<void> {
    await desk.client.beginErasure({ userId: whom });
    for (const conversationId of conversationIds) {
      await desk.client.eraseRecords({ userId: whom, conversationId });
      await desk.client.forgetMember({ userId: whom, conversationId });
    }
    await desk.client.finishErasure({ userId: whom });
  }

  /** Not sent with any message. */
  async function upload(uploaderId: string): Promise<void> {
    const thumbnail = Buffer.from(`picture of ${uploaderId}`);
    async function* parts(): AsyncGenerator<object> {
      const value = { conversationId: direct, mediaType: "image/png", thumbnail };
      yield { part: { case: "header", value }, uploaderId };
      yield { part: { case: "chunk", value: thumbnail } };
    }
    await desk.client.putMedia(parts());
  }

  /** Of the node's tables; its commit log has what was written until it is through with it. */
  async function filesWith(text: string, partOf = ""): Promise<string[]> {
    const path = join(node.folderOf(0), "data");
    const found: string[] = [];
    for (const name of await readdir(path, { recursive: true })) {
      const bytes = await readFile(join(path, name)).catch(folderOrGone);
      if (without(bytes, partOf).includes(text)) found.push(name);
    }
    return found;
  }

  it("leaves nothing that a scan finds", async () => {
    for (const id of ["g:1", "g:2"]) {
      await desk.kept(
        write({ id, members, sender: userId, from: 1, count: 60, text: "secret-marker" }),
      );
      await desk.kept(write({ id, members, sender: "bob", from: 61, text: "kept-marker" }));
    }
    const talk = { id: direct, kind: Kind.DIRECT, members };
    await desk.kept(write({ ...talk, sender: userId, from: 1, text: "secret-marker" }));
    await desk.kept(write({ ...talk, sender: "bob", from: 2, text: "kept-marker" }));
    await desk.kept(write({ ...talk, sender: "bob", from: 3, text: "direct-marker" }));
    for (const uploader of [userId, "bob"]) await upload(uploader);
    await desk.client.setRetention({ conversationId: direct, retentionMs: 1_000_000_000_000n });
    await desk.client.putLastSeen({ seen: [{ userId, timeMs: 5n }] });
    assert.deepEqual(await tablesWith("secret-marker"), ["log"]);
    assert.deepEqual(await tablesWith(userId), [
      "log",
      "user_index",
      "groups",
      "last_seen",
      "media",
      "uploads",
      "media_uses",
      "retentions",
    ]);
    // Of files that are not compressed, so that what is in them is found.
    for (const name of tables.keys())
      await keyspace.ask(
        `ALTER TABLE KS.${name} WITH gc_grace_seconds = 0 AND compression = {'enabled': 'false'}`,
      );
    await nodetool("flush");
    assert((await filesWith("secret-marker")).length > 0, "the scan finds what is there");
    await desk.client.beginErasure({ userId });
    await erase(userId, "g:1", "g:2", direct);
    for (const text of ["secret-marker", `picture of ${userId}`])
      assert.deepEqual(await tablesWith(text), [], text);
    assert.deepEqual(await tablesWith(userId, direct), []);
    assert.deepEqual(await tablesWith("kept-marker"), ["log"]);
    // What is the other one's: their messages and picture, their list.
    const { rows } = await desk.client.listIndex({ userId: "bob" });
    assert.deepEqual(
      rows.map(({ conversationId }) => conversationId),
      [direct, "g:1", "g:2"],
    );
    assert.deepEqual((await desk.page({ conversationId: direct, userId: "bob" })).seqs, [1, 2, 3]);
    assert.deepEqual(await tablesWith("picture of bob"), ["media"]);
  });

  it("leaves nothing of a direct conversation once the other one is erased, too", async () => {
    await erase("bob", direct);
    for (const text of [userId, "direct-marker", "picture of bob"])
      assert.deepEqual(await tablesWith(text), [], text);
    assert.deepEqual(await tablesWith("kept-marker"), ["log"]);
  });

  it("leaves nothing in the files after compaction, once tombstones may go", async () => {
    await nodetool("flush");
    await nodetool("compact", keyspace.name);
    for (const text of ["secret-marker", "direct-marker", "picture of", userId])
      assert.deepEqual(await filesWith(text), []);
    assert((await filesWith("kept-marker")).length > 0);
  });
});
