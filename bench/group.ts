/** The load of one group: a few members write, all others get a copy each, ack it with a cursor, and check it. */
import { randomBytes } from "node:crypto";
import { addExample, noFaults, SeqCheck, StreamCheck, type Faults } from "./check.ts";
import { bytesField, clientField, markBytes, takeHex, type FrameWriter } from "./codec.ts";
import { newShared, ParleyConnection, type Load } from "./connection.ts";
import { residentBytes } from "./cpu.ts";
import { bytesIn, fieldsOf } from "./frames.ts";
import type { GroupJob, LoadResult } from "./job.ts";
import { measure, Meter, openAll, waitUntil } from "./meter.ts";
import { counterOf, cursorRequestId, Outgoing } from "./outgoing.ts";
import { Turn } from "./turn.ts";

const setUpMs = 30_000;

class Member {
  readonly connection: ParleyConnection;
  /** By sender. */
  readonly incoming: StreamCheck[];
  readonly seqs = new SeqCheck();
  outgoing: Outgoing | undefined;
  ackedSeq = 0;
  toAckSeq = 0;
  cursorMoves = 0;

  constructor(connection: ParleyConnection, senders: number) {
    this.connection = connection;
    this.incoming = Array.from({ length: senders }, () => new StreamCheck());
  }
}

class GroupLoad implements Load {
  readonly #members: Member[];
  readonly #meter: Meter;
  readonly #faults: Faults;
  readonly #window: number;
  #conversation = Buffer.alloc(0);
  running = false;

  constructor(members: Member[], meter: Meter, faults: Faults, window: number) {
    this.#members = members;
    this.#meter = meter;
    this.#faults = faults;
    this.#window = window;
  }

  start(conversation: string, senders: number): void {
    this.#conversation = Buffer.from(conversation);
    this.running = true;
    for (const member of this.#members) {
      const { connection } = member;
      if (connection.number < senders) {
        member.outgoing = new Outgoing({ conversation }, connection.number, 0);
      }
      connection.touch();
    }
  }

  sent(from: ParleyConnection, requestId: number, seq: number, duplicate: boolean): void {
    const member = this.#members[from.number];
    if (member?.outgoing === undefined) return;
    member.outgoing.answered();
    member.seqs.sent(seq);
    if (duplicate) {
      this.#faults.doubled++;
      addExample(this.#faults, `${from.userId}'s first try was acked as a duplicate of seq ${seq}`);
    }
    const sentAtMs = member.outgoing.sentAtMs(counterOf(requestId));
    if (this.#meter.counts(sentAtMs)) this.#meter.ack.add(performance.now() - sentAtMs);
    from.touch();
  }

  record(to: ParleyConnection, bytes: Buffer, seq: number, start: number, end: number): void {
    const member = this.#members[to.number];
    if (member === undefined) return;
    member.seqs.pushed(seq);
    member.toAckSeq = Math.max(member.toAckSeq, seq);
    to.touch();
    if (end - start < markBytes) return;
    const sender = takeHex(bytes, start);
    const outgoing = this.#members[sender]?.outgoing;
    const stream = member.incoming[sender];
    if (outgoing === undefined || stream === undefined) {
      this.#faults.failed++;
      addExample(this.#faults, `${to.userId} got a message that nobody sent, seq ${seq}`);
      return;
    }
    const counter = takeHex(bytes, start + 16);
    stream.take(counter);
    this.#meter.count++;
    const sentAtMs = outgoing.sentAtMs(counter);
    if (this.#meter.counts(sentAtMs)) this.#meter.delivery.add(performance.now() - sentAtMs);
  }

  /** Coalesced in a group of this size, so that there is no figure to hold it against. */
  cursor(): void {}

  refused(from: ParleyConnection, requestId: number): void {
    const outgoing = this.#members[from.number]?.outgoing;
    if (outgoing === undefined || requestId % 2 === 1) return;
    outgoing.answered();
    outgoing.failed++;
    from.touch();
  }

  fill(from: ParleyConnection, writer: FrameWriter): void {
    const member = this.#members[from.number];
    if (member === undefined || this.#conversation.length === 0) return;
    if (member.toAckSeq > member.ackedSeq) {
      member.ackedSeq = member.toAckSeq;
      writer.moveCursor(cursorRequestId(member.cursorMoves++), this.#conversation, member.ackedSeq);
    }
    const { outgoing } = member;
    if (outgoing === undefined || !this.running) return;
    const nowMs = performance.now();
    while (outgoing.underWay < this.#window) outgoing.write(writer, member.seqs.head, nowMs);
  }

  /** All members but the founder, who is answered instead, have seen the group's beginning. */
  begun(): boolean {
    return this.#members.every(({ seqs, connection }) => seqs.head > 0 || connection.number === 0);
  }

  settled(): boolean {
    return this.#members.every(({ outgoing, incoming, connection }) => {
      if (outgoing !== undefined && outgoing.underWay > 0) return false;
      return incoming.every((stream, sender) => {
        const its = this.#members[sender]?.outgoing;
        return (
          sender === connection.number || stream.received + (its?.failed ?? 0) >= (its?.count ?? 0)
        );
      });
    });
  }

  judge(): void {
    for (const { outgoing, incoming, seqs, connection } of this.#members) {
      this.#faults.unanswered += outgoing?.underWay ?? 0;
      this.#faults.reordered += seqs.reordered;
      for (const [sender, stream] of incoming.entries()) {
        const its = this.#members[sender]?.outgoing;
        if (its === undefined || sender === connection.number) continue;
        const lost = stream.lost(its.count, its.underWay + its.failed);
        this.#faults.lost += lost;
        this.#faults.doubled += stream.doubled;
        this.#faults.reordered += stream.reordered;
        if (lost > 0) addExample(this.#faults, `${connection.userId} lost ${lost} of ${sender}'s`);
      }
    }
  }
}

/** Waits up to `drainMs` at the end for what is still under way. */
export async function runGroup(
  job: GroupJob,
  progress: (text: string) => void,
  drainMs = 10_000,
): Promise<LoadResult> {
  const faults = noFaults();
  const shared = newShared(job.target, new Turn(), faults);
  const user = (number: number): string => `g${job.run}-${String(number).padStart(5, "0")}`;
  const connections = await openAll(job.members, 100, (number) =>
    ParleyConnection.open(shared, number, user(number)),
  );
  const members = connections.map((connection) => new Member(connection, job.senders));
  const meter = new Meter(job.target.pid);
  const load = new GroupLoad(members, meter, faults, job.window);
  for (const connection of connections) connection.load = load;
  const [founder] = connections;
  if (founder === undefined) throw new Error("a group needs members");
  const others = connections.slice(1).map((one) => bytesField(3, one.userId));
  const answer = await founder.call(
    clientField.createGroup,
    Buffer.concat([bytesField(1, randomBytes(16)), bytesField(2, "Benchmark"), ...others]),
  );
  const conversation = bytesIn(fieldsOf(bytesIn(fieldsOf(answer), 1)), 1).toString();
  if (conversation === "") throw new Error("the answer to CreateGroup names no conversation");
  if (!(await waitUntil(() => load.begun(), setUpMs))) {
    throw new Error(`not every member heard of the group within ${setUpMs} ms`);
  }
  load.start(conversation, job.senders);
  await measure(meter, job, progress);
  load.running = false;
  await waitUntil(() => load.settled(), drainMs);
  load.judge();
  const resident = job.target.pid === undefined ? undefined : residentBytes(job.target.pid);
  for (const connection of connections) connection.close();
  return { kind: "load", measured: meter.result(), faults, residentBytes: resident };
}
