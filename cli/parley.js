#!/usr/bin/env -S node --max-semi-space-size=32
/**
 * Starts the command: from the sources in a checkout, from dist/ in an installed package, which has no sources. Messages under way outlive V8's standard
 * young generation (16 MiB) where they wait for a store; with room for them a cluster's processes take about a quarter less CPU (docs/capacity.md).
 */
import { existsSync } from "node:fs";

if (existsSync(new URL("./main.ts", import.meta.url))) {
  const { register } = await import("tsx/esm/api");
  register();
  await import("./main.ts");
} else {
  await import("../dist/cli/main.js");
}
