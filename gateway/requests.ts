/** Carries out what a live WebSocket asks. Sends and cursors go straight to delivery's stream and their outcomes straight into the outbox. */
import { fromBinary } from "@bufbuild/protobuf";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Clock } from "../mesh/clock.ts";
import { publicError, retryAfterMs } from "../mesh/errors.ts";
import type { Span } from "../mesh/trace.ts";
import {
  CreateGroupRequestSchema,
  HistoryRequestSchema,
  ListMembersRequestSchema,
  SetTypingRequestSchema,
  SyncRequestSchema,
  UpdateGroupRequestSchema,
  WatchPresenceRequestSchema,
} from "../proto/gen/parley/v1/chat_pb.ts";
import { checkSync, firstPage } from "./calls.ts";
import type { Connection } from "./connection.ts";
import type { Connections } from "./connections.ts";
import { checkContent } from "./content.ts";
import type { CheckedContent, Uploads } from "./content.ts";
import type { DeliveryLinks } from "./delivery-links.ts";
import { destination } from "./destination.ts";
import type { Following } from "./following.ts";
import { frameKinds, readMove, readSend } from "./frames.ts";
import type { Chunk, FrameWriter, InFrame, SendFrame } from "./frames.ts";
import { checkClientId, moveOperation, sendOperation } from "./operations.ts";
import { MoveWaiting, SendWaiting } from "./outcomes.ts";
import type { Calls } from "./ports.ts";
import { encodeHistory, encodeSyncPage } from "./reads.ts";
import type { Reads } from "./reads.ts";
import type { Meter } from "./meter.ts";
import type { Live } from "./state.ts";
import { sentAgain } from "./waiting.ts";
import { ProtocolError } from "./wire.ts";

/** How many calls other than sends and cursors one connection has under way; more wait. */
const runningMax = 4;
const heldBackMs = 500;

export interface RequestParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly meter: Meter;
  readonly following: Following;
  readonly writer: FrameWriter;
  readonly delivery: DeliveryLinks;
  readonly connections: Connections;
  readonly calls: Calls;
  readonly reads: Reads;
  readonly uploads: Uploads;
}

/** A message on its way from its frame to delivery. */
interface Sending {
  readonly requestId: number;
  readonly send: SendFrame;
  readonly conversationId: string;
  readonly content: CheckedContent;
  /** Where it is followed. */
  readonly span: Span | undefined;
}

function decode<D extends DescMessage>(schema: D, frame: InFrame): MessageShape<D> {
  try {
    return fromBinary(schema, frame.bytes.subarray(frame.start, frame.end));
  } catch (error) {
    const why = error instanceof Error ? error.message : "?";
    throw new ProtocolError(`a ${schema.name} cannot be read: ${why}`);
  }
}

/** A send's place among those of its connection; where it comes again, that of its first try. */
function placeOf(live: Live, conversationId: string, { clientId, retry }: SendFrame): number {
  return (
    live.order?.placeOf(conversationId, clientId) ??
    (retry ? live.underWay?.placeOf(conversationId, clientId) : undefined) ??
    (live.sends += 1)
  );
}

export class Requests {
  readonly #parts: RequestParts;

  constructor(parts: RequestParts) {
    this.#parts = parts;
  }

  /** Throws a ProtocolError where the frame is none; what is wrong with the call alone is answered. */
  asked(connection: Connection, live: Live, frame: InFrame): void {
    if (frame.kind === frameKinds.heartbeatReply) return;
    if (frame.requestId === 0) throw new ProtocolError("request_id 0 in a call: choose another");
    switch (frame.kind) {
      case frameKinds.send:
        this.#send(connection, live, frame.requestId, readSend(frame, live.conversationId));
        return;
      case frameKinds.moveCursor:
        this.#move(connection, live, frame);
        return;
      case frameKinds.hello:
        throw new ProtocolError("a second Hello");
      default: {
        const job = this.#job(connection, live, frame);
        connection.began();
        live.waiting ??= [];
        live.waiting.push(job);
        this.#pump(connection, live);
      }
    }
  }

