/** The README's program does what it seems to do. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { modes, newFolder, tokenFor } from "../support/parley.ts";
import { Shell } from "../support/shell.ts";
import { root, textOf } from "../support/tree.ts";

for (const [mode, start] of modes.entries()) {
  it(`the README's program sends its message (${mode})`, async () => {
    const parley = await start();
    const folder = await newFolder();
    const shell = new Shell(root, {
      PATH: process.env["PATH"] ?? "",
      ALICE: await tokenFor("alice"),
    });
    try {
      const [, program = ""] = /```ts\n([^]*?)```/.exec(textOf("README.md")) ?? [];
      const here = program
        .replace("parley/client/node", join(root, "client/node.ts"))
        .replace("http://127.0.0.1:8080", parley.url);
      assert.notEqual(here, program);
      const path = join(folder.path, "program.mts");
      await writeFile(path, here);
      const { code, output } = await shell.run(`node --import tsx ${path}`);
      assert.equal(code, 0, output);
      assert.match(output, /^sent: #1$/m);
    } finally {
      shell.close();
      await folder.remove();
      await parley.close();
    }
  });
}
