/** The whole service in one process: five services over the local mesh and the embedded store, the edge for clients, gRPC for operators. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Transport } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { ParleyConfig } from "./config.ts";
import { builtPage } from "./built-page.ts";
import { openFileShards } from "./registry.ts";
import { ownSecret } from "./secret.ts";
import { createDelivery, embeddedPace } from "../delivery/index.ts";
import {
  type Authenticator,
  type Gateway,
  createAuthenticator,
  createEdgeServer,
  createGateway,
  createMedia,
  createPage,
} from "../gateway/index.ts";
import { type Clock, systemClock } from "../mesh/clock.ts";
import { type GrpcServer, serveGrpc } from "../mesh/grpc/server.ts";
import { addHealth } from "../mesh/grpc/health.ts";
import { addReflection } from "../mesh/grpc/reflection.ts";
import { Identity } from "../mesh/identity.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { listening } from "../mesh/listening.ts";
import { LocalMesh } from "../mesh/local.ts";
import { type Metrics, noMetrics } from "../mesh/metrics.ts";
import { PeerTable, peerOf } from "../mesh/peers.ts";
import { countReady } from "../mesh/process-meter.ts";
import { type Random, systemRandom } from "../mesh/random.ts";
import { openTracing } from "../mesh/trace-config.ts";
import { createPresence } from "../presence/index.ts";
import { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { PresenceService } from "../proto/gen/parley/presence/v1/presence_pb.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { createSession } from "../session/index.ts";
import { createStorage, openLmdbStore, openMediaFolder } from "../storage/index.ts";

export { type ParleyConfig, parleyConfig, parleySettings } from "./config.ts";
export { signDevelopmentToken } from "../gateway/index.ts";
export { backUp, verifyData } from "../storage/index.ts";

export interface Parley {
  /** Where clients connect. */
  readonly port: number;
  /** Where gRPC listens. */
  readonly meshPort: number;
  /** Whether tokens are checked with a secret that the process made for itself. */
  readonly ownSecret: boolean;
  /** Whether there is a web page at the clients' address. */
  readonly page: boolean;
  /** Sends clients away, finishes what is under way, lets go of the data directory. */
  close(): Promise<void>;
}

