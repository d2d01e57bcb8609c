/** The settings of the edge: what calls over Connect and uploads may cost. */
import type { EnvReader } from "../mesh/env.ts";
import type { GatewayConfig } from "./config.ts";
import { edgeConfig } from "./http.ts";
import type { EdgeConfig } from "./http.ts";
import { mediaLimits } from "./media.ts";
import type { MediaLimits } from "./media.ts";

/** The limits of calls over Connect. */
export function readEdge(read: EnvReader, { origins }: GatewayConfig): EdgeConfig {
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
export function readMedia(read: EnvReader, { mediaMaxBytes }: GatewayConfig): MediaLimits {
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
