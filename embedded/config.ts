/** The settings of the all-in-one process: where it listens, where it keeps its data, how tokens are checked, and every service's own. */
import { type DeliveryConfig, deliveryConfig } from "../delivery/index.ts";
import {
  type EdgeConfig,
  type GatewayConfig,
  type MediaLimits,
  type PageConfig,
  type TokenConfig,
  gatewayConfig,
  pageConfig,
  readEdge,
  readMedia,
  tokenConfig,
} from "../gateway/index.ts";
import { EnvReader, type Setting, type SettingValues } from "../mesh/env.ts";
import { type MetricsPlace, metricsPlace } from "../mesh/metrics-config.ts";
import { type LogLevel, logLevels } from "../mesh/log.ts";
import { type TraceConfig, traceConfig } from "../mesh/trace-config.ts";
import { type PresenceConfig, presenceConfig } from "../presence/index.ts";
import { type SessionConfig, sessionConfig } from "../session/index.ts";
import { type StorageConfig, storageConfig } from "../storage/index.ts";

export interface ParleyConfig extends TokenConfig {
  readonly meshHost: string;
  readonly meshPort: number;
  readonly dataDirectory: string;
  readonly drainMs: number;
  readonly metrics: MetricsPlace | undefined;
  readonly trace: TraceConfig | undefined;
  readonly logLevel: LogLevel;
  readonly gateway: GatewayConfig;
  readonly edge: EdgeConfig;
  readonly media: MediaLimits;
  readonly page: PageConfig;
  readonly session: SessionConfig;
  readonly presence: PresenceConfig;
  readonly delivery: DeliveryConfig;
  readonly storage: StorageConfig;
}

export const settingsPrefix = "PARLEY_";

const loopback = /^(127\.|localhost$|::1$)/;

/** Reads all settings; throws one error that names everything that is wrong with them. */
export function parleyConfig(values: SettingValues): Readonly<ParleyConfig> {
  return readConfig(new EnvReader(values, settingsPrefix));
}

/** Every setting there is, for documents and flags. */
export function parleySettings(): readonly Setting[] {
  const read = new EnvReader({}, settingsPrefix);
  readConfig(read);
  return read.settings;
}

function readConfig(read: EnvReader): Readonly<ParleyConfig> {
  const gateway = gatewayConfig(read);
  const meshHost = read.string(
    "MESH_HOST",
    "127.0.0.1",
    "where gRPC listens; it asks for no token: keep it private",
  );
  const meshPort = read.int("MESH_PORT", 9_090, [0, 65_535], "the port of gRPC, for operators");
  const dataDirectory = read.string("DATA", "./data", "the directory that keeps everything");
  const missing = loopback.test(gateway.host)
    ? undefined
    : `PARLEY_HOST is ${gateway.host}, but nothing says how tokens are checked`;
  const { jwtSecret, jwtPublicKeyFile, jwksUrl } = tokenConfig(read, missing);
  return read.done({
    gateway,
    edge: readEdge(read, gateway),
    media: readMedia(read, gateway),
    page: pageConfig(read),
    meshHost,
    meshPort,
    dataDirectory,
    jwtSecret,
    jwtPublicKeyFile,
    jwksUrl,
    metrics: metricsPlace(read),
    trace: traceConfig(read),
    drainMs: read.int(
      "DRAIN_MS",
      2_000,
      [0, 600_000],
      "over how long clients are sent away when the process stops",
    ),
    logLevel: read.oneOf("LOG_LEVEL", "info", logLevels, "the least level that is logged"),
    session: sessionConfig(read),
    presence: presenceConfig(read),
    delivery: deliveryConfig(read),
    storage: storageConfig(read),
  });
}