export interface Outside {
  readonly log: Logger;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** How long calls may still take when the process closes. */
const graceMs = 2_000;

export async function startParley(config: ParleyConfig, outside: Outside): Promise<Parley> {
  const { log, clock = systemClock, random = systemRandom } = outside;
  const closers: Closers = [];
  const close = async (): Promise<void> => {
    for (let closer = closers.pop(); closer !== undefined; closer = closers.pop()) await closer();
  };
  const onInternalError = (error: unknown): void => log.error({ err: error }, "a call failed");
  const mesh = new LocalMesh({ clock, onInternalError });
  const transport = (): Transport => mesh.transport(StorageService);
  const identity = new Identity(random);
  const alone = new PeerTable([peerOf(identity.id, transport())]);
  const peers = (): PeerTable => alone;
  try {
    const metrics = await metricsOf(config, closers);
    const counted = { clock, random, log, metrics, identity };
    const { tracer, close: closeTraces } = await openTracing(config.trace, "parley", counted);
    closers.push(closeTraces);
    const surroundings: Surroundings = { ...counted, tracer, transport, peers };
    const services = await startServices(config, surroundings, mesh, closers);
    countReady(metrics, services.problems);
    const { port: meshPort } = await serveOperators(config, services, surroundings, closers);
    const port = await serveClients(config, services, surroundings, closers);
    const page = pageDirectory(config) !== "";
    return { port, meshPort, ownSecret: ownsSecret(config), page, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What is to be closed, in the order in which it was opened. */
type Closers = (() => Promise<unknown>)[];

interface Services {
  readonly mesh: LocalMesh;
  readonly auth: Authenticator;
  /** What tokens are signed with that the process may issue itself; "": none. */
  readonly ownSecret: string;
  readonly gateway: Gateway;
  /** Why the process cannot serve now. */
  readonly problems: () => string[];
}

async function startServices(
  config: ParleyConfig,
  surroundings: Surroundings,
  mesh: LocalMesh,
  closers: Closers,
): Promise<Services> {
  const { dataDirectory } = config;
  const { random } = surroundings;
  const store = await openLmdbStore(dataDirectory, { ...surroundings, config: config.storage });
  closers.push(
    () => store.close(),
    () => mesh.close(),
  );
  const media = await openMediaFolder(join(dataDirectory, "media"), random);
  const own = ownsSecret(config) ? await ownSecret(dataDirectory, random) : "";
  const auth = await createAuthenticator(await keyOf(config, own), surroundings.clock);
  const storage = createStorage(surroundings, { store, media });
  const session = createSession(surroundings, config.session);
  const presence = createPresence(surroundings, config.presence);
  const shards = await openFileShards(dataDirectory);
  const delivery = createDelivery(surroundings, config.delivery, shards, embeddedPace);
  const gateway = createGateway(surroundings, config.gateway, auth, shards);
  mesh.serve(StorageService, storage.service);
  mesh.serve(SessionService, session.service);
  mesh.serve(PresenceService, presence.service);
  mesh.serve(DeliveryService, delivery.service);
  mesh.serve(GatewayService, gateway.service);
  const running = [storage, session, presence, delivery, gateway];
  for (const one of running) {
    await one.start();
    closers.push(() => one.close());
  }
  return {
    mesh,
    auth,
    ownSecret: own,
    gateway,
    problems: () => running.flatMap((one) => one.problems()),
  };
}

async function metricsOf({ metrics }: ParleyConfig, closers: Closers): Promise<Metrics> {
  if (metrics === undefined) return noMetrics;
  const { serveMetrics } = await import("../mesh/metrics-http.ts");
  const shown = await listening("PARLEY_METRICS_PORT", serveMetrics(metrics));
  closers.push(() => shown.close());
  return shown.metrics;
}

/** gRPC with health and reflection. */
async function serveOperators(
  { meshHost, meshPort }: ParleyConfig,
  { mesh, problems }: Services,
  { clock, log }: Surroundings,
  closers: Closers,
): Promise<GrpcServer> {
  addHealth(mesh.handlers, problems, clock);
  addReflection(mesh.handlers);
  const { handlers } = mesh;
  const server = await listening(
    "PARLEY_MESH_PORT",
    serveGrpc({ host: meshHost, port: meshPort, handlers, log, clock }),
  );
  closers.push(() => server.close(graceMs));
  return server;
}

/** The edge: WebSocket, Connect, media. */
async function serveClients(
  settings: ParleyConfig,
  { auth, ownSecret: secret, gateway, problems }: Services,
  surroundings: Surroundings,
  closers: Closers,
): Promise<number> {
  const { clock, log } = surroundings;
  const { edge: config, media, drainMs } = settings;
  const { host, port } = settings.gateway;
  const page = { ...settings.page, directory: pageDirectory(settings) };
  const edge = createEdgeServer({
    calls: gateway.calls,
    auth,
    upgrade: (request, socket, head, address) => gateway.upgrade(request, socket, head, address),
    media: createMedia(surroundings, auth, media),
    page: await createPage(page, secret, clock),
    health: problems,
    clock,
    log,
    config,
  });
  const bound = await listening("PARLEY_PORT", edge.listen(host, port));
  closers.push(
    () => edge.close(graceMs),
    () => gateway.drain(drainMs),
  );
  return bound;
}

const pageDirectory = ({ page }: ParleyConfig): string => page.directory || builtPage();

const ownsSecret = ({ jwtSecret, jwtPublicKeyFile, jwksUrl }: ParleyConfig): boolean =>
  jwtSecret === undefined && jwtPublicKeyFile === undefined && jwksUrl === undefined;

async function keyOf(
  config: ParleyConfig,
  own: string,
): Promise<Parameters<typeof createAuthenticator>[0]> {
  if (config.jwksUrl !== undefined) return { jwksUrl: config.jwksUrl };
  if (config.jwtPublicKeyFile !== undefined)
    return { publicKeyPem: await readFile(config.jwtPublicKeyFile, "utf8") };
  return { secret: config.jwtSecret ?? own };
}

/** Where the secret is that the process made for itself. */
export const ownSecretPath = (dataDirectory: string): string => join(dataDirectory, "jwt-secret");
