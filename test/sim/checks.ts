/** What a run's devices saw, held against the promises that test/support/checker.ts does not know: in step, presence, members only, registry away. */
import type { Finding, HistoryOf, SeenCursor, SeenRecord } from "../support/checker.ts";
import type { SimDevice } from "./device.ts";

export interface Aftermath {
  readonly devices: readonly SimDevice[];
  /** Everybody who was ever let into a conversation, for what its log may not say. */
  readonly conversations: ReadonlyMap<string, ReadonlySet<string>>;
  readonly members: ReadonlyMap<string, readonly string[]>;
  readonly histories: readonly HistoryOf[];
  readonly cursors: readonly SeenCursor[];
  readonly trespasses: readonly string[];
}

type Found = (promise: Finding["promise"], what: string) => void;

/** From which seq to which somebody is a member; Infinity: to this day. */
interface Span {
  readonly from: number;
  to: number;
}

export function checkAftermath(aftermath: Aftermath): Finding[] {
  const findings: Finding[] = [];
  const found: Found = (promise, what) => void findings.push({ promise, what });
  const logs = new Map<string, readonly SeenRecord[]>();
  for (const { conversationId, records } of aftermath.histories) {
    const known = logs.get(conversationId);
    if (known === undefined || known.length < records.length) logs.set(conversationId, records);
  }
  const spans = new Map([...logs].map(([id, log]) => [id, spansOf(id, log)]));
  for (const trespass of aftermath.trespasses) found("P8", trespass);
  checkMembersOnly(aftermath, spans, found);
  checkInStep(aftermath, logs, spans, found);
  return findings;
}

