/** The yardstick's load: pairs play back and forth over the relay, so many messages under way each, 150 bytes a message. */
import { addExample, noFaults, StreamCheck, type Faults } from "./check.ts";
import { FrameWriter, markBytes, markedText, takeHex } from "./codec.ts";
import { residentBytes } from "./cpu.ts";
import type { LoadResult, RelayJob, Target } from "./job.ts";
import { measure, Meter, openAll, waitUntil } from "./meter.ts";
import { WebSocketClient } from "./socket.ts";
import { Turn, type Flushed } from "./turn.ts";

const messageBytes = 150;
const drainMs = 10_000;
const timesKept = 1024;

/** One end of a relayed pair. Every message that it gets lets it send one. */
export class RelayEnd implements Flushed {
  readonly number: number;
  readonly #turn: Turn;
  readonly #meter: Meter;
  readonly #faults: Faults;
  readonly #writer: FrameWriter;
  readonly #text: Buffer;
  readonly #sentAtMs = new Float64Array(timesKept);
  readonly incoming = new StreamCheck();
  #socket: WebSocketClient | undefined;
  dirty = false;
  peer: RelayEnd | undefined;
  running = false;
  sent = 0;
  mayOffer = 0;

  constructor(number: number, turn: Turn, meter: Meter, faults: Faults, writer: FrameWriter) {
    this.number = number;
    this.#turn = turn;
    this.#meter = meter;
    this.#faults = faults;
    this.#writer = writer;
    this.#text = markedText(number, number ^ 1, messageBytes);
  }

  open(target: Target): Promise<void> {
    return new Promise((resolve, reject) => {
      const path = `/${Math.floor(this.number / 2)}`;
      this.#socket = new WebSocketClient(
        { host: target.host, port: target.port, path },
        {
          opened: resolve,
          message: (bytes, start, end) => this.#take(bytes, start, end),
          lost: (why) => {
            this.#faults.failed++;
            addExample(this.#faults, `relay connection ${this.number}: ${why}`);
            reject(new Error(why));
          },
        },
      );
    });
  }

  offer(count: number): void {
    this.mayOffer += count;
    this.#turn.touch(this);
  }

  /** One WebSocket message each, as a client of a relay would, but one write a turn. */
  flush(): void {
    if (!this.running) return;
    const nowMs = performance.now();
    const frames: Buffer[] = [];
    for (; this.mayOffer > 0; this.mayOffer--) {
      this.#sentAtMs[this.sent & (timesKept - 1)] = nowMs;
      this.#writer.payload(this.#text, 16, this.sent++);
      const frame = this.#writer.take();
      if (frame !== undefined) frames.push(frame);
    }
    const [only] = frames;
    if (only !== undefined) this.#socket?.write(frames.length === 1 ? only : Buffer.concat(frames));
  }

  close(): void {
    this.#socket?.close();
  }

  #take(bytes: Buffer, start: number, end: number): void {
    if (end - start < markBytes || takeHex(bytes, start + 8) !== this.number) {
      this.#faults.failed++;
      addExample(this.#faults, `relay connection ${this.number} got a message not its own`);
      return;
    }
    const counter = takeHex(bytes, start + 16);
    this.incoming.take(counter);
    this.#meter.count++;
    const sentAtMs = this.peer?.sentAtMs(counter) ?? 0;
    if (this.#meter.counts(sentAtMs)) this.#meter.delivery.add(performance.now() - sentAtMs);
    this.offer(1);
  }

  sentAtMs(counter: number): number {
    return this.#sentAtMs[counter & (timesKept - 1)] ?? 0;
  }
}

export async function openRelayEnds(
  target: Target,
  count: number,
  meter: Meter,
  faults: Faults,
): Promise<RelayEnd[]> {
  const turn = new Turn();
  const writer = new FrameWriter(4096);
  const ends = Array.from(
    { length: count },
    (_, n) => new RelayEnd(n, turn, meter, faults, writer),
  );
  for (const end of ends) end.peer = ends[end.number ^ 1];
  await openAll(count, 100, async (number) => ends[number]?.open(target));
  return ends;
}

export async function runRelay(
  job: RelayJob,
  progress: (text: string) => void,
): Promise<LoadResult> {
  const faults = noFaults();
  const meter = new Meter(job.target.pid);
  const ends = await openRelayEnds(job.target, job.connections, meter, faults);
  for (const end of ends) {
    end.running = true;
    end.offer(job.window);
  }
  await measure(meter, job, progress);
  for (const end of ends) end.running = false;
  const arrived = (end: RelayEnd): boolean => end.incoming.received >= (end.peer?.sent ?? 0);
  await waitUntil(() => ends.every(arrived), drainMs);
  for (const { incoming, peer } of ends) {
    faults.lost += incoming.lost(peer?.sent ?? 0, 0);
    faults.doubled += incoming.doubled;
    faults.reordered += incoming.reordered;
  }
  const resident = job.target.pid === undefined ? undefined : residentBytes(job.target.pid);
  for (const end of ends) end.close();
  return { kind: "load", measured: meter.result(), faults, residentBytes: resident };
}
