/** One gateway's stream of watches: whom its connections may watch storage says, how those are the roster, and this keeps both in order. */
import { Code, ConnectError } from "@connectrpc/connect";
import { invalid, overloaded } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { Gather } from "../mesh/pipe.ts";
import type {
  Change,
  Snapshot,
  WatchRequest,
  WatchResponse,
  WatchSet,
} from "../proto/gen/parley/presence/v1/presence_pb.ts";
import type { PresenceConfig } from "./config.ts";
import type { Acquaintances, SeenTimes, Watcher } from "./ports.ts";
import { retried } from "./retry.ts";
import type { Person, Roster, Watch } from "./roster.ts";
import { presenceOf } from "./roster.ts";

/** Sets of one gateway that storage is asked about at once; the next request is read when there is room. */
const askingMax = 64;
const askTries = 8;
const askTimeoutMs = 5_000;
/** Presences and connection numbers in one message, about. */
const weightMax = 10_000;

/** That a set is answered now, with how these people are when it is sent. */
interface Answer {
  readonly connection: number;
  readonly people: readonly Person[];
  readonly error: ConnectError | undefined;
}

interface Line {
  readonly watch: Watch;
  /** Done when the connection's sets so far are answered. */
  done: Promise<void>;
}

export interface WatchPorts {
  readonly roster: Roster;
  readonly storage: Acquaintances & SeenTimes;
  /** Resolves when it is known who is online; nothing is answered before. */
  readonly known: Promise<void>;
}

export class WatchStream implements Watcher {
  readonly #surroundings: Pick<Surroundings, "clock" | "random">;
  readonly #config: PresenceConfig;
  readonly #ports: WatchPorts;
  readonly #outbox: Gather<Answer | Person>;
  /** Who is in the outbox: one who comes and goes in a while is told once. */
  readonly #changedPeople = new Set<Person>();
  readonly #lines = new Map<number, Line>();
  readonly #ending = new AbortController();
  readonly #ended: Promise<void>;
  #asking = 0;
  #room: (() => void) | undefined;
  #error: ConnectError | undefined;

