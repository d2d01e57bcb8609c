/**
 * Takeovers with a torn tail. An owner is stopped within a write that one replica has, or that is held up; the next one does not see it, and is
 * stopped in its turn; one more sees it. What is done to whom is chance, when it is done is not: an adversary watches what goes to Cassandra.
 */
import { errors, types } from "cassandra-driver";
import { sleep } from "../../../mesh/clock.ts";
import { hash32 } from "../../../mesh/hash.ts";
import type { Random } from "../../../mesh/random.ts";
import type { Nodes, Statement } from "../../../storage/cassandra/nodes.ts";
import { statementsOf } from "../../../storage/cassandra/rows.ts";
import type { Store } from "../../../storage/index.ts";
import { over } from "../patch.ts";
import type { SimProcess } from "../process.ts";
import type { World } from "../world.ts";
import type { SimulatedCassandra } from "./cassandra.ts";

const { cell: insertCell } = statementsOf("parley");
const endSeq = 0xffff_ffff;
/** So long a write of several records is waited for; then one will do. */
const patienceMs = 800;
const unansweredMs = 2_000;
const replicas = 3;

/** What becomes of a write: kept; at one replica only; held up; lost. Whoever wrote does not know which, but of the first. */
type Fate = "kept" | "torn" | "late" | "lost";

/** One after the other, each a while after the one before. */
type Stage = "first owner" | "second owner" | "third owner" | "over";

interface Takeover {
  readonly beganMs: number;
  stage: Stage;
  conversationId: string;
  incarnation: string;
  /** Which replica has the torn write. */
  readonly replica: number;
  /** What went to Cassandra at this instant is one batch, in parts. */
  atMs: number;
  /** When what is held up goes on. */
  lateMs: number;
  readonly held: (() => void)[];
  readonly heals: (() => void)[];
}

export class Tearing {
  readonly #world: World;
  readonly #cassandra: SimulatedCassandra;
  readonly #random: Random;
  /** Whose batch a storage process keeps, by its id and the conversation. */
  readonly #writers = new Map<string, string>();
  #takeover: Takeover | undefined;

  constructor(world: World, cassandra: SimulatedCassandra) {
    this.#world = world;
    this.#cassandra = cassandra;
    this.#random = world.chance("tearing");
  }

  /** Begins with the next write; undefined where one is under way. */
  begin(): (() => void) | undefined {
    if (this.#takeover !== undefined && this.#takeover.stage !== "over") return undefined;
    const takeover: Takeover = {
      beganMs: this.#world.timeline.nowMs,
      stage: "first owner",
      conversationId: "",
      incarnation: "",
      replica: this.#below(replicas),
      atMs: -1,
      lateMs: 0,
      held: [],
      heals: [],
    };
    this.#takeover = takeover;
    return () => {
      takeover.stage = "over";
      for (const heal of takeover.heals.splice(0)) heal();
    };
  }

  /** A storage process's way to Cassandra. */
  nodes(nodes: Nodes, process: SimProcess): Nodes {
    return over<Nodes>(nodes, {
      execute: async (statement, asked) => {
        const go = () => nodes.execute(statement, asked);
        return (await this.#write(process, [statement], asked.consistency, go)) ?? { rows: [] };
      },
      batch: async (all, consistency) => {
        await this.#write(process, all, consistency, () => nodes.batch(all, consistency));
      },
    });
  }

  store(store: Store, process: SimProcess): Store {
    return over<Store>(store, {
      append: (batch, committed) => {
        for (const { conversationId } of batch.writes)
          this.#writers.set(`${process.id} ${conversationId}`, batch.incarnation);
        return store.append(batch, committed);
      },
      cells: async (id, first, last) => {
        const cells = await store.cells(id, first, last);
        if (last === endSeq) this.#wasRead(id);
        return cells;
      },
    });
  }

  async #write<T>(
    process: SimProcess,
    statements: readonly Statement[],
    consistency: types.consistencies | undefined,
    go: () => Promise<T>,
  ): Promise<T | undefined> {
    const fate = this.#fateOf(process, statements);
    const takeover = this.#takeover;
    if (fate === "kept" || takeover === undefined) return go();
    this.#world.timeline.note(`cassandra: a write of ${statements.length} is ${fate}`);
    const { clock } = process.host;
    if (fate === "torn") {
      for (const one of statements) this.#cassandra.leave(takeover.replica, one);
      if (consistency === types.consistencies.one) return undefined;
    } else if (fate === "late") {
      takeover.held.push(() => void go().catch(() => undefined));
      this.#world.timeline.at(takeover.lateMs, () => this.#release(takeover));
    }
    await sleep(clock, unansweredMs);
    throw new errors.OperationTimedOutError("nobody answered", "a node");
  }

  #release({ held }: Takeover): void {
    for (const go of held.splice(0)) go();
  }

