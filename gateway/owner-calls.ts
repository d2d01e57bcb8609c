/** Unary calls to the owner of a conversation, tried again while it moves from one process to another. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { sleep } from "../mesh/clock.ts";
import { unavailable } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type { DeliveryLinks } from "./delivery-links.ts";

const callMs = 10_000;
const leastBackoffMs = 20;
const mostBackoffMs = 1_000;

type Owner = Client<typeof DeliveryService>;

export class OwnerCalls {
  readonly #surroundings: Pick<Surroundings, "clock" | "random">;
  readonly #delivery: Pick<DeliveryLinks, "client">;

  constructor(
    surroundings: Pick<Surroundings, "clock" | "random">,
    delivery: Pick<DeliveryLinks, "client">,
  ) {
    this.#surroundings = surroundings;
    this.#delivery = delivery;
  }

  /**
   * For calls that may be made twice. `again`: an earlier try, here or by another gateway while this one waited, may have been carried out by an
   * owner who is none any more.
   */
  async run<T>(
    conversationId: string,
    call: (owner: Owner, timeoutMs: number, again: boolean) => Promise<T>,
  ): Promise<T> {
    const { clock, random } = this.#surroundings;
    const untilMs = clock.monotonic() + callMs;
    let failure = unavailable("this conversation's owner cannot be reached, try again");
    let backoffMs = leastBackoffMs;
    for (let again = false; ; again = true) {
      const owner = this.#delivery.client(conversationId);
      const leftMs = untilMs - clock.monotonic();
      if (owner !== undefined) {
        try {
          return await call(owner, leftMs, again);
        } catch (error) {
          failure = ConnectError.from(error);
          if (failure.code !== Code.Unavailable && failure.code !== Code.Aborted) throw failure;
        }
      }
      const pauseMs = Math.ceil(backoffMs * (0.5 + random.unit() / 2));
      if (clock.monotonic() + pauseMs >= untilMs) break;
      await sleep(clock, pauseMs);
      backoffMs = Math.min(2 * backoffMs, mostBackoffMs);
    }
    if (failure.code !== Code.Aborted) throw failure;
    throw unavailable("this conversation is being moved, try again", undefined, failure);
  }
}
