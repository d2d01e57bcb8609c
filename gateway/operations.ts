/** Builds delivery's operations out of what clients ask, once it is checked. Pure. */
import { invalid } from "../mesh/errors.ts";
import type { Operation } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { checkConversationId } from "./destination.ts";
import type { Caller } from "./ports.ts";

const clientIdBytes = 16;

export function checkClientId(clientId: Uint8Array): void {
  if (clientId.length === clientIdBytes) return;
  throw invalid(`client_id has ${clientId.length} bytes: make ${clientIdBytes} random ones`);
}

/** What a send has besides its content. */
export interface SendParts {
  readonly clientId: Uint8Array;
  readonly knownHeadSeq: number;
  readonly retry: boolean;
}

function operation(
  { userId, origin }: Caller,
  conversationId: string,
  what: Operation["operation"],
): Operation {
  return {
    $typeName: "parley.delivery.v1.Operation",
    operationId: 0,
    userId,
    origin,
    conversationId,
    operation: what,
    epoch: 0n,
  };
}

export function sendOperation(
  caller: Caller,
  conversationId: string,
  { clientId, knownHeadSeq, retry }: SendParts,
  content: Uint8Array,
  replyToSeq: number,
): Operation {
  const $typeName = "parley.delivery.v1.Send";
  const value = { $typeName, clientId, content, knownHeadSeq, retry, replyToSeq } as const;
  return operation(caller, conversationId, { case: "send", value });
}

export function moveOperation(
  caller: Caller,
  conversationId: string,
  deliveredSeq: number,
  readSeq: number,
): Operation {
  checkConversationId(conversationId);
  const value = { $typeName: "parley.delivery.v1.MoveCursor", deliveredSeq, readSeq } as const;
  return operation(caller, conversationId, { case: "moveCursor", value });
}

export function typingOperation(caller: Caller, conversationId: string): Operation {
  checkConversationId(conversationId);
  const value = { $typeName: "parley.delivery.v1.Typing" } as const;
  return operation(caller, conversationId, { case: "typing", value });
}
