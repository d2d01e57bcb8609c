/** What devices saw and what the server keeps, held against the promises P1 to P5. Pure: it knows neither the network nor who wrote. */

/** A message that a device sent. */
export interface SentText {
  readonly userId: string;
  readonly deviceId: string;
  readonly conversationId: string;
  /** Unique among all messages of the run. */
  readonly text: string;
  /** Undefined: it was not acked. */
  readonly seq: number | undefined;
}

export interface SeenRecord {
  readonly seq: number;
  readonly senderId: string;
  /** Empty on records that no client sent. */
  readonly clientId: string;
  /** A message's text, or what else it is. */
  readonly text: string;
}

export interface SeenCursor {
  readonly conversationId: string;
  readonly userId: string;
  readonly delivered: number;
  readonly read: number;
}

/** What one device was handed, in order of arrival. */
export interface DeviceLog {
  readonly userId: string;
  readonly deviceId: string;
  readonly records: ReadonlyMap<string, readonly SeenRecord[]>;
  /** Seqs that it was told it does not get, as "from-to". */
  readonly gaps: ReadonlyMap<string, readonly string[]>;
  readonly cursors: readonly SeenCursor[];
  /** Heads of conversations. */
  readonly heads: ReadonlyMap<string, readonly number[]>;
  /** It was gone before the end: it need not have come to it. */
  readonly ended?: boolean;
  /** Where it began, if not with what came first: it went on from what it had kept. */
  readonly from?: ReadonlyMap<string, number>;
}

/** A conversation's whole log as one member reads it afterwards. */
export interface HistoryOf {
  readonly userId: string;
  readonly conversationId: string;
  readonly records: readonly SeenRecord[];
}

export interface Observed {
  /** Those who were members from the first record to the last. */
  readonly members: ReadonlyMap<string, readonly string[]>;
  /** In the order in which each device sent them. */
  readonly sent: readonly SentText[];
  readonly devices: readonly DeviceLog[];
  readonly histories: readonly HistoryOf[];
  /** As the server has them afterwards. */
  readonly cursors: readonly SeenCursor[];
}

export type PromiseId = "P1" | "P2" | "P3" | "P4" | "P5" | "P6" | "P7" | "P8" | "P9" | "P10";

export interface Finding {
  readonly promise: PromiseId;
  readonly what: string;
}

type Found = (promise: PromiseId, what: string) => void;

/** All that is wrong; empty: nothing. */
export function check(observed: Observed): Finding[] {
  const findings: Finding[] = [];
  const found: Found = (promise, what) => void findings.push({ promise, what });
  const logs = oneLogEach(observed, found);
  checkKept(observed, found);
  checkOnce(observed, logs, found);
  checkDevices(observed, logs, found);
  checkOrder(observed, logs, found);
  checkForward(observed, found);
  return findings;
}

const shownMax = 30;

/** The findings for a person: how many of each promise, then the first ones. */
export function reportOf(findings: readonly Finding[]): string {
  if (findings.length === 0) return "nothing is wrong";
  const counts = new Map<PromiseId, number>();
  for (const { promise } of findings) counts.set(promise, (counts.get(promise) ?? 0) + 1);
  const sums = [...counts].toSorted().map(([promise, count]) => `${promise}: ${count}`);
  const shown = findings.slice(0, shownMax).map(({ promise, what }) => `  ${promise} ${what}`);
  const rest = findings.length - shown.length;
  return [
    `broken: ${sums.join(", ")}`,
    ...shown,
    ...(rest > 0 ? [`  … and ${rest} more`] : []),
  ].join("\n");
}

const same = (one: SeenRecord, other: SeenRecord): boolean =>
  one.text === other.text && one.senderId === other.senderId && one.clientId === other.clientId;

const named = ({ seq, senderId, text }: SeenRecord): string => `${seq} "${text}" of ${senderId}`;

/** P3 of what is kept: every member reads the same log, 1, 2, 3 …; answers with it by conversation. */
function oneLogEach(
  { members, histories }: Observed,
  found: Found,
): Map<string, readonly SeenRecord[]> {
  const logs = new Map<string, readonly SeenRecord[]>();
  for (const [conversationId, userIds] of members) {
    for (const userId of userIds) {
      const history = histories.find(
        (one) => one.userId === userId && one.conversationId === conversationId,
      );
      if (history === undefined) {
        found("P1", `${conversationId}: ${userId} has no history`);
        continue;
      }
      const { records } = history;
      const hole = records.findIndex(({ seq }, at) => seq !== at + 1);
      if (hole >= 0) {
        const instead = records[hole]?.seq ?? 0;
        found(
          "P3",
          `${conversationId}: ${userId}'s history has ${instead} where ${hole + 1} is due`,
        );
      }
      const log = logs.get(conversationId);
      if (log === undefined) {
        logs.set(conversationId, records);
        continue;
      }
      const other = differing(log, records);
      if (other !== undefined)
        found("P3", `${conversationId}: the members' histories differ from ${other} on`);
    }
  }
  return logs;
}

/** The seq from which two logs differ. */
function differing(one: readonly SeenRecord[], other: readonly SeenRecord[]): number | undefined {
  const length = Math.max(one.length, other.length);
  for (let at = 0; at < length; at += 1) {
    const [mine, yours] = [one[at], other[at]];
    if (mine === undefined || yours === undefined || mine.seq !== yours.seq || !same(mine, yours))
      return at + 1;
  }
  return undefined;
}

