/** Faults planted between the services, in the registry, and in devices. */
import { create, type DescService } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type { WebSocketConstructor } from "../../../client/index.ts";
import { sleep } from "../../../mesh/clock.ts";
import type { Directory } from "../../../mesh/directory.ts";
import {
  type AttachRequest,
  SessionService,
} from "../../../proto/gen/parley/session/v1/session_pb.ts";
import {
  type OpenResponse,
  OpenResponseSchema,
  StorageService,
} from "../../../proto/gen/parley/storage/v1/storage_pb.ts";
import { over, type Patch } from "../patch.ts";
import type { SimProcess } from "../process.ts";

const forGoodMs = 3_600_000;

/** Some handlers of one service in place of its own. */
function handlers<S extends DescService>(
  service: S,
  change: (own: ServiceImpl<S>, process: SimProcess) => Partial<ServiceImpl<S>>,
): Patch {
  return {
    service(implementation, served, process) {
      if (served.typeName !== service.typeName) return implementation;
      // It is this service's: see above.
      const own = implementation as ServiceImpl<S>;
      return over<ServiceImpl<S>>(own, change(own, process));
    },
  };
}

/** A late retry is looked for in the owner's memory alone. */
export const retriesByMemory = handlers(StorageService, () => ({ findSend: () => ({ seq: 0 }) }));

/** A new owner goes on behind a hole. */
export const holesAdopted = handlers(StorageService, (own) => ({
  async *open(request, context) {
    const parts: OpenResponse[] = [];
    for await (const part of own.open(request, context))
      parts.push(create(OpenResponseSchema, part));
    const first = parts.flatMap(({ tail }) => tail)[0];
    const state = parts.find((part) => part.state !== undefined)?.state;
    if (state !== undefined && first !== undefined && first.seq > state.headSeq + 1) {
      state.headSeq = first.seq - 1;
      state.headTerm = first.previousTerm;
    }
    yield* parts;
  },
}));

const term = (one: bigint): bigint => (one === 0n ? 0n : 1n);

/** All owners write under the same epoch. */
export const equalEpochs = handlers(StorageService, (own) => ({
  append(requests, context) {
    const equal = some(requests, (request) => {
      for (const { cells, state } of request.writes) {
        for (const cell of cells) {
          cell.epoch = cell.term = 1n;
          cell.previousTerm = term(cell.previousTerm);
        }
        if (state !== undefined) state.headTerm = term(state.headTerm);
      }
      return request;
    });
    return own.append(equal, context);
  },
}));

async function* some<T>(all: AsyncIterable<T>, keep: (one: T) => T | undefined): AsyncGenerator<T> {
  for await (const one of all) {
    const kept = keep(one);
    if (kept !== undefined) yield kept;
  }
}

/** Of what is published every tenth batch goes nowhere. */
export const batchesDropped = handlers(SessionService, (own) => ({
  publish(requests, context) {
    let count = 0;
    const kept = some(requests, (request) => ((count += 1) % 10 === 0 ? undefined : request));
    return own.publish(kept, context);
  },
}));

/** Every third cursor that is told is lower than it is. */
export const cursorsBack = handlers(SessionService, (own) => ({
  publish(requests, context) {
    let count = 0;
    const lowered = some(requests, (request) => {
      for (const { payload } of request.publications) {
        if (payload?.payload.case !== "cursors") continue;
        for (const cursor of payload.payload.value.cursors)
          if ((count += 1) % 3 === 0) cursor.deliveredSeq = Math.max(1, cursor.deliveredSeq - 2);
      }
      return request;
    });
    return own.publish(lowered, context);
  },
}));

/** What ends is not noticed: neither a connection's end nor that of its gateway's stream. */
export const sessionsOutlive: Patch = handlers(SessionService, (own, { host }) => ({
  attach(requests, context) {
    const endless = async function* (): AsyncGenerator<AttachRequest> {
      try {
        for await (const request of requests) yield { ...request, detached: [] };
      } catch {
        // As if it went on.
      }
      await sleep(host.clock, forGoodMs);
    };
    return own.attach(endless(), context);
  },
}));

/** Nobody's end is told to presence. */
export const neverOffline = handlers(SessionService, (own) => ({
  async *watchOnline(request, context) {
    for await (const response of own.watchOnline(request, context))
      yield { ...response, offlineUserIds: [] };
  },
}));

/** A shard is claimed from whoever has it, and not from exactly the one who was revoked. */
export const claimedBlindly: Patch = {
  directory(directory: Directory) {
    const { shards } = directory;
    return over<Directory>(directory, {
      shards: over<Directory["shards"]>(shards, {
        replace: async (shard, expected, incarnation) => {
          const first = await shards.replace(shard, expected, incarnation);
          if (first !== undefined) return first;
          return shards.replace(shard, await shards.refresh(shard), incarnation);
        },
      }),
    });
  },
};

/** Whoever comes next revokes nobody, as if the key of a shard had gone with its owner's lease. */
export const ownersForgotten: Patch = handlers(StorageService, () => ({ revoke: () => ({}) }));

/** Every fourth frame of a device goes out behind the one after it. */
export const framesSwapped: Patch = {
  socket: (Socket: WebSocketConstructor): WebSocketConstructor =>
    class extends Socket {
      #count = 0;
      #held: Parameters<InstanceType<WebSocketConstructor>["send"]>[0] | undefined;

      override send(data: Parameters<InstanceType<WebSocketConstructor>["send"]>[0]): void {
        this.#count += 1;
        if (this.#held === undefined && this.#count > 4 && this.#count % 4 === 0) {
          this.#held = data;
          return;
        }
        super.send(data);
        if (this.#held !== undefined) super.send(this.#held);
        this.#held = undefined;
      }
    },
};
