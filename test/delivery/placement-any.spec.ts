/** Placement, whatever comes, goes, drains, lags and fails: nobody takes a shard whose owner may still commit, and all ends with one owner for each. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Cluster, type Process, type Registry } from "./cluster.ts";
import { placeOf } from "../../delivery/placement.ts";
import { decodeRecord } from "../../delivery/record.ts";
import type { Identity } from "../../mesh/identity.ts";
import { ringOf } from "../../mesh/peers.ts";
import { type ShardOwner, type ShardRegistry, ShardTable } from "../../mesh/shards.ts";

const shardCount = 6;
const processesMax = 5;
const conversations = Array.from({ length: 8 }, (_, n) => `d:alice:bob${n}`);

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Change {
  readonly shard: number;
  /** The life of the process that asked for it. */
  readonly by: string;
  readonly from: ShardOwner | undefined;
  readonly to: ShardOwner;
  readonly fromIsRevoked: boolean;
  readonly fromIsPresent: boolean;
}

/** The registry as one process sees it, which may be late. */
class View extends ShardTable implements ShardRegistry {
  readonly #registry: Registry;
  readonly #replace: ShardRegistry["replace"];
  #late = false;

  constructor(registry: Registry, replace: ShardRegistry["replace"]) {
    super(registry.count);
    this.#registry = registry;
    this.#replace = replace;
    registry.watch((shard) => {
      if (!this.#late) this.#hear(shard);
    });
    this.late(false);
  }

  late(late: boolean): void {
    this.#late = late;
    if (!late) for (let shard = 0; shard < this.count; shard += 1) this.#hear(shard);
  }

  async replace(
    shard: number,
    expected: ShardOwner | undefined,
    incarnation: string,
  ): Promise<ShardOwner | undefined> {
    const owner = await this.#replace(shard, expected, incarnation);
    if (owner !== undefined) this.learn(shard, owner);
    return owner;
  }

  async refresh(shard: number): Promise<ShardOwner | undefined> {
    if (this.#registry.fails !== undefined) throw new Error("out of reach");
    await turn();
    this.#hear(shard);
    return this.owner(shard);
  }

  #hear(shard: number): void {
    const owner = this.#registry.owner(shard);
    if (owner !== undefined) this.learn(shard, owner);
  }
}

type Step =
  | { readonly t: "add" | "heal" }
  | { readonly t: "gone" | "draining" | "late" | "heard"; readonly nth: number }
  | { readonly t: "fails"; readonly how: "before" | "after" }
  | { readonly t: "send"; readonly nth: number; readonly to: number }
  | { readonly t: "turns"; readonly count: number };

const nth = fc.nat(processesMax - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ t: fc.constantFrom("add" as const, "heal" as const) }),
  fc.record({ t: fc.constantFrom("gone" as const, "draining", "late", "heard"), nth }),
  fc.record({ t: fc.constant("fails" as const), how: fc.constantFrom("before" as const, "after") }),
  fc.record({ t: fc.constant("send" as const), nth, to: fc.nat(conversations.length - 1) }),
  fc.record({ t: fc.constant("turns" as const), count: fc.integer({ min: 1, max: 12 }) }),
);

class Watched extends Cluster {
  readonly changes: Change[] = [];
  readonly processes: Process[] = [];
  readonly #views: View[] = [];
  readonly #revoked = new Set<string>();
  #operations = 0;

  constructor() {
    super({ shards: shardCount });
    const revoke = this.store.revoke.bind(this.store);
    this.store.revoke = async (incarnation) => {
      // As long as it takes elsewhere.
      await turn();
      await revoke(incarnation);
      this.#revoked.add(incarnation);
    };
  }

  protected override viewOf(identity: Identity): ShardRegistry {
    const view = new View(this.registry, (...asked) => this.#replaced(identity, ...asked));
    this.#views.push(view);
    return view;
  }

  #replaced(
    { id: by }: Identity,
    ...[shard, expected, incarnation]: Parameters<ShardRegistry["replace"]>
  ): Promise<ShardOwner | undefined> {
    const from = this.registry.owner(shard);
    const answer = this.registry.replace(shard, expected, incarnation);
    const to = this.registry.owner(shard);
    if (to === undefined || to.epoch === from?.epoch) return answer;
    const fromIsRevoked = from !== undefined && this.#revoked.has(from.incarnation);
    const fromIsPresent = this.deliveries.present.some(({ id }) => id === from?.incarnation);
    this.changes.push({ shard, by, from, to, fromIsRevoked, fromIsPresent });
    return answer;
  }

  async run(step: Step): Promise<void> {
    const process = "nth" in step ? this.processes[step.nth] : undefined;
    const view = "nth" in step ? this.#views[step.nth] : undefined;
    switch (step.t) {
      case "add":
        if (this.processes.length < processesMax) await this.begin();
        return;
      case "gone":
        if (process !== undefined) this.gone(process);
        return;
      case "draining":
        if (process !== undefined) this.draining(process);
        return;
      case "late":
      case "heard":
        view?.late(step.t === "late");
        return;
      case "fails":
        this.registry.fails = step.how;
        return;
      case "heal":
        this.registry.fails = undefined;
        return;
      case "send":
        if (process !== undefined) this.say(process, conversations[step.to] ?? "");
        return;
      case "turns":
        for (let n = 0; n < step.count; n += 1) await turn();
        this.clock.advance(50);
    }
  }

