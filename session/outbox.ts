/** What waits to be sent to one gateway: gathered by turn, bounded in number and bytes, and cut into messages of a bounded size. */
import type { ConnectError } from "@connectrpc/connect";
import type { Clock } from "../mesh/clock.ts";
import { Gather } from "../mesh/pipe.ts";
import type { AttachResponse, Push } from "../proto/gen/parley/session/v1/session_pb.ts";
import type { GatewayLink, Notice } from "./ports.ts";

/** Far below what the mesh takes as one message, so that an estimate is good enough. */
const responseBytesMax = 1_048_576;

export interface OutboxLimits {
  /** Pushes and notices that wait. */
  readonly outboxMax: number;
  /** What they weigh, about. */
  readonly outboxBytesMax: number;
}

export class Outbox implements GatewayLink {
  readonly #told: Gather<Push | Notice>;
  readonly #bytesMax: number;
  #bytes = 0;
  #error: ConnectError | undefined;

  constructor(clock: Clock, limits: OutboxLimits) {
    this.#told = new Gather(clock, limits.outboxMax);
    this.#bytesMax = limits.outboxBytesMax;
  }

  /** What waits, about. */
  get bytes(): number {
    return this.#bytes;
  }

  tell(told: Push | Notice): boolean {
    const bytes = bytesOf(told);
    if (this.#bytes + bytes > this.#bytesMax || !this.#told.add(told)) return false;
    this.#bytes += bytes;
    return true;
  }

  cut(error: ConnectError | undefined): void {
    this.#error ??= error;
    void this.#told.return();
  }

  /** Nothing more comes; what waits is sent. */
  end(): void {
    this.#told.end();
  }

  /** For the gateway's stream: ends when this does, and with the error that it was cut with. */
  async *responses(): AsyncGenerator<AttachResponse, undefined> {
    for await (const batch of this.#told) {
      let response = emptyResponse();
      let bytes = 0;
      for (const told of batch) {
        const more = bytesOf(told);
        if (bytes > 0 && bytes + more > responseBytesMax) {
          yield response;
          response = emptyResponse();
          bytes = 0;
        }
        bytes += more;
        this.#bytes -= more;
        if ("connections" in told) response.pushes.push(told);
        else response[told.kind].push(told.connection);
      }
      yield response;
    }
    if (this.#error !== undefined) throw this.#error;
    return undefined;
  }
}

function emptyResponse(): AttachResponse {
  return { $typeName: "parley.session.v1.AttachResponse", attached: [], replaced: [], pushes: [] };
}

function bytesOf(told: Push | Notice): number {
  if (!("connections" in told)) return 8;
  const bytes = 200 + 5 * told.connections.length;
  const payload = told.payload?.payload;
  if (payload?.case === "record") return bytes + payload.value.record.length;
  if (payload?.case === "cursors") return bytes + 200 * payload.value.cursors.length;
  if (payload?.case === "presences") return bytes + 100 * payload.value.presences.length;
  return bytes;
}
