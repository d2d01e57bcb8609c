/** What operators ask of this process: what it holds of a conversation, and to keep a shard that hashing would place elsewhere. */
import { invalid } from "../mesh/errors.ts";
import type { Pins } from "../mesh/pins.ts";
import type {
  InspectConversationRequest,
  InspectConversationResponse,
  PinShardRequest,
  PinShardResponse,
} from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type { Owner } from "./owner.ts";
import type { Ownership } from "./ownership.ts";

export class Inspection {
  readonly #owner: Owner;
  readonly #ownership: Ownership;
  readonly #pins: Pins;
  readonly #shardCount: number;

  constructor(owner: Owner, ownership: Ownership, pins: Pins, shardCount: number) {
    this.#owner = owner;
    this.#ownership = ownership;
    this.#pins = pins;
    this.#shardCount = shardCount;
  }

  conversation({ conversationId }: InspectConversationRequest): InspectConversationResponse {
    if (conversationId === "") throw invalid("conversation_id is empty: which conversation?");
    const shard = this.#ownership.shardOf(conversationId);
    const held = this.#owner.held(conversationId);
    return {
      $typeName: "parley.delivery.v1.InspectConversationResponse",
      shard,
      epoch: this.#ownership.epochOf(shard) ?? 0n,
      taking: this.#ownership.admits(shard),
      loaded: held !== undefined,
      headSeq: held?.conversation.headSeq ?? 0,
      committedSeq: held?.conversation.committedSeq ?? 0,
      waiting: held?.waiting ?? 0,
    };
  }

  async pin({ shard, pinned }: PinShardRequest): Promise<PinShardResponse> {
    if (shard >= this.#shardCount)
      throw invalid(`there is no shard ${shard}: they are numbered up to ${this.#shardCount - 1}`);
    await this.#pins.set(shard, pinned);
    return { $typeName: "parley.delivery.v1.PinShardResponse" };
  }
}
