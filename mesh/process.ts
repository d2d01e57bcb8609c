/** Runs one service as a process of a cluster: listens, finds the others, announces itself, and goes away without anybody's loss. What the service does it must not know. */
import type { DescService } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { type Clock, systemClock } from "./clock.ts";
import type { Directory, ServiceName } from "./directory.ts";
import { unavailable } from "./errors.ts";
import { EnvReader, type Setting, type SettingValues } from "./env.ts";
import { addHealth } from "./grpc/health.ts";
import { addReflection } from "./grpc/reflection.ts";
import { serveGrpc } from "./grpc/server.ts";
import { type MeshCredentials, meshCredentials } from "./grpc/tls.ts";
import { Handlers } from "./handlers.ts";
import { type HealthServer, serveHealth } from "./health-http.ts";
import { Identity } from "./identity.ts";
import type { MetricsServer } from "./metrics-http.ts";
import { noMetrics } from "./metrics.ts";
import { countLease, countReady } from "./process-meter.ts";
import type { Running, Surroundings } from "./lifecycle.ts";
import { listening } from "./listening.ts";
import type { LogLevel } from "./log.ts";
import {
  type DirectoryConfig,
  type OwnConfig,
  type Place,
  type ProcessConfig,
  addressOf,
  processConfig,
  settingsPrefix,
} from "./process-config.ts";
import { Links } from "./process-links.ts";
import { Ending } from "./process-ending.ts";
import { Admission } from "./process-admission.ts";
import { type Announced, Standing } from "./process-membership.ts";
import { type Random, systemRandom } from "./random.ts";
import { openTracing } from "./trace-config.ts";

/** What a service says about itself to be run as a process. */
export interface ServiceProcess<S extends DescService, C extends OwnConfig> {
  readonly name: ServiceName;
  readonly service: S;
  /** Its own settings. */
  readConfig(read: EnvReader): C;
  /** Waits for what is not there yet for as long as it takes; throws where waiting is of no use. */
  make(parts: Parts<C>): Promise<Made<S>>;
}

export interface Parts<C> {
  readonly config: C;
  readonly surroundings: Surroundings;
  readonly directory: Directory;
  /** Why the process cannot serve now, all in all. */
  readonly problems: () => string[];
  /** What will keep it from serving unless somebody does something. */
  readonly warnings: () => string[];
  /** What it waits for is what the process is not ready for. */
  waits(reason: string): void;
  /** Fires when the process ends. */
  readonly signal: AbortSignal;
}

export interface Made<S extends DescService> {
  readonly running: Running<S>;
  /** Takes the front over, where the service answers clients there. */
  readonly edge?: Edge;
  /** In the place of the service's own, if any. */
  drain?(boundMs: number): Promise<unknown>;
}

export interface Edge {
  listen(host: string, port: number): Promise<unknown>;
  close(graceMs: number): Promise<void>;
  /** Where the others say that clients reach it; empty: nowhere. */
  readonly url: string;
}

export type OpenDirectory = (
  config: DirectoryConfig,
  outside: { clock: Clock; random: Random; log: Logger },
  signal: AbortSignal,
) => Promise<Directory>;

