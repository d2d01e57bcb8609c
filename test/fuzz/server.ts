/** The process that is fuzzed: all of Parley in one, which tells the run of every fault inside and of its memory. */
import { Writable } from "node:stream";
import { pino } from "pino";
import { parleyConfig, startParley } from "../../embedded/index.ts";
import { newFolder, testSettings } from "../support/parley.ts";

/** From the process to the run. */
export type Told =
  | { readonly t: "ready"; readonly url: string }
  | { readonly t: "fault"; readonly what: string }
  | { readonly t: "memory"; readonly bytes: number };

/** From the run to the process. */
export type Asked = "memory" | "end";

const tell = (told: Told): void => void process.send?.(told);

for (const event of ["uncaughtException", "unhandledRejection"] as const)
  process.on(event, (error: unknown) => {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    tell({ t: "fault", what: `${event}: ${what}` });
  });

/** What is logged as an error is a fault of ours: clients' faults are not. */
const errors = new Writable({
  write(line: Buffer, _, done) {
    tell({ t: "fault", what: `logged: ${line.toString().slice(0, 2_000)}` });
    done();
  },
});

const folder = await newFolder();
const settings = testSettings(folder.path, {
  PARLEY_CALLS_PER_SECOND: "1000000",
  PARLEY_ADDRESS_CALLS_PER_SECOND: "1000000",
  PARLEY_RATE_PER_SECOND: "1000000",
  PARLEY_BYTES_PER_SECOND: "1073741824",
});
const parley = await startParley(parleyConfig(settings), { log: pino({ level: "error" }, errors) });

function collected(): number {
  const { gc } = globalThis;
  if (gc === undefined) throw new Error("start it with --expose-gc");
  gc();
  gc();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function end(): Promise<void> {
  await parley.close();
  await folder.remove();
  process.disconnect();
}

process.on("message", (asked: Asked) => {
  // What the last inputs left is cleared by the turns that follow.
  if (asked === "memory") setImmediate(() => tell({ t: "memory", bytes: collected() }));
  else void end();
});
process.on("disconnect", () => process.exit());
tell({ t: "ready", url: `http://127.0.0.1:${parley.port}` });