function spansOf(id: string, log: readonly SeenRecord[]): Map<string, Span[]> {
  const spans = new Map<string, Span[]>();
  const join = (userId: string, from: number): void => {
    const all = spans.get(userId) ?? [];
    if (all.at(-1)?.to === Infinity) return;
    spans.set(userId, [...all, { from, to: Infinity }]);
  };
  if (id.startsWith("d:")) for (const userId of id.split(":").slice(1)) join(userId, 1);
  for (const { seq, text } of log) {
    if (!/^<[+-]/.test(text)) continue;
    for (const [, sign, userId = ""] of text.matchAll(/([+-])([^\s>"]+)/g)) {
      const last = spans.get(userId)?.at(-1);
      if (sign === "+") join(userId, seq);
      else if (last !== undefined && last.to === Infinity) last.to = seq;
    }
  }
  return spans;
}

function checkMembersOnly(
  { devices }: Aftermath,
  spans: ReadonlyMap<string, Map<string, Span[]>>,
  found: Found,
): void {
  for (const device of devices) {
    for (const { records, views } of device.lives) {
      for (const id of new Set([...records.keys(), ...views.keys()])) {
        const of = spans.get(id);
        if (of === undefined) continue;
        const mine = of.get(device.userId) ?? [];
        if (mine.length === 0) found("P8", `${device.name} learnt of ${id}, and was never in it`);
        for (const { seq } of records.get(id) ?? [])
          if (!mine.some(({ from, to }) => seq >= from && seq <= to))
            found("P8", `${device.name} saw ${id} #${seq}, and was no member then`);
      }
    }
  }
}

/** At the end, with all in good order for a while, every device has all that its user may have. */
function checkInStep(
  { devices, members, cursors }: Aftermath,
  logs: ReadonlyMap<string, readonly SeenRecord[]>,
  spans: ReadonlyMap<string, Map<string, Span[]>>,
  found: Found,
): void {
  for (const [id, log] of logs) {
    const head = log.length;
    const small = (spans.get(id)?.size ?? 0) <= 16;
    for (const device of devices) {
      const span = spans.get(id)?.get(device.userId)?.at(-1);
      if (span === undefined) continue;
      const view = device.client.conversation(id);
      const due = Math.min(head, span.to);
      if (view === undefined) {
        found("P6", `${device.name} knows nothing of ${id}, which has ${head} records`);
        continue;
      }
      if (view.gotSeq < due)
        found("P6", `${device.name} has ${id} up to ${view.gotSeq}, where ${due} is due`);
      if (span.to !== Infinity && !view.left)
        found("P6", `${device.name} was not told that it left ${id}`);
      if (span.to !== Infinity) continue;
      if (view.left) found("P6", `${device.name} takes itself to have left ${id}`);
      const own = cursors.find((one) => one.conversationId === id && one.userId === device.userId);
      if (own === undefined) continue;
      if (view.readSeq !== own.read)
        found("P6", `${device.name} has read ${id} up to ${view.readSeq}, the server ${own.read}`);
      const unread = log.filter(({ seq, text }) => seq > own.read && !text.startsWith("<")).length;
      if (view.unreadCount !== unread)
        found("P6", `${device.name} counts ${view.unreadCount} unread in ${id}, not ${unread}`);
      if (!small || members.get(id) === undefined) continue;
      const others = cursors.filter(
        (one) => one.conversationId === id && one.userId !== device.userId,
      );
      const least = Math.min(...others.map(({ delivered }) => delivered));
      if (others.length > 0 && view.peersDeliveredSeq !== least)
        found(
          "P6",
          `${device.name}: others got ${id} up to ${view.peersDeliveredSeq}, not ${least}`,
        );
    }
  }
}

/** P7: what each device that is live was last told of those whom it watches. */
export function checkPresence(
  devices: readonly SimDevice[],
  online: ReadonlySet<string>,
): Finding[] {
  const findings: Finding[] = [];
  for (const device of devices) {
    if (!device.live) continue;
    for (const userId of device.watches) {
      const told = device.life.presence.findLast((one) => one.userId === userId)?.online;
      const is = online.has(userId);
      if (told === undefined) {
        findings.push({ promise: "P7", what: `${device.name} was never told of ${userId}` });
      } else if (told !== is) {
        const [said, truth] = told ? ["online", "offline"] : ["offline", "online"];
        const what = `${device.name} was told that ${userId} is ${said}, and they are ${truth}`;
        findings.push({ promise: "P7", what });
      }
    }
  }
  return findings;
}

/** P7: nobody is told to be offline who was live all the time, from the first to the last. */
export function checkNoFalseOffline(
  devices: readonly SimDevice[],
  fromMs: number,
  toMs: number,
): Finding[] {
  const findings: Finding[] = [];
  const steady = new Set(
    devices
      .filter(({ life }) =>
        life.liveMs.some((one) => one.fromMs <= fromMs && (one.toMs ?? Infinity) >= toMs),
      )
      .map(({ userId }) => userId),
  );
  for (const device of devices)
    for (const { userId, online, atMs } of device.life.presence)
      if (!online && atMs > fromMs && atMs < toMs && steady.has(userId))
        findings.push({
          promise: "P7",
          what: `${device.name} was told at ${atMs.toFixed(0)} that ${userId} is offline, who was live all the time`,
        });
  return findings;
}

/** Over this there is harm that people notice. */
const promptMs = 5_000;

/** P9, P10: what is done to others, or to the registry, costs those who write nothing. */
export function checkPrompt(
  promise: "P9" | "P10",
  devices: readonly SimDevice[],
  hit: ReadonlySet<string>,
): Finding[] {
  const findings: Finding[] = [];
  for (const device of devices) {
    if (hit.has(device.name)) continue;
    for (const { text, conversationId, atMs, ackedMs = Infinity, failed } of device.sendings) {
      if (failed) continue;
      const wasLive = device.life.liveMs.some(
        ({ fromMs, toMs = Infinity }) => fromMs <= atMs - 1_000 && toMs >= atMs + promptMs,
      );
      if (wasLive && ackedMs - atMs > promptMs)
        findings.push({
          promise,
          what: `${conversationId}: "${text}" was sent at ${atMs.toFixed(0)} and acked after ${(ackedMs - atMs).toFixed(0)} ms`,
        });
    }
  }
  return findings;
}