  /** Where the registry is out of reach a process cannot begin. */
  async begin(): Promise<void> {
    const { fails } = this.registry;
    this.registry.fails = undefined;
    this.processes.push(await this.add());
    this.registry.fails = fails;
  }

  say(process: Process, conversationId: string): number {
    this.#operations += 1;
    process.send(this.#operations, "alice", conversationId);
    return this.#operations;
  }

  isPresent({ identity }: Process): boolean {
    return this.deliveries.present.some(({ id }) => id === identity.id);
  }

  async settle(): Promise<void> {
    this.registry.fails = undefined;
    for (const view of this.#views) view.late(false);
    const staying = this.deliveries.present.filter(({ draining }) => !draining);
    if (staying.length === 0) this.processes.push(await this.add());
    for (let n = 0; n < 3_000; n += 1) {
      if (this.#isSettled()) return;
      await turn();
      if (n % 10 === 9) this.clock.advance(200);
    }
    assert.fail("the shards came to no rest");
  }

  /** What still waits when it ends waits for the clock. */
  async end(): Promise<void> {
    const ended = this.close().then(() => true);
    const passed = async (): Promise<boolean> => {
      await turn();
      this.clock.advance(1_000);
      return false;
    };
    while (!(await Promise.race([ended, passed()])));
  }

  #isSettled(): boolean {
    const ring = ringOf(this.deliveries.present);
    for (let shard = 0; shard < shardCount; shard += 1)
      if (this.registry.owner(shard)?.incarnation !== placeOf(ring, shard)) return false;
    return this.processes.every(
      (one) => !this.isPresent(one) || one.delivery.problems().length === 0,
    );
  }
}

function checkChanges(changes: readonly Change[]): void {
  for (const { shard, by, from, to, fromIsRevoked, fromIsPresent } of changes) {
    assert.equal(to.epoch, (from?.epoch ?? 0n) + 1n);
    if (from === undefined || by === from.incarnation) continue;
    assert.equal(by, to.incarnation, "who takes a shard takes it for itself");
    assert.ok(fromIsRevoked, `shard ${shard} was taken before its owner was revoked (P1)`);
    assert.ok(!fromIsPresent, `shard ${shard} was taken from an owner that is there`);
  }
}

async function outcomeOf(cluster: Cluster, process: Process, operation: number): Promise<string> {
  for (let n = 0; n < 1_000; n += 1) {
    const found = process.outcomes.find(({ operationId }) => operationId === operation);
    if (found !== undefined) return found.outcome.case ?? "";
    await turn();
    if (n % 10 === 9) cluster.clock.advance(200);
  }
  return "nothing";
}

/** Each conversation has one who takes its messages. */
async function checkOwners(cluster: Watched): Promise<void> {
  const here = cluster.processes.filter((one) => cluster.isPresent(one));
  for (const id of conversations) {
    const said = here.map((one) => outcomeOf(cluster, one, cluster.say(one, id)));
    const outcomes = await Promise.all(said);
    assert.deepEqual(outcomes.toSorted(), [...here.slice(1).map(() => "notOwner"), "sent"]);
  }
}

/** Whoever is gone has been told nothing, and takes nothing all the same. */
async function checkGone(cluster: Watched): Promise<void> {
  for (const process of cluster.processes.filter((one) => !cluster.isPresent(one))) {
    const operation = cluster.say(process, conversations[0] ?? "");
    assert.equal(await outcomeOf(cluster, process, operation), "notOwner");
  }
}

async function checkLogs(cluster: Watched): Promise<void> {
  const places = new Map<number, string>();
  for (const id of conversations) {
    const cells = await cluster.store.cells(id, 1, 1_000);
    assert.deepEqual(
      cells.map(({ seq }) => seq),
      cells.map((_, at) => at + 1),
      "no hole (P3)",
    );
    for (const [at, { record, seq, term, previousTerm }] of cells.entries()) {
      assert.equal(previousTerm, cells[at - 1]?.term ?? 0n);
      assert.ok(previousTerm <= term, "terms grow");
      const operation = Buffer.from(decodeRecord(record).clientId).readUInt32BE(0);
      assert.ok(!places.has(operation), "once (P2)");
      places.set(operation, `sent ${seq}`);
    }
  }
  for (const { outcomes } of cluster.processes)
    for (const { operationId, outcome } of outcomes)
      if (outcome.case === "sent")
        assert.equal(places.get(operationId), `sent ${outcome.value.seq}`, "kept (P1)");
}

describe("placement, whatever happens", () => {
  it("revokes before it claims, ends with one owner for each shard, and loses nothing (P1, P2, P3)", () =>
    fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25, size: "max" }), async (steps) => {
        const cluster = new Watched();
        try {
          await cluster.begin();
          for (const one of steps) await cluster.run(one);
          await cluster.settle();
          checkChanges(cluster.changes);
          await checkOwners(cluster);
          await checkGone(cluster);
          await checkLogs(cluster);
        } finally {
          await cluster.end();
        }
      }),
      { numRuns: 60 },
    ));
});
