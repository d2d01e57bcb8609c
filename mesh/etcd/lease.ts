/** A lease that is kept alive, and how sure its holder may be that it lives. */
import { createClient } from "@connectrpc/connect";
import { Lease as LeaseService } from "../../proto/gen/etcd/rpc_pb.ts";
import type { LeaseKeepAliveRequest } from "../../proto/gen/etcd/rpc_pb.ts";
import { unavailable } from "../errors.ts";
import { Pipe } from "../pipe.ts";
import { keepLine } from "./line.ts";
import type { Attempt, Line, LineSettings } from "./line.ts";
import { hasLeader } from "./members.ts";

export interface Grant {
  readonly id: bigint;
  readonly ttlMs: number;
  /** When it was asked for, by the monotonic clock. */
  readonly askedMs: number;
}

export class Lease {
  readonly id: bigint;
  readonly #settings: Omit<LineSettings, "mostBackoffMs">;
  readonly #line: Line;
  readonly #gone: () => void;
  /** A third of the time to live: between two renewals, and for the answer to one. So a second member is asked in time. */
  readonly #thirdMs: number;
  #heldUntilMs: number;
  #renewedMs: number;

  /** `gone` is called when etcd says that there is no such lease. */
  constructor(settings: Omit<LineSettings, "mostBackoffMs">, grant: Grant, gone: () => void) {
    this.id = grant.id;
    this.#settings = settings;
    this.#gone = gone;
    this.#thirdMs = grant.ttlMs / 3;
    this.#renewedMs = grant.askedMs;
    this.#heldUntilMs = grant.askedMs + grant.ttlMs;
    const mostBackoffMs = grant.ttlMs / 6;
    this.#line = keepLine({ ...settings, mostBackoffMs }, "the lease", (attempt) =>
      this.#renew(attempt),
    );
  }

  get held(): boolean {
    return this.#settings.clock.monotonic() < this.#heldUntilMs;
  }

  /** When the last confirmed renewal was asked for. */
  get renewedMs(): number {
    return this.#renewedMs;
  }

  get problem(): string | undefined {
    return this.#line.problem;
  }

  /** It is renewed no longer. */
  close(): Promise<void> {
    this.#heldUntilMs = 0;
    return this.#line.close();
  }

  /** Returns when the lease is over. One renewal at a time, so that each answer is to the last question. */
  async #renew({ transport, signal, fail, well }: Attempt): Promise<void> {
    const { clock } = this.#settings;
    const requests = new Pipe<LeaseKeepAliveRequest>(1);
    const late = (): void => fail(unavailable("a renewal was not answered"));
    let askedMs = 0;
    let cancel = (): void => undefined;
    const ask = (): void => {
      askedMs = clock.monotonic();
      requests.offer({ $typeName: "etcdserverpb.LeaseKeepAliveRequest", ID: this.id });
      cancel = clock.after(this.#thirdMs, late);
    };
    ask();
    try {
      const client = createClient(LeaseService, transport);
      const answers = client.leaseKeepAlive(requests, { signal, headers: hasLeader });
      for await (const { TTL } of answers) {
        cancel();
        if (TTL <= 0n) {
          this.#heldUntilMs = 0;
          this.#gone();
          return;
        }
        this.#renewedMs = askedMs;
        this.#heldUntilMs = Math.max(this.#heldUntilMs, askedMs + Number(TTL) * 1_000);
        well();
        cancel = clock.after(this.#thirdMs, ask);
      }
    } finally {
      cancel();
      requests.end();
    }
    throw unavailable("etcd ended the stream of renewals");
  }
}
