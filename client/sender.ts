/** Sends messages: the outbox's hands. Gives each a handle at once, keeps it in the store until it is sent or refused. */
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  SendRequestSchema,
  type SendRequest,
  type SendResponse,
} from "../proto/gen/parley/v1/chat_pb.ts";
import { ContentSchema, type Attachment, type Content } from "../proto/gen/parley/v1/record_pb.ts";
import { errorOf, retryDelayMs } from "./calls.ts";
import type { StatusEvent } from "./client-events.ts";
import type { Answer } from "./frames.ts";
import { sendKey, type Kept } from "./keeping.ts";
import type { ClientLimits } from "./options.ts";
import { Outbox, type Outgoing } from "./outbox.ts";
import type { Requests } from "./requests.ts";
import type { Keeper } from "./store.ts";
import {
  fromBase64Url,
  toBase64Url,
  type Cancel,
  type ClientClock,
  type ClientRandom,
} from "./surroundings.ts";

export type SendTarget = { readonly conversation: string } | { readonly user: string };

export type ContentInput =
  | string
  | {
      readonly text?: string;
      readonly attachments?: readonly Attachment[];
      readonly replyToSeq?: number;
    };

/** What a send is known by, where the app has an id of its own for it. */
export interface SendName {
  /** 16 bytes in base64url, never used for another message. */
  readonly clientId: string;
  /** An earlier client of this user may have sent it: it does not become a second message. */
  readonly retry: boolean;
}

export interface SentMessage {
  readonly clientId: string;
  readonly conversationId: string;
  readonly seq: number;
  readonly timeMs: number;
  /** An earlier try had made it. */
  readonly duplicate: boolean;
}

/** A message on its way. */
export interface SendHandle {
  readonly clientId: string;
  readonly content: Content;
  readonly status: "pending" | "sent" | "failed";
  /** Undefined until it is known: a first message to a user begins the conversation. */
  readonly conversationId: string | undefined;
  /** Undefined until it is sent. */
  readonly seq: number | undefined;
  /** Why it failed. */
  readonly error: ConnectError | undefined;
  /** Resolves once it is sent; rejects with `error`. Stays open over resumes, for as long as it takes. */
  readonly sent: Promise<SentMessage>;
}

export interface SenderHooks {
  me(): string;
  headOf(conversation: string): number;
  ordered(): boolean;
  status(event: StatusEvent): void;
  /** The server made the record; it tells this connection no other way. */
  sent(request: SendRequest, message: SentMessage): void;
}

const textBytesMax = 16 * 1024;
const attachmentsMax = 10;

class Sending implements SendHandle {
  readonly clientId: string;
  readonly content: Content;
  readonly sent: Promise<SentMessage>;
  status: SendHandle["status"] = "pending";
  conversationId: string | undefined;
  seq: number | undefined;
  error: ConnectError | undefined;
  #resolve: (message: SentMessage) => void = () => undefined;
  #reject: (error: ConnectError) => void = () => undefined;

  constructor(clientId: string, content: Content) {
    this.clientId = clientId;
    this.content = content;
    this.sent = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // An app that looks at the events instead leaves the promise alone.
    this.sent.catch(() => undefined);
  }

  succeed(message: SentMessage): void {
    this.status = "sent";
    this.conversationId = message.conversationId;
    this.seq = message.seq;
    this.#resolve(message);
  }

  fail(error: ConnectError): void {
    this.status = "failed";
    this.error = error;
    this.#reject(error);
  }
}

export class Sender {
  readonly #requests: Requests;
  readonly #keeper: Keeper;
  readonly #clock: ClientClock;
  readonly #random: ClientRandom;
  readonly #hooks: SenderHooks;
  readonly #outbox: Outbox;
  readonly #handles = new Map<string, Sending>();
  #pumping = false;
  #wake: Cancel = () => undefined;
  #restored = false;