export interface Outside {
  readonly log: Logger;
  readonly openDirectory: OpenDirectory;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** A service's command, whatever service it is. */
export interface Command {
  readonly name: ServiceName;
  /** Every setting there is, for documents and flags. */
  readonly settings: readonly Setting[];
  /** Throws one error that names everything that is wrong with the settings. */
  configured(values: SettingValues): Configured;
}

export interface Configured {
  readonly logLevel: LogLevel;
  /** Resolves when it listens, which is before it is ready. */
  start(outside: Outside): Promise<RunningProcess>;
}

export interface RunningProcess {
  readonly name: ServiceName;
  /** Of the present life. */
  readonly id: string;
  /** Where gRPC listens, "host:port". */
  readonly mesh: string;
  /** Where /healthz and /readyz are, and the edge, if any, "host:port". */
  readonly front: string;
  /** Resolves when it was stopped; rejects, with a sentence for people, where it cannot go on. */
  readonly ended: Promise<void>;
  /** Why it cannot serve now, a sentence each; empty: ready. */
  problems(): string[];
  /** Drains, leaves, closes: in bounded time. */
  stop(): Promise<void>;
}

/** How long calls may still take when the process closes. */
const graceMs = 1_000;
/** A step of the end that asks others, or lets go of something. */
const closeMs = 2_000;
/** What a service finishes when it closes. */
const serviceCloseMs = 6_000;
/** All that is let go of, together. */
const closeAllMs = 8_000;
/** What a drain may take beyond its bound. */
const drainLateMs = 1_000;

const loopback = /^(127\.|localhost$|::1$)/;

export function command<S extends DescService, C extends OwnConfig>(
  spec: ServiceProcess<S, C>,
): Command {
  const read = new EnvReader({}, settingsPrefix);
  readAll(spec, read);
  return {
    name: spec.name,
    settings: read.settings,
    configured(values) {
      const reader = new EnvReader(values, settingsPrefix);
      const { own, common } = reader.done(readAll(spec, reader));
      return {
        logLevel: common.logLevel,
        start: (outside) => Process.start(spec, own, common, outside),
      };
    },
  };
}

function readAll<S extends DescService, C extends OwnConfig>(
  spec: ServiceProcess<S, C>,
  read: EnvReader,
): { own: C; common: ProcessConfig } {
  const own = spec.readConfig(read);
  return { own, common: processConfig(read) };
}

class Process<S extends DescService, C extends OwnConfig> implements RunningProcess {
  readonly ended: Promise<void>;
  readonly #spec: ServiceProcess<S, C>;
  readonly #own: C;
  readonly #common: ProcessConfig;
  readonly #outside: Required<Outside>;
  readonly #identity: Identity;
  readonly #handlers = new Handlers();
  readonly #closing = new AbortController();
  readonly #ending: Ending;
  readonly #tls: MeshCredentials | undefined;
  #end: { resolve(): void; reject(error: unknown): void } | undefined;
  /** What it waits for before it can be announced. */
  #waitsFor: string | undefined = "it is starting";
  #begun: Promise<void> = Promise.resolve();
  #stopped: Promise<void> | undefined;
  #made: Made<S> | undefined;
  #standing: Standing | undefined;
  #mesh = "";
  #front: Front | undefined;
  #metrics: MetricsServer | undefined;

