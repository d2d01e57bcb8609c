/** Our own services as processes under test: run in this process, at a port of their own, found through the suite's etcd like any other. */
import type { DescService } from "@bufbuild/protobuf";
import { delivery } from "../../../delivery/main.ts";
import { gateway } from "../../../gateway/main.ts";
import type { ServiceName } from "../../../mesh/directory.ts";
import { openEtcdDirectory } from "../../../mesh/etcd/directory.ts";
import { createLog } from "../../../mesh/log.ts";
import {
  type Command,
  type RunningProcess,
  type ServiceProcess,
  command,
} from "../../../mesh/process.ts";
import { type OwnConfig, withoutEdge } from "../../../mesh/process-config.ts";
import { systemRandom } from "../../../mesh/random.ts";
import { presence } from "../../../presence/main.ts";
import { StorageService } from "../../../proto/gen/parley/storage/v1/storage_pb.ts";
import { session } from "../../../session/main.ts";
import { createStorage, openMediaFolder, openMemoryStore } from "../../../storage/index.ts";
import { newFolder, secret } from "../../support/parley.ts";
import type { Settings } from "../../support/parley.ts";
import type { Ground } from "./ground.ts";

const log = createLog({ level: "silent" });

/** Storage without a Cassandra. */
const storage: ServiceProcess<typeof StorageService, OwnConfig> = {
  name: "storage",
  service: StorageService,
  readConfig: withoutEdge,
  async make({ surroundings }) {
    const folder = await newFolder();
    const media = await openMediaFolder(folder.path, systemRandom);
    const running = createStorage(surroundings, { store: openMemoryStore(), media });
    const close = async (): Promise<void> => {
      await running.close();
      await folder.remove();
    };
    return {
      running: {
        service: running.service,
        start: () => running.start(),
        problems: () => running.problems(),
        close,
      },
    };
  },
};

/** What a fault changes of a service: the handlers, or what is around it. */
export type Spoil = <S extends DescService, C extends OwnConfig>(
  spec: ServiceProcess<S, C>,
) => ServiceProcess<S, C>;

const asItIs: Spoil = (spec) => spec;

const commands: Readonly<Record<ServiceName, (spoil: Spoil) => Command>> = {
  gateway: (spoil) => command(spoil(gateway)),
  session: (spoil) => command(spoil(session)),
  delivery: (spoil) => command(spoil(delivery)),
  presence: (spoil) => command(spoil(presence)),
  storage: (spoil) => command(spoil(storage)),
};

/** Listens, which is before it is ready. */
export function startOwn(
  name: ServiceName,
  { etcd, host, shards }: Ground,
  settings: Settings,
  spoil = asItIs,
): Promise<RunningProcess> {
  const front =
    name === "gateway"
      ? { PARLEY_HOST: host, PARLEY_PORT: "0", PARLEY_JWT_SECRET: secret }
      : { PARLEY_HEALTH_HOST: host, PARLEY_HEALTH_PORT: "0" };
  const configured = commands[name](spoil).configured({
    PARLEY_ETCD: etcd.address,
    PARLEY_SHARDS: String(shards),
    PARLEY_MESH_HOST: host,
    PARLEY_MESH_PORT: "0",
    ...front,
    ...settings,
  });
  return configured.start({
    log,
    openDirectory: (config, outside, signal) => openEtcdDirectory(config, outside, { signal }),
  });
}
