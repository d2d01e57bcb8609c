/** Looks whether a data directory is whole: every log from its floor to its head, every medium that is named. Nobody else may have the directory. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { RecordSchema } from "../proto/gen/parley/v1/record_pb.ts";
import { openLmdbStore } from "./lmdb.ts";
import type { LmdbSettings } from "./lmdb.ts";
import { mediaPath } from "./media.ts";
import { Tables } from "./tables.ts";

/** Cells that are in memory at once. */
const cellsAtOnce = 1_024;

export interface Verified {
  readonly conversations: number;
  readonly records: number;
  readonly media: number;
  /** What is wrong, a sentence each; none: the directory is whole. */
  readonly findings: readonly string[];
}

/** Opens the directory as the next start does, which brings its journal to its tables, then reads all of it. */
export async function verifyData(folder: string, settings: LmdbSettings): Promise<Verified> {
  const path = resolve(folder);
  await stat(join(path, "tables.mdb")).catch((cause: unknown) => {
    throw new Error(`${path} is no data directory: it has no tables.mdb`, { cause });
  });
  const store = await openLmdbStore(path, { ...settings, withoutId: true });
  await store.close();
  const tables = new Tables(path, join(path, "tables.mdb"));
  try {
    const findings: string[] = [];
    const found = { conversations: 0, records: 0, media: 0 };
    for (const id of tables.conversationIds()) {
      found.conversations += 1;
      found.records += checkConversation(tables, id, findings);
    }
    const checked = new Set<string>();
    for (const { conversationId, mediaId } of tables.mediaHeaders()) {
      if (checked.has(mediaId)) continue;
      checked.add(mediaId);
      const wrong = await mediumFault(mediaPath(join(path, "media"), mediaId), mediaId);
      if (wrong !== undefined) findings.push(`medium ${mediaId} of ${conversationId} ${wrong}`);
    }
    found.media = checked.size;
    return { ...found, findings };
  } finally {
    await tables.close();
  }
}

/** Answers with how many records it has. */
function checkConversation(tables: Tables, id: string, findings: string[]): number {
  const row = tables.conversation(id);
  if (row === undefined) return 0;
  const { headSeq, headTerm } = row.state;
  // What its retention has removed, or is about to, is below the floor.
  const belowSeq = Math.max(1, tables.retention(id)?.floorSeq ?? 1) - 1;
  let seq = belowSeq;
  let term = belowSeq === 0 ? 0n : undefined;
  while (seq < headSeq) {
    const cells = tables.cells(id, seq + 1, Math.min(seq + cellsAtOnce, headSeq));
    for (const cell of cells) {
      const wrong = cellFault(id, cell, seq, term);
      if (wrong !== undefined) {
        findings.push(`${id}: ${wrong}`);
        return seq - belowSeq;
      }
      ({ seq, term } = cell);
    }
    if (cells.length > 0) continue;
    findings.push(`${id}: the log ends at seq ${seq}, the head is ${headSeq}`);
    return seq - belowSeq;
  }
  if (term !== headTerm) findings.push(`${id}: the head has term ${headTerm}, its record ${term}`);
  checkMembers(tables, id, findings);
  return seq - belowSeq;
}

type Cell = ReturnType<Tables["cells"]>[number];

/** `term` is that of the record before; undefined: that one is not there. */
function cellFault(
  id: string,
  cell: Cell,
  seq: number,
  term: bigint | undefined,
): string | undefined {
  if (cell.seq !== seq + 1) return `the record at seq ${seq + 1} is missing`;
  if (term !== undefined && cell.previousTerm !== term)
    return `seq ${cell.seq} does not link to the record before it`;
  try {
    const record = fromBinary(RecordSchema, cell.record);
    if (record.seq === cell.seq && record.conversationId === id) return undefined;
    return `at seq ${cell.seq} is the record ${record.conversationId} #${record.seq}`;
  } catch {
    return `the record at seq ${cell.seq} cannot be read`;
  }
}

/** Whoever is a member now has the conversation in their index. */
function checkMembers(tables: Tables, id: string, findings: string[]): void {
  const row = tables.conversation(id);
  const members = row?.spilled === true ? tables.membersAfter(id, "", Infinity) : row?.members;
  for (const { userId, leftSeq } of members ?? [])
    if (leftSeq === 0 && !tables.isIndexed(userId, id))
      findings.push(`${id}: ${userId} is a member, and has it not in their index`);
}

async function mediumFault(path: string, mediaId: string): Promise<string | undefined> {
  const hash = createHash("sha256");
  try {
    await pipeline(createReadStream(path), hash);
  } catch {
    return "is not there";
  }
  return hash.digest("hex") === mediaId ? undefined : "is damaged";
}
