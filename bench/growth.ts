/** Whether costs grow with history: the same appends and syncs on a store that is all but empty, and on a full one. */
import { setTimeout as sleep } from "node:timers/promises";
import { addExample, noFaults, type Faults } from "./check.ts";
import { bytesField, clientField, varintField, type FrameWriter } from "./codec.ts";
import { loadRequestIds, newShared, ParleyConnection, type Load } from "./connection.ts";
import { CpuMeter, residentBytes } from "./cpu.ts";
import { syncAnswer } from "./frames.ts";
import type { Grown, GrowthJob, GrowthResult, Measured } from "./job.ts";
import { Meter, openAll, waitUntil } from "./meter.ts";
import { Outgoing } from "./outgoing.ts";
import { directConversation } from "./pairs.ts";
import { Turn } from "./turn.ts";

/** Without an answer for so long, the server has stopped. */
const stalledMs = 10_000;
/** A server that uses less than a twentieth of a core for so long has nothing under way. */
const quietMs = 500;
const quietMaxMs = 20_000;

/** A user who writes to many others in turn. The others are away: this is about the store. */
class Writer {
  readonly connection: ParleyConnection;
  readonly conversations: { id: string; outgoing: Outgoing; head: number }[];
  next = 0;
  sends = 0;
  /** Which conversation each message under way went to, by its request id. */
  readonly underWay = new Map<number, number>();

  constructor(connection: ParleyConnection, receivers: string[]) {
    this.connection = connection;
    this.conversations = receivers.map((receiver, number) => ({
      id: directConversation(connection.userId, receiver),
      outgoing: new Outgoing({ user: receiver }, connection.number, number, 1),
      head: 0,
    }));
  }
}

class AppendLoad implements Load {
  readonly writers: Writer[];
  readonly #window: number;
  readonly #faults: Faults;
  meter: Meter;
  /** Messages that may still be sent. */
  budget = 0;
  answered = 0;
  underWay = 0;

  constructor(writers: Writer[], window: number, faults: Faults, meter: Meter) {
    this.writers = writers;
    this.#window = window;
    this.#faults = faults;
    this.meter = meter;
  }

  sent(from: ParleyConnection, requestId: number, seq: number, duplicate: boolean): void {
    const conversation = this.#take(from, requestId);
    if (conversation === undefined) return;
    const { outgoing } = conversation;
    if (duplicate) this.#fault("doubled", `${conversation.id}: a first try acked as a duplicate`);
    if (seq !== conversation.head + 1) {
      this.#fault("reordered", `${conversation.id}: seq ${seq} acked after ${conversation.head}`);
    }
    conversation.head = Math.max(conversation.head, seq);
    this.meter.count++;
    this.meter.ack.add(performance.now() - outgoing.sentAtMs(outgoing.count - 1));
    from.touch();
  }

  refused(from: ParleyConnection, requestId: number): void {
    const conversation = this.#take(from, requestId);
    if (conversation !== undefined) conversation.outgoing.failed++;
    from.touch();
  }

  fill(from: ParleyConnection, writer: FrameWriter): void {
    const one = this.writers[from.number];
    if (one === undefined) return;
    const nowMs = performance.now();
    // A conversation has one message under way at most, and they take turns.
    for (let tried = 0; tried < one.conversations.length; tried++) {
      if (this.budget === 0 || one.underWay.size >= this.#window) return;
      const number = one.next++ % one.conversations.length;
      const conversation = one.conversations[number];
      if (conversation === undefined || conversation.outgoing.underWay > 0) continue;
      const requestId = loadRequestIds + 2 * one.sends++;
      conversation.outgoing.write(writer, conversation.head, nowMs, requestId);
      one.underWay.set(requestId, number);
      this.budget--;
      this.underWay++;
    }
  }

  record(): void {}
  cursor(): void {}

  #take(from: ParleyConnection, requestId: number): Writer["conversations"][number] | undefined {
    const one = this.writers[from.number];
    const number = one?.underWay.get(requestId);
    if (one === undefined || number === undefined) return undefined;
    one.underWay.delete(requestId);
    this.underWay--;
    this.answered++;
    const conversation = one.conversations[number];
    conversation?.outgoing.answered();
    return conversation;
  }

  #fault(kind: "doubled" | "reordered", text: string): void {
    this.#faults[kind]++;
    addExample(this.#faults, text);
  }
}

class Growth {
  readonly #job: GrowthJob;
  readonly #load: AppendLoad;
  readonly #progress: (text: string) => void;
  readonly #tokens = new Map<string, Buffer>();

  constructor(job: GrowthJob, load: AppendLoad, progress: (text: string) => void) {
    this.#job = job;
    this.#load = load;
    this.#progress = progress;
  }

