/** The gateway's long-lived streams to delivery and session. Each carries what gathers in a turn, and is opened again when it fails. */
import type { Client } from "@connectrpc/connect";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { retryAfterHeader, unavailable } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { Gather, mapped } from "../mesh/pipe.ts";
import { keepStream } from "../mesh/stream.ts";
import type { KeptStream } from "../mesh/stream.ts";
import { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import { DeliveryService } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import type {
  ExchangeRequest,
  Operation,
  Outcome,
} from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import type {
  AttachRequest,
  AttachResponse,
  Attachment,
} from "../proto/gen/parley/session/v1/session_pb.ts";
import type { Recipient } from "./connections.ts";
import { Pending } from "./pending.ts";
import { SharedPush } from "./pushes.ts";

/** Whoever waits for an operation's outcome. Exactly one of the two is called, once. */
export interface Waiting {
  settled(outcome: Outcome["outcome"]): void;
  failed(code: number, message: string, retryAfterMs: number): void;
  /** Set by the link. */
  untilMs: number;
}

const operationsMax = 100_000;
const operationMs = 10_000;
const retryMs = 500;
const replacedText = "the same device connected again";

/** Operations on conversations, and their outcomes. */
export class DeliveryLink {
  readonly #surroundings: Surroundings;
  readonly #client: Client<typeof DeliveryService>;
  readonly #pending = new Pending<Waiting>();
  #gather: Gather<Operation> | undefined;
  #stream: KeptStream | undefined;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
    this.#client = createClient(DeliveryService, surroundings.transport(DeliveryService));
  }

  get up(): boolean {
    return this.#gather !== undefined;
  }

  start(): void {
    this.#stream = keepStream(this.#surroundings, "gateway to delivery", (signal) =>
      this.#run(signal),
    );
  }

  async close(): Promise<void> {
    await this.#stream?.close();
  }

  /** Sends an operation (its id is given here). Whoever waits is told even where the stream is down. */
  operate(operation: Operation, waiting: Waiting): void {
    if (this.#gather === undefined) {
      waiting.failed(Code.Unavailable, "messages cannot be taken just now", retryMs);
      return;
    }
    if (this.#pending.size >= operationsMax) {
      waiting.failed(Code.ResourceExhausted, "too many operations are under way", retryMs);
      return;
    }
    operation.operationId = this.#pending.add(waiting);
    // A whole number costs no memory of its own.
    waiting.untilMs = Math.ceil(this.#surroundings.clock.monotonic()) + operationMs;
    if (!this.#gather.add(operation)) {
      this.#pending.take(operation.operationId);
      waiting.failed(Code.ResourceExhausted, "too many operations are under way", retryMs);
    }
  }

  /** For operations that have no outcome; lost where the stream is down. */
  tell(operation: Operation): void {
    this.#gather?.add(operation);
  }

  /** Fails what has waited for too long: it may have been done all the same, as a retry will find out. */
  expire(nowMs: number): void {
    while ((this.#pending.oldest()?.untilMs ?? Infinity) <= nowMs) {
      const waiting = this.#pending.takeOldest();
      waiting?.failed(Code.Unavailable, "no answer in time, try again", retryMs);
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    const gather = new Gather<Operation>(this.#surroundings.clock, operationsMax);
    this.#gather = gather;
    try {
      const requests = mapped(gather, (operations): ExchangeRequest => {
        return { $typeName: "parley.delivery.v1.ExchangeRequest", operations };
      });
      for await (const { outcomes } of this.#client.exchange(requests, { signal }))
        this.#settle(outcomes);
    } finally {
      this.#gather = undefined;
      gather.end();
      this.#failAll();
    }
  }

  #settle(outcomes: readonly Outcome[]): void {
    for (const { operationId, outcome } of outcomes) {
      const waiting = this.#pending.take(operationId);
      if (outcome.case === "refused") {
        const { code, message, retryAfterMs } = outcome.value;
        waiting?.failed(code, message, retryAfterMs);
      } else {
        waiting?.settled(outcome);
      }
    }
  }

  #failAll(): void {
    for (const waiting of this.#pending.takeAll()) {
      waiting.failed(Code.Unavailable, "the answer was lost, try again", retryMs);
    }
  }
}

type Announcement = { readonly attached: Attachment } | { readonly detached: number };

const announcementsMax = 100_000;
const announcedAtOnce = 1_000;

const attachmentOf = ({ number, userId, deviceId }: Recipient): Attachment => ({
  $typeName: "parley.session.v1.Attachment",
  connection: number,
  userId,
  deviceId,
});

/** Announces connections to session, and brings them what is pushed to them. */
export class SessionLink {
  readonly #surroundings: Surroundings;
  readonly #client: Client<typeof SessionService>;
  readonly #gatewayId: string;
  readonly #bootId: string;
  readonly #present = new Map<number, Recipient>();
  #gather: Gather<Announcement> | undefined;
  #stream: KeptStream | undefined;

  constructor(surroundings: Surroundings, gatewayId: string, bootId: string) {
    this.#surroundings = surroundings;
    this.#client = createClient(SessionService, surroundings.transport(SessionService));
    this.#gatewayId = gatewayId;
    this.#bootId = bootId;
  }

  get up(): boolean {
    return this.#gather !== undefined;
  }

  start(): void {
    this.#stream = keepStream(this.#surroundings, "gateway to session", (signal) =>
      this.#run(signal),
    );
  }

  async close(): Promise<void> {
    await this.#stream?.close();
  }

  /** Announces it; its `attached` is called when session knows it, now or when session is there again. */
  attach(recipient: Recipient): void {
    this.#present.set(recipient.number, recipient);
    this.#announce({ attached: attachmentOf(recipient) });
  }

  detach(recipient: Recipient): void {
    if (this.#present.delete(recipient.number)) this.#announce({ detached: recipient.number });
  }

  /** A stream that takes no more is given up: the next one announces everything anew. */
  #announce(announcement: Announcement): void {
    if (this.#gather === undefined || this.#gather.add(announcement)) return;
    this.#gather.end(unavailable("session does not take announcements fast enough"));
    this.#gather = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#surroundings;
    const gather = new Gather<Announcement>(clock, announcementsMax);
    const present = Array.from(this.#present.values(), attachmentOf);
    this.#gather = gather;
    try {
      const requests = this.#requests(present, gather);
      for await (const response of this.#client.attach(requests, { signal })) {
        this.#take(response, clock.monotonic());
      }
    } finally {
      if (this.#gather === gather) this.#gather = undefined;
      gather.end();
    }
  }

  async *#requests(
    present: Attachment[],
    gather: Gather<Announcement>,
  ): AsyncGenerator<AttachRequest> {
    const first = this.#request(present.slice(0, announcedAtOnce), []);
    yield { ...first, gatewayId: this.#gatewayId, bootId: this.#bootId };
    for (let at = announcedAtOnce; at < present.length; at += announcedAtOnce) {
      yield this.#request(present.slice(at, at + announcedAtOnce), []);
    }
    for await (const announcements of gather) {
      const attached: Attachment[] = [];
      const detached: number[] = [];
      for (const one of announcements) {
        if ("attached" in one) attached.push(one.attached);
        else detached.push(one.detached);
      }
      yield this.#request(attached, detached);
    }
  }

  #request(attached: Attachment[], detached: number[]): AttachRequest {
    return {
      $typeName: "parley.session.v1.AttachRequest",
      gatewayId: "",
      bootId: "",
      attached,
      detached,
    };
  }

  #take({ attached, replaced, pushes }: AttachResponse, nowMs: number): void {
    for (const number of attached) this.#present.get(number)?.attached();
    for (const { connections, payload } of pushes) {
      if (payload === undefined) continue;
      const push = new SharedPush(payload.payload);
      for (const number of connections) this.#present.get(number)?.push(push, nowMs);
    }
    for (const number of replaced) {
      this.#present.get(number)?.end(CloseReason.REPLACED, replacedText, 0);
    }
  }
}

function refusal(code: number, message: string, retryAfterMs: number): ConnectError {
  const header = retryAfterMs > 0 ? { [retryAfterHeader]: String(retryAfterMs) } : undefined;
  return new ConnectError(message, code, header);
}

/** An operation's outcome as a promise, for calls that have no connection. */
export class Promised implements Waiting {
  untilMs = 0;
  readonly outcome: Promise<Outcome["outcome"]>;
  #resolve: (outcome: Outcome["outcome"]) => void = () => {};
  #reject: (error: ConnectError) => void = () => {};

  constructor() {
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  settled(outcome: Outcome["outcome"]): void {
    this.#resolve(outcome);
  }

  failed(code: number, message: string, retryAfterMs: number): void {
    this.#reject(refusal(code, message, retryAfterMs));
  }
}
