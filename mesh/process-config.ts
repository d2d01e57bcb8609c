/** The settings that the processes of a cluster have in common: where they listen, how they find one another, how they end. */
import { type ClientTlsFiles, readClientTls } from "./client-tls.ts";
import type { EnvReader } from "./env.ts";
import type { CertificateFiles } from "./grpc/certificates.ts";
import { type MetricsPlace, metricsPlace } from "./metrics-config.ts";
import { type LogLevel, logLevels } from "./log.ts";
import { type TraceConfig, traceConfig } from "./trace-config.ts";

export const settingsPrefix = "PARLEY_";

export interface DirectoryConfig {
  /** "host:port" of etcd's members. */
  readonly endpoints: readonly string[];
  readonly prefix: string;
  readonly leaseSeconds: number;
  readonly shards: number;
  /** Undefined: TLS is spoken to "https://" alone. */
  readonly tls: ClientTlsFiles | undefined;
  /** Undefined: etcd asks nobody who they are. */
  readonly credentials: { readonly username: string; readonly password: string } | undefined;
}

export interface Place {
  readonly host: string;
  readonly port: number;
}

/** What the runner of all services wants to know of a service's own settings. */
export interface OwnConfig {
  readonly region: string;
  /** Unique among the live processes of the service; empty: it has no name. */
  readonly name: string;
  /** Where /healthz and /readyz are: the edge, where there is one. */
  readonly front: Place;
  /** The setting that has the front's port. */
  readonly frontSetting: string;
}

export interface ProcessConfig {
  readonly directory: DirectoryConfig;
  readonly mesh: Place;
  /** "host:port" that the others use; undefined: where it listens. */
  readonly advertise: string | undefined;
  readonly tls: CertificateFiles | undefined;
  readonly drainMs: number;
  readonly metrics: MetricsPlace | undefined;
  readonly trace: TraceConfig | undefined;
  readonly logLevel: LogLevel;
}

const everyAddress = new Set(["0.0.0.0", "::"]);

export function processConfig(read: EnvReader): ProcessConfig {
  return {
    directory: readDirectory(read),
    ...readPlaces(read),
    tls: readTls(read),
    drainMs: read.int(
      "DRAIN_MS",
      10_000,
      [0, 600_000],
      "over how long what is on the process goes elsewhere when it stops, in milliseconds",
    ),
    metrics: metricsPlace(read),
    trace: traceConfig(read),
    logLevel: read.oneOf("LOG_LEVEL", "info", logLevels, "the least level that is logged"),
  };
}

function readDirectory(read: EnvReader): DirectoryConfig {
  const endpoints = read.list(
    "ETCD",
    ["127.0.0.1:2379"],
    "where etcd's members are; with https:// before it, or with the files below, over TLS",
  );
  if (endpoints.length === 0) read.wrong("PARLEY_ETCD must name one member of etcd at least");
  for (const endpoint of endpoints) {
    if (!isAddress(endpoint.replace(/^https?:\/\//, "")))
      read.wrong(`PARLEY_ETCD: "${endpoint}" must be like "host:2379"`);
  }
  const tls = readClientTls(read, "ETCD", "etcd");
  if (tls !== undefined && endpoints.some((endpoint) => endpoint.startsWith("http://")))
    read.wrong("PARLEY_ETCD has http:// in it, which is without TLS, but there are files for TLS");
  return {
    endpoints,
    tls,
    credentials: readCredentials(read),
    prefix: read.string(
      "ETCD_PREFIX",
      "/parley",
      "below which all is that this cluster keeps in etcd",
    ),
    leaseSeconds: read.int(
      "LEASE_SECONDS",
      3,
      [2, 60],
      "a process that was not heard for so long is taken for dead",
    ),
    shards: read.int(
      "SHARDS",
      1_024,
      [1, 65_536],
      "shares that conversations are spread over; the same for all of a cluster, for good",
    ),
  };
}

function readCredentials(read: EnvReader): DirectoryConfig["credentials"] {
  const username = read.optional("ETCD_USERNAME", "who logs in at etcd");
  const password = read.optional("ETCD_PASSWORD", "the password for it");
  if ((username === undefined) !== (password === undefined))
    read.wrong("PARLEY_ETCD_USERNAME and PARLEY_ETCD_PASSWORD go together: set both or none");
  return username === undefined || password === undefined ? undefined : { username, password };
}

function readPlaces(read: EnvReader): Pick<ProcessConfig, "mesh" | "advertise"> {
  const host = read.string(
    "MESH_HOST",
    "127.0.0.1",
    "where gRPC listens; without TLS it asks nobody who they are: keep it private",
  );
  const port = read.int("MESH_PORT", 9_090, [0, 65_535], "the port of gRPC; 0: any free one");
  const advertise = read.optional(
    "ADVERTISE",
    "host:port at which the other processes reach this one; empty: where gRPC listens",
  );
  if (advertise === undefined && everyAddress.has(host))
    read.wrong(
      `PARLEY_MESH_HOST is ${host}, which is no address to reach this process at: set PARLEY_ADVERTISE`,
    );
  if (advertise !== undefined && !isAddress(advertise))
    read.wrong(`PARLEY_ADVERTISE must be like "host:9090", not "${advertise}"`);
  return { mesh: { host, port }, advertise };
}

function readTls(read: EnvReader): CertificateFiles | undefined {
  const certFile = read.optional(
    "TLS_CERT_FILE",
    "a PEM file: this process's certificate for the mesh; read again when it changes",
  );
  const keyFile = read.optional("TLS_KEY_FILE", "a PEM file: its key");
  const caFile = read.optional(
    "TLS_CA_FILE",
    "a PEM file: the authority of the certificates of all processes",
  );
  if (certFile !== undefined && keyFile !== undefined && caFile !== undefined)
    return { certFile, keyFile, caFile };
  if (certFile !== undefined || keyFile !== undefined || caFile !== undefined)
    read.wrong(
      "PARLEY_TLS_CERT_FILE, PARLEY_TLS_KEY_FILE and PARLEY_TLS_CA_FILE belong together: set all or none",
    );
  return undefined;
}

/** Of a process that clients do not reach: where it answers for its health, and its region. */
export function withoutEdge(read: EnvReader): OwnConfig {
  return {
    region: read.string("REGION", "", "where this process runs"),
    name: "",
    front: {
      host: read.string("HEALTH_HOST", "127.0.0.1", "where /healthz and /readyz listen"),
      port: read.int("HEALTH_PORT", 9_091, [0, 65_535], "their port; 0: any free one"),
    },
    frontSetting: "PARLEY_HEALTH_PORT",
  };
}

export function addressOf({ host, port }: Place): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function isAddress(text: string): boolean {
  const port = Number(/^(?:[^\s:/]+|\[[0-9a-f:.]+\]):(\d{1,5})$/i.exec(text)?.[1] ?? 0);
  return port > 0 && port <= 65_535;
}
