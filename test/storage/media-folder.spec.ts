/** A media folder that several storage processes share. */
import assert from "node:assert/strict";
import { mkdir, readdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { seededRandom } from "../../mesh/random.ts";
import { openMediaFolder } from "../../storage/index.ts";
import { newFolder, removeFolder } from "./folder.ts";

describe("a media folder", () => {
  let folder: string;
  let arriving: string;
  beforeEach(async () => {
    folder = await newFolder();
    arriving = join(folder, "arriving");
  });
  afterEach(() => removeFolder(folder));

  it("keeps what is arriving at one process when another one opens it (P1)", async () => {
    const one = await openMediaFolder(folder, seededRandom(1));
    let begun = (): void => undefined;
    let goOn = (): void => undefined;
    const beginning = new Promise<void>((resolve) => (begun = resolve));
    const going = new Promise<void>((resolve) => (goOn = resolve));
    const put = one.put(
      (async function* () {
        yield Buffer.from("half a ");
        begun();
        await going;
        yield Buffer.from("picture");
      })(),
    );
    await beginning;
    const other = await openMediaFolder(folder, seededRandom(2));
    goOn();
    const { mediaId, size } = await put;
    assert.equal(size, 14);
    const chunks: Uint8Array[] = [];
    for await (const chunk of other.get(mediaId, 0, size)) chunks.push(chunk);
    assert.equal(Buffer.concat(chunks).toString(), "half a picture");
    assert.deepEqual(await readdir(arriving), []);
  });

  it("removes what a process that is gone left there an hour ago, by the folder's own clock", async () => {
    await mkdir(arriving, { recursive: true });
    const nowS = Date.now() / 1_000;
    for (const [name, ageS] of [
      ["old", 3_700],
      ["new", 3_500],
      ["later", -7_200],
    ] as const) {
      await writeFile(join(arriving, name), name);
      await utimes(join(arriving, name), nowS - ageS, nowS - ageS);
    }
    await openMediaFolder(folder, seededRandom(1));
    assert.deepEqual((await readdir(arriving)).toSorted(), ["later", "new"]);
  });
});
