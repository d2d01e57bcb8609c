/** The harm that a run does: a list made from the seed beforehand, so that any of it can be left out of a second run. */
import type { ServiceName } from "../../mesh/directory.ts";
import type { Random } from "../../mesh/random.ts";
import type { Host } from "./host.ts";
import type { World } from "./world.ts";

export const faultKinds = [
  "kill",
  "vanish",
  "pause",
  "stop",
  "cut-one-way",
  "cut-both-ways",
  "isolate",
  "break",
  "slow",
  "registry-away",
  "registry-unheard",
  "lease-ends",
  "device-vanishes",
  "device-leaves",
  "device-unreachable",
  "device-reads-slowly",
] as const;
/** Only where it is asked for, and only over a Cassandra whose writes can be torn: an adversary that watches the takeovers of shards. */
const tornTakeover = "torn-takeover";
export type FaultKind = (typeof faultKinds)[number] | typeof tornTakeover;

export interface Fault {
  readonly kind: FaultKind;
  readonly atMs: number;
  /** Until it is over: healed, started again, awake. */
  readonly forMs: number;
  /** Who it hits, among those that there are then: numbers from 0 to 1. */
  readonly who: readonly [number, number, number];
}

const targets: readonly ServiceName[] = ["gateway", "session", "delivery", "presence", "storage"];

/** So many faults of these kinds, spread over the time. */
export function faultsOf(
  random: Random,
  kinds: readonly FaultKind[],
  count: number,
  [fromMs, toMs]: readonly [number, number],
): Fault[] {
  return Array.from({ length: count }, () => {
    const kind = kinds[Math.floor(random.unit() * kinds.length)] ?? "kill";
    // Mostly short, now and then as long as a process may stand still.
    const most = random.unit() < 0.25 ? 60_000 : 6_000;
    return {
      kind,
      atMs: Math.round(fromMs + random.unit() * (toMs - fromMs)),
      forMs: Math.round(50 + random.unit() * most),
      who: [random.unit(), random.unit(), random.unit()] as const,
    };
  }).sort((one, other) => one.atMs - other.atMs);
}

export const named = ({ kind, atMs, forMs }: Fault): string => `${kind} at ${atMs} for ${forMs} ms`;

function among<T>(all: readonly T[], chance: number): T | undefined {
  return all[Math.floor(chance * all.length)];
}

export class Faults {
  readonly injected = new Map<FaultKind, number>();
  /** Names of the devices that were hit themselves. */
  readonly devicesHit = new Set<string>();
  readonly #world: World;
  /** What brings things back to good order, for those that are not over. */
  readonly #open = new Map<Fault, () => void>();

  constructor(world: World) {
    this.#world = world;
  }

  arm(faults: readonly Fault[]): void {
    for (const fault of faults) this.#world.timeline.at(fault.atMs, () => this.#inject(fault));
  }

  /** All that is still wrong is put right. */
  heal(): void {
    for (const heal of this.#open.values()) heal();
    this.#open.clear();
  }

  #inject(fault: Fault): void {
    const { timeline } = this.#world;
    const done = this.#do(fault);
    if (done === undefined) return;
    this.injected.set(fault.kind, (this.injected.get(fault.kind) ?? 0) + 1);
    timeline.note(`fault: ${fault.kind} ${done.what} for ${fault.forMs} ms`);
    this.#open.set(fault, done.heal);
    timeline.in(fault.forMs, () => {
      if (!this.#open.delete(fault)) return;
      timeline.note(`over: ${fault.kind} ${done.what}`);
      done.heal();
    });
  }

  /** Undefined where there is nobody to hit. */
  #do(fault: Fault): { what: string; heal: () => void } | undefined {
    const { kind } = fault;
    if (kind === tornTakeover) return this.#toTakeover();
    if (kind.startsWith("device-")) return this.#toDevice(fault);
    if (kind.startsWith("registry-") || kind === "lease-ends") return this.#toRegistry(fault);
    if (kind === "kill" || kind === "vanish" || kind === "pause" || kind === "stop")
      return this.#toProcess(fault);
    return this.#toNetwork(fault);
  }

