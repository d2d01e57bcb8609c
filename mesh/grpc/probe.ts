/** Asks one process whether this one and it let one another in, and tells a refusal from nobody being there. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { ChannelCredentials } from "@grpc/grpc-js";
import { connect } from "node:net";
import { Health } from "../../proto/gen/grpc/health/v1/health_pb.ts";
import type { Clock } from "../clock.ts";
import { handshakeMs } from "./limits.ts";
import { placeOf } from "./resolver.ts";
import { createGrpcTransport } from "./transport.ts";

export interface ProbeOptions {
  readonly clock: Clock;
  /** How this process connects to others. */
  readonly credentials?: ChannelCredentials;
}

export type Verdict =
  | { readonly t: "let in" }
  | { readonly t: "absent" }
  /** It takes connections, and has said nothing so far. */
  | { readonly t: "silent" }
  | { readonly t: "refused"; readonly reason: string };

const connectMs = 1_500;
/** Shorter than a handshake may take, whose end would be a refusal. */
const answerMs = handshakeMs - 1_000;

/** Whoever takes a connection and ends it, or the call on it, without an answer to the call refuses. */
export async function probe(
  address: string,
  { clock, credentials }: ProbeOptions,
  signal: AbortSignal,
): Promise<Verdict> {
  if (!(await listens(address, clock, signal))) return { t: "absent" };
  const transport = createGrpcTransport({
    address,
    clock,
    ...(credentials === undefined ? {} : { credentials }),
  });
  try {
    await createClient(Health, transport).check({}, { timeoutMs: answerMs, signal });
    return { t: "let in" };
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    if (code === Code.DeadlineExceeded || signal.aborted) return { t: "silent" };
    if (!unanswered.has(code)) return { t: "let in" };
    return { t: "refused", reason: reasonOf(rawMessage, credentials !== undefined) };
  } finally {
    transport.close();
  }
}

/** What a call ends with that never came to the other side's handlers. */
const unanswered = new Set([Code.Unavailable, Code.Internal, Code.Unknown, Code.Canceled]);

/** The library's words without those that say nothing here. */
function reasonOf(message: string, isSecure: boolean): string {
  if (!isSecure) return "it takes no calls without TLS";
  return message
    .replace(/^.*Last error: (?:Error: )?/s, "")
    .replace(/\.? Resolution note:.*$/s, "");
}

function listens(address: string, clock: Clock, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(placeOf(address));
    const end = (taken: boolean): void => {
      cancel();
      signal.removeEventListener("abort", give);
      socket.destroy();
      resolve(taken);
    };
    const give = (): void => end(false);
    const cancel = clock.after(connectMs, give);
    socket.once("connect", () => end(true));
    socket.on("error", give);
    signal.addEventListener("abort", give, { once: true });
    if (signal.aborted) give();
  });
}
