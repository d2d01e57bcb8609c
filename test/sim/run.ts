/** One run of one seed: the world begins, people write, harm is done, all is healed, and what was seen is held against the promises. */
import type { ParleyClient } from "../../client/index.ts";
import {
  check,
  type DeviceLog,
  type Finding,
  type HistoryOf,
  type Observed,
  type PromiseId,
  type SeenCursor,
} from "../support/checker.ts";
import { checkAftermath, checkNoFalseOffline, checkPresence, checkPrompt } from "./checks.ts";
import { type ActKind, Acts } from "./acts.ts";
import type { Sending, SimDevice } from "./device.ts";
import { withoutEscapes } from "./escapes.ts";
import { type Fault, type FaultKind, Faults, named } from "./faults.ts";
import { asKept, checkErased, wholeHistories } from "./removed.ts";
import type { Scenario } from "./scenario.ts";
import { Workload } from "./workload.ts";
import { World } from "./world.ts";

export interface RunOptions {
  readonly scenario: Scenario;
  /** Instead of the scenario's. */
  readonly faults?: readonly Fault[];
  readonly trace?: (line: string) => void;
  /** What processes log. */
  readonly log?: (line: string) => void;
}

export interface RunResult {
  readonly seed: number;
  readonly digest: string;
  readonly findings: readonly Finding[];
  readonly injected: ReadonlyMap<FaultKind, number>;
  readonly acts: ReadonlyMap<ActKind, number>;
  readonly events: number;
  readonly virtualMs: number;
  readonly acked: number;
  /** Promises that are not checked in every run, and were in this one. */
  readonly checked: readonly PromiseId[];
}

/** The longest until all is in good order once nothing is wrong any more. */
const recoverMs = 120_000;
/** From then on nothing of the harm is left: connections that were half open are over. */
const settleMs = 12_000;
/** A message is at every device that is live within so long. */
const pushMs = 3_000;
/** Or so long, where some ask for it, each time over a new connection. */
const polledMs = 10_000;
/** From a device's end to "offline": two heartbeats, a sweep, the grace, and then some. */
const offlineMs = 32_000;
const answerMs = 30_000;
/** Who was gone when all was healed is told to be so by then. */
const graceMs = 18_000;

export async function run(options: RunOptions): Promise<RunResult> {
  return withoutEscapes(() => new Run(options).run());
}

class Run {
  readonly #options: RunOptions;
  readonly #world: World;
  readonly #workload: Workload;
  readonly #faults: Faults;
  readonly #acts: Acts | undefined;
  readonly #findings: Finding[] = [];
  readonly #checked: PromiseId[] = [];

  constructor(options: RunOptions) {
    const { scenario, trace, log } = options;
    this.#options = options;
    const { seed, world } = scenario;
    this.#world = new World({ ...world, seed, ...(log === undefined ? {} : { log }) });
    this.#world.timeline.onNote = trace;
    this.#workload = new Workload(this.#world, scenario.people);
    this.#faults = new Faults(this.#world);
    if (scenario.acts !== undefined) this.#acts = new Acts(this.#world, this.#workload);
  }

  async run(): Promise<RunResult> {
    const { scenario, faults = scenario.faults } = this.#options;
    const { timeline } = this.#world;
    this.#world.begin();
    if (!(await this.#until(20_000, () => this.#ready)))
      throw new Error(`seed ${scenario.seed}: it never began`);
    const beganMs = timeline.nowMs;
    this.#workload.begin();
    this.#workload.plan({
      operations: scenario.operations,
      fromMs: beganMs + 1_000,
      toMs: beganMs + scenario.horizonMs,
    });
    this.#faults.arm(faults.map((fault) => ({ ...fault, atMs: beganMs + fault.atMs })));
    this.#acts?.arm(scenario.acts ?? [], beganMs);
    await timeline.runUntil(beganMs + scenario.horizonMs);
    await this.#aftermath();
    timeline.note(`${timeline.events} events`);
    return {
      seed: scenario.seed,
      digest: timeline.digest(),
      findings: this.#findings,
      injected: this.#faults.injected,
      events: timeline.events,
      virtualMs: timeline.nowMs,
      acked: this.#sendings.filter(({ seq }) => seq !== undefined).length,
      checked: this.#checked,
      acts: this.#acts?.done ?? new Map(),
    };
  }

