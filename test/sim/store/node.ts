/** One node of the simulated Cassandra: a replica of everything, and the coordinator of what clients ask it for. */
import { errors, types } from "cassandra-driver";
import type { Selection } from "./cql.ts";
import type { Network } from "./network.ts";
import { type Found, lacking, laterWins, merged, type Mutation, Tables } from "./table.ts";

/** Cassandra's rules, which tests leave out, one at a time, to see what each is for. */
export interface Rules {
  /** What a read at quorum has seen is at a quorum before it is told. */
  readonly readRepair: boolean;
  /** What a replica missed it is told later. */
  readonly hints: boolean;
  /** By the writers' timestamps, not by what arrives last. */
  readonly laterWins: boolean;
  /** What an unlogged batch changes in one partition is done together. */
  readonly partitionsWhole: boolean;
  /** Reads and writes at quorum ask for as many replicas as that. */
  readonly quorums: boolean;
}

export const allRules: Rules = {
  readRepair: true,
  hints: true,
  laterWins: true,
  partitionsWhole: true,
  quorums: true,
};

const writeTimeoutMs = 2_000;
const readTimeoutMs = 5_000;
const speculateMs = 100;
/** Until the others know that a node is away, and that it is back. */
const suspectMs = 10_000;
const welcomeMs = 1_000;
const hintsEveryMs = 10_000;

const codes = types.responseErrorCodes;

interface Hint {
  readonly to: Node;
  readonly mutations: readonly Mutation[];
}

/** What a replica answers: that it is done, or that it could not. */
type Reply<T> = (answer: T | undefined) => void;

export class Node {
  readonly name: string;
  readonly #network: Network;
  readonly #rules: Rules;
  readonly #all: readonly Node[];
  readonly #tables: Tables;
  /** Grows whenever it goes down: what it had under way is gone then. */
  #life = 0;
  #up = true;
  #changedMs = -Infinity;
  #hints: Hint[] = [];
  #hinting = false;
  /** Called when it goes down: its clients' connections close. */
  readonly closed = new Set<() => void>();

  constructor(name: string, network: Network, rules: Rules, all: readonly Node[]) {
    this.name = name;
    this.#network = network;
    this.#rules = rules;
    this.#all = all;
    this.#tables = new Tables(rules.laterWins ? laterWins : () => true);
  }

  get up(): boolean {
    return this.#up;
  }

