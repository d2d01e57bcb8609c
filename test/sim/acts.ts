/** What else is done in a wide world, besides what people write: images, floods, and what operators do. A list made from the seed beforehand. */
import type { Random } from "../../mesh/random.ts";
import { Floods } from "./floods.ts";
import { Images } from "./images.ts";
import { Operator } from "./operator.ts";
import type { Removals } from "./removed.ts";
import type { Workload } from "./workload.ts";
import type { World } from "./world.ts";

export const actKinds = [
  "moves a shard",
  "rolls",
  "sends an image",
  "floods",
  "erases",
  "trims",
] as const;
export type ActKind = (typeof actKinds)[number];

export interface Act {
  readonly kind: ActKind;
  readonly atMs: number;
  /** Who and what it is about: numbers from 0 to 1. */
  readonly who: readonly [number, number, number];
}

function act(random: Random, kind: ActKind, toMs: number): Act {
  const atMs = Math.round(500 + random.unit() * (toMs - 500));
  return { kind, atMs, who: [random.unit(), random.unit(), random.unit()] };
}

export const twiceEach = (random: Random, kinds: readonly ActKind[], toMs: number): Act[] =>
  [...kinds, ...kinds].map((kind) => act(random, kind, toMs));

export function actsOf(random: Random, count: number, toMs: number): Act[] {
  const rare: Act[] = [];
  if (random.unit() < 0.3) rare.push(act(random, "erases", toMs));
  if (random.unit() < 0.3) rare.push(act(random, "trims", toMs));
  const often = Array.from({ length: count }, () => {
    const dice = random.unit();
    // A rolling restart of all of a service is much at once.
    const kind: ActKind =
      dice < 0.35
        ? "moves a shard"
        : dice < 0.75
          ? "sends an image"
          : dice < 0.9
            ? "floods"
            : "rolls";
    return act(random, kind, toMs);
  });
  return [...often, ...rare];
}

export class Acts implements Removals {
  readonly done = new Map<ActKind, number>();
  readonly images: Images;
  readonly floods: Floods;
  readonly operator: Operator;
  readonly erased = new Map<string, number>();
  readonly trimmed = new Map<string, number>();
  /** Which service restarts meanwhile; undefined: nobody is erased. */
  #erases: number | undefined;
  readonly #world: World;
  readonly #workload: Workload;

  constructor(world: World, workload: Workload) {
    this.#world = world;
    this.#workload = workload;
    this.images = new Images(world, workload);
    this.floods = new Floods(world);
    this.operator = new Operator(world);
  }

  arm(acts: readonly Act[], fromMs: number): void {
    for (const act of acts)
      this.#world.timeline.at(fromMs + act.atMs, () => {
        if (!this.#do(act)) return;
        this.done.set(act.kind, (this.done.get(act.kind) ?? 0) + 1);
      });
  }

  /**
   * All is in good order, and nobody writes: now users are erased, while processes restart. What is under way when its user is marked may
   * be committed behind the erasure's back: see docs/guarantees.md, what is not mended yet.
   */
  healed(): void {
    const { erasable: userId } = this.#workload;
    if (this.#erases === undefined || userId === undefined) return;
    this.#workload.erasing(userId);
    this.operator.erase(userId, () => this.erased.set(userId, this.#world.timeline.nowMs));
    this.operator.roll(this.#erases);
  }

  /** Whether nothing of it goes on. */
  get over(): boolean {
    return !this.operator.busy && this.images.over;
  }

  #trim([where, forMs]: Act["who"]): boolean {
    const all = [...this.#workload.members.keys()];
    const conversationId = all[Math.floor(where * all.length)];
    if (conversationId === undefined) return false;
    const keptMs = 1 + Math.floor(forMs * 5_000);
    this.operator.trim(conversationId, keptMs, (floorSeq) => {
      const known = this.trimmed.get(conversationId) ?? 1;
      this.trimmed.set(conversationId, Math.max(known, floorSeq));
    });
    return true;
  }

  /** False where there is nobody to do it. */
  #do({ kind, who }: Act): boolean {
    switch (kind) {
      case "moves a shard":
        return this.operator.moveShard(who);
      case "rolls":
        return this.operator.roll(who[0]);
      case "sends an image":
        return this.images.send(who);
      case "floods":
        return this.floods.begin(who);
      case "erases":
        this.#erases = who[0];
        return true;
      case "trims":
        return this.#trim(who);
    }
  }
}
