/** Our own services as processes under test: run in this process, at a port of their own, found through the suite's etcd like any other. */
import { delivery } from "../../../delivery/main.ts";
import { gateway } from "../../../gateway/main.ts";
import type { Directory, ServiceName } from "../../../mesh/directory.ts";
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
export const storage: ServiceProcess<typeof StorageService, OwnConfig> = {
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

export const ownCommands: Readonly<Record<ServiceName, Command>> = {
  gateway: command(gateway),
  session: command(session),
  delivery: command(delivery),
  presence: command(presence),
  storage: command(storage),
};

export interface Otherwise {
  /** Ours, if not given. */
  readonly command?: Command;
  readonly directory?: (directory: Directory) => Directory;
}

/** Listens, which is before it is ready. */
export function startOwn(
  name: ServiceName,
  ground: Ground,
  settings: Settings,
  { command: of = ownCommands[name], directory = (own) => own }: Otherwise = {},
): Promise<RunningProcess> {
  const { host } = ground;
  const front =
    name === "gateway"
      ? { PARLEY_HOST: host, PARLEY_PORT: "0", PARLEY_JWT_SECRET: secret }
      : { PARLEY_HEALTH_HOST: host, PARLEY_HEALTH_PORT: "0" };
  const configured = of.configured({
    ...ground.settings,
    PARLEY_MESH_HOST: host,
    PARLEY_MESH_PORT: "0",
    ...front,
    ...settings,
  });
  return configured.start({
    log,
    openDirectory: async (config, outside, signal) =>
      directory(await openEtcdDirectory(config, outside, { signal })),
  });
}