  private constructor(
    spec: ServiceProcess<S, C>,
    own: C,
    common: ProcessConfig,
    outside: Required<Outside>,
  ) {
    const { log, clock, random } = outside;
    this.#spec = spec;
    this.#own = own;
    this.#common = common;
    this.#outside = outside;
    this.#identity = new Identity(random);
    this.#ending = new Ending(clock, log);
    const { tls } = common;
    this.#tls = tls === undefined ? undefined : meshCredentials(tls, { log, clock });
    this.ended = new Promise((resolve, reject) => (this.#end = { resolve, reject }));
    // Whoever started it may look later, or never.
    this.ended.catch(() => undefined);
  }

  static async start<S extends DescService, C extends OwnConfig>(
    spec: ServiceProcess<S, C>,
    own: C,
    common: ProcessConfig,
    outside: Outside,
  ): Promise<RunningProcess> {
    const all = { clock: systemClock, random: systemRandom, ...outside };
    const process = new Process(spec, own, common, all);
    try {
      await process.#listen();
    } catch (error) {
      await process.#ending.closeAll();
      throw error;
    }
    process.#begun = process.#begin().catch((error: unknown) => process.#broken(error));
    return process;
  }

  get name(): ServiceName {
    return this.#spec.name;
  }

  get id(): string {
    return this.#identity.id;
  }

  get mesh(): string {
    return this.#mesh;
  }

  get front(): string {
    return this.#front?.address ?? "";
  }

  problems(): string[] {
    const problems = this.#closing.signal.aborted ? ["it is going away"] : [];
    problems.push(...(this.#tls?.problems() ?? []));
    if (this.#waitsFor !== undefined) problems.push(this.#waitsFor);
    // Once it is announced, it is no reason that etcd is away: the others go on with what they know.
    problems.push(...(this.#standing?.problems() ?? []));
    problems.push(...(this.#made?.running.problems() ?? []));
    return problems;
  }

  #warnings(): string[] {
    return this.#tls?.warnings() ?? [];
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  /** Health and reflection answer from now on, whatever the process waits for. */
  async #listen(): Promise<void> {
    const { log, clock } = this.#outside;
    const { mesh, tls, metrics } = this.#common;
    const problems = (): string[] => this.problems();
    this.#ending.add("the certificates", closeMs, () => Promise.resolve(this.#tls?.close()));
    addHealth(this.#handlers, problems, clock);
    addReflection(this.#handlers);
    if (metrics !== undefined) {
      const { serveMetrics } = await import("./metrics-http.ts");
      const shown = await listening("PARLEY_METRICS_PORT", serveMetrics(metrics));
      this.#ending.add("/metrics", closeMs, () => shown.close());
      this.#metrics = shown;
      countReady(shown.metrics, problems);
      countLease(shown.metrics, clock, this.#identity, () => this.#standing?.renewedMs);
    }
    const credentials = this.#tls === undefined ? {} : { credentials: this.#tls.server };
    const server = await listening(
      "PARLEY_MESH_PORT",
      serveGrpc({ ...mesh, handlers: this.#handlers, log, clock, ...credentials }),
    );
    this.#ending.add("gRPC", graceMs + closeMs, () => server.close(graceMs));
    this.#mesh = addressOf({ host: mesh.host, port: server.port });
    const { front, frontSetting } = this.#own;
    const health = await listening(
      frontSetting,
      serveHealth({ ...front, problems, warnings: () => this.#warnings() }),
    );
    this.#ending.add("/readyz", closeMs, () => health.close());
    const place = { host: front.host, port: health.port };
    this.#front = { place, address: addressOf(place), health };
    if (tls === undefined && !loopback.test(mesh.host))
      log.warn("gRPC listens to more than this machine, without TLS: whoever reaches it may call");
  }

  async #begin(): Promise<void> {
    const { clock, random, log, openDirectory } = this.#outside;
    const { directory: config } = this.#common;
    const { signal } = this.#closing;
    const identity = this.#identity;
    this.#waitsFor = `it waits for etcd at ${config.endpoints.join(", ")}`;
    const directory = await openDirectory(config, { clock, random, log }, signal);
    this.#ending.add("the directory", closeMs, () => directory.close());
    const credentials = this.#tls === undefined ? {} : { credentials: this.#tls.channel };
    const links = new Links(directory, { clock, log, ...credentials });
    this.#ending.add("the ways to others", closeMs, () => Promise.resolve(links.close()));
    const metrics = this.#metrics?.metrics ?? noMetrics;
    const outside = { clock, random, log, metrics, identity };
    const { tracer, close } = await openTracing(this.#common.trace, `parley-${this.name}`, outside);
    this.#ending.add("the traces", closeMs + closeMs, close);
    this.#waitsFor = "its service is starting";
    const made = await this.#spec.make({
      config: this.#own,
      surroundings: {
        ...outside,
        tracer,
        transport: (service) => links.transport(service),
        peers: (service) => links.peers(service),
      },
      directory,
      problems: () => this.problems(),
      warnings: () => this.#warnings(),
      waits: (reason) => (this.#waitsFor = reason),
      signal,
    });
    this.#ending.add(`the ${this.name}`, serviceCloseMs, () => made.running.close());
    signal.throwIfAborted();
    await made.running.start();
    this.#made = made;
    this.#handlers.add(this.#spec.service, made.running.service);
    const url = await this.#openEdge(made.edge);
    signal.throwIfAborted();
    this.#waitsFor = undefined;
    const faults = (): string[] => this.#tls?.problems() ?? [];
    const admission = new Admission({ directory, clock, random, faults, ...credentials });
    this.#standing = new Standing(
      { directory, identity, admission, clock, random, log, pins: made.running.pins },
      this.#announced(url),
    );
  }

  #announced(url: string): Announced {
    const { region, name } = this.#own;
    const address = this.#common.advertise ?? this.#mesh;
    return { service: this.name, name, address, region, url };
  }

  /** Answers where clients reach it; empty: nowhere. */
  async #openEdge(edge: Edge | undefined): Promise<string> {
    const front = this.#front;
    if (edge === undefined || front === undefined) return "";
    await front.health.close();
    const { host, port } = front.place;
    await listening(this.#own.frontSetting, edge.listen(host, port));
    this.#ending.add("the edge", graceMs + closeMs, () => edge.close(graceMs));
    return edge.url;
  }

  async #broken(error: unknown): Promise<void> {
    // What was waited for need not be told of any more.
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    await this.#ending.closeAll();
    this.#end?.reject(error);
  }

  async #stop(): Promise<void> {
    const { log } = this.#outside;
    const { drainMs } = this.#common;
    this.#closing.abort(unavailable("the process is going away"));
    await this.#ending.step("starting", closeMs, () => this.#begun);
    const standing = this.#standing;
    const made = this.#made;
    if (standing !== undefined && made !== undefined) {
      log.info({ drainMs }, "it goes away");
      await this.#ending.step("telling the others", closeMs, () => standing.drain());
      const drain = (): Promise<unknown> =>
        made.drain?.(drainMs) ?? made.running.drain?.(drainMs) ?? Promise.resolve();
      await this.#ending.step("draining", drainMs + drainLateMs, drain);
      await this.#ending.step("leaving the others", closeMs, () => standing.leave());
    }
    await this.#ending.step("closing", closeAllMs, () => this.#ending.closeAll());
    log.info("it has gone");
    this.#end?.resolve();
  }
}

interface Front {
  readonly place: Place;
  readonly address: string;
  readonly health: HealthServer;
}
