/** A message that is followed, here: from when it is taken to its outcome. */
import type { ConnectError } from "@connectrpc/connect";
import type { Answerer } from "./draft.ts";
import type { Span, Tracer } from "../mesh/trace.ts";
import type { Operation, Outcome } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";

export class Followed implements Answerer {
  /** What goes along with the message from here. */
  readonly trace: Uint8Array;
  readonly #to: Answerer;
  readonly #span: Span | undefined;

  /** Without a tracer the trace goes on with a hop less. */
  constructor(operation: Operation, trace: Uint8Array, to: Answerer, tracer: Tracer | undefined) {
    const { conversationId, userId } = operation;
    this.#to = to;
    this.#span = tracer?.step(trace, "delivery send", {
      "parley.conversation": conversationId,
      "parley.user": userId,
    });
    this.trace = this.#span?.context ?? trace;
  }

  answer(outcome: Outcome): void {
    const { outcome: answered } = outcome;
    if (answered.case === "sent") this.#span?.set({ "parley.seq": answered.value.seq });
    this.#span?.end();
    this.#to.answer(outcome);
  }

  refuse(operationId: number, conversationId: string, error: ConnectError): void {
    this.#span?.end(error.rawMessage);
    this.#to.refuse(operationId, conversationId, error);
  }

  waits(operation: Operation): void {
    this.#to.waits(operation);
  }

  waited(operation: Operation): void {
    this.#to.waited(operation);
  }

  refusalOf(send: Operation): ConnectError | undefined {
    return this.#to.refusalOf(send);
  }
}
