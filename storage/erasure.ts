/** What an erasure leaves of records, and how a user is named once they are erased. Pure. */
import { createHash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Cell, ErasureReceipt } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  type Record as ChatRecord,
  ContentSchema,
  RecordSchema,
} from "../proto/gen/parley/v1/record_pb.ts";

/** Higher than every epoch: what an erasure leaves wins over whatever arrives later. */
export const erasedEpoch = 2n ** 62n;

const nothing = new Uint8Array(0);

/** The mark of an erased user stays for good, so that nobody takes their place; their id does not. */
export const userHash = (userId: string): string =>
  createHash("sha256").update(userId).digest("hex");

export function newReceipt(userId: string, nowMs: number): ErasureReceipt {
  return {
    $typeName: "parley.storage.v1.ErasureReceipt",
    userHash: userHash(userId),
    revision: 1,
    beganMs: BigInt(nowMs),
    finishedMs: 0n,
    conversations: 0,
    messages: 0n,
    changes: 0n,
    media: 0n,
  };
}

/** What a record has of a user, and what is left of it without that. */
export interface Erased {
  readonly cell: Cell;
  readonly kind: "message" | "change";
  /** What the user attached. */
  readonly mediaIds: readonly string[];
}

/** Whether a record is the rest that an erasure left. */
export const isErased = (record: Uint8Array): boolean => fromBinary(RecordSchema, record).erased;

/** Undefined where the record has nothing of the user. */
export function erasedOf(cell: Cell, record: ChatRecord, userId: string): Erased | undefined {
  const own = record.senderId === userId;
  const { body } = record;
  const sender = own ? { senderId: "", clientId: nothing } : {};
  if (body.case === "membership") {
    const { added, removed } = body.value;
    if (!own && !added.includes(userId) && !removed.includes(userId)) return undefined;
    const others = (ids: readonly string[]): string[] => ids.filter((id) => id !== userId);
    const rest = { ...body.value, added: others(added), removed: others(removed) };
    // What the user called the group is what they wrote; what it is called now is the group's.
    if (own) delete rest.title;
    const changed = { ...record, ...sender, body: { case: body.case, value: rest } };
    return { cell: rewritten(cell, changed), kind: "change", mediaIds: [] };
  }
  if (!own) return undefined;
  const mediaIds =
    body.case === "message" ? body.value.attachments.map(({ mediaId }) => mediaId) : [];
  const value = create(ContentSchema);
  const emptied = { ...record, ...sender, body: { case: "message" as const, value } };
  return { cell: rewritten(cell, emptied), kind: "message", mediaIds };
}

function rewritten(cell: Cell, record: ChatRecord): Cell {
  const bytes = toBinary(RecordSchema, { ...record, $unknown: [], erased: true });
  return { ...cell, epoch: erasedEpoch, record: bytes };
}
