/** The handlers of DeliveryService: operations to the owner, outcomes back, groups. No decisions. */
import {
  type Client,
  Code,
  type ConnectError,
  type HandlerContext,
  type ServiceImpl,
} from "@connectrpc/connect";
import type { Committer } from "./committer.ts";
import type { Conversation } from "./conversation.ts";
import type { Answerer, Draft } from "./draft.ts";
import { checkErase, checkPresent, leaving, tell } from "./erasing.ts";
import { refusal, sent } from "./draft.ts";
import { Followed } from "./followed.ts";
import { creation, update } from "./groups.ts";
import type { Inspection } from "./inspection.ts";
import { groupId } from "../mesh/ids.ts";
import type { Operations } from "./operations.ts";
import type { Owner } from "./owner.ts";
import type { Place } from "./recent.ts";
import { Refusals } from "./refusals.ts";
import { type MembershipChange } from "./record.ts";
import { invalid, noConversation, notAllowed, overloaded, unavailable } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { Gather, mapped } from "../mesh/pipe.ts";
import type {
  CreateGroupRequest,
  CreateGroupResponse,
  DeliveryService,
  EraseMemberRequest,
  EraseMemberResponse,
  ExchangeRequest,
  ExchangeResponse,
  InspectConversationRequest,
  InspectConversationResponse,
  Operation,
  Outcome,
  PinShardRequest,
  PinShardResponse,
  UpdateGroupRequest,
  UpdateGroupResponse,
} from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  type Conversation as ConversationView,
  ConversationKind,
} from "../proto/gen/parley/v1/record_pb.ts";

const outcomesMax = 262_144;
/** Operations of one stream that may be under way; then its requests wait. */
const underWayMax = 65_536;

export interface ServiceParts {
  readonly owner: Owner;
  readonly operations: Operations;
  readonly committer: Committer;
  readonly inspection: Inspection;
  readonly storage: Client<typeof StorageService>;
}

/** Has a call answered with the seq, once the draft is kept. */
type Answer = (draft: Draft, seq: number) => void;

/** The outcomes of one gateway's stream. */
class StreamAnswerer implements Answerer {
  readonly outcomes: Gather<Outcome>;
  readonly #refusals = new Refusals();
  underWay = 0;
  inputEnded = false;
  #fewer: (() => void) | undefined;

  constructor(outcomes: Gather<Outcome>) {
    this.outcomes = outcomes;
  }

  answer(outcome: Outcome): void {
    this.underWay -= 1;
    if (!this.outcomes.add(outcome))
      this.outcomes.end(overloaded("the gateway does not take outcomes fast enough"));
    if (this.inputEnded && this.underWay === 0) this.outcomes.end();
    if (this.underWay < underWayMax) this.#fewer?.();
  }

  refuse(operationId: number, conversationId: string, error: ConnectError): void {
    this.#refusals.given(conversationId, error);
    this.answer(refusal(operationId, error));
  }

  waits(operation: Operation): void {
    this.#refusals.waits(operation);
  }

  waited(operation: Operation): void {
    this.#refusals.waited(operation);
  }

  refusalOf(send: Operation): ConnectError | undefined {
    return this.#refusals.refusalOf(send);
  }

  /** Resolves once few enough operations are under way. */
  async few(): Promise<void> {
    if (this.underWay < underWayMax) return;
    await new Promise<void>((resolve) => (this.#fewer = resolve));
    this.#fewer = undefined;
  }
}

export class DeliveryHandlers implements ServiceImpl<typeof DeliveryService> {
  readonly #surroundings: Surroundings;
  readonly #parts: ServiceParts;

  constructor(surroundings: Surroundings, parts: ServiceParts) {
    this.#surroundings = surroundings;
    this.#parts = parts;
  }

  exchange(
    requests: AsyncIterable<ExchangeRequest>,
    context: HandlerContext,
  ): AsyncIterable<ExchangeResponse> {
    const outcomes = new Gather<Outcome>(this.#surroundings.clock, outcomesMax);
    const answerer = new StreamAnswerer(outcomes);
    context.signal.addEventListener("abort", () => outcomes.end(context.signal.reason), {
      once: true,
    });
    this.#take(requests, answerer).then(
      () => {
        answerer.inputEnded = true;
        if (answerer.underWay === 0) outcomes.end();
      },
      (error: unknown) => outcomes.end(error),
    );
    return mapped(outcomes, (batch) => ({
      $typeName: "parley.delivery.v1.ExchangeResponse",
      outcomes: batch,
    }));
  }

  inspectConversation(request: InspectConversationRequest): InspectConversationResponse {
    return this.#parts.inspection.conversation(request);
  }

  pinShard(request: PinShardRequest): Promise<PinShardResponse> {
    return this.#parts.inspection.pin(request);
  }

  async createGroup({ userId, request }: CreateGroupRequest): Promise<CreateGroupResponse> {
    if (request === undefined) throw invalid("the request is missing");
    const change = creation(userId, request);
    const id = groupId(userId, request.clientId);
    await checkPresent(this.#parts.storage, change.added);
    const conversation = await this.#unary(id, (group, answer) => {
      if (!group.exists) this.#change(group, userId, request.clientId, change, answer);
      else if (group.members.get(userId) === undefined) throw noConversation(id);
      else answer(this.#parts.committer.draft(group), group.headSeq);
    });
    return {
      $typeName: "parley.delivery.v1.CreateGroupResponse",
      response: {
        $typeName: "parley.v1.CreateGroupResponse",
        conversation: view(conversation.group, userId),
      },
    };
  }

  async updateGroup({ userId, request }: UpdateGroupRequest): Promise<UpdateGroupResponse> {
    if (request === undefined) throw invalid("the request is missing");
    if (request.conversationId.startsWith("d:"))
      throw notAllowed("a direct conversation has two members and no title");
    await checkPresent(this.#parts.storage, request.addMemberIds);
    const { seq } = await this.#unary(request.conversationId, (group, answer) => {
      if (!group.exists || !group.members.has(userId)) throw noConversation(group.id);
      // Another try must not undo what came after the first one.
      const then = (earlier: Place | undefined): void => {
        const change = earlier === undefined ? update(group, userId, request) : undefined;
        if (change === undefined)
          answer(this.#parts.committer.draft(group), earlier?.seq ?? group.headSeq);
        else this.#change(group, userId, request.clientId, change, answer);
      };
      const earlier = this.#parts.operations.earlier(group, userId, request);
      return earlier instanceof Promise ? earlier.then(then) : then(earlier);
    });
    return {
      $typeName: "parley.delivery.v1.UpdateGroupResponse",
      response: { $typeName: "parley.v1.UpdateGroupResponse", seq },
    };
  }

  async eraseMember(request: EraseMemberRequest): Promise<EraseMemberResponse> {
    checkErase(request);
    const { conversationId, userId } = request;
    const { committer } = this.#parts;
    const { seq } = await this.#unary(conversationId, (conversation, answer) => {
      if (!conversation.exists) throw noConversation(conversationId);
      const change = leaving(conversation, userId);
      const to: Answer = (draft) => {
        tell(conversation, draft, request.erased, this.#surroundings.clock.now());
        answer(draft, conversation.headSeq);
      };
      if (change === undefined) to(committer.draft(conversation), 0);
      else this.#change(conversation, userId, noClientId, change, to);
    });
    return { $typeName: "parley.delivery.v1.EraseMemberResponse", headSeq: seq };
  }

  async #take(requests: AsyncIterable<ExchangeRequest>, answerer: StreamAnswerer): Promise<void> {
    for await (const { operations } of requests) {
      this.#submit(operations, answerer);
      await answerer.few();
    }
  }

