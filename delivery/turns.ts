/**
 * Keeps a connection's sends into one conversation in their order where one of them was refused for now: those behind it are here already, or
 * on their way, and must not get before it. Pure: it is told what happens and when.
 */
import { Code, type ConnectError } from "@connectrpc/connect";
import { retryAfterMs, unavailable } from "../mesh/errors.ts";
import type { Operation } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";

/** For how long the others are held back for one that does not come again. */
const heldBackMs = 10_000;
/** Connections in conversations; the one refused longest ago is forgotten. */
const connectionsMax = 16_384;
const clientIdsMax = 1_024;

interface Refused {
  /** client_ids, one character a byte. */
  readonly clientIds: Set<string>;
  readonly untilMs: number;
}

export class Turns {
  readonly #connections = new Map<string, Refused>();

  /** Throws where the operation is a send that must not go on yet. */
  check(asked: Operation, nowMs: number): void {
    if (this.#connections.size === 0) return;
    const [connection, clientId] = namesOf(asked);
    if (connection === undefined) return;
    const refused = this.#connections.get(connection);
    if (refused === undefined) return;
    const { clientIds, untilMs } = refused;
    if (!clientIds.delete(clientId) && nowMs < untilMs)
      throw unavailable("a message sent before this one is to come again first");
    if (clientIds.size === 0 || nowMs >= untilMs) this.#connections.delete(connection);
  }

  /** The operation was refused. What goes to another owner comes again in order, with all behind it. */
  refused(asked: Operation, error: ConnectError, nowMs: number): void {
    if (error.code === Code.Aborted || retryAfterMs(error) === 0) return;
    const [connection, clientId] = namesOf(asked);
    if (connection === undefined) return;
    const clientIds = this.#connections.get(connection)?.clientIds ?? new Set();
    if (clientIds.size < clientIdsMax) clientIds.add(clientId);
    this.#connections.delete(connection);
    this.#connections.set(connection, { clientIds, untilMs: nowMs + heldBackMs });
    if (this.#connections.size <= connectionsMax) return;
    for (const oldest of this.#connections.keys()) {
      this.#connections.delete(oldest);
      return;
    }
  }
}

/** Calls without a connection have no order among them. */
function namesOf({ operation, origin, conversationId }: Operation): [string | undefined, string] {
  if (operation.case !== "send" || origin === "") return [undefined, ""];
  const { clientId } = operation.value;
  return [`${origin} ${conversationId}`, Buffer.from(clientId).toString("latin1")];
}