  /** What it has kept stays. */
  goDown(): void {
    if (!this.#up) return;
    this.#network.count("node down");
    this.#up = false;
    this.#life += 1;
    this.#hinting = false;
    this.#changedMs = this.#network.clock.monotonic();
    for (const close of this.closed) close();
  }

  comeUp(): void {
    if (this.#up) return;
    this.#up = true;
    this.#changedMs = this.#network.clock.monotonic();
    this.#armHints();
  }

  /** What this replica alone has. */
  own({ table, partition, range }: Selection): Found {
    return this.#tables.find(table.name, partition, range);
  }

  /** As a replica. */
  keep(mutations: readonly Mutation[]): true {
    for (const mutation of mutations) this.#tables.apply(mutation);
    return true;
  }

  /** Coordinates: rejects, or resolves once so many replicas have it as the consistency asks for. */
  async write(mutations: readonly Mutation[], consistency: types.consistencies): Promise<void> {
    const needed = this.#needed(consistency);
    const believed = this.#all.filter((node) => this.#believesIn(node));
    if (believed.length < needed) throw unavailable(believed.length, needed);
    const groups = new Map<string, Mutation[]>();
    for (const [at, mutation] of mutations.entries()) {
      const key = `${mutation.table} ${mutation.partition}`;
      const own = this.#rules.partitionsWhole ? key : `${key} ${at}`;
      groups.set(own, [...(groups.get(own) ?? []), mutation]);
    }
    // Dies after so many messages, and nobody hears of it again.
    let left = this.#network.happens("halfway")
      ? this.#network.below(groups.size * this.#all.length)
      : Infinity;
    const mayGo = (): boolean => (left -= 1) >= 0;
    const dies = left !== Infinity;
    const written = [...groups.values()].map((group) =>
      this.#writeGroup(group, needed, mayGo, dies),
    );
    await Promise.all(written);
  }

  #writeGroup(
    mutations: readonly Mutation[],
    needed: number,
    mayGo: () => boolean,
    dies: boolean,
  ): Promise<void> {
    const life = this.#life;
    const silent = new Set(this.#all);
    let [done, failed] = [0, 0];
    return new Promise((resolve, reject) => {
      const hint = (): void => {
        if (this.#life === life && !dies) for (const to of silent) this.#hint({ to, mutations });
      };
      const stop = this.#network.clock.after(writeTimeoutMs, () => {
        hint();
        if (this.#life === life && !dies)
          reject(failure(codes.writeTimeout, `${done} of ${needed} replicas answered`));
      });
      for (const node of this.#all) {
        if (!this.#believesIn(node)) continue;
        if (!mayGo()) continue;
        this.#tell(node, mutations, (answer) => {
          if (dies) return;
          if (answer === undefined) failed += 1;
          else {
            done += 1;
            silent.delete(node);
          }
          if (silent.size === 0) stop();
          if (done >= needed) resolve();
          else if (needed + failed > this.#all.length)
            reject(failure(codes.writeFailure, `${failed} replicas failed`));
        });
      }
    });
  }

  /** Coordinates a read, of what so many replicas have. */
  async read(selection: Selection, consistency: types.consistencies): Promise<Found> {
    const needed = this.#needed(consistency);
    const believed = this.#shuffled(this.#all.filter((node) => this.#believesIn(node)));
    if (believed.length < needed) throw unavailable(believed.length, needed);
    const first = await this.#gather(believed, needed, selection);
    const [one] = first.values();
    if (one !== undefined && [...first.values()].every((found) => alike(one, found))) return one;
    // They differ: all of it from those that answered, or whoever else is quick.
    const others = believed.filter((node) => !first.has(node));
    const second = await this.#gather([...first.keys(), ...others], needed, selection);
    const { table, partition, range } = selection;
    const whole = merged(table.name, partition, [...second.values()], range);
    if (this.#rules.readRepair) await this.#repair(selection, whole, second);
    return whole;
  }

  #gather(order: readonly Node[], needed: number, selection: Selection): Promise<Map<Node, Found>> {
    const life = this.#life;
    const answers = new Map<Node, Found>();
    const left = order.slice(needed);
    let settled = false;
    return new Promise((resolve, reject) => {
      const end = (how: () => void): void => {
        settled = true;
        stop();
        hurry();
        if (this.#life === life) how();
      };
      const stop = this.#network.clock.after(readTimeoutMs, () =>
        end(() =>
          reject(failure(codes.readTimeout, `${answers.size} of ${needed} replicas answered`)),
        ),
      );
      const ask = (node: Node): void =>
        this.#ask(node, selection, (found) => {
          if (settled) return;
          if (found === undefined)
            return end(() => reject(failure(codes.readFailure, "a replica failed")));
          answers.set(node, found);
          if (answers.size >= needed) end(() => resolve(answers));
        });
      const hurry = this.#network.clock.after(speculateMs, () => {
        const [more] = left;
        if (more !== undefined) ask(more);
      });
      for (const node of order.slice(0, needed)) ask(node);
    });
  }

  #repair(
    { table, partition }: Selection,
    whole: Found,
    answers: ReadonlyMap<Node, Found>,
  ): Promise<void> {
    const life = this.#life;
    const missing = [...answers].flatMap(([node, part]) => {
      const mutations = lacking(table.name, partition, whole, part);
      return mutations.length === 0 ? [] : [{ node, mutations }];
    });
    let left = missing.length;
    if (left === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const fail = (): void => {
        stop();
        if (this.#life === life) reject(failure(codes.readTimeout, "a repair was not answered"));
      };
      const stop = this.#network.clock.after(writeTimeoutMs, fail);
      for (const { node, mutations } of missing)
        this.#tell(node, mutations, (answer) => {
          if (answer === undefined) return fail();
          left -= 1;
          if (left > 0) return;
          stop();
          resolve();
        });
    });
  }

  #tell(node: Node, mutations: readonly Mutation[], reply: Reply<true>): void {
    this.#call(node, () => node.keep(mutations), reply);
  }

  #ask(node: Node, selection: Selection, reply: Reply<Found>): void {
    this.#call(node, () => node.own(selection), reply);
  }

  /** There and back, unless either is down then or something is lost. */
  #call<T>(node: Node, work: () => T, reply: Reply<T>): void {
    const life = this.#life;
    this.#network.send(this.name, node.name, () => {
      if (!node.#up) return;
      const answer = this.#network.happens("refused") ? undefined : work();
      this.#network.send(node.name, this.name, () => {
        if (this.#life === life) reply(answer);
      });
    });
  }

  #needed(consistency: types.consistencies): number {
    const { one, quorum, localQuorum } = types.consistencies;
    if (consistency === one) return 1;
    if (consistency !== quorum && consistency !== localQuorum)
      throw new Error(`the simulated Cassandra does not know the consistency ${consistency}`);
    return this.#rules.quorums ? Math.floor(this.#all.length / 2) + 1 : 1;
  }

  #believesIn(node: Node): boolean {
    if (node === this) return true;
    const nowMs = this.#network.clock.monotonic();
    const cutMs =
      this.#network.cutSinceMs(this.name, node.name) ??
      this.#network.cutSinceMs(node.name, this.name);
    if (cutMs !== undefined && nowMs - cutMs >= suspectMs) return false;
    const sinceMs = nowMs - node.#changedMs;
    return node.#up ? sinceMs >= welcomeMs : sinceMs < suspectMs;
  }

  #hint(hint: Hint): void {
    if (!this.#rules.hints || this.#network.happens("hintLost")) return;
    this.#hints.push(hint);
    this.#armHints();
  }

  #armHints(): void {
    if (this.#hinting || this.#hints.length === 0 || !this.#up) return;
    this.#hinting = true;
    const life = this.#life;
    this.#network.clock.after(hintsEveryMs, () => {
      if (this.#life !== life) return;
      this.#hinting = false;
      for (const hint of this.#hints) {
        if (!this.#believesIn(hint.to)) continue;
        this.#tell(hint.to, hint.mutations, (answer) => {
          if (answer !== undefined) this.#hints = this.#hints.filter((one) => one !== hint);
        });
      }
      this.#armHints();
    });
  }

  #shuffled(nodes: readonly Node[]): Node[] {
    const left = [...nodes];
    const order: Node[] = [];
    while (left.length > 0) order.push(...left.splice(this.#network.below(left.length), 1));
    return order;
  }
}

function alike(one: Found, other: Found): boolean {
  const nothing = (from: Found, to: Found): boolean => lacking("", "", from, to).length === 0;
  return nothing(one, other) && nothing(other, one);
}

const failure = (code: number, message: string): errors.ResponseError =>
  new errors.ResponseError(code, message);

const unavailable = (alive: number, needed: number): errors.ResponseError =>
  failure(codes.unavailableException, `${alive} replicas are alive, and ${needed} are needed`);
