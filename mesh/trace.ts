/** The port to traces: a message that is followed leaves a span at each hop from its sender's frame to the frames of its receivers. What is said in it is never told. */

/** Ids and numbers. */
export type Attributes = Readonly<Record<string, string | number>>;

/** A step of a message's way. */
export interface Span {
  /** What goes along with the message: 16 bytes of the trace's id, 8 of this span's. */
  readonly context: Uint8Array;
  set(attributes: Attributes): void;
  /** Something happened within it. */
  note(what: string): void;
  /** `fault`: why it came to nothing. */
  end(fault?: string): void;
}

/** Where there is none, nothing is followed. */
export interface Tracer {
  /** Chance says whether a message that came just now is followed. */
  chosen(): boolean;
  /** The first span of a message that is. */
  begin(name: string, attributes: Attributes): Span;
  /** One more, caused by the one whose context came along. */
  step(context: Uint8Array, name: string, attributes: Attributes): Span;
}

/** As logs and viewers have it. */
export const traceIdOf = (context: Uint8Array): string =>
  Buffer.from(context.subarray(0, 16)).toString("hex");
