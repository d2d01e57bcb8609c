/** The directory of a cluster: etcd. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { KV } from "../../proto/gen/etcd/rpc_pb.ts";
import type { ClientTlsFiles } from "../client-tls.ts";
import type { Directory, Instance, InstanceList, Membership, ServiceName } from "../directory.ts";
import { unavailable } from "../errors.ts";
import type { Surroundings } from "../lifecycle.ts";
import { bytes, Keys } from "./keys.ts";
import { keepLine } from "./line.ts";
import type { Attempt, Line } from "./line.ts";
import type { EtcdCredentials } from "./login.ts";
import { Members, type OpenChannel } from "./members.ts";
import { announce } from "./membership.ts";
import type { EtcdMembership, MembershipSettings } from "./membership.ts";
import { EtcdShards } from "./shards.ts";
import { keyValues, putNew } from "./transaction.ts";
import { View } from "./view.ts";
import { hearChanges } from "./watch.ts";

export interface EtcdConfig {
  /** "host:port", or "http://host:port", or "https://host:port", of one member or more. */
  readonly endpoints: readonly string[];
  /** All keys are below it, so that several clusters may share one etcd. */
  readonly prefix: string;
  /** How many there are; whoever comes first says it for good. */
  readonly shards: number;
  /** How long an instance is taken for live after it was last heard. etcd has a least of its own, about 2. */
  readonly leaseSeconds: number;
  /** Undefined: TLS is spoken to "https://" alone, and no certificate shown. */
  readonly tls?: ClientTlsFiles | undefined;
  /** Undefined: etcd asks nobody who they are. */
  readonly credentials?: EtcdCredentials | undefined;
}

export interface EtcdOpening {
  /** Ends the wait for etcd, by its reason. */
  readonly signal?: AbortSignal;
  /** Ways to its members, if not gRPC's. */
  readonly channel?: OpenChannel;
}

/**
 * Resolves when etcd has answered and all that is there is known; until then it waits, for ever. Rejects with FAILED_PRECONDITION where the
 * prefix has another number of shards.
 */
export async function openEtcdDirectory(
  config: EtcdConfig,
  surroundings: Pick<Surroundings, "clock" | "random" | "log">,
  { signal, channel }: EtcdOpening = {},
): Promise<Directory> {
  signal?.throwIfAborted();
  const directory = new EtcdDirectory(config, surroundings, channel);
  const giveUp = (): void => directory.fail(signal?.reason);
  signal?.addEventListener("abort", giveUp);
  try {
    await directory.opened;
    return directory;
  } catch (error) {
    await directory.close();
    throw error;
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
}

const callMs = 5_000;
const mostBackoffMs = 2_000;

class EtcdDirectory implements Directory {
  readonly shards: EtcdShards;
  readonly opened: Promise<void>;
  readonly #settings: MembershipSettings;
  readonly #watch: Line;
  readonly #memberships = new Set<EtcdMembership>();
  #known = (): void => undefined;
  #failed = (_error: unknown): void => undefined;
  #settled = false;
  #closed = false;

  constructor(
    { endpoints, prefix, shards, leaseSeconds, tls, credentials }: EtcdConfig,
    { clock, random, log }: Pick<Surroundings, "clock" | "random" | "log">,
    channel: OpenChannel | undefined,
  ) {
    const keys = new Keys(prefix);
    const members = new Members(endpoints, { clock, random, log }, { tls, credentials, channel });
    this.shards = new EtcdShards(shards, members, keys, (revision) =>
      view.reached(revision, clock, callMs),
    );
    const view = new View(keys, this.shards, log);
    this.#settings = { clock, random, log, members, keys, view, leaseSeconds };
    this.opened = new Promise((resolve, reject) => {
      this.#known = resolve;
      this.#failed = reject;
    });
    view.watch(() => this.#known());
    this.#watch = keepLine({ ...this.#settings, mostBackoffMs }, "the watch", (attempt) =>
      this.#hear(attempt),
    );
  }

  async join(instance: Instance, lost: () => void): Promise<Membership> {
    const over = (ended: EtcdMembership): void => void this.#memberships.delete(ended);
    const membership = await announce(this.#settings, instance, { lost, over });
    if (this.#closed) {
      await membership.close();
      throw unavailable("the directory is closed");
    }
    this.#memberships.add(membership);
    membership.begin();
    return membership;
  }

  instances(service: ServiceName): InstanceList {
    return this.#settings.view.tables.of(service);
  }

  problems(): string[] {
    const problems = [this.#watch.problem, ...[...this.#memberships].map(({ problem }) => problem)];
    return problems.filter((problem) => problem !== undefined);
  }

  /** It is not waited for any longer, for that reason. */
  fail(reason: unknown): void {
    this.#failed(reason);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const ended = [...this.#memberships].map((membership) => membership.close());
    this.#settings.members.close();
    await Promise.all([this.#watch.close(), ...ended]);
  }

  async #hear(attempt: Attempt): Promise<void> {
    const { keys, view, clock } = this.#settings;
    if (!this.#settled) {
      const there = await this.#settle(attempt);
      if (there !== String(this.shards.count)) {
        const message = `etcd has ${there} shards for good, but the configuration says ${this.shards.count}`;
        this.fail(new ConnectError(message, Code.FailedPrecondition));
        return;
      }
      this.#settled = true;
    }
    await hearChanges(attempt, keys, view, clock);
  }

  /** How many shards there are, said now where nobody said it before. */
  async #settle({ transport, signal }: Attempt): Promise<string> {
    const said = String(this.shards.count);
    const request = putNew([{ key: this.#settings.keys.shardCount, value: bytes(said) }]);
    const answer = await createClient(KV, transport).txn(request, { signal, timeoutMs: callMs });
    const [there] = keyValues(answer);
    return there === undefined ? said : Buffer.from(there.value).toString();
  }
}