  #fateOf(process: SimProcess, statements: readonly Statement[]): Fate {
    const takeover = this.#takeover;
    if (takeover === undefined || takeover.stage === "over") return "kept";
    const cells = statements.filter(({ query }) => query === insertCell);
    const [first] = cells;
    if (first === undefined) return "kept";
    const id = String(first.params[0]);
    const writer = this.#writers.get(`${process.id} ${id}`) ?? "";
    const { nowMs } = this.#world.timeline;
    if (nowMs === takeover.atMs && id === takeover.conversationId) return this.#part();
    if (takeover.stage === "first owner") return this.#first(takeover, cells, writer, process);
    if (id !== takeover.conversationId) return "kept";
    // What the one who was stopped had under way comes again: as it may.
    if (writer === takeover.incarnation || takeover.stage !== "second owner") return "kept";
    return this.#second(takeover, writer);
  }

  /** Another part of the batch that was met: each has a fate of its own. */
  #part(): Fate {
    const dice = this.#random.unit();
    return dice < 0.5 ? "torn" : dice < 0.7 ? "late" : dice < 0.85 ? "lost" : "kept";
  }

  /** Of a batch with several records, if there is one soon. */
  #first(
    takeover: Takeover,
    cells: readonly Statement[],
    writer: string,
    process: SimProcess,
  ): Fate {
    const { nowMs } = this.#world.timeline;
    const id = String(cells[0]?.params[0]);
    const several = cells.filter(({ params }) => params[0] === id).length > 1;
    if (!several && nowMs < takeover.beganMs + patienceMs) return "kept";
    if (!this.#stop(takeover, writer)) return "kept";
    takeover.stage = "second owner";
    takeover.conversationId = id;
    takeover.incarnation = writer;
    takeover.atMs = nowMs;
    takeover.lateMs = nowMs + 500 + this.#below(6_000);
    // What its storage process knows of it is lost with that one, or comes late.
    const dice = this.#random.unit();
    if (dice < 0.6) this.#kill(takeover, process);
    else if (dice < 0.8) this.#pause(takeover, process, 3_000);
    // Who takes over does not see what the others lack.
    if (this.#random.unit() < 0.8) this.#away(takeover, takeover.replica, 12_000);
    return this.#random.unit() < 0.75 ? "torn" : this.#part();
  }

  /** The next owner goes on, and is stopped after its first write or within it. */
  #second(takeover: Takeover, writer: string): Fate {
    const { nowMs } = this.#world.timeline;
    takeover.stage = "third owner";
    takeover.incarnation = writer;
    const dice = this.#random.unit();
    if (dice >= 0.85) {
      takeover.stage = "over";
      return "kept";
    }
    // Whoever comes then sees it.
    for (const heal of takeover.heals.splice(0)) heal();
    if (this.#random.unit() < 0.7)
      this.#away(takeover, (takeover.replica + 1 + this.#below(2)) % replicas, 3_000);
    if (dice < 0.4) {
      this.#world.timeline.in(5 + this.#below(120), () => void this.#stop(takeover, writer));
      return "kept";
    }
    this.#stop(takeover, writer);
    takeover.atMs = nowMs;
    takeover.lateMs = nowMs + 300 + this.#below(2_500);
    return dice < 0.75 ? "late" : this.#part();
  }

  /** A new owner has read what it takes over; it may stand still before it does anything with it. */
  #wasRead(id: string): void {
    const takeover = this.#takeover;
    if (takeover?.stage !== "third owner" || id !== takeover.conversationId) return;
    const shard = hash32(id) % this.#world.options.shards;
    const owner = this.#world.registry.owner(shard);
    if (owner === undefined || owner === takeover.incarnation) return;
    takeover.stage = "over";
    if (this.#random.unit() < 0.5) return;
    const { timeline } = this.#world;
    const process = this.#owner(owner);
    if (process === undefined) return;
    timeline.note(`takeover: ${process.address} stands still after it has read`);
    // Before what it was told comes to it. What it did not see is there for the next one.
    process.host.pause();
    this.#release(takeover);
    timeline.in(this.#below(200), () => this.#world.registry.endLease(process));
    this.#heal(takeover, 500 + this.#below(2_500), () => process.host.wake());
  }

  /** One that is alive, where another is, too. */
  #owner(incarnation: string): SimProcess | undefined {
    const well = this.#world.alive("delivery").filter(({ host }) => !host.paused);
    return well.length < 2 ? undefined : well.find(({ id }) => id === incarnation);
  }

  /** Dead, standing still, or cut off from the registry; its lease is over in any case. */
  #stop(takeover: Takeover, incarnation: string): boolean {
    const process = this.#owner(incarnation);
    if (process === undefined) return false;
    const { registry, timeline } = this.#world;
    const dice = this.#random.unit();
    timeline.note(`takeover: ${process.address} is stopped`);
    timeline.in(0, () => {
      registry.endLease(process);
      if (dice < 0.5) this.#kill(takeover, process);
      else if (dice < 0.85) this.#pause(takeover, process, 2_000 + this.#below(6_000));
      else this.#heal(takeover, 4_000, registry.cut(process, false));
    });
    return true;
  }

  #kill(takeover: Takeover, process: SimProcess): void {
    const { service, place, host } = process;
    if (host.dead || this.#world.alive(service).length < 2) return;
    this.#world.timeline.in(0, () => host.die("killed"));
    this.#heal(takeover, 2_000, () => void this.#world.startProcess(service, place));
  }

  #pause(takeover: Takeover, { host }: SimProcess, ms: number): void {
    host.pause();
    this.#heal(takeover, ms, () => host.wake());
  }

  #away(takeover: Takeover, replica: number, ms: number): void {
    const node = this.#cassandra.nodes[replica];
    if (node === undefined || this.#cassandra.nodes.some(({ up }) => !up)) return;
    node.goDown();
    this.#heal(takeover, ms, () => node.comeUp());
  }

  /** After that time, or when all is healed. */
  #heal({ heals }: Takeover, ms: number, heal: () => void): void {
    let over = false;
    const once = (): void => {
      if (over) return;
      over = true;
      heal();
    };
    heals.push(once);
    this.#world.timeline.in(ms, once);
  }

  #below(bound: number): number {
    return Math.floor(this.#random.unit() * bound);
  }
}
