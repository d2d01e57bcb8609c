/** One instance in etcd: announced by one transaction under one lease, changed only where it is as it was left. */
import { Code, ConnectError } from "@connectrpc/connect";
import { leaseOver, nameTaken } from "../directory.ts";
import type { Instance, InstanceChange, Membership } from "../directory.ts";
import { unavailable } from "../errors.ts";
import { bytes, instanceToValue } from "./keys.ts";
import type { Keys } from "./keys.ts";
import { Lease } from "./lease.ts";
import type { Grant } from "./lease.ts";
import type { LineSettings } from "./line.ts";
import type { Members } from "./members.ts";
import { keyValues, putInPlaceOf, putNew } from "./transaction.ts";
import type { Put } from "./transaction.ts";
import type { View } from "./view.ts";

export interface MembershipSettings extends Omit<LineSettings, "mostBackoffMs"> {
  readonly keys: Keys;
  readonly view: View;
  readonly leaseSeconds: number;
}

/** What the others hear of its end. */
export interface Ending {
  /** The lease is known to be over, without `leave`. */
  readonly lost: () => void;
  /** Nothing is kept alive any longer, for whatever reason. */
  readonly over: (membership: EtcdMembership) => void;
}

export class EtcdMembership implements Membership {
  readonly #settings: MembershipSettings;
  readonly #ending: Ending;
  readonly #lease: Lease;
  #unwatch = (): void => undefined;
  #instance: Instance;
  /** The last change of its key that is known. */
  #revision: bigint;
  #over = false;
  #updates: Promise<void> = Promise.resolve();

  constructor(
    settings: MembershipSettings,
    { instance, grant, revision }: { instance: Instance; grant: Grant; revision: bigint },
    ending: Ending,
  ) {
    this.#settings = settings;
    this.#instance = instance;
    this.#revision = revision;
    this.#ending = ending;
    this.#lease = new Lease(settings, grant, () => this.#lost());
  }

  /** From now on it minds whether it is still announced: somebody may take the key away while the lease lives. */
  begin(): void {
    const { view } = this.#settings;
    const look = (): void => {
      if (view.revision >= this.#revision && !view.has(this.#instance)) this.#lost();
    };
    this.#unwatch = view.watch(look);
    look();
  }

  get held(): boolean {
    return this.#lease.held;
  }

  get renewedMs(): number {
    return this.#lease.renewedMs;
  }

  get problem(): string | undefined {
    return this.#lease.problem;
  }

  update(change: InstanceChange): Promise<void> {
    const done = this.#updates.then(() => this.#update(change));
    this.#updates = done.catch(() => undefined);
    return done;
  }

  async leave(): Promise<void> {
    await this.close();
    await revoke(this.#settings.members, this.#lease.id);
  }

  /** The lease is left to end by itself. */
  close(): Promise<void> {
    this.#over = true;
    this.#unwatch();
    this.#ending.over(this);
    return this.#lease.close();
  }

  #lost(): void {
    if (this.#over) return;
    void this.close();
    // Where only the key was taken away, the name would stay taken.
    revoke(this.#settings.members, this.#lease.id).catch((error: unknown) => {
      const reason = ConnectError.from(error).rawMessage;
      this.#settings.log.warn({ reason }, "a lost lease could not be revoked, it ends by itself");
    });
    this.#ending.lost();
  }

  async #update(change: InstanceChange): Promise<void> {
    const { members, keys } = this.#settings;
    const instance = { ...this.#instance, ...change };
    this.#instance = instance;
    const lease = this.#lease.id;
    const put = { key: keys.instance(instance), value: instanceToValue(instance), lease };
    // A try whose outcome is not known may come true later, but never after one that followed it: the revision has changed then.
    for (let before = 0; before < 3; before += 1) {
      if (this.#over) throw leaseOver();
      const request = putInPlaceOf(this.#revision, put);
      const answer = await members.ask(({ kv }, options) => kv.txn(request, options));
      const known = answer.succeeded ? undefined : keyValues(answer)[0];
      if (!answer.succeeded && known?.lease !== lease) throw leaseOver();
      this.#revision = known?.modRevision ?? answer.header?.revision ?? this.#revision;
      if (known === undefined || Buffer.compare(known.value, put.value) === 0) return;
    }
    throw unavailable("the announcement in etcd changes all the time");
  }
}

/** Announces an instance. Rejects with ALREADY_EXISTS where its name is taken. */
export async function announce(
  settings: MembershipSettings,
  instance: Instance,
  ending: Ending,
): Promise<EtcdMembership> {
  const { members, keys, clock, leaseSeconds } = settings;
  let askedMs = 0;
  const { ID: id, TTL } = await members.ask(({ lease }, options) => {
    askedMs = clock.monotonic();
    return lease.leaseGrant({ TTL: BigInt(leaseSeconds) }, options);
  });
  try {
    const request = putNew(puts(keys, instance, id));
    const answer = await members.ask(({ kv }, options) => kv.txn(request, options));
    const mine = keyValues(answer).find(({ lease }) => lease === id);
    if (!answer.succeeded && mine === undefined) throw nameTaken(instance);
    const revision = mine?.modRevision ?? answer.header?.revision ?? 0n;
    const grant = { id, ttlMs: Number(TTL) * 1_000, askedMs };
    return new EtcdMembership(settings, { instance, grant, revision }, ending);
  } catch (error) {
    void revoke(members, id).catch(() => undefined);
    if (error instanceof ConnectError && error.code === Code.NotFound)
      throw unavailable("the lease ended before it was used", 500, error);
    throw error;
  }
}

/** What it says of itself, and its name, if it has one. */
function puts(keys: Keys, instance: Instance, lease: bigint): Put[] {
  const said = { key: keys.instance(instance), value: instanceToValue(instance), lease };
  if (instance.name === "") return [said];
  return [said, { key: keys.name(instance), value: bytes(instance.id), lease }];
}

async function revoke(members: Members, id: bigint): Promise<void> {
  await members.ask(async ({ lease }, options) => {
    try {
      await lease.leaseRevoke({ ID: id }, options);
    } catch (error) {
      // It is over already.
      if (ConnectError.from(error).code !== Code.NotFound) throw error;
    }
  });
}
