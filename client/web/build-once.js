/** Before the first start of a fresh checkout: builds the web page where it is missing. An installed package brings it along. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

const here = (path) => new URL(path, import.meta.url);

if (!existsSync(here("../../dist/web/index.html")) && existsSync(here("index.html"))) {
  process.stdout.write("Building the web page (client/web) for the first start ...\n");
  const { status } = spawnSync(
    "npm",
    ["run", "--silent", "build:page", "--", "--logLevel", "error"],
    {
      cwd: here("../../"),
      stdio: ["ignore", "ignore", "inherit"],
      shell: process.platform === "win32",
    },
  );
  if (status !== 0)
    process.stdout.write("It could not be built; the server starts without a page.\n");
}
