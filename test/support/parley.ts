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
  /** Where clients connect. */
  readonly url: string;
  /** Where gRPC listens: "http://127.0.0.1:9090". */
  readonly meshUrl: string;
  /** Stops it and starts it again with the same data; ports may differ. */
  restart(): Promise<RunningParley>;
  /** Stops it and removes its data. */
  close(): Promise<void>;
}

export type Start = (settings?: Settings) => Promise<RunningParley>;

export const tokenFor = (userId: string, ttlSeconds = 3_600): Promise<string> =>
  signDevelopmentToken(secret, userId, ttlSeconds, systemClock);

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
    return {
      url: `http://127.0.0.1:${parley.port}`,
      meshUrl: `http://127.0.0.1:${parley.meshPort}`,
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

/** Every suite of the whole service runs in each of them. */
export const modes: Readonly<Record<string, Start>> = { "one process": startInProcess };
