/** Shards that move, processes that die, streams that break, all at random: the links against owners that keep the rules of delivery. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { hash32 } from "../../mesh/hash.ts";
import type { Operation } from "../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { Asked, Deliveries, conversationOf, notOwner, numberOf } from "./deliveries.ts";
import { sendOf, sentAt, settle, shardCount } from "./deliveries.ts";
import type { Owner } from "./deliveries.ts";

const conversations = [0, 1, 2].flatMap((shard) => [
  conversationOf(shard),
  conversationOf(shard, 1),
]);
const shardOf = (conversationId: string): number => hash32(conversationId) % shardCount;

interface Work {
  readonly operation: Operation;
  /** Undefined: it is on its way. */
  taken: boolean | undefined;
}

/** A process: per shard what came and has no outcome yet, and which shards it takes operations for. */
interface Process {
  readonly owner: Owner;
  readonly work: Work[][];
  /** Under which epoch. */
  readonly takes: Map<number, bigint>;
  alive: boolean;
}

type Step =
  | { readonly t: "send"; readonly conversation: number; readonly count: number }
  | { readonly t: "work"; readonly process: number; readonly shard: number }
  | { readonly t: "retake"; readonly shard: number; readonly count: number }
  | {
      readonly t: "arrive";
      readonly process: number;
      readonly shard: number;
      readonly count: number;
    }
  | { readonly t: "move" | "own" | "hear"; readonly shard: number }
  | { readonly t: "break" | "crash"; readonly process: number; readonly done: number }
  | { readonly t: "pass"; readonly ms: number };

class Model {
  readonly all: Deliveries;
  readonly processes: Process[] = [];
  /** What is true of each shard. */
  readonly owners: (Process | undefined)[] = Array.from({ length: shardCount }, () => undefined);
  readonly epochs: bigint[] = Array.from({ length: shardCount }, () => 0n);
  /** Shards on their way to another process: it is written into the registry when the present one has nothing under way. */
  readonly moving = new Map<number, Process>();
  /** Of the registry and not heard by the links yet. */
  readonly news: (() => void)[][] = Array.from({ length: shardCount }, () => []);
  readonly log = new Map<string, number[]>();
  readonly asked: Asked[] = [];
  /** By conversation: sends that failed, which come again before any new one does. */
  readonly failed = new Map<string, number[]>();
  readonly mayFail: boolean;
  #last = 0;
  #epoch = 0n;
  #names = 0;

  constructor(seed: number, mayFail: boolean) {
    this.all = new Deliveries(seed);
    this.mayFail = mayFail;
    for (let at = 0; at < 2; at += 1) this.join();
    for (let shard = 0; shard < shardCount; shard += 1) this.claim(shard, this.living(shard));
  }

  join(): Process {
    this.#names += 1;
    const owner = this.all.join(`p${this.#names}`);
    const work = Array.from({ length: shardCount }, (): Work[] => []);
    const process: Process = { owner, work, takes: new Map(), alive: true };
    owner.answer = (operation) => {
      this.#came(process, operation);
      return undefined;
    };
    this.processes.push(process);
    return process;
  }

  living(number: number): Process {
    const alive = this.processes.filter((process) => process.alive);
    const one = alive[number % alive.length];
    assert.ok(one !== undefined);
    return one;
  }

