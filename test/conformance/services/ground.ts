/** Where a service under test finds its neighbours, and the suite finds the service: a small etcd, and neighbours that the suite plays or runs, announced there. */
import { Code, ConnectError, type ServiceImpl, createClient } from "@connectrpc/connect";
import type { DescService } from "@bufbuild/protobuf";
import { systemClock } from "../../../mesh/clock.ts";
import type { Directory, Instance, Membership, ServiceName } from "../../../mesh/directory.ts";
import { openEtcdDirectory } from "../../../mesh/etcd/directory.ts";
import type { CertificateFiles } from "../../../mesh/grpc/certificates.ts";
import { addHealth } from "../../../mesh/grpc/health.ts";
import { type GrpcServer, serveGrpc } from "../../../mesh/grpc/server.ts";
import { type MeshCredentials, meshCredentials } from "../../../mesh/grpc/tls.ts";
import { type GrpcTransport, createGrpcTransport } from "../../../mesh/grpc/transport.ts";
import { Handlers } from "../../../mesh/handlers.ts";
import { createLog } from "../../../mesh/log.ts";
import { newId, systemRandom } from "../../../mesh/random.ts";
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../../proto/gen/grpc/health/v1/health_pb.ts";
import type { Settings } from "../../support/parley.ts";
import { asked } from "../../support/within.ts";
import { SmallEtcd } from "./etcd.ts";

const log = createLog({ level: "silent" });
export const prefix = "/parley";
export const leaseSeconds = 2;
/** Few are claimed sooner than many. */
const shards = 16;
/** From its start to being ready, on a loaded machine. */
const readyMs = 60_000;

export interface Neighbour {
  readonly instance: Instance;
  /** Others are told that it goes away. */
  drain(): Promise<void>;
  /** It is not announced any more, and answers still. */
  leave(): Promise<void>;
}

export class Ground {
  readonly host: string;
  readonly etcd: SmallEtcd;
  readonly directory: Directory;
  readonly shards = shards;
  readonly #tls: { files: CertificateFiles; credentials: MeshCredentials } | undefined;
  readonly #servers: GrpcServer[] = [];
  readonly #transports: GrpcTransport[] = [];

  private constructor(
    host: string,
    etcd: SmallEtcd,
    directory: Directory,
    tls: CertificateFiles | undefined,
  ) {
    this.#tls = tls && { files: tls, credentials: meshCredentials(tls, { log }) };
    this.host = host;
    this.etcd = etcd;
    this.directory = directory;
  }

  /** `port`: where its etcd listens; 0: anywhere. `tls`: what all show one another; undefined: nothing is encrypted. */
  static async open(host: string, port: number, tls?: CertificateFiles): Promise<Ground> {
    const etcd = await SmallEtcd.listen(host, port);
    const config = { endpoints: [etcd.address], prefix, shards, leaseSeconds };
    const outside = { clock: systemClock, random: systemRandom, log };
    return new Ground(host, etcd, await openEtcdDirectory(config, outside), tls);
  }

  /** A neighbour that does what the test says. */
  async serve<S extends DescService>(
    name: ServiceName,
    service: S,
    methods: Partial<ServiceImpl<S>>,
  ): Promise<Neighbour> {
    const handlers = new Handlers();
    addHealth(handlers, () => []);
    handlers.add(service, wholeOf(service, methods));
    const { credentials } = this.#tls ?? {};
    const secured = credentials === undefined ? {} : { credentials: credentials.server };
    const server = await serveGrpc({ host: this.host, port: 0, handlers, log, ...secured });
    this.#servers.push(server);
    return this.announce(name, `${this.host}:${server.port}`);
  }

  announce(service: ServiceName, address: string, name = ""): Promise<Neighbour> {
    const said = { name, region: "", url: "", draining: false };
    return this.announceAs({ service, id: newId(systemRandom), address, ...said });
  }

  /** Of a life that was announced before, only a test may say so. */
  async announceAs(instance: Instance): Promise<Neighbour> {
    const membership: Membership = await this.directory.join(instance, () => undefined);
    return {
      instance,
      drain: () => membership.update({ draining: true }),
      leave: () => membership.leave(),
    };
  }

  /** The process at that address, once it is announced and serves. */
  async found(service: DescService, name: ServiceName, address: string): Promise<Instance> {
    const health = createClient(Health, this.transport(address));
    let last = "it is not announced";
    const ask = async (): Promise<Instance | undefined> => {
      const instance = this.instanceAt(name, address);
      if (instance === undefined) return undefined;
      const { status } = await health
        .check({ service: service.typeName }, { timeoutMs: 1_000 })
        .catch((error: unknown) => {
          last = `its health cannot be asked: ${ConnectError.from(error).message}`;
          return { status: Serving.UNKNOWN };
        });
      if (status === Serving.NOT_SERVING) last = "its health is NOT_SERVING";
      return status === Serving.SERVING ? instance : undefined;
    };
    return asked(readyMs, `${name} at ${address} to be ready`, ask).catch((error: unknown) => {
      throw new Error(`${String(error)}; ${last}`, { cause: error });
    });
  }

  instanceAt(name: ServiceName, address: string): Instance | undefined {
    return this.directory.instances(name).present.find((one) => one.address === address);
  }

  /** Its key in etcd. */
  keyOf({ service, id }: Pick<Instance, "service" | "id">) {
    const key = `${prefix}/instances/${service}/${encodeURIComponent(id)}`;
    return this.etcd.below(key).find((one) => one.key === key);
  }

  transport(address: string): GrpcTransport {
    const { credentials } = this.#tls ?? {};
    const secured = credentials === undefined ? {} : { credentials: credentials.channel };
    const transport = createGrpcTransport({ address, ...secured });
    this.#transports.push(transport);
    return transport;
  }

  async close(): Promise<void> {
    for (const transport of this.#transports) transport.close();
    await Promise.all(this.#servers.map((server) => server.close(0)));
    await this.directory.close();
    await this.etcd.close();
    this.#tls?.credentials.close();
  }

  /** By which a process finds the others, and is let in by them. */
  get settings(): Settings {
    const tls = this.#tls?.files;
    return {
      PARLEY_ETCD: this.etcd.address,
      PARLEY_SHARDS: String(this.shards),
      ...(tls === undefined
        ? {}
        : {
            PARLEY_TLS_CERT_FILE: tls.certFile,
            PARLEY_TLS_KEY_FILE: tls.keyFile,
            PARLEY_TLS_CA_FILE: tls.caFile,
          }),
    };
  }
}

function wholeOf<S extends DescService>(
  service: S,
  methods: Partial<ServiceImpl<S>>,
): ServiceImpl<S> {
  const refuse = (): never => {
    throw new ConnectError("the suite does not play this", Code.Unimplemented);
  };
  const all: Partial<Record<string, unknown>> = Object.fromEntries(
    service.methods.map(({ localName }) => [localName, refuse]),
  );
  // Every method is there; types cannot say so of an object that is made of a service's description.
  return { ...all, ...methods } as ServiceImpl<S>;
}
