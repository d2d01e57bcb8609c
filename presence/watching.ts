/** One gateway's stream of watches: whom its connections may watch storage says, how those are the roster, and this keeps both in order. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Cancel } from "../mesh/clock.ts";
import { invalid, overloaded, unavailable } from "../mesh/errors.ts";
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
/** Sets of one gateway that wait until it is known how their users are. */
const heldMax = 1_024;
/** How long they wait: by then this instance and the gateway know of the same instances, mostly. */
const holdMs = 5_000;
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
  /** Its sets that wait, in their order. */
  readonly held: Held[];
}

/** A set that waits until it is known here how its users are. */
interface Held {
  readonly userIds: readonly string[];
  decide(isKnown: boolean): void;
}

export interface WatchPorts {
  readonly roster: Roster;
  readonly storage: Acquaintances & SeenTimes;
  /** Whether it is known here how these are; nothing is answered before. */
  readonly known: { knows(userIds: readonly string[]): boolean };
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
  readonly #held = new Set<Held>();
  #holdTimer: Cancel | undefined;
  /** Sets were held as long as may be, and nothing was learned since: more of them would wait for nothing. */
  #isHoldOver = false;
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
  }

  /** Takes the gateway's requests to their end. */
  async read(requests: AsyncIterable<WatchRequest>): Promise<void> {
    for await (const { sets, ended } of requests) {
      for (const set of sets) {
        while (this.#isBusy) await new Promise<void>((resolve) => (this.#room = resolve));
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
    this.#holdTimer?.();
    for (const held of this.#held) held.decide(false);
    this.#makeRoom();
  }

  /** It may be known now how those are whom it was not known of. */
  learned(): void {
    this.#isHoldOver = false;
    for (const held of this.#held) if (this.#ports.known.knows(held.userIds)) held.decide(true);
  }

  moved(): void {
    this.end(unavailable("another instance tells of some of the users now: set the watches again"));
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

  /** How many connections of its gateway watch others. */
  get watchers(): number {
    return this.#lines.size;
  }

  get #isBusy(): boolean {
    if (this.#ending.signal.aborted) return false;
    return this.#asking >= askingMax || this.#held.size >= heldMax;
  }

  #makeRoom(): void {
    this.#room?.();
    this.#room = undefined;
  }

  /** The sets of a connection are answered in their order, those of different connections as storage answers. */
  #take(set: WatchSet): void {
    const { connection, userIds } = set;
    let line = this.#lines.get(connection);
    if (line === undefined) {
      const watch = this.#ports.roster.watch(this, connection);
      line = { watch, done: Promise.resolve(), held: [] };
      this.#lines.set(connection, line);
    }
    const { watch, done } = line;
    if (this.#ports.known.knows(userIds)) {
      giveUp(line.held);
      this.#asking += 1;
      line.done = done.then(() => this.#answer(watch, set)).finally(() => this.#answered());
    } else {
      const held = this.#hold(line, userIds);
      line.done = done.then(() => held).then((isKnown) => this.#answerHeld(watch, set, isKnown));
    }
  }

  /** Resolves with whether it became known in time. */
  #hold(line: Line, userIds: readonly string[]): Promise<boolean> {
    if (this.#isHoldOver) return Promise.resolve(false);
    this.#holdTimer ??= this.#surroundings.clock.after(holdMs, () => {
      this.#holdTimer = undefined;
      this.#isHoldOver = true;
      for (const held of this.#held) held.decide(false);
    });
    return new Promise((resolve) => {
      const held: Held = {
        userIds,
        decide: (isKnown) => {
          this.#held.delete(held);
          // Those before it are not what the connection wants any more.
          giveUp(line.held.splice(0, line.held.indexOf(held) + 1).slice(0, -1));
          if (isKnown) this.#asking += 1;
          this.#makeRoom();
          resolve(isKnown);
        },
      };
      this.#held.add(held);
      line.held.push(held);
    });
  }

  async #answerHeld(watch: Watch, set: WatchSet, isKnown: boolean): Promise<void> {
    if (!isKnown) return this.#refuse(watch, notKnown());
    await this.#answer(watch, set);
    this.#answered();
  }

  #answered(): void {
    this.#asking -= 1;
    this.#makeRoom();
  }

  async #answer(watch: Watch, set: WatchSet): Promise<void> {
    const { roster, known } = this.#ports;
    try {
      const userIds = await this.#acquainted(set);
      if (watch.ended) return;
      if (!known.knows(userIds)) throw notKnown();
      // Registered first, looked up second: what changes in between is in the snapshot.
      await this.#learn(roster.set(watch, userIds));
    } catch (thrown) {
      this.#refuse(watch, ConnectError.from(thrown));
      return;
    }
    this.#tellAnswer(watch, undefined);
  }

  /** The connection watches nobody. */
  #refuse(watch: Watch, error: ConnectError): void {
    if (watch.ended) return;
    this.#ports.roster.set(watch, []);
    this.#tellAnswer(watch, error);
  }

  #tellAnswer(watch: Watch, error: ConnectError | undefined): void {
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
    giveUp(line.held);
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

/** In their order; each takes itself off the list. */
function giveUp(held: readonly Held[]): void {
  for (const one of [...held]) one.decide(false);
}

/** Whoever asks here about them knows of other instances than this one, for a moment. */
export const notKnown = (): ConnectError =>
  unavailable("it is not known here whether these users are online");

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
