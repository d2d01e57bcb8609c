/** The load of people talking in pairs: each connection sends and receives, acks with a cursor, and checks what it gets. */
import { addExample, noFaults, SeqCheck, StreamCheck, type Faults } from "./check.ts";
import { markBytes, takeHex, type FrameWriter } from "./codec.ts";
import { newShared, ParleyConnection, type Load } from "./connection.ts";
import { residentBytes } from "./cpu.ts";
import type { LoadResult, PairsJob } from "./job.ts";
import { measure, Meter, openAll, waitUntil } from "./meter.ts";
import { counterOf, cursorRequestId, Outgoing } from "./outgoing.ts";
import { Turn } from "./turn.ts";

const setUpMs = 30_000;

/** The id of two users' direct conversation. */
export const directConversation = (one: string, other: string): string =>
  one < other ? `d:${one}:${other}` : `d:${other}:${one}`;

/** One side of a pair. */
class Side {
  readonly connection: ParleyConnection;
  readonly conversation: Buffer;
  readonly outgoing: Outgoing;
  readonly incoming = new StreamCheck();
  readonly seqs = new SeqCheck();
  /** When the messages are due that an open loop has not written yet. */
  readonly due: number[] = [];
  ackedSeq = 0;
  toAckSeq = 0;
  cursorMoves = 0;
  toldDeliveredSeq = 0;

  constructor(connection: ParleyConnection, peerNumber: number, peerId: string) {
    this.connection = connection;
    this.conversation = Buffer.from(directConversation(connection.userId, peerId));
    this.outgoing = new Outgoing({ user: peerId }, connection.number, peerNumber);
  }
}

export class PairsLoad implements Load {
  readonly #sides: Side[];
  readonly #meter: Meter;
  readonly #faults: Faults;
  readonly #window: number;
  /** Whether the closed loop may send. */
  #running = false;
  #nowMs = 0;

  constructor(sides: Side[], meter: Meter, faults: Faults, window: number) {
    this.#sides = sides;
    this.#meter = meter;
    this.#faults = faults;
    this.#window = window;
  }

