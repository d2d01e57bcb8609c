/** Tells the server how far the device has got and the user has read: at most one MoveCursor a conversation and turn. */
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { MoveCursorRequestSchema } from "../proto/gen/parley/v1/chat_pb.ts";
import { errorOf, isRetryable, retryDelayMs } from "./calls.ts";
import type { Answer } from "./frames.ts";
import type { Requests } from "./requests.ts";
import type { ClientClock, ClientRandom } from "./surroundings.ts";

/** One conversation's cursors: what is wanted, and what the server is known to have. */
export interface CursorPlan {
  deliveredSeq: number;
  readSeq: number;
  toldDeliveredSeq: number;
  toldReadSeq: number;
}

interface Plan extends CursorPlan {
  /** This connection waits for an ack, even if the server knows the cursor from elsewhere. */
  ackDue: boolean;
  underWay: boolean;
  refusals: number;
  notBeforeMs: number;
}

/** Cursors of many conversations at once would trip the server's limits on rates. */
const underWayMax = 32;

export class Cursors {
  readonly #requests: Requests;
  readonly #clock: ClientClock;
  readonly #random: ClientRandom;
  readonly #changed: (conversation: string) => void;
  readonly #failed: (error: Error) => void;
  readonly #plans = new Map<string, Plan>();
  readonly #dirty = new Set<string>();
  #underWay = 0;
  #turn = false;

  constructor(
    requests: Requests,
    clock: ClientClock,
    random: ClientRandom,
    hooks: { changed(conversation: string): void; failed(error: Error): void },
  ) {
    this.#requests = requests;
    this.#clock = clock;
    this.#random = random;
    this.#changed = (conversation) => hooks.changed(conversation);
    this.#failed = (error) => hooks.failed(error);
  }

  /** What is wanted and told, to be kept. */
  plan(conversation: string): CursorPlan {
    return this.#plan(conversation);
  }

  #plan(conversation: string): Plan {
    let plan = this.#plans.get(conversation);
    if (plan === undefined) {
      plan = {
        deliveredSeq: 0,
        readSeq: 0,
        toldDeliveredSeq: 0,
        toldReadSeq: 0,
        ackDue: false,
        underWay: false,
        refusals: 0,
        notBeforeMs: 0,
      };
      this.#plans.set(conversation, plan);
    }
    return plan;
  }

  restore(conversation: string, kept: CursorPlan): void {
    Object.assign(this.#plan(conversation), kept);
    this.#touch(conversation);
  }

  delivered(conversation: string, seq: number): void {
    const plan = this.#plan(conversation);
    if (seq <= plan.deliveredSeq) return;
    plan.deliveredSeq = seq;
    this.#touch(conversation);
  }

  /** Others' records were pushed to this connection: it acks them, whatever another device has acked before. */
  ack(conversation: string): void {
    this.#plan(conversation).ackDue = true;
    this.#touch(conversation);
  }

  read(conversation: string, seq: number): void {
    const plan = this.#plan(conversation);
    if (seq <= plan.readSeq) return;
    plan.readSeq = seq;
    plan.deliveredSeq = Math.max(plan.deliveredSeq, seq);
    this.#touch(conversation);
  }

  /** The server has these. */
  told(conversation: string, deliveredSeq: number, readSeq: number): void {
    const plan = this.#plan(conversation);
    plan.toldDeliveredSeq = Math.max(plan.toldDeliveredSeq, deliveredSeq, readSeq);
    plan.toldReadSeq = Math.max(plan.toldReadSeq, readSeq);
    plan.deliveredSeq = Math.max(plan.deliveredSeq, plan.toldDeliveredSeq);
    plan.readSeq = Math.max(plan.readSeq, plan.toldReadSeq);
  }

  /** Of all conversations. */
  anew(): void {
    this.#plans.clear();
    this.#dirty.clear();
  }

  forget(conversation: string): void {
    this.#dirty.delete(conversation);
  }

  up(): void {
    this.#flushSoon();
  }

  /** The link is gone: what was under way may not have come through. */
  down(): void {
    this.#underWay = 0;
    for (const [conversation, plan] of this.#plans) {
      plan.underWay = false;
      plan.ackDue = false;
      if (isBehind(plan)) this.#dirty.add(conversation);
    }
  }

  #touch(conversation: string): void {
    this.#dirty.add(conversation);
    this.#flushSoon();
  }

  #flushSoon(): void {
    if (this.#turn || this.#dirty.size === 0) return;
    this.#turn = true;
    this.#clock.afterTurn(() => {
      this.#turn = false;
      this.#flush();
    });
  }

  #flush(): void {
    const nowMs = this.#clock.monotonic();
    for (const conversation of this.#dirty) {
      if (!this.#requests.live || this.#underWay >= underWayMax) return;
      const plan = this.#plan(conversation);
      if (plan.underWay || plan.notBeforeMs > nowMs) continue;
      this.#dirty.delete(conversation);
      if (isBehind(plan) || plan.ackDue) this.#move(conversation, plan);
    }
  }

  #move(conversation: string, plan: Plan): void {
    const { deliveredSeq, readSeq } = plan;
    const value = create(MoveCursorRequestSchema, {
      conversationId: conversation,
      deliveredSeq: plan.ackDue || deliveredSeq > plan.toldDeliveredSeq ? deliveredSeq : 0,
      readSeq: readSeq > plan.toldReadSeq ? readSeq : 0,
    });
    plan.ackDue = false;
    plan.underWay = true;
    this.#underWay += 1;
    this.#requests.ask({ case: "moveCursor", value }, (answer) => {
      plan.underWay = false;
      this.#underWay -= 1;
      this.#answered(conversation, plan, answer, { deliveredSeq, readSeq });
      this.#flushSoon();
    });
  }

  #answered(
    conversation: string,
    plan: Plan,
    answer: Answer,
    moved: { deliveredSeq: number; readSeq: number },
  ): void {
    if (answer.case === "failure" && isRetryable(answer.value)) {
      const delayMs = retryDelayMs(answer.value.retryAfterMs, plan.refusals, this.#random);
      plan.refusals += 1;
      plan.notBeforeMs = this.#clock.monotonic() + delayMs;
      this.#clock.after(delayMs, () => this.#touch(conversation));
      return;
    }
    plan.refusals = 0;
    if (answer.case === "failure" && answer.value.code !== Code.NotFound) {
      this.#failed(errorOf(answer.value));
    }
    // Refused for good is as good as told: it would be refused again.
    this.told(conversation, moved.deliveredSeq, moved.readSeq);
    if (isBehind(plan) || plan.ackDue) this.#dirty.add(conversation);
    this.#changed(conversation);
  }
}

function isBehind(plan: CursorPlan): boolean {
  return plan.deliveredSeq > plan.toldDeliveredSeq || plan.readSeq > plan.toldReadSeq;
}
