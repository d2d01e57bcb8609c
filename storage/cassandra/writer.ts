/** Writes until it is known that all is kept, the same in every bit; several statements share a request. */
import type { types } from "cassandra-driver";
import type { Logger } from "pino";
import type { Count, Metrics } from "../../mesh/metrics.ts";
import { brokenError, UnknownOutcome } from "../errors.ts";
import { type Connection, isWrong, messageOf, type Query } from "./connection.ts";

/** In one request: Cassandra warns of batches above 10 partitions and of those above 5 KiB. */
const partitionsMax = 10;
const statementsMax = 50;
const bytesMax = 4_096;
/** So often a write that does not succeed asks whether to go on. */
const triesBetweenChecks = 8;

export class Writer {
  readonly #connection: Connection;
  readonly #closing: AbortSignal;
  readonly #log: Logger;
  readonly #again: Count;

  constructor(connection: Connection, closing: AbortSignal, log: Logger, metrics: Metrics) {
    this.#connection = connection;
    this.#closing = closing;
    this.#log = log;
    this.#again = metrics.count(
      "parley_storage_writes_again_total",
      "Requests to Cassandra that were made again, as they failed or were not answered.",
    );
  }

  /**
   * Resolves once all are kept. Rejects where something can never be kept, the store closes, or `goOn` does, which is asked now and then
   * while Cassandra does not answer.
   */
  async keep(
    queries: readonly Query[],
    consistency: types.consistencies,
    goOn: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    await Promise.all(chunks(queries).map((chunk) => this.#keep(chunk, consistency, goOn)));
  }

  async #keep(
    chunk: readonly Query[],
    consistency: types.consistencies,
    goOn: () => Promise<void>,
  ): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        await this.#connection.writeOnce(chunk, consistency);
        return;
      } catch (error) {
        if (this.#closing.aborted) throw new UnknownOutcome();
        if (isWrong(error)) {
          this.#log.error({ err: error }, "Cassandra refuses a write");
          throw brokenError(error);
        }
        this.#again.add();
        if (tries === 1) this.#log.warn({ reason: messageOf(error) }, "a write is tried again");
      }
      await this.#connection.backOff(tries, this.#closing).catch(() => {
        throw new UnknownOutcome();
      });
      if (tries % triesBetweenChecks === 0) await goOn();
    }
  }
}

function chunks(queries: readonly Query[]): Query[][] {
  const all: Query[][] = [];
  let chunk: Query[] = [];
  let partitions = new Set<string>();
  let bytes = 0;
  for (const query of queries) {
    const more = bytesOf(query);
    partitions.add(query.partition);
    const full =
      chunk.length >= statementsMax || partitions.size > partitionsMax || bytes + more > bytesMax;
    if (full && chunk.length > 0) {
      all.push(chunk);
      chunk = [];
      partitions = new Set([query.partition]);
      bytes = 0;
    }
    chunk.push(query);
    bytes += more;
  }
  if (chunk.length > 0) all.push(chunk);
  return all;
}

function bytesOf({ params }: Query): number {
  let bytes = 40;
  for (const value of params) {
    if (value instanceof Uint8Array || typeof value === "string") bytes += value.length;
    else bytes += 8;
  }
  return bytes;
}
