/** The gateway's settings. Every limit that a client can reach is one of them. */
import type { EnvReader } from "../mesh/env.ts";

export interface GatewayConfig {
  readonly host: string;
  readonly port: number;
  readonly gatewayId: string;
  /** Users whose token names another region are sent to a gateway of that one; "": no region. */
  readonly region: string;
  /** Where clients reach this gateway: what other gateways tell them; "": they do not. */
  readonly publicUrl: string;
  readonly maxFrameBytes: number;
  readonly maxFramesPerBatch: number;
  readonly helloMs: number;
  readonly heartbeatMs: number;
  readonly headSumEvery: number;
  readonly outboxMaxBytes: number;
  readonly ratePerSecond: number;
  readonly bytesPerSecond: number;
  readonly connectionsMax: number;
  readonly connectionsPerUserMax: number;
  readonly strangersPerAddressMax: number;
  readonly inFlightMax: number;
  readonly unackedRetryMs: number;
  readonly unackedTries: number;
  readonly mediaMaxBytes: number;
  readonly origins: readonly string[];
}

/** Reads them with the settings of others: the one who made the reader calls its `done`. */
export function gatewayConfig(read: EnvReader): GatewayConfig {
  return {
    host: read.string("HOST", "127.0.0.1", "the address that the edge listens on"),
    port: read.int("PORT", 8_080, [0, 65_535], "the edge's port; 0: any free one"),
    gatewayId: read.string(
      "GATEWAY_ID",
      "",
      "names this gateway to operators; empty: a new name at each start",
    ),
    region: read.string(
      "REGION",
      "",
      "where this process runs; users whose token names another region are sent to a gateway there",
    ),
    publicUrl: readPublicUrl(read),
    ...readFrameLimits(read),
    ...readConnectionLimits(read),
    mediaMaxBytes: read.int(
      "MEDIA_MAX_BYTES",
      20_971_520,
      [1_024, 104_857_600],
      "the largest upload, in bytes",
    ),
    origins: read.list(
      "ORIGINS",
      [],
      "pages of these origins may call, besides those of the same host; *: of all",
    ),
  };
}

function readPublicUrl(read: EnvReader): string {
  const url = read.string(
    "PUBLIC_URL",
    "",
    "where clients reach this gateway (https://eu.example.org): other gateways send them there",
  );
  if (url === "" || isWebUrl(url)) return url;
  read.wrong(`PARLEY_PUBLIC_URL must be an http or https address, not "${url}"`);
  return "";
}

const isWebUrl = (url: string): boolean =>
  URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);

type FrameLimits = Pick<
  GatewayConfig,
  "maxFrameBytes" | "maxFramesPerBatch" | "outboxMaxBytes" | "ratePerSecond" | "bytesPerSecond"
>;

function readFrameLimits(read: EnvReader): FrameLimits {
  return {
    maxFrameBytes: read.int(
      "MAX_FRAME_BYTES",
      262_144,
      [32_768, 16_777_216],
      "the largest WebSocket message that is taken, in bytes",
    ),
    maxFramesPerBatch: read.int(
      "MAX_FRAMES_PER_BATCH",
      256,
      [1, 65_536],
      "how many frames a WebSocket message may have",
    ),
    outboxMaxBytes: read.int(
      "OUTBOX_MAX_BYTES",
      1_048_576,
      [65_536, 67_108_864],
      "what may wait for a device that reads slowly, in bytes; beyond, it is sent away",
    ),
    ratePerSecond: read.int(
      "RATE_PER_SECOND",
      2_000,
      [1, 1_000_000],
      "frames that a device may send in a second; twice as many at once",
    ),
    bytesPerSecond: read.int(
      "BYTES_PER_SECOND",
      2_097_152,
      [65_536, 1_073_741_824],
      "bytes that a device may send in a second; twice as many at once",
    ),
  };
}

type ConnectionLimits = Pick<
  GatewayConfig,
  | "helloMs"
  | "heartbeatMs"
  | "headSumEvery"
  | "connectionsMax"
  | "connectionsPerUserMax"
  | "strangersPerAddressMax"
  | "inFlightMax"
  | "unackedRetryMs"
  | "unackedTries"
>;

function readConnectionLimits(read: EnvReader): ConnectionLimits {
  return {
    helloMs: read.int(
      "HELLO_MS",
      10_000,
      [100, 600_000],
      "how long a new connection may take to say who it is, in milliseconds",
    ),
    heartbeatMs: read.int(
      "HEARTBEAT_MS",
      30_000,
      [1_000, 600_000],
      "a heartbeat goes out that often, in milliseconds; a device is dead after two without a frame",
    ),
    headSumEvery: read.int(
      "HEAD_SUM_EVERY",
      10,
      [1, 1_000],
      "every so many heartbeats one lets the device see whether it missed something",
    ),
    connectionsMax: read.int(
      "CONNECTIONS_MAX",
      50_000,
      [1, 1_000_000],
      "connections that this gateway takes",
    ),
    connectionsPerUserMax: read.int(
      "CONNECTIONS_PER_USER_MAX",
      50,
      [1, 10_000],
      "connections that one user may have here",
    ),
    strangersPerAddressMax: read.int(
      "STRANGERS_PER_ADDRESS_MAX",
      10_000,
      [1, 1_000_000],
      "WebSockets of one address that have not said who they are",
    ),
    inFlightMax: read.int(
      "IN_FLIGHT_MAX",
      256,
      [1, 65_536],
      "calls of one connection that may be under way before it is no longer read",
    ),
    unackedRetryMs: read.int(
      "UNACKED_RETRY_MS",
      10_000,
      [100, 600_000],
      "a message that was pushed and not acked is pushed again after so long, then after twice as long, in milliseconds",
    ),
    unackedTries: read.int(
      "UNACKED_TRIES",
      3,
      [0, 10],
      "how often that is done before the device is taken for dead",
    ),
  };
}