  start(): void {
    this.#running = true;
    for (const side of this.#sides) side.connection.touch();
  }

  stop(): void {
    this.#running = false;
  }

  sent(from: ParleyConnection, requestId: number, seq: number, duplicate: boolean): void {
    const side = this.#side(from);
    if (side === undefined) return;
    side.outgoing.answered();
    side.seqs.sent(seq);
    if (duplicate) {
      this.#faults.doubled++;
      addExample(this.#faults, `${from.userId}'s first try was acked as a duplicate of seq ${seq}`);
    }
    const sentAtMs = side.outgoing.sentAtMs(counterOf(requestId));
    if (this.#meter.counts(sentAtMs)) this.#meter.ack.add(performance.now() - sentAtMs);
    from.touch();
  }

  record(to: ParleyConnection, bytes: Buffer, seq: number, start: number, end: number): void {
    const side = this.#side(to);
    if (side === undefined) return;
    side.seqs.pushed(seq);
    side.toAckSeq = Math.max(side.toAckSeq, seq);
    to.touch();
    if (end - start < markBytes) return;
    const sender = this.#sides[takeHex(bytes, start)];
    if (sender === undefined || takeHex(bytes, start + 8) !== to.number) {
      this.#faults.failed++;
      addExample(this.#faults, `${to.userId} got a message that is not its own, seq ${seq}`);
      return;
    }
    const counter = takeHex(bytes, start + 16);
    side.incoming.take(counter);
    // Sending reads, too: the peer's own message says how far the peer has come, as a cursor would.
    side.toldDeliveredSeq = Math.max(side.toldDeliveredSeq, seq);
    this.#meter.count++;
    const sentAtMs = sender.outgoing.sentAtMs(counter);
    if (this.#meter.counts(sentAtMs)) this.#meter.delivery.add(performance.now() - sentAtMs);
  }

  cursor(to: ParleyConnection, deliveredSeq: number): void {
    const side = this.#side(to);
    if (side !== undefined && deliveredSeq > side.toldDeliveredSeq) {
      side.toldDeliveredSeq = deliveredSeq;
    }
  }

  refused(from: ParleyConnection, requestId: number): void {
    const side = this.#side(from);
    if (side === undefined || requestId % 2 === 1) return;
    side.outgoing.answered();
    side.outgoing.failed++;
    from.touch();
  }

  fill(from: ParleyConnection, writer: FrameWriter): void {
    const side = this.#side(from);
    if (side === undefined) return;
    if (side.toAckSeq > side.ackedSeq) {
      side.ackedSeq = side.toAckSeq;
      writer.moveCursor(cursorRequestId(side.cursorMoves++), side.conversation, side.ackedSeq);
    }
    const { outgoing, due } = side;
    for (const dueMs of due) outgoing.write(writer, side.seqs.head, dueMs);
    due.length = 0;
    if (!this.#running || outgoing.underWay >= this.#window) return;
    this.#nowMs = performance.now();
    while (outgoing.underWay < this.#window) outgoing.write(writer, side.seqs.head, this.#nowMs);
  }

  /** Everything was answered, received, and its delivery told. */
  settled(): boolean {
    return this.#sides.every((side, number) => {
      const { outgoing } = side;
      const peer = this.#sides[number ^ 1];
      return (
        side.due.length === 0 &&
        outgoing.underWay === 0 &&
        (peer?.incoming.received ?? 0) + outgoing.failed >= outgoing.count &&
        side.toldDeliveredSeq >= side.seqs.lastSent
      );
    });
  }

  /** Adds what went wrong, once all is over. */
  judge(): void {
    for (const [number, side] of this.#sides.entries()) {
      const { outgoing, seqs, incoming, connection } = side;
      const peer = this.#sides[number ^ 1]?.outgoing;
      const excused = (peer?.underWay ?? 0) + (peer?.failed ?? 0);
      const lost = incoming.lost(peer?.count ?? 0, excused);
      this.#faults.lost += lost;
      this.#faults.unanswered += outgoing.underWay;
      this.#faults.doubled += incoming.doubled;
      this.#faults.reordered += incoming.reordered + seqs.reordered;
      if (side.toldDeliveredSeq < seqs.lastSent) this.#faults.untold++;
      if (lost > 0) addExample(this.#faults, `${lost} messages to ${connection.userId} are lost`);
      const explained = lost + excused + incoming.doubled + outgoing.underWay + outgoing.failed;
      if (explained === 0 && !seqs.contiguous) {
        this.#faults.lost++;
        addExample(this.#faults, `${connection.userId} does not know every seq up to ${seqs.head}`);
      }
    }
  }

  #side(connection: ParleyConnection): Side | undefined {
    return this.#sides[connection.number];
  }
}

/** Opens the conversations: the even side says the first word to the other user. */
async function openConversations(sides: Side[], load: PairsLoad, faults: Faults): Promise<void> {
  const openers = sides.filter((side) => side.connection.number % 2 === 0);
  for (const side of openers) {
    side.due.push(performance.now());
    side.connection.touch();
  }
  if (!(await waitUntil(() => load.settled(), setUpMs))) {
    const stuck = openers.find((side) => side.outgoing.underWay > 0) ?? openers[0];
    throw new Error(
      `the first messages did not arrive within ${setUpMs} ms (${stuck?.connection.userId})`,
    );
  }
  const [refusal] = faults.examples;
  if (faults.failed > 0) throw new Error(`the first messages failed: ${refusal}`);
  for (const side of sides) side.outgoing.address(side.conversation.toString());
}

/** Sends at exactly even times, whatever the answers do: it spins, so as not to add a timer's millisecond. */
function openLoop(sides: Side[], perSecond: number, turn: Turn): () => void {
  const beginMs = performance.now();
  const gapMs = 1000 / perSecond;
  let sent = 0;
  let running = true;
  const spin = (): void => {
    if (!running) return;
    const nowMs = performance.now();
    for (let dueMs = beginMs + sent * gapMs; dueMs <= nowMs; dueMs = beginMs + sent * gapMs) {
      const side = sides[sent % sides.length];
      sent++;
      side?.due.push(dueMs);
      side?.connection.touch();
    }
    turn.flush();
    setImmediate(spin);
  };
  spin();
  return () => (running = false);
}

/** Waits up to `drainMs` at the end for what is still under way. */
export async function runPairs(
  job: PairsJob,
  progress: (text: string) => void,
  drainMs = 10_000,
): Promise<LoadResult> {
  const faults = noFaults();
  const turn = new Turn();
  const shared = newShared(job.target, turn, faults);
  const user = (number: number): string => `b${job.run}-${String(number).padStart(5, "0")}`;
  const connections = await openAll(job.connections, 100, (number) =>
    ParleyConnection.open(shared, number, user(number)),
  );
  const sides = connections.map((one) => new Side(one, one.number ^ 1, user(one.number ^ 1)));
  const meter = new Meter(job.target.pid, job.target.otherPids);
  const load = new PairsLoad(sides, meter, faults, "window" in job.pace ? job.pace.window : 0);
  for (const connection of connections) connection.load = load;
  await openConversations(sides, load, faults);
  let stop = (): void => load.stop();
  if ("window" in job.pace) load.start();
  else stop = openLoop(sides, job.pace.perSecond, turn);
  await measure(meter, job, progress);
  stop();
  await waitUntil(() => load.settled(), drainMs);
  load.judge();
  const resident = job.target.pid === undefined ? undefined : residentBytes(job.target.pid);
  for (const connection of connections) connection.close();
  return { kind: "load", measured: meter.result(), faults, residentBytes: resident };
}
