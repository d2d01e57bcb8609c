#!/usr/bin/env node
/** Starts the command: from the sources in a checkout, from dist/ in an installed package, which has no sources. */
import { existsSync } from "node:fs";

if (existsSync(new URL("./main.ts", import.meta.url))) {
  const { register } = await import("tsx/esm/api");
  register();
  await import("./main.ts");
} else {
  await import("../dist/cli/main.js");
}