  #send(connection: Connection, live: Live, requestId: number, send: SendFrame): void {
    connection.began();
    try {
      const { userId } = live.caller;
      const conversationId = destination(userId, send.conversationId, send.userId);
      live.conversationId = conversationId;
      checkClientId(send.clientId);
      const content = checkContent(send.content);
      const span = this.#parts.following.sending(live.caller, conversationId);
      const sending = { requestId, send, conversationId, content, span };
      if (content.attachments === 0 && live.checking === undefined) {
        this.#operate(connection, live, sending, content.bytes);
      } else {
        this.#sendLater(connection, live, sending);
      }
    } catch (error) {
      this.#fail(connection, requestId, error);
    }
  }

  #operate(
    connection: Connection,
    live: Live,
    { requestId, send, conversationId, content, span }: Sending,
    bytes: Uint8Array,
    waited = false,
  ): void {
    const { clock, delivery, meter } = this.#parts;
    const { clientId, retry } = send;
    if (retry) meter.retries.add();
    const place = placeOf(live, conversationId, send);
    if (live.order?.mayGo(conversationId, clientId, place, clock.monotonic()) === false) {
      const why = "an earlier message was refused: send that one again first, then this one";
      connection.failed(requestId, Code.Unavailable, why, heldBackMs);
      span?.end(why);
      return;
    }
    const { caller } = live;
    const operation = sendOperation(caller, conversationId, send, bytes, content.replyToSeq);
    if (span !== undefined) operation.trace = span.context;
    delivery.operate(
      // Meanwhile its device may have sent it by another gateway, to an owner who is none any more.
      waited ? sentAgain(operation) : operation,
      new SendWaiting(
        this.#parts,
        connection,
        live,
        requestId,
        conversationId,
        clientId,
        place,
        span,
      ).begin(),
    );
  }

  /** Attachments are looked up at once; the send goes on when those before it have. */
  #sendLater(connection: Connection, live: Live, sending: Sending): void {
    const { requestId, send, conversationId, content, span } = sending;
    const { userId } = live.caller;
    const { uploads } = this.#parts;
    const looked =
      content.attachments > 0
        ? uploads.resolve(content.bytes, conversationId, userId)
        : Promise.resolve(content.bytes);
    const turn = async (): Promise<void> => {
      const [, found] = await Promise.allSettled([live.checking, looked]);
      if (found.status === "fulfilled") {
        const bytes = found.value;
        this.#operate(connection, live, sending, bytes, true);
        return;
      }
      const { code, rawMessage } = this.#public(found.reason, connection);
      const afterMs = retryAfterMs(ConnectError.from(found.reason));
      new SendWaiting(
        this.#parts,
        connection,
        live,
        requestId,
        conversationId,
        send.clientId,
        placeOf(live, conversationId, send),
        span,
      ).failed(code, rawMessage, afterMs);
    };
    const checking = turn().finally(() => {
      if (live.checking === checking) live.checking = undefined;
    });
    live.checking = checking;
  }

  #move(connection: Connection, live: Live, frame: InFrame): void {
    const { conversationId, deliveredSeq, readSeq } = readMove(frame, live.conversationId);
    connection.began();
    try {
      live.conversationId = conversationId;
      const operation = moveOperation(live.caller, conversationId, deliveredSeq, readSeq);
      connection.acked(conversationId, Math.max(deliveredSeq, readSeq));
      this.#parts.delivery.operate(
        operation,
        new MoveWaiting(this.#parts.connections, connection, frame.requestId, conversationId),
      );
    } catch (error) {
      this.#fail(connection, frame.requestId, error);
    }
  }

  /** Runs what waits, a few at a time, in order. */
  #pump(connection: Connection, live: Live): void {
    while (live.running < runningMax) {
      const job = live.waiting?.shift();
      if (job === undefined) break;
      live.running += 1;
      void job().finally(() => {
        live.running -= 1;
        this.#pump(connection, live);
      });
    }
    if (live.waiting?.length === 0) live.waiting = undefined;
  }

  /** The call, decoded, to be run in its turn. It answers and never rejects. */
  #job(connection: Connection, live: Live, frame: InFrame): () => Promise<void> {
    const { requestId } = frame;
    const run = this.#call(live, frame);
    return async () => {
      try {
        if (connection.state === live) await connection.written(await run());
        connection.ended();
      } catch (error) {
        this.#fail(connection, requestId, error);
      }
    };
  }

  #call(live: Live, frame: InFrame): () => Promise<Chunk> {
    const { calls, reads, writer } = this.#parts;
    const { caller } = live;
    const { requestId: id, kind } = frame;
    switch (kind) {
      case frameKinds.sync: {
        const request = decode(SyncRequestSchema, frame);
        return async () => {
          checkSync(request);
          const page = await firstPage(reads, caller.userId, request);
          return writer.encoded(id, kind, encodeSyncPage(page));
        };
      }
      case frameKinds.history: {
        const request = decode(HistoryRequestSchema, frame);
        return async () => {
          const history = await reads.history(caller.userId, request);
          return writer.encoded(id, kind, encodeHistory(history));
        };
      }
      case frameKinds.listMembers: {
        const request = decode(ListMembersRequestSchema, frame);
        return async () => {
          const value = await calls.listMembers(caller, request);
          return writer.other(id, { case: "listMembers", value });
        };
      }
      case frameKinds.watchPresence: {
        const request = decode(WatchPresenceRequestSchema, frame);
        return async () => {
          const value = await calls.watchPresence(caller, request);
          return writer.other(id, { case: "watchPresence", value });
        };
      }
      default:
        return this.#change(live, frame);
    }
  }

  #change({ caller }: Live, frame: InFrame): () => Promise<Chunk> {
    const { calls, writer } = this.#parts;
    const { requestId: id } = frame;
    switch (frame.kind) {
      case frameKinds.createGroup: {
        const request = decode(CreateGroupRequestSchema, frame);
        return async () => {
          const value = await calls.createGroup(caller, request);
          return writer.other(id, { case: "createGroup", value });
        };
      }
      case frameKinds.updateGroup: {
        const request = decode(UpdateGroupRequestSchema, frame);
        return async () => {
          const value = await calls.updateGroup(caller, request);
          return writer.other(id, { case: "updateGroup", value });
        };
      }
      case frameKinds.setTyping: {
        const request = decode(SetTypingRequestSchema, frame);
        return async () => {
          const value = await calls.setTyping(caller, request);
          return writer.other(id, { case: "setTyping", value });
        };
      }
      default:
        return () =>
          Promise.reject(new ConnectError("this server knows no such call", Code.Unimplemented));
    }
  }

  #fail(connection: Connection, requestId: number, error: unknown): void {
    const { code, rawMessage } = this.#public(error, connection);
    connection.failed(requestId, code, rawMessage, retryAfterMs(ConnectError.from(error)));
  }

  /** What the client may see of an error; the rest goes to the log. */
  #public(error: unknown, { number, userId }: Connection): ConnectError {
    const shown = publicError(error);
    if (shown.code === Code.Internal)
      this.#parts.log.error({ err: error, connection: number, userId }, "a call failed");
    return shown;
  }
}
