/** Tells the members' devices, through session, what was committed. It knows users, not where they are. */
import { createClient } from "@connectrpc/connect";
import { type Conversation, smallGroupMax } from "./conversation.ts";
import type { Draft } from "./draft.ts";
import type { Cancel } from "../mesh/clock.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import { Gather, mapped } from "../mesh/pipe.ts";
import { type KeptStream, keepStream } from "../mesh/stream.ts";
import type { Cursor } from "../proto/gen/parley/v1/record_pb.ts";
import {
  type Payload,
  type Publication,
  type PublishRequest,
  SessionService,
} from "../proto/gen/parley/session/v1/session_pb.ts";

/** In larger groups cursors are told together, once in a while. */
const eagerCursorsMax = 16;
const publicationsMax = 262_144;
const resyncChunk = 1_000;

export interface FanoutConfig {
  /** How long the cursors of a group of more than 16 members gather before they are told. */
  readonly cursorGatherMs: number;
}

export class Fanout {
  readonly #surroundings: Surroundings;
  readonly #config: FanoutConfig;
  /** All users of conversations in memory: told to sync when pushes may have been lost. */
  readonly #everybody: () => Iterable<string>;
  #publications: Gather<Publication>;
  #stream: KeptStream | undefined;
  readonly #gathered = new Map<Conversation, Set<string>>();
  #cancelGathered: Cancel | undefined;

  constructor(surroundings: Surroundings, config: FanoutConfig, everybody: () => Iterable<string>) {
    this.#surroundings = surroundings;
    this.#config = config;
    this.#everybody = everybody;
    this.#publications = new Gather(surroundings.clock, publicationsMax);
  }

  get up(): boolean {
    return this.#stream?.up ?? false;
  }

  start(): void {
    const session = createClient(SessionService, this.#surroundings.transport(SessionService));
    let first = true;
    this.#stream = keepStream(this.#surroundings, "publish", async (signal) => {
      const publications = (this.#publications = new Gather(
        this.#surroundings.clock,
        publicationsMax,
      ));
      if (!first) this.#resyncEverybody();
      first = false;
      const requests = mapped<Publication[], PublishRequest>(publications, (batch) => ({
        $typeName: "parley.session.v1.PublishRequest",
        publications: batch,
      }));
      try {
        for await (const _ of session.publish(requests, { signal })) void _;
      } finally {
        publications.end();
      }
    });
  }

  async close(): Promise<void> {
    this.#cancelGathered?.();
    await this.#stream?.close();
  }

  /** Pushes the records of a committed batch. */
  records(drafts: Draft[]): void {
    for (const { conversation, records } of drafts) {
      for (const { cell, origin, audience } of records) {
        const { seq, record } = cell;
        const value = {
          $typeName: "parley.session.v1.RecordPayload" as const,
          conversationId: conversation.id,
          seq,
          record,
        };
        this.#publish(audience, origin, { case: "record", value });
      }
    }
  }

  /** Tells of cursors that moved: at once among few, gathered among many, only to the user's own devices in large groups. */
  cursors(drafts: Draft[]): void {
    for (const { conversation, cursorMoves } of drafts) {
      if (cursorMoves.length === 0) continue;
      const eager = conversation.memberCount <= eagerCursorsMax;
      for (const { userId, origin } of cursorMoves) {
        this.#cursorsTo(eager ? conversation.audience : [userId], origin, conversation, [userId]);
        if (!eager && conversation.memberCount <= smallGroupMax) this.#gather(conversation, userId);
      }
    }
  }

  typing(conversation: Conversation, userId: string, origin: string): void {
    const others = conversation.audience.filter((other) => other !== userId);
    const value = {
      $typeName: "parley.v1.Typing" as const,
      conversationId: conversation.id,
      userId,
    };
    this.#publish(others, origin, { case: "typing", value });
  }

  #gather(conversation: Conversation, userId: string): void {
    let users = this.#gathered.get(conversation);
    if (users === undefined) this.#gathered.set(conversation, (users = new Set()));
    users.add(userId);
    this.#cancelGathered ??= this.#surroundings.clock.after(this.#config.cursorGatherMs, () => {
      this.#cancelGathered = undefined;
      for (const [gathered, userIds] of this.#gathered) {
        this.#cursorsTo(gathered.audience, "", gathered, userIds);
      }
      this.#gathered.clear();
    });
  }

  #cursorsTo(
    audience: string[],
    origin: string,
    conversation: Conversation,
    userIds: Iterable<string>,
  ): void {
    const cursors: Cursor[] = [];
    for (const userId of userIds) {
      const member = conversation.members.get(userId);
      if (member === undefined || member.leftSeq !== 0) continue;
      const { deliveredSeq, readSeq } = member;
      cursors.push({
        $typeName: "parley.v1.Cursor",
        conversationId: conversation.id,
        userId,
        deliveredSeq,
        readSeq,
      });
    }
    if (cursors.length === 0) return;
    const value = { $typeName: "parley.session.v1.Cursors" as const, cursors };
    this.#publish(audience, origin, { case: "cursors", value });
  }

  #resyncEverybody(): void {
    let chunk: string[] = [];
    for (const userId of new Set(this.#everybody())) {
      chunk.push(userId);
      if (chunk.length < resyncChunk) continue;
      this.#publish(chunk, "", { case: "resync", value: true });
      chunk = [];
    }
    if (chunk.length > 0) this.#publish(chunk, "", { case: "resync", value: true });
  }

  /** What does not fit is lost on the way; its devices are told to sync when the stream is up again. */
  #publish(userIds: string[], exceptOrigin: string, payload: Payload["payload"]): void {
    const added = this.#publications.add({
      $typeName: "parley.session.v1.Publication",
      userIds,
      exceptOrigin,
      onlyOrigin: "",
      payload: { $typeName: "parley.session.v1.Payload", payload },
    });
    if (!added) this.#publications.end(new Error("session does not take publications fast enough"));
  }
}
