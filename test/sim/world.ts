/** The simulated world: hosts, the network, the registry, the store, processes and devices, all under one virtual clock and one seed. */
import { pino } from "pino";
import type { Logger } from "pino";
import type { Clock } from "../../mesh/clock.ts";
import type { Directory, ServiceName } from "../../mesh/directory.ts";
import { serviceNames } from "../../mesh/directory.ts";
import type { SettingValues } from "../../mesh/env.ts";
import type { Surroundings } from "../../mesh/lifecycle.ts";
import type { Random } from "../../mesh/random.ts";
import { seededRandom } from "../../mesh/random.ts";
import { type MediaStore, openMemoryStore, type Store } from "../../storage/index.ts";
import { SimDevice, type Way } from "./device.ts";
import { simLimits } from "./edge.ts";
import { SimEtcd } from "./etcd.ts";
import { Host } from "./host.ts";
import type { LinkParts } from "./links.ts";
import { SimMedia, withoutMedia } from "./media.ts";
import { Network, type Settings as NetworkSettings } from "./network.ts";
import type { Patch } from "./patch.ts";
import { SimProcess } from "./process.ts";
import type { Tearing } from "./store/tearing.ts";
import { Timeline } from "./timeline.ts";

/** Makes a storage process's store; all of a world's keep the same rows. */
export type OpenStore = (process: SimProcess, surroundings: Surroundings) => Promise<Store>;
export type StoreFactory = (world: World) => OpenStore;

export interface WorldOptions {
  readonly seed: number;
  /** How many processes of each service. */
  readonly processes: Readonly<Record<ServiceName, number>>;
  readonly shards: number;
  readonly leaseMs: number;
  readonly network: NetworkSettings;
  /** Clocks are off by that much at most, and run that much faster or slower. */
  readonly clockOffsetMs: number;
  readonly clockDrift: number;
  readonly turnMs: number;
  /** Every message between processes is encoded and decoded. */
  readonly wire: boolean;
  readonly settings: SettingValues;
  /** There is HTTP, with images, besides WebSockets. */
  readonly wide?: boolean;
  readonly store?: StoreFactory;
  /** What is broken on purpose. */
  readonly patch?: Patch;
  /** Where set, told what processes log. */
  readonly log?: (line: string) => void;
}

export class World {
  readonly timeline = new Timeline();
  readonly network: Network;
  readonly options: WorldOptions;
  readonly processes: SimProcess[] = [];
  readonly devices: SimDevice[] = [];
  readonly internalErrors: string[] = [];
  readonly registry: SimEtcd;
  readonly media: SimMedia | undefined;
  /** Of calls over HTTP. */
  limits = simLimits;
  /** Where takeovers may be torn. */
  tearing: Tearing | undefined;
  readonly #openStore: OpenStore;
  readonly #byAddress = new Map<string, SimProcess>();
  readonly #lives = new Map<string, number>();

  constructor(options: WorldOptions) {
    this.options = options;
    this.network = new Network(this.timeline, this.chance("network"), options.network);
    this.registry = new SimEtcd(this);
    this.media = options.wide === true ? new SimMedia(this.chance("media")) : undefined;
    this.#openStore = (options.store ?? memoryStore)(this);
    options.patch?.world?.(this);
  }

  get settings(): SettingValues {
    return this.options.settings;
  }

  /** Chance for one purpose, which no other purpose disturbs. */
  chance(purpose: string): Random {
    let hash = this.options.seed >>> 0;
    for (const character of purpose)
      hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x5bd1e995) ^ (hash >>> 15);
    return seededRandom(hash);
  }

  /** All processes begin. */
  begin(): void {
    for (const service of serviceNames)
      for (let place = 0; place < this.options.processes[service]; place += 1)
        this.startProcess(service, place);
  }

  startProcess(service: ServiceName, place: number): SimProcess {
    const machine = `${service}${place}`;
    const life = (this.#lives.get(machine) ?? 0) + 1;
    this.#lives.set(machine, life);
    const host = this.host(`${machine}.${life}`, machine);
    const process = new SimProcess(this, service, place, host);
    this.processes.push(process);
    this.#byAddress.set(process.address, process);
    process.begin();
    return process;
  }

  /** Those of a service that are up, or wake one day. */
  alive(service: ServiceName): SimProcess[] {
    return this.processes.filter((one) => one.service === service && !one.ends);
  }

  /** The clock is the machine's, whatever lives on it. */
  host(name: string, machine = name): Host {
    const chance = this.chance(`clock ${machine}`);
    const { clockOffsetMs, clockDrift, turnMs } = this.options;
    const host = new Host(this.timeline, name, this.chance(name), {
      offsetMs: Math.round((chance.unit() - 0.5) * 2 * clockOffsetMs),
      drift: (chance.unit() - 0.5) * 2 * clockDrift,
      turnMs,
    });
    this.network.add(host);
    return host;
  }

  device(userId: string, deviceId: string, way: Way = "websocket"): SimDevice {
    const device = new SimDevice(this, userId, deviceId, way);
    this.devices.push(device);
    return device;
  }

  at(address: string): SimProcess | undefined {
    return this.#byAddress.get(address);
  }

  linkParts(host: Host): LinkParts {
    const { network } = this;
    return { network, host, wire: this.options.wire, at: (address) => this.at(address) };
  }

  openDirectory(
    process: SimProcess,
    outside: { clock: Clock; random: Random; log: Logger },
    signal: AbortSignal,
  ): Promise<Directory> {
    const { patch } = this.options;
    return this.registry
      .open(process, outside, signal)
      .then((directory) => patch?.directory?.(directory, process) ?? directory);
  }

  /** Any that takes connections, as a load balancer finds them. */
  anyGateway(host: Host): SimProcess | undefined {
    const all = this.processes.filter((one) => one.service === "gateway" && one.listening);
    return all[Math.floor(host.random.unit() * all.length)];
  }

  mediaOf(host: Host): MediaStore {
    return this.media?.of(host) ?? withoutMedia;
  }

  openStore(process: SimProcess, surroundings: Surroundings): Promise<Store> {
    return this.#openStore(process, surroundings);
  }

  logOf(name: string): Logger {
    const { log } = this.options;
    if (log === undefined) return silent;
    const { timeline } = this;
    const options = { level: "debug", base: null, timestamp: false } as const;
    return pino(options, {
      write: (line) => log(`${timeline.nowMs.toFixed(3)} ${name} ${line.trim()}`),
    });
  }

  internalError(where: string, method: string, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.internalErrors.push(`${where} ${method}: ${text}`);
    this.timeline.note(`internal error at ${where} in ${method}`);
  }
}

const silent = pino({ level: "silent", timestamp: false });

/** One store in memory behind all storage processes: it never fails. */
const memoryStore: StoreFactory = () => {
  const store = openMemoryStore();
  // A storage process that ends does not end the rows.
  const shared = new Proxy(store, {
    get(target, name) {
      if (name === "close") return () => Promise.resolve();
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return () => Promise.resolve(shared);
};
