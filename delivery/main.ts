/** Delivery as a process of a cluster. */
import type { EnvReader } from "../mesh/env.ts";
import { type ServiceProcess, command } from "../mesh/process.ts";
import { type OwnConfig, withoutEdge } from "../mesh/process-config.ts";
import { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { type DeliveryConfig, deliveryConfig } from "./config.ts";
import { clusterPace, createDelivery } from "./index.ts";

interface Config extends OwnConfig {
  readonly delivery: DeliveryConfig;
}

export const delivery: ServiceProcess<typeof DeliveryService, Config> = {
  name: "delivery",
  service: DeliveryService,
  readConfig: (read: EnvReader) => ({ ...withoutEdge(read), delivery: deliveryConfig(read) }),
  make({ config, surroundings, directory }) {
    const { shards } = directory;
    const running = createDelivery(surroundings, config.delivery, shards, clusterPace);
    return Promise.resolve({ running });
  },
};

export const deliveryCommand = command(delivery);
