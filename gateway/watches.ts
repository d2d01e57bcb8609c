/** The gateway's long-lived stream to presence: who watches whom, how things are, and what changes. */
import type { Client } from "@connectrpc/connect";
import { createClient } from "@connectrpc/connect";
import { overloaded, unavailable } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { Gather } from "../mesh/pipe.ts";
import { keepStream } from "../mesh/stream.ts";
import type { KeptStream } from "../mesh/stream.ts";
import type { Presence } from "../proto/gen/parley/v1/record_pb.ts";
import { PresenceService } from "../proto/gen/parley/presence/v1/presence_pb.ts";
import type {
  WatchRequest,
  WatchResponse,
  WatchSet,
} from "../proto/gen/parley/presence/v1/presence_pb.ts";
import type { Connections } from "./connections.ts";
import { SharedPush } from "./pushes.ts";

/** A set whose snapshot has not come yet. After a reconnect nobody waits for it: then it is pushed. */
interface Asked {
  readonly untilMs: number;
  answer: ((presences: Presence[]) => void) | undefined;
  refuse: ((error: Error) => void) | undefined;
}

type Said = { readonly set: WatchSet } | { readonly ended: number };

const saidMax = 100_000;
const snapshotMs = 10_000;

export class PresenceLink {
  readonly #surroundings: Surroundings;
  readonly #client: Client<typeof PresenceService>;
  readonly #connections: Connections;
  readonly #sets = new Map<number, WatchSet>();
  /** For each connection the sets that wait for a snapshot, in their order. */
  readonly #asked = new Map<number, Asked[]>();
  #gather: Gather<Said> | undefined;
  #stream: KeptStream | undefined;

  constructor(surroundings: Surroundings, connections: Connections) {
    this.#surroundings = surroundings;
    this.#client = createClient(PresenceService, surroundings.transport(PresenceService));
    this.#connections = connections;
  }

  get up(): boolean {
    return this.#gather !== undefined;
  }

  start(): void {
    this.#stream = keepStream(this.#surroundings, "gateway to presence", (signal) =>
      this.#run(signal),
    );
  }

  async close(): Promise<void> {
    await this.#stream?.close();
  }

  /** Replaces what the connection watches; resolves to how things are. */
  watch(connection: number, userId: string, userIds: string[]): Promise<Presence[]> {
    const gather = this.#gather;
    if (gather === undefined) {
      return Promise.reject(unavailable("presence cannot be watched just now"));
    }
    const $typeName = "parley.presence.v1.WatchSet";
    const set: WatchSet = { $typeName, connection, userId, userIds };
    if (!gather.add({ set })) return Promise.reject(overloaded("too many watches are under way"));
    if (userIds.length > 0) this.#sets.set(connection, set);
    else this.#sets.delete(connection);
    return new Promise((answer, refuse) => this.#await(connection, answer, refuse));
  }

  /** Ends what the connection watches. */
  ended(connection: number): void {
    this.#settleAll(connection, new Error("the connection ended"));
    if (this.#sets.delete(connection)) this.#gather?.add({ ended: connection });
  }

  expire(nowMs: number): void {
    for (const asked of this.#asked.values()) {
      for (const one of asked) {
        if (one.untilMs <= nowMs) one.refuse?.(unavailable("presence does not answer in time"));
      }
    }
  }

  #await(connection: number, answer: Asked["answer"], refuse: Asked["refuse"]): void {
    const untilMs = this.#surroundings.clock.monotonic() + snapshotMs;
    const asked = this.#asked.get(connection);
    const one: Asked = { untilMs, answer, refuse };
    if (asked === undefined) this.#asked.set(connection, [one]);
    else asked.push(one);
  }

  #settleAll(connection: number, error: Error): void {
    const asked = this.#asked.get(connection);
    this.#asked.delete(connection);
    for (const one of asked ?? []) one.refuse?.(error);
  }

  async #run(signal: AbortSignal): Promise<void> {
    const gather = new Gather<Said>(this.#surroundings.clock, saidMax);
    this.#gather = gather;
    for (const set of this.#sets.values()) {
      gather.add({ set });
      this.#await(set.connection, undefined, undefined);
    }
    try {
      const requests = this.#requests(gather);
      for await (const response of this.#client.watch(requests, { signal })) this.#take(response);
    } finally {
      this.#gather = undefined;
      gather.end();
      const lost = unavailable("the answer of presence was lost, try again");
      for (const connection of [...this.#asked.keys()]) this.#settleAll(connection, lost);
    }
  }

  async *#requests(gather: Gather<Said>): AsyncGenerator<WatchRequest> {
    for await (const batch of gather) {
      const sets: WatchSet[] = [];
      const ended: number[] = [];
      for (const one of batch) {
        if ("set" in one) sets.push(one.set);
        else ended.push(one.ended);
      }
      yield { $typeName: "parley.presence.v1.WatchRequest", sets, ended };
    }
  }

  #take({ snapshots, changes }: WatchResponse): void {
    const nowMs = this.#surroundings.clock.monotonic();
    for (const { connection, presences, code, message } of snapshots) {
      const asked = this.#asked.get(connection);
      const one = asked?.shift();
      if (asked?.length === 0) this.#asked.delete(connection);
      if (code !== 0) {
        this.#sets.delete(connection);
        one?.refuse?.(unavailable(message));
      } else if (one?.answer !== undefined) one.answer(presences);
      else this.#push([connection], presences, nowMs);
    }
    if (changes.length === 0) return;
    // After this turn: an answer that was just given is written in it, and a change must not be older than what it changes.
    this.#surroundings.clock.afterTurn(() => {
      for (const { connections, presence } of changes) {
        if (presence !== undefined) this.#push(connections, [presence], nowMs);
      }
    });
  }

  #push(connections: number[], presences: Presence[], nowMs: number): void {
    if (presences.length === 0) return;
    const $typeName = "parley.session.v1.Presences";
    const push = new SharedPush({ case: "presences", value: { $typeName, presences } });
    for (const number of connections) this.#connections.get(number)?.push(push, nowMs);
  }
}