  #came(process: Process, operation: Operation): void {
    const shard = shardOf(operation.conversationId);
    for (const other of this.processes) {
      if (other === process || !other.alive) continue;
      assert.deepEqual(other.work[shard], [], "operations of a shard are under way at two owners");
    }
    process.work[shard]?.push({ operation, taken: undefined });
  }

  /** Another life owns the shard; it takes operations once it knows. */
  claim(shard: number, process: Process): void {
    this.owners[shard] = process;
    this.#epoch += 1n;
    const epoch = this.#epoch;
    this.epochs[shard] = epoch;
    this.news[shard]?.push(() =>
      this.all.shards.learn(shard, { incarnation: process.owner.id, epoch }),
    );
  }

  #carryOut(operation: Operation): number {
    const { conversationId } = operation;
    const number = numberOf(operation);
    const log = this.log.get(conversationId) ?? [];
    this.log.set(conversationId, log);
    const before = log.indexOf(number);
    if (before !== -1) {
      assert.ok(operation.operation.case === "send" && operation.operation.value.retry, "doubled");
      return before + 1;
    }
    assert.ok(number > (log.at(-1) ?? 0), `${number} after ${log.join(" ")}: overtaken`);
    return log.push(number);
  }

  /** What is on its way to the process arrives: the first `count` of the shard. */
  #arrive(process: Process, shard: number, count: number): void {
    const onTheirWay = process.work[shard]?.filter(({ taken }) => taken === undefined) ?? [];
    for (const one of onTheirWay.slice(0, count)) {
      const { epoch } = one.operation;
      assert.notEqual(epoch, 0n);
      one.taken = process.takes.get(shard) === epoch;
    }
  }

  #work(process: Process, shard: number): void {
    const work = process.work[shard];
    if (work?.[0]?.taken === undefined) this.#arrive(process, shard, 1);
    const one = work?.shift();
    if (one !== undefined) {
      const { operation, taken } = one;
      process.owner.settle(
        operation,
        taken === true ? sentAt(this.#carryOut(operation)) : notOwner,
      );
    }
    const next = this.moving.get(shard);
    if (next === undefined || this.owners[shard] !== process) return;
    if (work?.some(({ taken }) => taken)) return;
    this.moving.delete(shard);
    this.claim(shard, next.alive ? next : this.living(0));
  }

  /** The stream is gone: `done` of what was taken is carried out all the same, of each shard from the first on. */
  #lose(process: Process, done: number): void {
    for (const work of process.work) {
      const taken = work.filter((one) => one.taken === true);
      for (const { operation } of taken.slice(0, done)) this.#carryOut(operation);
      work.length = 0;
    }
  }

  #crash(process: Process, done: number): void {
    this.#lose(process, done);
    process.alive = false;
    process.owner.break();
    const heir = this.join();
    this.all.leave(process.owner);
    for (const [shard, owner] of this.owners.entries()) {
      if (owner !== process) continue;
      this.moving.delete(shard);
      this.claim(shard, shard % 2 === 0 ? heir : this.living(shard));
    }
  }

  send(conversationId: string, count: number): void {
    const again = (this.failed.get(conversationId) ?? []).toSorted((a, b) => a - b);
    this.failed.set(conversationId, []);
    for (const number of again) this.#operate(conversationId, number, true);
    for (let at = 0; at < count; at += 1) {
      this.#last += 1;
      this.#operate(conversationId, this.#last, false);
    }
  }

  #operate(conversationId: string, number: number, retry: boolean): void {
    const asked = new Asked((answer) => {
      if (answer === "sent") return;
      assert.ok(this.mayFail && answer === "Unavailable", `${number}: ${answer}`);
      this.failed.set(conversationId, [...(this.failed.get(conversationId) ?? []), number]);
    });
    this.asked.push(asked);
    this.all.links.operate(sendOf(conversationId, number, retry), asked);
  }

  step(step: Step): void {
    switch (step.t) {
      case "send":
        this.send(conversations[step.conversation] ?? "", step.count);
        break;
      case "work":
        this.#work(this.living(step.process), step.shard);
        break;
      case "move": {
        const { shard } = step;
        const owner = this.owners[shard];
        if (owner === undefined || !owner.takes.has(shard)) break;
        owner.takes.delete(shard);
        this.moving.set(shard, this.living(shard + this.processes.indexOf(owner) + 1));
        break;
      }
      case "arrive":
        this.#arrive(this.living(step.process), step.shard, step.count);
        break;
      case "retake":
        this.#retake(step.shard, step.count);
        break;
      case "own":
        this.#own(step.shard);
        break;
      case "hear":
        this.news[step.shard]?.shift()?.();
        break;
      case "break": {
        const process = this.living(step.process);
        this.#lose(process, Infinity);
        process.owner.break();
        break;
      }
      case "crash":
        this.#crash(this.living(step.process), step.done);
        break;
      case "pass":
        this.all.clock.advance(step.ms);
        this.all.links.expire(this.all.clock.monotonic());
    }
  }

  /** The owner learns that it is. */
  #own(shard: number): void {
    const owner = this.owners[shard];
    if (owner === undefined || this.moving.has(shard)) return;
    owner.takes.set(shard, this.epochs[shard] ?? 0n);
  }

  /** A hand-over is begun and comes back under another epoch; so many operations arrive meanwhile. */
  #retake(shard: number, count: number): void {
    const owner = this.owners[shard];
    if (owner === undefined || this.moving.has(shard)) return;
    if (owner.work[shard]?.some(({ taken }) => taken === true)) return;
    owner.takes.delete(shard);
    this.#arrive(owner, shard, count);
    this.claim(shard, owner);
    this.#own(shard);
  }

  /** Everybody learns everything, everything is carried out, and what failed comes again. */
  async end(): Promise<void> {
    for (let round = 0; round < 60; round += 1) {
      for (let shard = 0; shard < shardCount; shard += 1) {
        this.#own(shard);
        for (const tell of this.news[shard]?.splice(0) ?? []) tell();
        for (const process of this.processes)
          for (let at = 0; at < 8 && process.alive; at += 1) this.#work(process, shard);
      }
      for (const [conversationId, failed] of this.failed)
        if (failed.length > 0) this.send(conversationId, 0);
      this.all.clock.advance(this.mayFail ? 200 : 50);
      await settle();
    }
    await this.all.links.close();
  }
}