/** P1: what was acked is in every member's history, where the ack said. */
function checkKept({ members, sent, histories }: Observed, found: Found): void {
  const byPlace = new Map<string, SeenRecord>();
  for (const { userId, conversationId, records } of histories)
    for (const record of records) byPlace.set(`${userId} ${conversationId} ${record.seq}`, record);
  for (const { conversationId, userId, text, seq } of sent) {
    if (seq === undefined) continue;
    for (const member of members.get(conversationId) ?? []) {
      const record = byPlace.get(`${member} ${conversationId} ${seq}`);
      if (record?.text === text && record.senderId === userId) continue;
      const instead = record === undefined ? "nothing" : named(record);
      found("P1", `${conversationId}: "${text}" was acked as ${seq}; ${member} reads ${instead}`);
    }
  }
}

/** P2: no message is twice in a log, nor handed twice to a device; no two messages were acked with one seq. */
function checkOnce(
  { sent, devices }: Observed,
  logs: ReadonlyMap<string, readonly SeenRecord[]>,
  found: Found,
): void {
  const twice = (where: string, records: readonly SeenRecord[]): void => {
    const seen = new Map<string, number>();
    for (const { seq, text, clientId } of records) {
      for (const key of clientId === "" ? [text] : [text, clientId]) {
        const before = seen.get(key);
        if (before !== undefined) found("P2", `${where}: "${text}" is both ${before} and ${seq}`);
        seen.set(key, seq);
      }
    }
  };
  for (const [conversationId, records] of logs) twice(conversationId, records);
  for (const { userId, deviceId, records } of devices)
    for (const [conversationId, seen] of records)
      twice(`${conversationId} on ${userId}/${deviceId}`, seen);
  const acked = new Map<string, string>();
  for (const { conversationId, seq, text } of sent) {
    if (seq === undefined) continue;
    const before = acked.get(`${conversationId} ${seq}`);
    if (before !== undefined)
      found("P2", `${conversationId}: "${before}" and "${text}" were both acked as ${seq}`);
    acked.set(`${conversationId} ${seq}`, text);
  }
}

/** P3 of what devices were handed: in order, without a hole, to the end, the same as is kept. */
function checkDevices(
  { members, devices }: Observed,
  logs: ReadonlyMap<string, readonly SeenRecord[]>,
  found: Found,
): void {
  for (const { userId, deviceId, records, gaps, from, ended = false } of devices) {
    for (const [conversationId, log] of logs) {
      if (!(members.get(conversationId) ?? []).includes(userId)) continue;
      const where = `${conversationId} on ${userId}/${deviceId}`;
      for (const gap of gaps.get(conversationId) ?? []) found("P3", `${where}: ${gap} is a gap`);
      const seen = records.get(conversationId) ?? [];
      let due = from?.get(conversationId) ?? seen[0]?.seq ?? 1;
      for (const record of seen) {
        if (record.seq !== due) found("P3", `${where}: ${record.seq} came where ${due} was due`);
        due = record.seq + 1;
        const kept = log[record.seq - 1];
        if (kept === undefined || !same(kept, record)) {
          const instead = kept === undefined ? "nothing is kept" : `${named(kept)} is kept`;
          found("P3", `${where}: saw ${named(record)}, ${instead}`);
        }
      }
      const head = log.length;
      if (!ended && due !== head + 1)
        found("P3", `${where}: ends before ${due}, the log has ${head}`);
    }
  }
}

/** P4: what one device sent into a conversation is there in its order. */
function checkOrder(
  { sent }: Observed,
  logs: ReadonlyMap<string, readonly SeenRecord[]>,
  found: Found,
): void {
  const places = new Map<string, number>();
  for (const [conversationId, records] of logs)
    for (const { text, seq } of records) places.set(`${conversationId} ${text}`, seq);
  const last = new Map<string, { seq: number; text: string }>();
  for (const { userId, deviceId, conversationId, text } of sent) {
    const seq = places.get(`${conversationId} ${text}`);
    if (seq === undefined) continue;
    const key = `${conversationId} by ${userId}/${deviceId}`;
    const before = last.get(key);
    if (before !== undefined && before.seq > seq)
      found("P4", `${key}: "${text}" is ${seq}, "${before.text}", sent before, is ${before.seq}`);
    last.set(key, { seq, text });
  }
}

/** P5: nothing that a device saw goes back, and what was told of a cursor is kept. */
function checkForward({ devices, cursors }: Observed, found: Found): void {
  const kept = new Map(cursors.map((one) => [`${one.conversationId} ${one.userId}`, one]));
  for (const { userId, deviceId, cursors: seen, heads } of devices) {
    const where = `on ${userId}/${deviceId}`;
    const last = new Map<string, SeenCursor>();
    for (const cursor of seen) {
      const key = `${cursor.conversationId} ${cursor.userId}`;
      const before = last.get(key);
      if (before !== undefined && isBehind(cursor, before))
        found("P5", `${key} ${where}: went back from ${pair(before)} to ${pair(cursor)}`);
      last.set(key, cursor);
    }
    for (const [key, cursor] of last) {
      const final = kept.get(key);
      if (final !== undefined && isBehind(final, cursor))
        found("P5", `${key} ${where}: saw ${pair(cursor)}, ${pair(final)} is kept`);
    }
    for (const [conversationId, values] of heads) {
      const at = values.findIndex((value, index) => value < (values[index - 1] ?? 0));
      if (at >= 0)
        found("P5", `${conversationId} ${where}: head ${values[at - 1]}, then ${values[at]}`);
    }
  }
}

const isBehind = (one: SeenCursor, other: SeenCursor): boolean =>
  one.delivered < other.delivered || one.read < other.read;

const pair = ({ delivered, read }: SeenCursor): string => `${delivered}/${read}`;
