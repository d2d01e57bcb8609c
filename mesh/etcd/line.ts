/** Keeps one long-lived stream to etcd up, at whichever member answers. It says little while none does. */
import { ConnectError } from "@connectrpc/connect";
import type { Transport } from "@connectrpc/connect";
import type { Logger } from "pino";
import { sleep } from "../clock.ts";
import type { Clock } from "../clock.ts";
import type { GrpcTransport } from "../grpc/transport.ts";
import type { Random } from "../random.ts";
import type { Members } from "./members.ts";

const leastBackoffMs = 50;
/** A run that lived that long was a good one: the next failure begins with the least backoff again. */
const healthyMs = 5_000;
/** Lines of the log about one trouble are that far apart. */
const logMs = 30_000;

/** One run of a stream, at one member. */
export interface Attempt {
  readonly transport: Transport;
  /** The run ends soon after it fires. */
  readonly signal: AbortSignal;
  /** Ends the run. */
  fail(error: ConnectError): void;
  /** It does what it is for. */
  well(): void;
}

export interface Line {
  /** Why it is not well just now. */
  readonly problem: string | undefined;
  close(): Promise<void>;
}

export interface LineSettings {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly members: Members;
  readonly mostBackoffMs: number;
}

/** Calls `run` again and again, until it returns or the line is closed. */
export function keepLine(
  settings: LineSettings,
  name: string,
  run: (attempt: Attempt) => Promise<void>,
): Line {
  const { clock, random, log, members, mostBackoffMs } = settings;
  const closing = new AbortController();
  let problem: string | undefined;
  let told = false;
  let toldMs = -logMs;

  function well(): void {
    problem = undefined;
    if (told) log.info({ line: name }, "etcd answers again");
    told = false;
  }

  function ill(endpoint: string, reason: string): void {
    problem = `${name}: ${reason}`;
    const nowMs = clock.monotonic();
    if (nowMs - toldMs < logMs) return;
    toldMs = nowMs;
    told = true;
    log.warn({ line: name, endpoint, reason }, "etcd does not answer, trying again");
  }

  /** Undefined: the run is done. */
  async function once(member: number): Promise<{ reason: string } | undefined> {
    const ending = new AbortController();
    const end = (): void => ending.abort(closing.signal.reason);
    closing.signal.addEventListener("abort", end);
    const { signal } = ending;
    let transport: GrpcTransport | undefined;
    try {
      transport = members.connect(member);
      await run({ transport, signal, well, fail: (error) => ending.abort(error) });
      return undefined;
    } catch (error) {
      return { reason: ConnectError.from(error).rawMessage };
    } finally {
      closing.signal.removeEventListener("abort", end);
      transport?.close();
    }
  }

  async function keep(): Promise<void> {
    let backoffMs = leastBackoffMs;
    for (let member = members.any(); !closing.signal.aborted; member += 1) {
      const beganMs = clock.monotonic();
      const failed = await once(member);
      if (failed === undefined || closing.signal.aborted) return;
      ill(members.endpoint(member), failed.reason);
      if (clock.monotonic() - beganMs >= healthyMs) backoffMs = leastBackoffMs;
      const waitMs = backoffMs * (0.5 + random.unit() / 2);
      backoffMs = Math.min(backoffMs * 2, mostBackoffMs);
      await sleep(clock, waitMs, closing.signal).catch(() => undefined);
    }
  }

  const kept = keep();
  return {
    get problem() {
      return problem;
    },
    close() {
      closing.abort();
      return kept;
    },
  };
}
