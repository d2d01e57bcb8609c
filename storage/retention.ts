/** How long conversations are kept: raises their floors as records grow old, and removes what is below. In steps that may come again. */
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Clock } from "../mesh/clock.ts";
import { invalid } from "../mesh/errors.ts";
import type {
  Retention,
  SetRetentionRequest,
  SweepRetentionResponse,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { type Record as ChatRecord, RecordSchema } from "../proto/gen/parley/v1/record_pb.ts";
import { removeMedia } from "./mediaservice.ts";
import type { MediaStore, Store } from "./ports.ts";

/** Records that one step removes. */
const stepRecords = 2_000;
const readRecords = 200;

export const noRetention = (conversationId: string): Retention => ({
  $typeName: "parley.storage.v1.Retention",
  conversationId,
  retentionMs: 0n,
  revision: 0,
  floorSeq: 0,
  removedSeq: 0,
});

/** What two writes of one conversation's retention come to. */
export function mergeRetention(kept: Retention | undefined, given: Retention): Retention {
  if (kept === undefined) return given;
  const { retentionMs, revision } = given.revision > kept.revision ? given : kept;
  const floorSeq = Math.max(kept.floorSeq, given.floorSeq);
  return {
    ...kept,
    retentionMs,
    revision,
    floorSeq,
    removedSeq: Math.max(kept.removedSeq, given.removedSeq),
  };
}

export class Retentions {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #store: Store;
  readonly #media: MediaStore;
  #sweeping = false;

  constructor(clock: Clock, log: Logger, store: Store, media: MediaStore) {
    this.#clock = clock;
    this.#log = log;
    this.#store = store;
    this.#media = media;
  }

  async get(conversationId: string): Promise<Retention> {
    const state = await this.#store.conversation(conversationId);
    if (state === undefined)
      throw new ConnectError(`there is no conversation ${conversationId}`, Code.NotFound);
    return (await this.#store.retention(conversationId)) ?? noRetention(conversationId);
  }

  async set({ conversationId, retentionMs }: SetRetentionRequest): Promise<Retention> {
    if (retentionMs < 0n) throw invalid("retention_ms must be 0 or more");
    const kept = await this.get(conversationId);
    const next = { ...kept, retentionMs, revision: kept.revision + 1 };
    await this.#store.putRetention(next);
    return next;
  }

  /** All of them, one after the other. What fails is tried at the next sweep. */
  async sweep(): Promise<void> {
    if (this.#sweeping) return;
    this.#sweeping = true;
    try {
      for await (const { conversationId } of this.#store.retentions()) {
        for (let more = true; more;) ({ more } = await this.step(conversationId));
      }
    } catch (error) {
      this.#log.warn(
        { err: error },
        "old records could not be removed; the next sweep tries again",
      );
    }
    this.#sweeping = false;
  }

  /** First nobody is shown what goes, then it goes, then it is known to be gone. */
  async step(conversationId: string): Promise<SweepRetentionResponse> {
    const $typeName = "parley.storage.v1.SweepRetentionResponse";
    const kept = await this.get(conversationId);
    const due = await this.#due(kept);
    const raised = { ...kept, floorSeq: Math.max(kept.floorSeq, due.floorSeq) };
    if (raised.floorSeq <= Math.max(1, kept.removedSeq))
      return { $typeName, retention: kept, more: false };
    await this.#store.putRetention(raised);
    await this.#removeMedia(raised, due.media);
    await this.#store.trim(conversationId, Math.max(1, kept.removedSeq), raised.floorSeq);
    const retention = { ...raised, removedSeq: raised.floorSeq };
    await this.#store.putRetention(retention);
    return { $typeName, retention, more: due.more };
  }

  /** The floor after this step, and whose media are below. */
  async #due(
    kept: Retention,
  ): Promise<{ floorSeq: number; more: boolean; media: Map<string, Set<string>> }> {
    const { conversationId, retentionMs } = kept;
    const media = new Map<string, Set<string>>();
    const headSeq = (await this.#store.conversation(conversationId))?.headSeq ?? 0;
    const beforeMs = BigInt(Math.floor(this.#clock.now())) - retentionMs;
    // What an earlier step did not come to remove is looked at again.
    let floorSeq = Math.max(1, kept.removedSeq);
    const lastSeq = Math.min(headSeq - 1, floorSeq + stepRecords - 1);
    while (floorSeq <= lastSeq) {
      const to = Math.min(lastSeq, floorSeq + readRecords - 1);
      const cells = await this.#store.cells(conversationId, floorSeq, to);
      for (const { record } of cells) {
        const read = fromBinary(RecordSchema, record);
        const goes = read.seq < kept.floorSeq || (retentionMs > 0n && read.timeMs < beforeMs);
        if (!goes) return { floorSeq: read.seq, more: false, media };
        for (const mediaId of mediaIn(read)) {
          const ids = media.get(read.senderId) ?? new Set<string>();
          media.set(read.senderId, ids.add(mediaId));
        }
      }
      floorSeq = to + 1;
    }
    return { floorSeq, more: floorSeq < headSeq, media };
  }

  /** But for what is shown again above. */
  async #removeMedia(
    { conversationId, floorSeq }: Retention,
    media: ReadonlyMap<string, Set<string>>,
  ): Promise<void> {
    if (media.size === 0) return;
    const headSeq = (await this.#store.conversation(conversationId))?.headSeq ?? 0;
    for (let from = floorSeq; from <= headSeq; from += readRecords) {
      for (const { record } of await this.#store.cells(
        conversationId,
        from,
        from + readRecords - 1,
      ))
        for (const mediaId of mediaIn(fromBinary(RecordSchema, record)))
          for (const ids of media.values()) ids.delete(mediaId);
      await new Promise<void>((resolve) => this.#clock.afterTurn(resolve));
    }
    for (const [userId, ids] of media)
      await removeMedia(this.#store, this.#media, conversationId, userId, [...ids]);
  }
}

function mediaIn({ body }: ChatRecord): string[] {
  return body.case === "message" ? body.value.attachments.map(({ mediaId }) => mediaId) : [];
}
