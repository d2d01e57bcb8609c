/** Erases a user, conversation by conversation, over the services that keep something of them. Where it breaks off it may begin again. */
import type { Client } from "@connectrpc/connect";
import { createClient } from "@connectrpc/connect";
import { invalid, unavailable } from "../mesh/errors.ts";
import { isUserId } from "../mesh/ids.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { EraseMemberResponse } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import {
  type EraseUserResponse,
  GatewayService,
} from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { SeqRange } from "../proto/gen/parley/v1/record_pb.ts";
import { type ErasureReceipt, StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import type { DeliveryLinks } from "./delivery-links.ts";
import { OwnerCalls } from "./owner-calls.ts";

const stepMs = 60_000;
/** The store may have to make its files anew. */
const finishMs = 3_600_000;
/** What a device had sent when its user was marked is taken by then, or refused. */
const passesMax = 10;
/** Told at once, so that a member's devices need not wait for the end of a long log. */
const rangesMax = 10_000;

type Receipt = ErasureReceipt | undefined;

export class Erasing {
  readonly #surroundings: Surroundings;
  readonly #storage: Client<typeof StorageService>;
  readonly #owners: OwnerCalls;

  constructor(surroundings: Surroundings, delivery: Pick<DeliveryLinks, "client">) {
    this.#surroundings = surroundings;
    this.#storage = createClient(StorageService, surroundings.transport(StorageService));
    this.#owners = new OwnerCalls(surroundings, delivery);
  }

  async *erase(userId: string): AsyncGenerator<EraseUserResponse, void> {
    if (!isUserId(userId)) throw invalid("this is no user id");
    let { receipt } = await this.#storage.beginErasure({ userId }, { timeoutMs: stepMs });
    for (let pass = 1; ; pass += 1) {
      await this.#disconnect(userId);
      const { rows } = await this.#storage.listIndex({ userId }, { timeoutMs: stepMs });
      if (rows.length === 0) break;
      if (pass > passesMax) throw unavailable("the user still has conversations: erase them again");
      for (const [at, { conversationId }] of rows.entries()) {
        yield answer(rows.length - at, receipt);
        receipt = yield* this.#conversation(userId, conversationId, rows.length - at, receipt);
      }
    }
    yield answer(0, receipt);
    ({ receipt } = await this.#storage.finishErasure({ userId }, { timeoutMs: finishMs }));
    yield answer(0, receipt);
  }

  /** First nothing more of the user comes, then what is there is taken away, then the others are told. */
  async *#conversation(
    userId: string,
    conversationId: string,
    left: number,
    before: Receipt,
  ): AsyncGenerator<EraseUserResponse, Receipt> {
    await this.#eraseMember(userId, conversationId, []);
    let ranges: SeqRange[] = [];
    for (let afterSeq: number | undefined = 0; afterSeq !== undefined;) {
      const step = await this.#storage.eraseRecords(
        { userId, conversationId, afterSeq },
        { timeoutMs: stepMs },
      );
      ranges.push(...step.erased);
      afterSeq = step.nextAfterSeq > 0 ? step.nextAfterSeq : undefined;
      if (ranges.length > rangesMax / 2) {
        await this.#eraseMember(userId, conversationId, ranges);
        ranges = [];
      }
      if (afterSeq !== undefined) yield answer(left, before);
    }
    if (ranges.length > 0) await this.#eraseMember(userId, conversationId, ranges);
    const asked = { userId, conversationId };
    return (await this.#storage.forgetMember(asked, { timeoutMs: stepMs })).receipt;
  }

  #eraseMember(
    userId: string,
    conversationId: string,
    erased: SeqRange[],
  ): Promise<EraseMemberResponse> {
    return this.#owners.run(conversationId, (owner, timeoutMs) =>
      owner.eraseMember({ userId, conversationId, erased }, { timeoutMs }),
    );
  }

  /** Whoever is not reached ends its connections when they sync next: there is nothing for them. */
  async #disconnect(userId: string): Promise<void> {
    const { log, peers } = this.#surroundings;
    for (const { id, transport } of peers(GatewayService).present) {
      const gateway = createClient(GatewayService, transport);
      await gateway
        .disconnect({ target: { case: "userId", value: userId } }, { timeoutMs: stepMs })
        .catch((error: unknown) =>
          log.warn({ err: error, gateway: id }, "a gateway is not reached"),
        );
    }
  }
}

const answer = (conversationsLeft: number, receipt: Receipt): EraseUserResponse => ({
  $typeName: "parley.gateway.v1.EraseUserResponse",
  conversationsLeft,
  receipt,
});
