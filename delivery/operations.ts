/** The operations of a gateway's stream: send, move a cursor, typing. Each asks the conversation and puts the verdict into the batch that gathers. */
import { type Client, type ConnectError, createClient } from "@connectrpc/connect";
import type { Committer } from "./committer.ts";
import { type Conversation, type MemberState, smallGroupMax } from "./conversation.ts";
import { type Answerer, moved, sent } from "./draft.ts";
import type { Fanout } from "./fanout.ts";
import { checkClientId } from "./groups.ts";
import { erasedUser } from "./erasing.ts";
import { directUsers } from "../mesh/ids.ts";
import type { Place } from "./recent.ts";
import { decodeRecord } from "./record.ts";
import type { Task } from "./owner.ts";
import { invalid, noConversation, unavailable } from "../mesh/errors.ts";
import type { Count } from "../mesh/metrics.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { MoveCursor, Operation, Send } from "../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";

export interface OperationParts {
  readonly committer: Committer;
  readonly fanout: Fanout;
}

/** What tells one try of a send, or of a change, from another. */
type Try = Pick<Send, "clientId" | "retry" | "knownHeadSeq">;

export class Operations {
  readonly #clock: Surroundings["clock"];
  readonly #duplicates: Count;
  readonly #parts: OperationParts;
  readonly #storage: Client<typeof StorageService>;

