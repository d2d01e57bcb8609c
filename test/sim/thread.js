/** Begins a thread's TypeScript file: by itself tsx begins in a process's first thread alone. */
import { workerData } from "node:worker_threads";
import { register } from "tsx/esm/api";

register();
await import(workerData);
