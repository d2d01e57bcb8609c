/** What a run breaks on purpose in the parts of its world: each wraps one of the ports that the services were given. */
import type { DescService } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type { WebSocketConstructor } from "../../client/index.ts";
import type { Directory } from "../../mesh/directory.ts";
import type { Nodes } from "../../storage/cassandra/nodes.ts";
import type { Store } from "../../storage/index.ts";
import type { SimProcess } from "./process.ts";
import type { Rules } from "./store/node.ts";
import type { World } from "./world.ts";

export interface Patch {
  /** Of the simulated Cassandra. */
  readonly rules?: Partial<Rules>;
  /** A storage process's way to Cassandra. */
  nodes?(nodes: Nodes, process: SimProcess): Nodes;
  /** A storage process's store, and its way to Cassandra. */
  store?(store: Store, process: SimProcess, nodes: Nodes): Store;
  /** What a process serves to the others. */
  service?(
    implementation: ServiceImpl<DescService>,
    service: DescService,
    process: SimProcess,
  ): ServiceImpl<DescService>;
  directory?(directory: Directory, process: SimProcess): Directory;
  /** Of devices. */
  socket?(socket: WebSocketConstructor): WebSocketConstructor;
  /** Of the world as a whole, before anything begins. */
  world?(world: World): void;
}

/** The same, but for what is changed. */
export function over<T extends object>(target: T, changes: Partial<T>): T {
  return new Proxy(target, {
    get(_, name) {
      if (name in changes) return Reflect.get(changes, name);
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
