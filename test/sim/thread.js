/** Begins thread.ts: tsx, which lets it be TypeScript, begins by itself in a process's first thread alone. */
import { register } from "tsx/esm/api";

register();
await import("./thread.ts");
