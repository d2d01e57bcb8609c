/** What the mesh's suites call: a service with every kind of method, of which a test implements those it needs. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Client, ServiceImpl } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { GrpcMesh } from "../../mesh/grpc/mesh.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { createLog } from "../../mesh/log.ts";
import type { Mesh } from "../../mesh/mesh.ts";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";

export type Storage = ServiceImpl<typeof StorageService>;
export type StorageClient = Client<typeof StorageService>;

export const meshes: Record<string, () => Promise<Mesh>> = {
  local: () => Promise.resolve(new LocalMesh()),
  "local wire": () => Promise.resolve(new LocalMesh({ wire: true })),
  gRPC: () => GrpcMesh.listen({ log: createLog({ level: "silent" }) }),
};

export function serve(mesh: Mesh, methods: Partial<Storage>): StorageClient {
  const refuse = (): never => {
    throw new ConnectError("not part of this test", Code.Unimplemented);
  };
  const all = StorageService.methods.map(({ localName }) => [localName, refuse]);
  mesh.serve(StorageService, { ...(Object.fromEntries(all) as Storage), ...methods });
  return createClient(StorageService, mesh.transport(StorageService));
}

/** Something that happens once, to wait for. */
export class Event<T = void> {
  happen: (value: T) => void = () => undefined;
  readonly happened = new Promise<T>((resolve) => (this.happen = resolve));
}

/** Settles with the signal's reason when it fires. */
export function fired(signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason);
    signal.addEventListener("abort", () => resolve(signal.reason));
  });
}

export const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** The count once it has not moved for many turns of the event loop. */
export async function settled(count: () => number): Promise<number> {
  for (let still = 0, last = count(); still < 200; still++) {
    await turn();
    if (count() !== last) still = 0;
    last = count();
  }
  return count();
}

export async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}

export async function failure(run: () => Promise<unknown>): Promise<ConnectError> {
  try {
    await run();
  } catch (error) {
    assert(error instanceof ConnectError, `not a ConnectError: ${String(error)}`);
    return error;
  }
  throw new Error("the call did not fail");
}

export function* numbers(to: number): Generator<number, void> {
  for (let n = 1; n <= to; n++) yield n;
}
