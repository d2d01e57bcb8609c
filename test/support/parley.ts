/** A whole Parley for tests, in each of the ways in which it can run. A suite that runs once for each mode never asks which one it is. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { parleyConfig, signDevelopmentToken, startParley } from "../../embedded/index.ts";
import { systemClock } from "../../mesh/clock.ts";

export const secret = "a secret for tests, of 32 bytes at least";

export type Settings = Readonly<Record<string, string>>;

export interface RunningParley {
  /** Where clients connect: the first of the gateways. */
  readonly url: string;
  /** Of all gateways. */
  readonly urls: readonly string[];
  /** Where the processes of a service ("parley.gateway.v1.GatewayService") listen for gRPC: "http://127.0.0.1:9090". */
  meshUrls(service: string): readonly string[];
  /** Stops it and starts it again with the same data; ports may differ. */
  restart(): Promise<RunningParley>;
  /** Stops it and removes its data. */
  close(): Promise<void>;
}

export type Start = (settings?: Settings) => Promise<RunningParley>;

/** `region`: the one that the user belongs to; "": any. */
export const tokenFor = (userId: string, ttlSeconds = 3_600, region = ""): Promise<string> =>
  signDevelopmentToken(secret, userId, ttlSeconds, systemClock, region);

/** A folder that is not there afterwards. */
export async function newFolder(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "parley-test-"));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** What tests want of every process: any free ports, a known secret, no waiting at the end. */
export const testSettings = (data: string, settings: Settings = {}): Record<string, string> => ({
  PARLEY_PORT: "0",
  PARLEY_MESH_PORT: "0",
  PARLEY_DATA: data,
  PARLEY_JWT_SECRET: secret,
  PARLEY_DRAIN_MS: "0",
  PARLEY_LOG_LEVEL: "error",
  ...settings,
});

/** All five services in this process, over the local mesh and the embedded store. */
const startInProcess: Start = async (settings = {}) => {
  const folder = await newFolder();
  const log = pino({ level: process.env["LOG"] ?? "silent" });
  const begin = async (): Promise<RunningParley> => {
    const parley = await startParley(parleyConfig(testSettings(folder.path, settings)), { log });
    const url = `http://127.0.0.1:${parley.port}`;
    return {
      url,
      urls: [url],
      meshUrls: () => [`http://127.0.0.1:${parley.meshPort}`],
      restart: async () => {
        await parley.close();
        return begin();
      },
      close: async () => {
        await parley.close();
        await folder.remove();
      },
    };
  };
  return begin();
};

const ways = new Map<string, Start>([["one process", startInProcess]]);

/** Every suite of the whole service runs in each of them. */
export const modes: { entries(): Iterable<[mode: string, start: Start]> } = ways;

/** Said before the suites are read: they run in this way instead. */
export function runIn(mode: string, start: Start): void {
  ways.clear();
  ways.set(mode, start);
}
