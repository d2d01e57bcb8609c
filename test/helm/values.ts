/** The ways in which the chart may be installed that the tests try, by name. */
import type { Values } from "./chart.ts";

const scale = { enabled: true };
const cluster = {
  mode: "cluster",
  jwt: { existingSecret: "tokens" },
  etcd: { endpoints: ["etcd-0.etcd:2379", "etcd-1.etcd:2379"] },
  cassandra: { contactPoints: ["cassandra.data:9042"] },
  media: { existingClaim: "media" },
};

export const matrix: Readonly<Record<string, Values>> = {
  embedded: { jwt: { secret: "a secret for tests, of 32 bytes at least" } },
  "embedded-public": {
    jwt: { jwksUrl: "https://id.example.org/keys" },
    region: "eu",
    gateway: { publicUrl: "https://chat.example.org" },
    settings: { PARLEY_LOG_LEVEL: "debug" },
    embedded: { settings: { PARLEY_WAITING_MAX: 1_000_000 }, volume: { storageClass: "fast" } },
    ingress: { enabled: true, className: "nginx", host: "chat.example.org", tlsSecret: "chat-tls" },
    networkPolicy: {
      clientsFrom: [
        { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "in" } } },
      ],
    },
  },
  cluster,
  "cluster-all": {
    ...cluster,
    image: { repository: "images.example.org/parley", tag: "9.8.7", pullPolicy: "Always" },
    imagePullSecrets: [{ name: "images" }],
    jwt: { existingSecret: "tokens", publicKey: true },
    region: "eu",
    drainMs: 25_500,
    settings: { PARLEY_LEASE_SECONDS: 10 },
    gateway: {
      publicUrl: "https://chat.example.org",
      settings: { PARLEY_CONNECTIONS_MAX: 100_000, PARLEY_ORIGINS: "https://a.example.org" },
      autoscaling: scale,
    },
    session: { autoscaling: scale },
    delivery: { autoscaling: scale, settings: { PARLEY_CONVERSATIONS_MAX: 10_000_000 } },
    presence: { autoscaling: scale },
    storage: { autoscaling: scale },
    etcd: {
      existingSecret: "etcd",
      endpoints: ["https://etcd-0.etcd:2379", "https://etcd-1.etcd:2379"],
      tls: { existingSecret: "etcd-tls", clientCertificate: true },
    },
    cassandra: {
      contactPoints: ["10.0.0.1:9042", "10.0.0.2:9042"],
      existingSecret: "cassandra",
      tls: { existingSecret: "cassandra-tls", name: "cassandra.data" },
    },
    media: {
      s3: { bucket: "media", endpoint: "https://s3.example.org", existingSecret: "media" },
    },
    tls: { enabled: true, certManager: { issuer: "mesh", issuerKind: "ClusterIssuer" } },
    service: { type: "LoadBalancer", annotations: { "example.org/kind": "network" } },
    httpRoute: { enabled: true, hosts: ["chat.example.org"], parentRefs: [{ name: "public" }] },
    nodeSelector: { pool: "chat" },
    tolerations: [{ key: "chat", operator: "Exists" }],
    podAnnotations: { "example.org/team": "chat" },
    priorityClassName: "high",
    monitoring: { enabled: true, labels: { release: "prometheus" } },
    serviceAccount: { annotations: { "example.org/role": "media" } },
  },
  "cluster-given-certificates": {
    ...cluster,
    tls: { enabled: true, existingSecret: "mesh" },
    networkPolicy: { enabled: false },
    drainMs: 0,
  },
  "cluster-development": {
    mode: "cluster",
    jwt: { secret: "a secret for tests, of 32 bytes at least" },
    development: { enabled: true },
    media: { existingClaim: "media" },
  },
};

/** Those whose whole text is kept. */
export const kept = ["embedded", "cluster-all", "cluster-development"] as const;

/** What is refused, and a word of why. */
export const refused: readonly (readonly [string, Values, RegExp])[] = [
  ["nothing said of tokens", {}, /set one of jwt\.secret, jwt\.existingSecret and jwt\.jwksUrl/],
  ["two ways of tokens", { jwt: { existingSecret: "a", jwksUrl: "https://a" } }, /set one of jwt/],
  ["a short secret", { jwt: { secret: "short" } }, /jwt/],
  ["a value that there is not", { jwt: { existingSecret: "a" }, replicas: 3 }, /replicas/],
  ["a mode that there is not", { mode: "both", jwt: { existingSecret: "a" } }, /mode/],
  ["a cluster without etcd", { ...cluster, etcd: { endpoints: [] } }, /needs etcd\.endpoints/],
  ["an address without a port", { ...cluster, etcd: { endpoints: ["etcd"] } }, /endpoints/],
  ["a cluster without Cassandra", { ...cluster, cassandra: {} }, /needs cassandra\.contactPoints/],
  ["a cluster without media", { ...cluster, media: {} }, /media\.existingClaim and media\.s3/],
  ["TLS of nobody's", { ...cluster, tls: { enabled: true } }, /tls\.existingSecret/],
  [
    "more at least than at most",
    { ...cluster, session: { autoscaling: { min: 9, max: 3 } } },
    /session\.autoscaling: min is above max/,
  ],
  [
    "a certificate for etcd from nowhere",
    { ...cluster, etcd: { endpoints: ["etcd:2379"], tls: { clientCertificate: true } } },
    /etcd\.tls\.clientCertificate is about etcd\.tls\.existingSecret/,
  ],
  [
    "TLS to stores that speak none",
    { ...cluster, development: { enabled: true }, etcd: { tls: { existingSecret: "etcd" } } },
    /development\.enabled speak no TLS/,
  ],
  ["an ingress of no host", { ...cluster, ingress: { enabled: true } }, /host/],
  [
    "a setting that is the chart's own",
    { ...cluster, settings: { PARLEY_DRAIN_MS: 5 } },
    /PARLEY_DRAIN_MS is set by the chart/,
  ],
  ["a setting of another name", { ...cluster, settings: { NODE_ENV: "x" } }, /NODE_ENV|settings/],
];
