/** A process of the cluster in the simulated world: composed, announced and ended as mesh/process.ts does it, over simulated ways. */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { ServiceImpl } from "@connectrpc/connect";
import { delivery } from "../../delivery/main.ts";
import type { Gateway } from "../../gateway/index.ts";
import { createGateway, gatewayConfig } from "../../gateway/index.ts";
import type { Directory, ServiceName } from "../../mesh/directory.ts";
import { EnvReader } from "../../mesh/env.ts";
import { unavailable } from "../../mesh/errors.ts";
import { Handlers } from "../../mesh/handlers.ts";
import { Identity } from "../../mesh/identity.ts";
import type { Running, Surroundings } from "../../mesh/lifecycle.ts";
import { noMetrics } from "../../mesh/metrics.ts";
import { Ending } from "../../mesh/process-ending.ts";
import { Standing } from "../../mesh/process-membership.ts";
import type { ServiceProcess } from "../../mesh/process.ts";
import type { OwnConfig } from "../../mesh/process-config.ts";
import { presence } from "../../presence/main.ts";
import { DeliveryService } from "../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { PresenceService } from "../../proto/gen/parley/presence/v1/presence_pb.ts";
import { SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { session } from "../../session/main.ts";
import { createStorage } from "../../storage/index.ts";
import type { Callee } from "./calls.ts";
import { simAuth, SimEdge } from "./edge.ts";
import type { Host } from "./host.ts";
import { SimLinks } from "./links.ts";
import type { Edge } from "./sockets.ts";
import type { World } from "./world.ts";

const closeMs = 2_000;
const serviceCloseMs = 6_000;
const closeAllMs = 8_000;
const drainLateMs = 1_000;
const graceMs = 1_000;
const edgeCloseMs = graceMs + 500;

interface Made {
  readonly running: Running<DescService>;
  drain?(boundMs: number): Promise<unknown>;
}

/** There are no certificates in this world. */
const allLetIn = { ask: () => Promise.resolve({ t: "let in" as const }) };

export class SimProcess implements Callee, Edge {
  readonly service: ServiceName;
  /** Which of the service's machines; the same over its lives. */
  readonly place: number;
  readonly host: Host;
  readonly handlers = new Handlers();
  readonly #world: World;
  readonly #identity: Identity;
  readonly #closing = new AbortController();
  readonly #ending: Ending;
  #listens = false;
  #made: Made | undefined;
  #gateway: Gateway | undefined;
  #edge: SimEdge | undefined;
  #standing: Standing | undefined;
  #stopped: Promise<void> | undefined;
  #gone = false;

  constructor(world: World, service: ServiceName, place: number, host: Host) {
    this.#world = world;
    this.service = service;
    this.place = place;
    this.host = host;
    this.#identity = new Identity(host.random);
    this.#ending = new Ending(host.clock, world.logOf(host.name));
  }

  get id(): string {
    return this.#identity.id;
  }

  get address(): string {
    return this.host.name;
  }

  get listening(): boolean {
    return this.#listens && !this.host.dead;
  }

  /** Whether it is no more, or on its way out. */
  get ends(): boolean {
    return this.host.dead || this.#closing.signal.aborted;
  }

  get gone(): boolean {
    return this.#gone;
  }

  get gateway(): Gateway {
    if (this.#gateway === undefined) throw new Error(`${this.address} is no gateway`);
    return this.#gateway;
  }

  problems(): string[] {
    if (this.#standing === undefined) return ["it is starting"];
    return [...this.#standing.problems(), ...(this.#made?.running.problems() ?? [])];
  }

  onInternalError = (error: unknown, method: DescMethod): void => {
    this.#world.internalError(this.address, method.name, error);
  };

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.gateway.upgrade(request, socket, head);
  }

  serve(socket: Duplex): void {
    if (this.#edge === undefined) throw new Error(`${this.address} has no HTTP in this world`);
    this.#edge.serve(socket);
  }

  begin(): void {
    this.#begin().catch((error: unknown) => {
      if (!this.#closing.signal.aborted) this.#world.timeline.fail(error);
    });
  }

  /** As a stop by an operator: drains, leaves, closes. */
  stop(drainMs: number): Promise<void> {
    this.#stopped ??= this.#stop(drainMs);
    return this.#stopped;
  }

  async #begin(): Promise<void> {
    const { host, handlers } = this;
    const { clock, random } = host;
    const log = this.#world.logOf(host.name);
    const { signal } = this.#closing;
    const directory = await this.#world.openDirectory(this, { clock, random, log }, signal);
    this.#ending.add("the directory", closeMs, () => directory.close());
    const links = new SimLinks(directory, this.#world.linkParts(host));
    this.#ending.add("the ways to others", closeMs, () => Promise.resolve(links.close()));
    const surroundings: Surroundings = {
      clock,
      random,
      log,
      identity: this.#identity,
      metrics: noMetrics,
      transport: (service) => links.transport(service),
      peers: (service) => links.peers(service),
    };
    const made = await this.#make(surroundings, directory);
    this.#ending.add(`the ${this.service}`, serviceCloseMs, () => made.running.close());
    signal.throwIfAborted();
    await made.running.start();
    this.#made = made;
    const served = serviceOf(this.service);
    const implementation: ServiceImpl<DescService> = made.running.service;
    const { patch } = this.#world.options;
    handlers.add(served, patch?.service?.(implementation, served, this) ?? implementation);
    this.#listens = true;
    this.#ending.add("the edge", edgeCloseMs, async () => {
      this.#listens = false;
      await this.#edge?.close(graceMs);
    });
    this.#standing = new Standing(
      { directory, identity: this.#identity, admission: allLetIn, clock, random, log },
      {
        service: this.service,
        name: "",
        address: this.address,
        region: "",
        url: this.service === "gateway" ? `http://${this.address}` : "",
      },
    );
  }

  async #make(surroundings: Surroundings, directory: Directory): Promise<Made> {
    const read = new EnvReader(this.#world.settings, "PARLEY_");
    const parts = {
      surroundings,
      directory,
      problems: () => this.problems(),
      warnings: () => [],
      waits: () => undefined,
      signal: this.#closing.signal,
    };
    const by = async <S extends DescService, C extends OwnConfig>(
      spec: ServiceProcess<S, C>,
    ): Promise<Made> => spec.make({ ...parts, config: spec.readConfig(read) });
    switch (this.service) {
      case "session":
        return by(session);
      case "presence":
        return by(presence);
      case "delivery":
        return by(delivery);
      case "storage": {
        const store = await this.#world.openStore(this, surroundings);
        const media = this.#world.mediaOf(this.host);
        return { running: createStorage(surroundings, { store, media }) };
      }
      case "gateway": {
        const config = gatewayConfig(read);
        const gateway = createGateway(surroundings, config, simAuth, directory.shards);
        this.#gateway = gateway;
        if (this.#world.options.wide)
          this.#edge = new SimEdge(surroundings, gateway, this.#world.limits);
        return {
          running: gateway,
          drain: (boundMs) => gateway.drain(boundMs),
        };
      }
    }
  }

  async #stop(drainMs: number): Promise<void> {
    this.#closing.abort(unavailable("the process is going away"));
    const standing = this.#standing;
    const made = this.#made;
    if (standing !== undefined && made !== undefined) {
      await this.#ending.step("telling the others", closeMs, () => standing.drain());
      const drain = (): Promise<unknown> =>
        made.drain?.(drainMs) ?? made.running.drain?.(drainMs) ?? Promise.resolve();
      await this.#ending.step("draining", drainMs + drainLateMs, drain);
      await this.#ending.step("leaving the others", closeMs, () => standing.leave());
    }
    await this.#ending.step("closing", closeAllMs, () => this.#ending.closeAll());
    this.#gone = true;
    this.host.die("killed");
  }
}

function serviceOf(name: ServiceName): DescService {
  switch (name) {
    case "gateway":
      return GatewayService;
    case "session":
      return SessionService;
    case "delivery":
      return DeliveryService;
    case "presence":
      return PresenceService;
    case "storage":
      return StorageService;
  }
}
