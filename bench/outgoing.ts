/** One sender's messages into one conversation: counters, what is under way, and when each was sent or due. */
import { randomBytes } from "node:crypto";
import { markedText, sendTemplate, type FrameWriter, type SendTemplate } from "./codec.ts";
import { loadRequestIds } from "./connection.ts";

/** A text of 120 bytes, as the service is sized for. */
export const textBytes = 120;

export class Outgoing {
  readonly #idPrefix = randomBytes(12);
  readonly #text: Buffer;
  readonly #sentAtMs: Float64Array;
  readonly #timesMask: number;
  #template: SendTemplate;
  /** Messages sent so far; the next one's counter. */
  count = 0;
  underWay = 0;
  failed = 0;

  /**
   * `receiver` is the number of the connection, or of the group, that it goes to. The times of so many of the newest
   * messages are known as `timesKept`, a power of two, says.
   */
  constructor(
    to: { conversation: string } | { user: string },
    sender: number,
    receiver: number,
    timesKept = 2048,
  ) {
    this.#sentAtMs = new Float64Array(timesKept);
    this.#timesMask = timesKept - 1;
    this.#text = markedText(sender, receiver, textBytes);
    this.#template = sendTemplate(to, this.#idPrefix, this.#text);
  }

  /** From now on by the conversation's id. */
  address(conversation: string): void {
    this.#template = sendTemplate({ conversation }, this.#idPrefix, this.#text);
  }

  /** A connection that writes into one conversation only may leave the request id to the counter. */
  write(
    writer: FrameWriter,
    knownHead: number,
    sentAtMs: number,
    requestId = loadRequestIds + 2 * this.count,
  ): void {
    const counter = this.count++;
    this.underWay++;
    this.#sentAtMs[counter & this.#timesMask] = sentAtMs;
    writer.send(this.#template, requestId, counter, knownHead);
  }

  sentAtMs(counter: number): number {
    return this.#sentAtMs[counter & this.#timesMask] ?? 0;
  }

  /** Answered, well or not. */
  answered(): void {
    this.underWay--;
  }
}

/** The counter of the message that a request id belongs to. */
export const counterOf = (requestId: number): number => (requestId - loadRequestIds) / 2;

/** A request id for a cursor: odd, so never a message's. */
export const cursorRequestId = (moves: number): number => loadRequestIds + 2 * moves + 1;