  constructor(surroundings: Surroundings, parts: OperationParts) {
    this.#clock = surroundings.clock;
    this.#duplicates = surroundings.metrics.count(
      "parley_delivery_duplicates_total",
      "Messages that were sent again and are answered with the place of the first.",
    );
    this.#parts = parts;
    this.#storage = createClient(StorageService, surroundings.transport(StorageService));
  }

  task(operation: Operation, to: Answerer): Task {
    return new OperationTask(this, operation, to);
  }

  run(conversation: Conversation, asked: Operation, to: Answerer): Promise<void> | void {
    const { operation } = asked;
    switch (operation.case) {
      case "send":
        return this.#send(conversation, asked, operation.value, to);
      case "moveCursor":
        return this.#moveCursor(conversation, asked, operation.value, to);
      case "typing":
        conversation.present(asked.userId);
        if (conversation.memberCount <= smallGroupMax)
          this.#parts.fanout.typing(conversation, asked.userId, asked.origin);
        return;
      case undefined:
        throw invalid("the operation names nothing to do");
    }
  }

  #send(
    conversation: Conversation,
    asked: Operation,
    send: Send,
    to: Answerer,
  ): Promise<void> | void {
    const refused = to.refusalOf(asked);
    if (refused !== undefined) throw refused;
    checkClientId(send.clientId);
    let sender: MemberState | undefined;
    if (conversation.exists) sender = conversation.present(asked.userId);
    else if (directUsers(conversation.id)?.includes(asked.userId) !== true)
      throw noConversation(conversation.id);
    const earlier = this.earlier(conversation, asked.userId, send);
    if (!(earlier instanceof Promise)) return this.#append(conversation, sender, asked, send, to);
    return earlier.then((place) => {
      if (place === undefined) return this.#append(conversation, sender, asked, send, to);
      const draft = this.#parts.committer.draft(conversation);
      this.#duplicates.add();
      draft.answer(to, sent(asked.operationId, place, true));
    });
  }

  /** The record that an earlier try made: as memory has it, or, for a retry that it does not know, as the log has it. */
  earlier(
    conversation: Conversation,
    userId: string,
    what: Try,
  ): Promise<Place | undefined> | Place | undefined {
    const known = conversation.earlier(userId, what.clientId);
    if (known !== undefined || !what.retry) return known;
    const upTo = conversation.searchedUpTo();
    return what.knownHeadSeq < upTo ? this.#search(conversation.id, upTo, userId, what) : undefined;
  }

  /**
   * Exact however late: it reads the log from where the first try began to where memory begins, one search after the other in a conversation. What
   * is not committed yet memory knows; in the log there may be what another owner left there in vain.
   */
  async #search(
    conversationId: string,
    upTo: number,
    senderId: string,
    { clientId, knownHeadSeq: afterSeq }: Try,
  ): Promise<Place | undefined> {
    const { seq, timeMs } = await this.#storage.findSend(
      { conversationId, senderId, clientId, afterSeq, beforeSeq: upTo + 1 },
      { timeoutMs: 30_000 },
    );
    return seq === 0 ? undefined : { seq, timeMs: Number(timeMs) };
  }

  #append(
    conversation: Conversation,
    sender: MemberState | undefined,
    asked: Operation,
    send: Send,
    to: Answerer,
  ): void {
    if (send.replyToSeq > conversation.headSeq) {
      throw invalid(
        `reply_to_seq ${send.replyToSeq} is beyond the conversation's head ${conversation.headSeq}`,
      );
    }
    if (conversation.erased.size > 0 && !conversation.earlier(asked.userId, send.clientId))
      throw erasedUser();
    const draft = this.#parts.committer.draft(conversation);
    if (!conversation.exists) {
      const users = directUsers(conversation.id) ?? [];
      conversation.begin(users);
      for (const userId of users) draft.touched.add(userId);
    }
    const verdict = conversation.append(
      asked.userId,
      send.clientId,
      send.content,
      this.#clock.now(),
      sender,
    );
    if (verdict.kind === "appended") {
      draft.take(verdict.cell, asked.origin, conversation.audience);
      if (to.trace !== undefined) draft.follow(to.trace);
      draft.touched.add(asked.userId);
    }
    if (verdict.kind === "duplicate") this.#duplicates.add();
    draft.answer(to, sent(asked.operationId, verdict.place, verdict.kind === "duplicate"));
  }

  #moveCursor(
    conversation: Conversation,
    asked: Operation,
    move: MoveCursor,
    to: Answerer,
  ): Promise<void> | void {
    const member = conversation.present(asked.userId);
    conversation.checkCursor(move.deliveredSeq, move.readSeq);
    const ordinal = move.readSeq > member.readSeq ? conversation.ordinalAt(move.readSeq) : 0;
    if (ordinal !== undefined) return this.#moved(conversation, asked, move, ordinal, to);
    return this.#ordinal(conversation, move.readSeq).then((found) =>
      this.#moved(conversation, asked, move, found, to),
    );
  }

  #moved(
    conversation: Conversation,
    asked: Operation,
    move: MoveCursor,
    ordinal: number,
    to: Answerer,
  ): void {
    const { userId, origin, operationId } = asked;
    const member = conversation.present(userId);
    const draft = this.#parts.committer.draft(conversation);
    if (conversation.moveCursor(member, move.deliveredSeq, move.readSeq, ordinal)) {
      draft.touched.add(userId);
      draft.cursorMoves.push({ userId, origin });
    }
    draft.answer(to, moved(operationId, member.deliveredSeq, member.readSeq));
  }

  /** The ordinal of an old record in a group, from the log. */
  async #ordinal(conversation: Conversation, seq: number): Promise<number> {
    const page = {
      conversationId: conversation.id,
      afterSeq: seq - 1,
      beforeSeq: seq + 1,
      limit: 1,
      userId: "",
    };
    const { pages } = await this.#storage.read({ pages: [page] }, { timeoutMs: 30_000 });
    const record = pages[0]?.records[0];
    if (record !== undefined) return decodeRecord(record).ordinal;
    const floorSeq = pages[0]?.floorSeq ?? 0;
    if (floorSeq <= seq) throw unavailable("the record that the cursor names could not be read");
    // It is no longer kept: whoever has read up to there has all above still to read.
    const lowest = { ...page, afterSeq: floorSeq - 1, beforeSeq: floorSeq + 1 };
    const above = await this.#storage.read({ pages: [lowest] }, { timeoutMs: 30_000 });
    const first = above.pages[0]?.records[0];
    if (first === undefined) throw unavailable("the oldest record could not be read");
    const { ordinal, body } = decodeRecord(first);
    return body.case === "message" ? ordinal - 1 : ordinal;
  }
}

/** A class, since closures for each operation would cost more than what they do. */
class OperationTask implements Task {
  readonly #operations: Operations;
  readonly #asked: Operation;
  readonly #to: Answerer;
  #waits = false;

  constructor(operations: Operations, asked: Operation, to: Answerer) {
    this.#operations = operations;
    this.#asked = asked;
    this.#to = to;
  }

  waits(): void {
    this.#waits = true;
    this.#to.waits(this.#asked);
  }

  run(conversation: Conversation): Promise<void> | void {
    this.#waited();
    return this.#operations.run(conversation, this.#asked, this.#to);
  }

  get trace(): Uint8Array | undefined {
    return this.#to.trace;
  }

  refuse(error: ConnectError): void {
    this.#waited();
    this.#to.refuse(this.#asked.operationId, this.#asked.conversationId, error);
  }

  #waited(): void {
    if (!this.#waits) return;
    this.#waits = false;
    this.#to.waited(this.#asked);
  }
}