const steps = (ms: number): fc.Arbitrary<Step[]> => {
  const shard = fc.nat(shardCount - 1);
  const process = fc.nat(2);
  const done = fc.nat(3);
  const count = fc.integer({ min: 1, max: 3 });
  return fc.array(
    fc.oneof(
      {
        weight: 8,
        arbitrary: fc.record({
          t: fc.constant("send" as const),
          conversation: fc.nat(conversations.length - 1),
          count,
        }),
      },
      { weight: 12, arbitrary: fc.record({ t: fc.constant("work" as const), process, shard }) },
      {
        weight: 6,
        arbitrary: fc.record({ t: fc.constant("arrive" as const), process, shard, count }),
      },
      { weight: 3, arbitrary: fc.record({ t: fc.constant("retake" as const), shard, count }) },
      {
        weight: 8,
        arbitrary: fc.record({ t: fc.constantFrom("move", "own", "own", "hear", "hear"), shard }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ t: fc.constantFrom("break", "crash"), process, done }),
      },
      { weight: 2, arbitrary: fc.record({ t: fc.constant("pass" as const), ms: fc.nat(ms) }) },
    ),
    { minLength: 20, maxLength: 80 },
  );
};

async function run(seed: number, all: Step[], mayFail: boolean, pauses: number[]): Promise<void> {
  const model = new Model(seed, mayFail);
  for (const [at, step] of all.entries()) {
    model.step(step);
    if ((pauses[at % pauses.length] ?? 0) > 0) await settle();
  }
  await model.end();
  for (const { answers } of model.asked) assert.equal(answers.length, 1);
  const logged = [...model.log.values()].flat().toSorted((a, b) => a - b);
  const lost = Array.from(logged, (number, at) => number !== at + 1).indexOf(true);
  assert.equal(lost, -1, `a send was lost: ${logged.join(" ")}`);
}

describe("shards that move while operations are under way", () => {
  const pauses = fc.array(fc.nat(1), { minLength: 1, maxLength: 7 });

  it("every operation has one outcome, in order, carried out once and never at two owners (P2, P4)", () =>
    fc.assert(
      fc.asyncProperty(fc.nat(), steps(30), pauses, (seed, all, waits) =>
        run(seed, all, false, waits),
      ),
      { numRuns: 60 },
    ));

  it("also where time is over for some, and their senders try again", () =>
    fc.assert(
      fc.asyncProperty(fc.nat(), steps(7_000), pauses, (seed, all, waits) =>
        run(seed, all, true, waits),
      ),
      { numRuns: 60 },
    ));
});