  constructor(
    parts: { requests: Requests; keeper: Keeper; clock: ClientClock; random: ClientRandom },
    limits: ClientLimits,
    hooks: SenderHooks,
  ) {
    this.#requests = parts.requests;
    this.#keeper = parts.keeper;
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#hooks = hooks;
    this.#outbox = new Outbox({
      messagesMax: limits.outboxMessagesMax,
      bytesMax: limits.outboxBytesMax,
      underWayMax: limits.sendsUnderWayMax,
    });
  }

  /** All that is not sent yet, in order. */
  pending(): SendHandle[] {
    return [...this.#handles.values()];
  }

  /** Throws a ConnectError where the content cannot be sent or the outbox is full. */
  send(to: SendTarget, input: ContentInput, name?: SendName): SendHandle {
    const content = contentOf(input);
    const clientIdBytes = name === undefined ? this.#random.bytes(16) : bytesOf(name.clientId);
    const clientId = toBase64Url(clientIdBytes);
    const known = this.#handles.get(clientId);
    if (known !== undefined) return known;
    const request = create(SendRequestSchema, {
      to:
        "user" in to
          ? { case: "userId", value: to.user }
          : { case: "conversationId", value: to.conversation },
      clientId: clientIdBytes,
      content,
    });
    request.knownHeadSeq = this.#hooks.headOf(this.#keyOf(request));
    const entry = this.#outbox.add(clientId, request);
    if (entry === undefined) {
      throw new ConnectError(
        `the outbox is full with ${this.#outbox.size} messages: wait until some are sent`,
        Code.ResourceExhausted,
      );
    }
    entry.tried = name?.retry ?? false;
    const handle = this.#handle(entry);
    if (this.#restored) this.#keep(entry);
    this.#hooks.status({ status: "pending", clientId });
    this.#pumpSoon();
    return handle;
  }

  /** What the store had; it goes before all that was sent since. */
  restore(sends: Kept["sends"]): void {
    const added = [...this.#handles];
    this.#handles.clear();
    this.#outbox.restore(sends);
    this.#restored = true;
    for (const { clientId } of sends) {
      const entry = this.#outbox.get(clientId);
      if (entry !== undefined) this.#handle(entry);
    }
    for (const [clientId, handle] of added) {
      this.#handles.set(clientId, handle);
      const entry = this.#outbox.get(clientId);
      if (entry !== undefined) this.#keep(entry);
    }
  }

  /** Whether messages into this conversation are under way: their records come with their answers. */
  underWay(conversation: string): boolean {
    for (const entry of this.#outbox.entries()) {
      if (entry.underWay && this.#keyOf(entry.request) === conversation) return true;
    }
    return false;
  }

  up(): void {
    this.#pumpSoon();
  }

  down(): void {
    this.#outbox.linkDown();
  }

  #handle(entry: Outgoing): Sending {
    const content = entry.request.content ?? create(ContentSchema);
    const handle = new Sending(entry.clientId, content);
    if (entry.request.to.case === "conversationId") handle.conversationId = entry.request.to.value;
    this.#handles.set(entry.clientId, handle);
    return handle;
  }

  /** Kept as a retry: whether a try came through before a crash, nobody knows. */
  #keep(entry: Outgoing): void {
    const encode = (): Uint8Array => toBinary(SendRequestSchema, { ...entry.request, retry: true });
    this.#keeper.put(sendKey(entry.order), encode, true);
  }

  #keyOf = (request: SendRequest): string => {
    if (request.to.case !== "userId") return request.to.value ?? "";
    return directConversation(this.#hooks.me(), request.to.value);
  };

  #pumpSoon(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (!this.#requests.live || !this.#restored) return;
    const nowMs = this.#clock.monotonic();
    const view = {
      ordered: this.#hooks.ordered(),
      keyOf: this.#keyOf,
      headOf: (conversation: string) => this.#hooks.headOf(conversation),
    };
    for (const entry of this.#outbox.take(nowMs, view)) {
      if (entry.attempt === 1 && !entry.request.retry) this.#keep(entry);
      const { attempt } = entry;
      this.#requests.ask({ case: "send", value: { ...entry.request } }, (answer) =>
        this.#answered(entry, attempt, answer),
      );
    }
    this.#wake();
    const soonest = this.#outbox.nextMs(nowMs);
    if (soonest !== undefined) {
      this.#wake = this.#clock.after(soonest - nowMs, () => this.#pumpSoon());
    }
  }

  #answered(entry: Outgoing, attempt: number, answer: Answer): void {
    if (answer.case === "send") this.#sent(entry, answer.value);
    else if (answer.case === "failure") {
      const { value } = answer;
      const fate = this.#outbox.refused(
        entry.clientId,
        attempt,
        value,
        this.#clock.monotonic(),
        (refusals) => retryDelayMs(value.retryAfterMs, refusals, this.#random),
        this.#keyOf,
      );
      if (fate === "final") this.#failed(entry, errorOf(value));
    }
    this.#pumpSoon();
  }

  #sent(entry: Outgoing, response: SendResponse): void {
    if (this.#outbox.remove(entry.clientId) === undefined) return;
    this.#keeper.put(sendKey(entry.order), () => undefined, true);
    const message: SentMessage = {
      clientId: entry.clientId,
      conversationId: response.conversationId,
      seq: response.seq,
      timeMs: Number(response.timeMs),
      duplicate: response.duplicate,
    };
    const handle = this.#handles.get(entry.clientId);
    this.#handles.delete(entry.clientId);
    handle?.succeed(message);
    this.#hooks.sent(entry.request, message);
  }

  #failed(entry: Outgoing, error: ConnectError): void {
    this.#keeper.put(sendKey(entry.order), () => undefined, true);
    const handle = this.#handles.get(entry.clientId);
    this.#handles.delete(entry.clientId);
    handle?.fail(error);
    this.#hooks.status({ status: "failed", clientId: entry.clientId, error });
  }
}

/** Both user ids in order, so that both sides name their conversation alike. */
export function directConversation(one: string, other: string): string {
  return one < other ? `d:${one}:${other}` : `d:${other}:${one}`;
}

function bytesOf(clientId: string): Uint8Array<ArrayBuffer> {
  const bytes = fromBase64Url(clientId);
  if (bytes.length === 16) return bytes;
  throw new ConnectError(`the client id has ${bytes.length} bytes, not 16`, Code.InvalidArgument);
}

/** Refuses what the server would: an oversized frame would end the connection. */
function contentOf(input: ContentInput): Content {
  const parts = typeof input === "string" ? { text: input } : input;
  const content = create(ContentSchema, {
    text: parts.text ?? "",
    attachments: [...(parts.attachments ?? [])],
    replyToSeq: parts.replyToSeq ?? 0,
  });
  const bytes = new TextEncoder().encode(content.text).length;
  const refuse = (why: string): never => {
    throw new ConnectError(why, Code.InvalidArgument);
  };
  if (bytes === 0 && content.attachments.length === 0)
    refuse("a message needs text or attachments");
  if (bytes > textBytesMax) refuse(`text of ${bytes} bytes: at most ${textBytesMax} are taken`);
  if (content.attachments.length > attachmentsMax) {
    refuse(`${content.attachments.length} attachments: at most ${attachmentsMax} are taken`);
  }
  return content;
}
