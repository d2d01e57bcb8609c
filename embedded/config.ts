/** The settings of the all-in-one process: where it listens, where it keeps its data, how tokens are checked, and every service's own. */
import { type DeliveryConfig, deliveryConfig } from "../delivery/index.ts";
import {
  type EdgeConfig,
  type GatewayConfig,
  type MediaLimits,
  edgeConfig,
  gatewayConfig,
  mediaLimits,
} from "../gateway/index.ts";
import { EnvReader, type Setting, type SettingValues } from "../mesh/env.ts";
import { type LogLevel, logLevels } from "../mesh/log.ts";
import { type PresenceConfig, presenceConfig } from "../presence/index.ts";
import { type SessionConfig, sessionConfig } from "../session/index.ts";
import { type StorageConfig, storageConfig } from "../storage/index.ts";

export interface ParleyConfig {
  readonly meshHost: string;
  readonly meshPort: number;
  readonly dataDirectory: string;
  readonly jwtSecret: string | undefined;
  readonly jwtPublicKeyFile: string | undefined;
  readonly jwksUrl: string | undefined;
  readonly drainMs: number;
  readonly logLevel: LogLevel;
  readonly gateway: GatewayConfig;
  readonly edge: EdgeConfig;
  readonly media: MediaLimits;
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
  const jwtSecret = read.optional(
    "JWT_SECRET",
    "the secret that tokens are signed with (HS256), 32 bytes at least",
  );
  const jwtPublicKeyFile = read.optional(
    "JWT_PUBLIC_KEY_FILE",
    "a PEM file: the key that tokens are checked with",
  );
  const jwksUrl = read.optional(
    "JWKS_URL",
    "an address that answers with the keys that tokens are checked with",
  );
  const given = [jwtSecret, jwtPublicKeyFile, jwksUrl].filter((one) => one !== undefined).length;
  if (given > 1)
    read.wrong(
      "only one of PARLEY_JWT_SECRET, PARLEY_JWT_PUBLIC_KEY_FILE and PARLEY_JWKS_URL can be set",
    );
  if (jwtSecret !== undefined && Buffer.byteLength(jwtSecret) < 32) {
    read.wrong("PARLEY_JWT_SECRET must have 32 bytes at least: make one by `openssl rand -hex 32`");
  }
  if (jwksUrl !== undefined && !URL.canParse(jwksUrl))
    read.wrong(`PARLEY_JWKS_URL must be an address, not "${jwksUrl}"`);
  if (given === 0 && !loopback.test(gateway.host)) {
    read.wrong(
      `PARLEY_HOST is ${gateway.host}, but nothing says how tokens are checked: set PARLEY_JWT_SECRET, PARLEY_JWT_PUBLIC_KEY_FILE or PARLEY_JWKS_URL`,
    );
  }
  return read.done({
    gateway,
    edge: readEdge(read, gateway),
    media: readMedia(read, gateway),
    meshHost,
    meshPort,
    dataDirectory,
    jwtSecret,
    jwtPublicKeyFile,
    jwksUrl,
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

/** The limits of calls over Connect. */
function readEdge(read: EnvReader, { origins }: GatewayConfig): EdgeConfig {
  const { chat, ...standard } = edgeConfig;
  const callsPerSecond = read.int(
    "CALLS_PER_SECOND",
    chat.callsPerSecond,
    [1, 1_000_000],
    "Connect calls that one user may make in a second; four times as many at once",
  );
  const remoteCallsPerSecond = read.int(
    "ADDRESS_CALLS_PER_SECOND",
    chat.remoteCallsPerSecond,
    [1, 10_000_000],
    "Connect calls that may come from one address in a second; four times as many at once",
  );
  return {
    ...standard,
    origins,
    trustForwardedFor: read.flag(
      "TRUST_FORWARDED_FOR",
      standard.trustForwardedFor,
      "the client's address is what the nearest proxy says (X-Forwarded-For)",
    ),
    chat: {
      ...chat,
      callsPerSecond,
      callsBurst: 4 * callsPerSecond,
      remoteCallsPerSecond,
      remoteCallsBurst: 4 * remoteCallsPerSecond,
      waitsPerUserMax: read.int(
        "WAITS_PER_USER_MAX",
        chat.waitsPerUserMax,
        [1, 10_000],
        "long polls and streams that one user may have at once",
      ),
    },
  };
}

/** The limits of uploads. */
function readMedia(read: EnvReader, { mediaMaxBytes }: GatewayConfig): MediaLimits {
  return {
    ...mediaLimits,
    mediaMaxBytes,
    uploadsMax: read.int(
      "UPLOADS_MAX",
      mediaLimits.uploadsMax,
      [1, 10_000],
      "uploads at once; each may hold PARLEY_MEDIA_MAX_BYTES of memory",
    ),
    uploadsPerUserMax: read.int(
      "UPLOADS_PER_USER_MAX",
      mediaLimits.uploadsPerUserMax,
      [1, 10_000],
      "uploads of one user at once",
    ),
  };
}
