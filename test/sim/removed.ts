/** What operators had removed: erased users' words and old records. What was seen before is held against what is left, and that it is gone (P8). */
import type { DeviceLog, Finding, HistoryOf, SeenCursor, SeenRecord } from "../support/checker.ts";
import { seenRecord, type Sending, type SimDevice } from "./device.ts";

/** What was removed, for good. */
export interface Removals {
  /** When the erasure of each user was done. */
  readonly erased: ReadonlyMap<string, number>;
  /** Where each conversation of which old records were removed begins now, as its operator was told. */
  readonly trimmed: ReadonlyMap<string, number>;
}

const isErased = ({ text }: SeenRecord): boolean => / ?erased \d+$/.test(text);

/** Whether a record is by the user, or tells of them. */
function isOf({ senderId, text }: SeenRecord, userId: string): boolean {
  return senderId === userId || new RegExp(`(^${userId}/|^<.*[+-]${userId}[ >])`).test(text);
}

const ofAny = (record: SeenRecord, { erased }: Removals): boolean =>
  [...erased.keys()].some((userId) => isOf(record, userId));

/** Histories with what was removed before their first record, as it was acked, or seen by devices. */
export function wholeHistories(
  histories: readonly HistoryOf[],
  logs: readonly DeviceLog[],
  sent: readonly Sending[],
  removals: Removals,
): HistoryOf[] {
  const seen = new Map<string, SeenRecord>();
  for (const { conversationId, userId: senderId, seq = 0, clientId: id, text } of sent) {
    const clientId = Buffer.from(id, "base64url").toString("hex");
    if (seq > 0) seen.set(`${conversationId} ${seq}`, { seq, senderId, clientId, text });
  }
  for (const { records } of logs)
    for (const [id, all] of records)
      for (const record of all)
        if (!seen.has(`${id} ${record.seq}`)) seen.set(`${id} ${record.seq}`, record);
  return histories.map((history) => {
    const { conversationId: id, records } = history;
    const floor = removals.trimmed.get(id) ?? 1;
    if (floor === 1) return history;
    const before = Array.from({ length: floor - 1 }, (_, at): SeenRecord => {
      const known = seen.get(`${id} ${at + 1}`);
      if (known !== undefined && !ofAny(known, removals)) return known;
      return { seq: at + 1, senderId: "", clientId: "", text: `erased ${at + 1}` };
    });
    return { ...history, records: [...before, ...records] };
  });
}

/** What a device saw, where it is no more: as it is kept now. */
export function asKept(
  { records, gaps, ...rest }: DeviceLog,
  whole: readonly HistoryOf[],
  removals: Removals,
): DeviceLog {
  const kept = new Map<string, readonly SeenRecord[]>();
  for (const { conversationId, records: all } of whole) kept.set(conversationId, all);
  const changed = new Map<string, readonly SeenRecord[]>();
  for (const [id, all] of records) {
    const log = kept.get(id) ?? [];
    const now = all.map((record) => {
      const left = log[record.seq - 1];
      return left !== undefined && isErased(left) && ofAny(record, removals) ? left : record;
    });
    const floor = removals.trimmed.get(id) ?? 1;
    changed.set(id, filled(now, log, floor));
  }
  const told = new Map<string, readonly string[]>();
  for (const [id, all] of gaps) {
    const floor = removals.trimmed.get(id) ?? 1;
    told.set(
      id,
      all.filter((gap) => Number(/^\d+-(\d+)/.exec(gap)?.[1] ?? Infinity) >= floor),
    );
  }
  return { ...rest, records: changed, gaps: told };
}

/** Holes that end below the floor are none. */
function filled(
  seen: readonly SeenRecord[],
  log: readonly SeenRecord[],
  floor: number,
): readonly SeenRecord[] {
  const all: SeenRecord[] = [];
  for (const record of seen) {
    const due = (all.at(-1)?.seq ?? record.seq - 1) + 1;
    if (record.seq > due && record.seq <= floor) all.push(...log.slice(due - 1, record.seq - 1));
    all.push(record);
  }
  return all;
}

/** Nothing of an erased user is shown any more, to nobody, and nobody takes them for a member. */
export function checkErased(
  devices: readonly SimDevice[],
  histories: readonly HistoryOf[],
  cursors: readonly SeenCursor[],
  { erased, trimmed }: Removals,
): Finding[] {
  const findings: Finding[] = [];
  const found = (what: string): void => void findings.push({ promise: "P8", what });
  for (const [userId, doneMs] of erased) {
    for (const { conversationId, userId: reader, records } of histories)
      for (const record of records)
        if (isOf(record, userId))
          found(`${reader} reads "${record.text}" of ${userId}, who is erased: ${conversationId}`);
    for (const { conversationId, userId: member } of cursors)
      if (member === userId && conversationId.startsWith("g:"))
        found(`${userId}, who is erased, is a member of ${conversationId}`);
    for (const device of devices) {
      if (device.userId === userId) {
        if (device.live) found(`${device.name} is live, and its user is erased`);
        continue;
      }
      for (const what of shown(device, userId, doneMs, trimmed)) found(what);
    }
  }
  return findings;
}

/** What a retention had removed before nobody can name any more: devices that have it keep it. */
function* shown(
  device: SimDevice,
  userId: string,
  doneMs: number,
  trimmed: Removals["trimmed"],
): Generator<string> {
  const { life, client } = device;
  if (life.ended) return;
  for (const { id } of client.conversations())
    for (const record of client.records(id).map(seenRecord))
      if (isOf(record, userId) && record.seq >= (trimmed.get(id) ?? 1))
        yield `${device.name} still has "${record.text}" of ${userId}, who is erased: ${id}`;
  if ((life.liveMs[0]?.fromMs ?? Infinity) < doneMs) return;
  for (const [id, records] of life.records)
    for (const record of records)
      if (isOf(record, userId))
        yield `${device.name} began later, and was shown "${record.text}" of ${userId}: ${id}`;
}