  /** Whether it came so within the time. */
  async #until(ms: number, so: () => boolean): Promise<boolean> {
    const { timeline } = this.#world;
    await timeline.runUntil(timeline.nowMs + ms, so);
    return so();
  }

  get #ready(): boolean {
    const { processes } = this.#world;
    return processes.every((one) => one.ends || one.problems().length === 0);
  }

  get #sendings(): Sending[] {
    return this.#staying.flatMap((one) => one.sendings);
  }

  /** Devices but for those of users who are erased. */
  get #staying(): SimDevice[] {
    return this.#world.devices.filter(({ userId }) => !this.#workload.goers.has(userId));
  }

  /** What was neither acked nor refused. */
  *#open(): Generator<Sending> {
    for (const { sendings } of this.#staying)
      for (const one of sendings) if (one.seq === undefined && !one.failed) yield one;
  }

  #found(promise: Finding["promise"], what: string): void {
    this.#findings.push({ promise, what });
    this.#world.timeline.note(`broken: ${promise} ${what}`);
  }

  async #aftermath(): Promise<void> {
    const { timeline } = this.#world;
    timeline.note("all is healed");
    this.#faults.heal();
    for (const device of this.#world.devices) device.connect();
    if (!(await this.#well())) return;
    if (this.#acts !== undefined) {
      this.#acts.healed();
      if (!(await this.#well())) return;
    }
    const devices = this.#staying;
    for (const device of devices) device.watchMissing();
    await timeline.runUntil(timeline.nowMs + settleMs);
    const settledMs = timeline.nowMs;
    await this.#probe();
    await this.#check();
    this.#checkPrompt();
    if (this.#options.scenario.leaves) {
      await timeline.runUntil(Math.max(timeline.nowMs, settledMs + graceMs));
      const users = new Set(devices.map(({ userId }) => userId));
      // Of who is erased nobody is told anything.
      for (const device of devices)
        device.watches = device.watches.filter((userId) => !this.#workload.goers.has(userId));
      this.#addOf("P7", checkPresence(devices, users));
      this.#add(checkNoFalseOffline(devices, settledMs, timeline.nowMs));
      await this.#leave(users);
    }
    for (const error of this.#world.internalErrors) this.#found("P9", error);
  }

  /** Whether all is in good order within the time. What is not is found. */
  async #well(): Promise<boolean> {
    const devices = this.#staying;
    // Asked after every event: what costs least first.
    const well = (): boolean =>
      devices.every(({ live }) => live) &&
      this.#open().next().done === true &&
      (this.#acts === undefined ||
        (this.#acts.over && devices.every(({ life }) => life.asked === 0))) &&
      this.#ready;
    if (await this.#until(recoverMs, well)) return true;
    for (const one of this.#world.processes)
      if (!one.ends)
        for (const problem of one.problems()) this.#found("P1", `${one.address}: ${problem}`);
    for (const device of devices)
      if (!device.live) this.#found("P6", `${device.name} is ${device.client.connection.t}`);
    if (this.#acts?.over === false) this.#found("P1", "what operators began has no end");
    for (const { text, conversationId } of this.#open())
      this.#found("P1", `${conversationId}: "${text}" was neither acked nor refused`);
    return false;
  }

  #add(findings: readonly Finding[]): void {
    for (const { promise, what } of findings) this.#found(promise, what);
  }

  #addOf(promise: PromiseId, findings: readonly Finding[]): void {
    if (!this.#checked.includes(promise)) this.#checked.push(promise);
    this.#add(findings);
  }

  /** P6: a message into every conversation is acked and pushed soon. */
  async #probe(): Promise<void> {
    const { timeline } = this.#world;
    const devices = this.#staying;
    const before = new Set(this.#sendings);
    this.#workload.probe();
    const probes = this.#sendings.filter((one) => !before.has(one));
    const { members } = this.#workload;
    function* lacking(): Generator<string> {
      for (const { conversationId, seq, text } of probes) {
        if (seq === undefined) yield `"${text}" into ${conversationId} is not acked`;
        else {
          const userIds = members.get(conversationId) ?? [];
          for (const one of devices)
            if (userIds.includes(one.userId) && one.gotOf(conversationId) < seq)
              yield `${one.name} did not get "${text}", ${conversationId} #${seq}`;
        }
      }
    }
    const begunMs = timeline.nowMs;
    const boundMs = this.#acts === undefined ? pushMs : polledMs;
    if (!(await this.#until(boundMs, () => lacking().next().done === true)))
      for (const what of lacking())
        this.#found(
          "P6",
          `${what}, ${timeline.nowMs - begunMs} ms after it was sent, all in good order`,
        );
  }

  /** Where the harm was done to devices alone, or to the registry alone. */
  #checkPrompt(): void {
    const { injected, devicesHit } = this.#faults;
    const kinds = [...injected.keys()];
    const { operator, floods } = this.#acts ?? {};
    const isHarmed = kinds.length > 0 || (floods?.count ?? 0) > 0;
    if (!isHarmed || this.#options.scenario.store === "cassandra in trouble") return;
    // As a stop of a process, which is a fault.
    if ((operator?.rolled ?? 0) > 0) return;
    const { devices, registry } = this.#world;
    if (kinds.every((kind) => kind.startsWith("device-")))
      this.#addOf("P9", checkPrompt("P9", devices, devicesHit));
    if (
      kinds.length > 0 &&
      kinds.every((kind) => kind === "registry-away") &&
      !registry.wentUnheard
    )
      this.#addOf("P10", checkPrompt("P10", devices, devicesHit));
  }

  async #check(): Promise<void> {
    const { timeline } = this.#world;
    const devices = this.#staying;
    const { conversations, trespasses } = this.#workload;
    // With who is erased there may never have been a word.
    const written = new Set(this.#sendings.map(({ seq, conversationId: id }) => seq && id));
    const members = new Map(
      [...this.#workload.members].filter(([id, all]) => all.length > 1 || written.has(id)),
    );
    // Cursors follow at leisure.
    await timeline.runUntil(timeline.nowMs + 5_000);
    const histories: HistoryOf[] = [];
    const cursors: SeenCursor[] = [];
    const asked: Promise<void>[] = [];
    const deviceOf = (userId: string) => devices.find((one) => one.userId === userId);
    for (const [conversationId, userIds] of members) {
      for (const userId of userIds) {
        const device = deviceOf(userId);
        if (device === undefined) continue;
        asked.push(
          device
            .history(conversationId)
            .then((records) => void histories.push({ conversationId, userId, records })),
        );
      }
      const reader = deviceOf(userIds[0] ?? "");
      if (reader === undefined) continue;
      asked.push(membersOf(reader.client, conversationId).then((all) => void cursors.push(...all)));
    }
    let failure: unknown;
    let answered = false;
    if (this.#acts !== undefined) {
      this.#addOf("P9", this.#acts.floods.check());
      for (const fetched of this.#acts.images.check(this.#acts))
        asked.push(fetched.then((findings) => this.#add(findings)));
    }
    Promise.all(asked).then(
      () => (answered = true),
      (error: unknown) => (failure = error),
    );
    await this.#until(answerMs, () => answered || failure !== undefined);
    if (!answered) {
      this.#found("P6", `histories are not answered: ${String(failure)}`);
      return;
    }
    const sent = this.#sendings;
    const logs = devices.flatMap((one) => one.logs());
    const seen = this.#withoutRemoved(logs, histories, cursors);
    this.#add(check({ members, sent, ...seen, cursors }));
    const aftermath = { devices, conversations, members, cursors, trespasses };
    this.#add(checkAftermath({ ...aftermath, histories: seen.histories }));
  }

  /** What operators had removed is gone; the rest is as it was seen. */
  #withoutRemoved(
    devices: readonly DeviceLog[],
    histories: readonly HistoryOf[],
    cursors: readonly SeenCursor[],
  ): Pick<Observed, "devices" | "histories"> {
    const removals = this.#acts;
    if (removals === undefined) return { devices, histories };
    if (removals.erased.size > 0)
      this.#addOf("P8", checkErased(this.#world.devices, histories, cursors, removals));
    const whole = wholeHistories(histories, devices, this.#sendings, removals);
    const kept = devices.map((log) => asKept(log, whole, removals));
    return { devices: kept, histories: whole };
  }

  /** P7: all devices of some are gone, and the others are told. */
  async #leave(users: Set<string>): Promise<void> {
    const { devices, timeline } = this.#world;
    const chance = this.#world.chance("leaving");
    for (const userId of [...users].slice(0, Math.ceil(users.size / 2))) {
      users.delete(userId);
      for (const device of devices) {
        if (device.userId !== userId) continue;
        if (chance.unit() < 0.5) device.vanish();
        else device.disconnect();
      }
    }
    const fromMs = timeline.nowMs;
    await timeline.runUntil(fromMs + offlineMs);
    this.#add(checkPresence(devices, users));
    this.#add(checkNoFalseOffline(devices, fromMs, timeline.nowMs));
  }
}

async function membersOf(client: ParleyClient, conversationId: string): Promise<SeenCursor[]> {
  const all: SeenCursor[] = [];
  for (let pageToken = ""; ;) {
    const answer = await client.listMembers(conversationId, { pageToken, limit: 200 });
    for (const { userId, deliveredSeq, readSeq } of answer.members)
      all.push({ conversationId, userId, delivered: deliveredSeq, read: readSeq });
    pageToken = answer.nextPageToken;
    if (pageToken === "") return all;
  }
}

export { named };
