/** A cluster under load behind a balancer: what every spec of harm does before, meanwhile and after. What the harm is it must not know. */
import assert from "node:assert/strict";
import { check, reportOf } from "../support/checker.ts";
import { Load } from "../support/load.ts";
import type { LoadOptions } from "../support/load.ts";
import { Proxy } from "../support/proxy.ts";
import type { Cluster } from "./cluster.ts";

/** Within so long a send that was begun after the harm is acked, in every conversation. */
export const backMs = 10_000;

const waitMs = 120_000;
/** How long all writes before the harm, and after it. */
const calmSeconds = 2;
const perSecondIfNotSaid = 500;

export interface StormOptions extends Partial<LoadOptions> {
  /** Whether nobody who is connected may ever be told to be offline (P7); not where a part of the service is cut off for longer than that is bridged. */
  readonly presence?: boolean;
}

/** Clients come through it to any gateway that takes them. */
export function balancerOf(cluster: Cluster): Promise<Proxy> {
  return Proxy.open(
    cluster.urls.map((url) => {
      const { hostname: host, port } = new URL(url);
      return { host, port: Number(port) };
    }),
  );
}

export class Storm {
  readonly load: Load;
  readonly #presence: boolean;
  readonly #calm: number;
  readonly #said: string[] = [];

  private constructor(load: Load, presence: boolean, perSecond: number) {
    this.load = load;
    this.#presence = presence;
    this.#calm = calmSeconds * perSecond;
  }

  /** Begins, and resolves when it is well under way. */
  static async over(
    urls: readonly string[],
    name: string,
    { presence = true, perSecond = perSecondIfNotSaid, ...options }: StormOptions = {},
  ): Promise<Storm> {
    const load = await Load.begin({ boundMs: waitMs, urls, name, perSecond, ...options });
    const storm = new Storm(load, presence, perSecond);
    try {
      if (presence) await load.watch();
      load.start();
      await storm.more(storm.#calm);
    } catch (error) {
      await load.close();
      throw error;
    }
    return storm;
  }

  more(count: number): Promise<true> {
    return this.load.more(count, waitMs);
  }

  /** The service is there within its bound: one send into each conversation, begun now. */
  async isBack(after: string, boundMs = backMs): Promise<void> {
    const ms = await this.load.probe(boundMs).catch((cause: unknown) => {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`after ${after}: ${reason}`, { cause });
    });
    this.#said.push(`all acked again ${Math.round(ms)} ms after ${after}`);
  }

  /** For the line that is said at the end. */
  note(what: string): void {
    this.#said.push(what);
  }

  /** Writes on for a while, stops, and checks everything. */
  async end(): Promise<void> {
    try {
      await this.more(this.#calm);
      const { sent, acked, failed, slowestMs, gapMs, perSecond } = await this.load.stop();
      const counts = `${acked} of ${sent} acked (${perSecond} a second), ${failed} failed`;
      const times = `slowest ${slowestMs} ms, longest time without an ack ${gapMs} ms`;
      console.log(`      ${[counts, times, ...this.#said].join("; ")}`);
      const findings = check(await this.load.observed());
      assert.equal(findings.length, 0, reportOf(findings));
      const failures = this.load.sendings.filter(({ error }) => error !== undefined);
      assert.equal(failed, 0, `a send failed: ${failures[0]?.error?.message ?? ""}`);
      if (this.#presence)
        assert.deepEqual(this.load.falselyOffline, [], "P7: told to be offline while connected");
    } finally {
      await this.load.close();
    }
  }
}
