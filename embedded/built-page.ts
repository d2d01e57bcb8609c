/** Where this package has its built web page. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** "" where it is not built. It is in dist/, beside what is compiled from this source. */
export function builtPage(): string {
  const found = ["../dist/web/", "../web/"]
    .map((below) => fileURLToPath(new URL(below, import.meta.url)))
    .find((directory) => existsSync(`${directory}index.html`));
  return found ?? "";
}
