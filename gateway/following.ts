/** Chooses the messages that are followed, and begins their traces. */
import type { Logger } from "pino";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { type Span, type Tracer, traceIdOf } from "../mesh/trace.ts";
import type { Caller } from "./ports.ts";

export class Following {
  readonly #tracer: Tracer | undefined;
  readonly #log: Logger;

  constructor({ tracer, log }: Pick<Surroundings, "tracer" | "log">) {
    this.#tracer = tracer;
    this.#log = log;
  }

  /** A message came; undefined: it is not followed, as most are not. */
  sending({ userId, origin }: Caller, conversationId: string): Span | undefined {
    const tracer = this.#tracer;
    if (tracer === undefined || !tracer.chosen()) return undefined;
    const ids = { "parley.user": userId, "parley.conversation": conversationId };
    const span = tracer.begin("gateway send", { ...ids, "parley.origin": origin });
    const traceId = traceIdOf(span.context);
    this.#log.debug({ traceId, userId, conversationId, origin }, "a message is followed");
    return span;
  }
}