  #process([service, which]: Fault["who"]) {
    const name = among(targets, service) ?? "delivery";
    return among(this.#world.alive(name), which);
  }

  #toProcess({ kind, forMs, who }: Fault) {
    const world = this.#world;
    const process = this.#process(who);
    if (process === undefined) return undefined;
    const { service, place, host, address: what } = process;
    const again = (): void => void world.startProcess(service, place);
    switch (kind) {
      case "pause":
        host.pause();
        return { what, heal: () => host.wake() };
      case "stop": {
        // The next one starts when this one has gone, as a rolling restart does.
        const drainMs = Math.min(forMs, 10_000);
        void process.stop(drainMs).then(again, (error: unknown) => world.timeline.fail(error));
        return { what, heal: () => undefined };
      }
      default:
        host.die(kind === "vanish" ? "vanished" : "killed");
        return { what, heal: again };
    }
  }

  #toNetwork({ kind, forMs, who }: Fault) {
    const { network } = this.#world;
    const one = this.#process(who)?.host;
    if (one === undefined) return undefined;
    const others = network.partners(one).filter((host) => !host.dead);
    if (kind === "isolate") return { what: one.name, heal: network.isolate(one) };
    const other = among(others, who[2]);
    if (other === undefined) return undefined;
    const what = `${one.name} ${other.name}`;
    switch (kind) {
      case "cut-one-way": {
        const [from, to] =
          who[2] * 1_000 - Math.floor(who[2] * 1_000) < 0.5 ? [one, other] : [other, one];
        return { what: `${from.name} to ${to.name}`, heal: network.cut(from, to) };
      }
      case "cut-both-ways": {
        const heals = [network.cut(one, other), network.cut(other, one)];
        return { what, heal: () => heals.forEach((heal) => heal()) };
      }
      case "slow":
        return { what, heal: network.slow(one, other, Math.min(forMs, 3_000)) };
      default:
        network.break(one, other);
        return { what, heal: () => undefined };
    }
  }

  #toRegistry({ kind, who }: Fault) {
    const world = this.#world;
    const process = this.#process(who);
    if (kind === "registry-away") return { what: "", heal: world.registry.away() };
    if (process === undefined) return undefined;
    if (kind === "registry-unheard")
      return { what: process.address, heal: world.registry.cut(process, who[2] < 0.5) };
    world.registry.endLease(process);
    return { what: process.address, heal: () => undefined };
  }

  #toTakeover() {
    const heal = this.#world.tearing?.begin();
    return heal && { what: "", heal };
  }

  #toDevice({ kind, who }: Fault) {
    const { network, devices } = this.#world;
    const device = among(devices, who[0]);
    if (device === undefined || device.life.ended) return undefined;
    const { name: what } = device;
    this.devicesHit.add(what);
    const { host }: { host: Host } = device.life;
    switch (kind) {
      case "device-vanishes":
        device.vanish();
        return { what, heal: () => device.restart() };
      case "device-leaves":
        device.disconnect();
        return { what, heal: () => device.connect() };
      case "device-reads-slowly":
        device.readMs = 50 + who[1] * 1_000;
        return { what, heal: () => void (device.readMs = 0) };
      default: {
        const gateways = this.#world.processes.filter(({ service }) => service === "gateway");
        const heals = gateways.flatMap((gateway) => {
          if (who[1] < 0.3) return [network.cut(host, gateway.host)];
          if (who[1] < 0.6) return [network.cut(gateway.host, host)];
          return [network.cut(host, gateway.host), network.cut(gateway.host, host)];
        });
        return { what, heal: () => heals.forEach((heal) => heal()) };
      }
    }
  }
}

/** Typed so that a list of kinds may come from a command line. */
export const isFaultKind = (text: string): text is FaultKind =>
  text === tornTakeover || faultKinds.some((kind) => kind === text);