  /** Appends so many messages, in all conversations evenly. */
  async append(count: number, name: string): Promise<Measured> {
    const load = this.#load;
    const meter = new Meter(this.#job.target.pid);
    load.meter = meter;
    load.budget = count;
    const target = load.answered + count;
    meter.begin();
    for (const { connection } of load.writers) connection.touch();
    let saidAtMs = performance.now();
    let movedAtMs = saidAtMs;
    let seen = load.answered;
    const done = (): boolean => {
      const nowMs = performance.now();
      if (load.answered !== seen) movedAtMs = nowMs;
      if (nowMs - saidAtMs >= 1000) {
        this.#progress(`${name}: ${load.answered} messages`);
        saidAtMs = nowMs;
      }
      seen = load.answered;
      return seen >= target || nowMs - movedAtMs > stalledMs;
    };
    await waitUntil(done, 3_600_000);
    meter.end();
    if (load.answered < target) {
      throw new Error(`${name}: ${target - load.answered} messages without an answer, stalled`);
    }
    return meter.result();
  }

  async appendRounds(name: string): Promise<Measured> {
    const rounds: Measured[] = [];
    for (let round = 0; round < this.#job.rounds; round++) {
      rounds.push(await this.append(this.#job.roundMessages, name));
    }
    return median(rounds);
  }

  /** Waits until the server has ended what it does in the background, so that a sync is measured and not that. */
  async quiet(): Promise<void> {
    const { pid } = this.#job.target;
    if (pid === undefined) return sleep(quietMs);
    const cpu = new CpuMeter(pid);
    for (let waitedMs = 0; waitedMs < quietMaxMs; waitedMs += quietMs) {
      const before = cpu.seconds();
      await sleep(quietMs);
      if (cpu.seconds() - before < (0.05 * quietMs) / 1000) return;
    }
  }

  /** One after the other, so that the latency is that of a sync alone. */
  async syncRounds(which: "first" | "later", name: string): Promise<Measured> {
    const rounds: Measured[] = [];
    for (let round = 0; round < this.#job.rounds; round++) {
      this.#progress(name);
      const meter = new Meter(this.#job.target.pid);
      meter.begin();
      for (let i = 0; i < this.#job.roundSyncs; i++) {
        const writer = this.#load.writers[i % this.#load.writers.length];
        if (writer === undefined) break;
        const known = which === "first" ? undefined : this.#tokens.get(writer.connection.userId);
        const beginMs = performance.now();
        await this.sync(writer, known);
        meter.delivery.add(performance.now() - beginMs);
        meter.count++;
      }
      meter.end();
      rounds.push(meter.result());
    }
    return median(rounds);
  }

  /** Syncs to the end and answers with the heads that changed. */
  async sync(writer: Writer, known: Buffer | undefined): Promise<Map<string, number>> {
    const heads = new Map<string, number>();
    let token = known ?? Buffer.alloc(0);
    for (let complete = false; !complete;) {
      const body = Buffer.concat([bytesField(1, token), varintField(3, 1)]);
      const answer = syncAnswer(await writer.connection.call(clientField.sync, body));
      for (const [id, head] of answer.heads) heads.set(id, head);
      token = answer.token;
      complete = answer.complete;
    }
    this.#tokens.set(writer.connection.userId, token);
    return heads;
  }

  /** Everything that was acked is in the store: the heads that a sync tells are those of the acks. */
  async judge(faults: Faults): Promise<void> {
    for (const writer of this.#load.writers) {
      const heads = await this.sync(writer, undefined);
      for (const { id, head } of writer.conversations) {
        const kept = heads.get(id) ?? 0;
        if (kept >= head) continue;
        faults.lost += head - kept;
        addExample(faults, `${id}: acked up to ${head}, kept up to ${kept}`);
      }
    }
  }
}

/** The round with the median cost of one (CPU where known, else time). */
function median(rounds: Measured[]): Measured {
  const cost = (one: Measured): number => (one.serverSeconds ?? one.seconds) / one.count;
  const middle = rounds.toSorted((one, other) => cost(one) - cost(other))[rounds.length >> 1];
  if (middle === undefined) throw new Error("no round was measured");
  return middle;
}

export async function runGrowth(
  job: GrowthJob,
  progress: (text: string) => void,
): Promise<GrowthResult> {
  const faults = noFaults();
  const shared = newShared(job.target, new Turn(), faults);
  const receivers = Array.from({ length: job.receiversPerSender }, (_, n) => `r${job.run}-${n}`);
  const connections = await openAll(job.senders, 50, (number) =>
    ParleyConnection.open(shared, number, `s${job.run}-${number}`),
  );
  const writers = connections.map((connection) => new Writer(connection, receivers));
  const load = new AppendLoad(writers, job.window, faults, new Meter(undefined));
  for (const connection of connections) connection.load = load;
  const growth = new Growth(job, load, progress);
  const conversations = job.senders * job.receiversPerSender;
  await growth.append(conversations, "beginning conversations");
  for (const { conversations: all } of writers) {
    for (const { id, outgoing } of all) outgoing.address(id);
  }
  await growth.append(2 * job.roundMessages, "warming up");
  await growth.syncRounds("first", "warming up");
  await growth.syncRounds("later", "warming up");
  const phase = async (name: string) => {
    const append = await growth.appendRounds(`append, ${name}`);
    await growth.quiet();
    const firstSync = await growth.syncRounds("first", `first sync, ${name}`);
    const laterSync = await growth.syncRounds("later", `later sync, ${name}`);
    return { append, firstSync, laterSync };
  };
  const empty = await phase("empty");
  const loaded = await growth.append(Math.max(1, job.messages - load.answered), "loading");
  await growth.quiet();
  const full = await phase("full");
  await growth.judge(faults);
  const of = (what: "append" | "firstSync" | "laterSync"): Grown => ({
    empty: empty[what],
    full: full[what],
  });
  const resident = job.target.pid === undefined ? undefined : residentBytes(job.target.pid);
  for (const connection of connections) connection.close();
  return {
    kind: "growth",
    append: of("append"),
    firstSync: of("firstSync"),
    laterSync: of("laterSync"),
    load: loaded,
    messages: load.answered,
    conversations,
    faults,
    residentBytes: resident,
  };
}