  #submit(batch: readonly Operation[], answerer: StreamAnswerer): void {
    const { owner, operations } = this.#parts;
    for (const operation of batch) {
      const hasOutcome = operation.operation.case !== "typing";
      if (hasOutcome) answerer.underWay += 1;
      const task = operations.task(
        operation,
        hasOutcome ? this.#told(operation, answerer) : nobody,
      );
      owner.submit(operation.conversationId, task, operation.epoch);
    }
  }

  #told(operation: Operation, answerer: Answerer): Answerer {
    const { trace } = operation;
    if (trace === undefined) return answerer;
    return new Followed(operation, trace, answerer, this.#surroundings.tracer);
  }

  #change(
    group: Conversation,
    userId: string,
    clientId: Uint8Array,
    change: MembershipChange,
    answer: Answer,
  ): void {
    const draft = this.#parts.committer.draft(group);
    const before = group.audience;
    const cell = group.change(userId, clientId, change, this.#surroundings.clock.now());
    draft.take(cell, "", before, change.removed);
    for (const id of [...change.added, ...change.removed]) draft.touched.add(id);
    answer(draft, cell.seq);
  }

  /** Runs an operation that is no stream's, and waits for its batch. */
  #unary(
    conversationId: string,
    run: (group: Conversation, answer: Answer) => Promise<void> | void,
  ): Promise<{ group: Conversation; seq: number }> {
    return new Promise((resolve, reject) => {
      this.#parts.owner.submit(conversationId, {
        run: (group) => {
          const to: Answerer = {
            ...nobody,
            answer: ({ outcome }) => {
              if (outcome.case === "sent") resolve({ group, seq: outcome.value.seq });
            },
            // Not ours any more: it was taken, and what became of it the next owner finds out.
            refuse: (_, __, error) =>
              reject(
                error.code === Code.Aborted
                  ? unavailable("the outcome is unknown, try again")
                  : error,
              ),
          };
          return run(group, (draft, seq) => draft.answer(to, sent(0, { seq, timeMs: 0 }, false)));
        },
        refuse: reject,
      });
    });
  }
}

const noClientId = new Uint8Array(0);

const nobody: Answerer = {
  answer: () => undefined,
  refuse: () => undefined,
  waits: () => undefined,
  waited: () => undefined,
  refusalOf: () => undefined,
};

/** A group as one of its members sees it. */
function view(group: Conversation, userId: string): ConversationView {
  const member = group.members.get(userId);
  const { leastDelivered, leastRead } = group.state();
  const peers = (least: typeof leastRead): number => {
    if (least === undefined) return 0;
    return least.userId === userId ? least.secondSeq : least.seq;
  };
  return {
    $typeName: "parley.v1.Conversation",
    conversationId: group.id,
    kind: ConversationKind.GROUP,
    title: group.title,
    headSeq: group.headSeq,
    floorSeq: member?.floorSeq ?? 0,
    memberCount: group.memberCount,
    deliveredSeq: member?.deliveredSeq ?? 0,
    readSeq: member?.readSeq ?? 0,
    unreadCount: group.headOrdinal - (member?.readOrdinal ?? 0),
    peersDeliveredSeq: peers(leastDelivered),
    peersReadSeq: peers(leastRead),
    headTimeMs: BigInt(group.headTimeMs),
  };
}