  constructor(
    surroundings: Pick<Surroundings, "clock" | "random">,
    config: PresenceConfig,
    ports: WatchPorts,
  ) {
    this.#surroundings = surroundings;
    this.#config = config;
    this.#ports = ports;
    this.#outbox = new Gather(surroundings.clock, config.outboxMax);
    this.#ended = new Promise((resolve) => {
      this.#ending.signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  /** Takes the gateway's requests to their end. */
  async read(requests: AsyncIterable<WatchRequest>): Promise<void> {
    await Promise.race([this.#ports.known, this.#ended]);
    for await (const { sets, ended } of requests) {
      for (const set of sets) {
        if (this.#asking >= askingMax) await new Promise<void>((resolve) => (this.#room = resolve));
        if (this.#ending.signal.aborted) return;
        this.#take(set);
      }
      for (const connection of ended) this.#unwatch(connection);
    }
  }

  /** Ends the watches and the stream, with the error where there is one. Doing it again does nothing. */
  end(error?: ConnectError): void {
    if (this.#ending.signal.aborted) return;
    this.#error = error;
    for (const connection of this.#lines.keys()) this.#unwatch(connection);
    void this.#outbox.return();
    this.#ending.abort(new ConnectError("the stream of watches ended", Code.Canceled));
    this.#room?.();
  }

  changed(person: Person): void {
    if (this.#changedPeople.has(person)) return;
    this.#changedPeople.add(person);
    this.#tell(person);
  }

  /** For the gateway's stream: ends when this does, and with its error. Everything is told as it is when it is sent. */
  async *responses(): AsyncGenerator<WatchResponse, undefined> {
    for await (const batch of this.#outbox) {
      let response = emptyResponse();
      let weight = 0;
      for (const told of batch) {
        if (weight >= weightMax) {
          yield response;
          response = emptyResponse();
          weight = 0;
        }
        if ("userId" in told) {
          const change = this.#change(told);
          if (change === undefined) continue;
          response.changes.push(change);
          weight += 1 + change.connections.length;
        } else {
          response.snapshots.push(snapshotOf(told));
          weight += 1 + told.people.length;
        }
      }
      if (weight > 0) yield response;
    }
    if (this.#error !== undefined) throw this.#error;
    return undefined;
  }

  /** The sets of a connection are answered in their order, those of different connections as storage answers. */
  #take(set: WatchSet): void {
    const known = this.#lines.get(set.connection);
    const watch = known?.watch ?? this.#ports.roster.watch(this, set.connection);
    this.#asking += 1;
    const done = (known?.done ?? Promise.resolve())
      .then(() => this.#answer(watch, set))
      .finally(() => {
        this.#asking -= 1;
        this.#room?.();
        this.#room = undefined;
      });
    this.#lines.set(set.connection, { watch, done });
  }

  async #answer(watch: Watch, set: WatchSet): Promise<void> {
    const { roster } = this.#ports;
    let error: ConnectError | undefined;
    try {
      const userIds = await this.#acquainted(set);
      if (watch.ended) return;
      // Registered first, looked up second: what changes in between is in the snapshot.
      await this.#learn(roster.set(watch, userIds));
    } catch (thrown) {
      if (watch.ended) return;
      error = ConnectError.from(thrown);
      roster.set(watch, []);
    }
    if (watch.ended) return;
    watch.answered = true;
    this.#tell({ connection: watch.connection, people: watch.people, error });
  }

  async #acquainted({ userId, userIds }: WatchSet): Promise<readonly string[]> {
    if (userId === "") throw invalid("user_id is empty: say who watches");
    if (userIds.length > this.#config.watchMax)
      throw invalid(
        `${userIds.length} users to watch are too many: at most ${this.#config.watchMax}`,
      );
    if (userIds.length === 0) return [];
    const { userIds: acquainted } = await this.#ask((options) =>
      this.#ports.storage.filterAcquainted({ userId, otherUserIds: userIds }, options),
    );
    const allowed = new Set(acquainted);
    return userIds.filter((id) => allowed.has(id));
  }

  async #learn(userIds: string[]): Promise<void> {
    if (userIds.length === 0) return;
    const { seen } = await this.#ask((options) =>
      this.#ports.storage.getLastSeen({ userIds }, options),
    );
    for (const { userId, timeMs } of seen) this.#ports.roster.learn(userId, Number(timeMs));
  }

  #ask<T>(call: (options: { signal: AbortSignal; timeoutMs: number }) => Promise<T>): Promise<T> {
    const { signal } = this.#ending;
    return retried(this.#surroundings, askTries, signal, () =>
      call({ signal, timeoutMs: askTimeoutMs }),
    );
  }

  #unwatch(connection: number): void {
    const line = this.#lines.get(connection);
    if (line === undefined) return;
    this.#lines.delete(connection);
    this.#ports.roster.unwatch(line.watch);
  }

  #tell(told: Answer | Person): void {
    if (this.#outbox.ended || this.#outbox.add(told)) return;
    this.end(overloaded("the gateway does not keep up with presence: set the watches again"));
  }

  #change(person: Person): Change | undefined {
    this.#changedPeople.delete(person);
    const connections: number[] = [];
    for (const { watcher, answered, connection } of person.watches ?? [])
      if (watcher === this && answered) connections.push(connection);
    if (connections.length === 0) return undefined;
    return {
      $typeName: "parley.presence.v1.Change",
      connections,
      presence: presenceOf(person),
    };
  }
}

function snapshotOf({ connection, people, error }: Answer): Snapshot {
  return {
    $typeName: "parley.presence.v1.Snapshot",
    connection,
    presences: people.map(presenceOf),
    code: error?.code ?? 0,
    message: error?.rawMessage ?? "",
  };
}

function emptyResponse(): WatchResponse {
  return { $typeName: "parley.presence.v1.WatchResponse", snapshots: [], changes: [] };
}
