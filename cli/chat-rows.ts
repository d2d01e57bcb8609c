/** What a record says, as rows of spans: the parts that the conversation's screen is put together from. Pure. */
import type { Content, Record as LogRecord } from "../client/index.ts";
import { clean, cleanLine } from "./chat-text.ts";

export interface Span {
  readonly text: string;
  readonly color?: "cyan" | "magenta" | "yellow" | "blue" | "green" | "red";
  readonly bold?: true;
  readonly dim?: true;
  readonly inverse?: true;
}

export type Row = readonly Span[];

/** Hours, days and dates as the user's clock has them. */
export class Calendar {
  readonly #time: Intl.DateTimeFormat;
  readonly #day: Intl.DateTimeFormat;
  readonly #dayAndYear: Intl.DateTimeFormat;
  readonly #key: Intl.DateTimeFormat;

  /** Without a zone: the machine's. */
  constructor(timeZone?: string) {
    const zone = timeZone === undefined ? {} : { timeZone };
    this.#time = new Intl.DateTimeFormat("en-GB", { ...zone, hour: "2-digit", minute: "2-digit" });
    this.#day = new Intl.DateTimeFormat("en-GB", {
      ...zone,
      weekday: "long",
      day: "numeric",
      month: "long",
    });
    this.#dayAndYear = new Intl.DateTimeFormat("en-GB", {
      ...zone,
      day: "numeric",
      month: "long",
      year: "numeric",
    });
    this.#key = new Intl.DateTimeFormat("en-CA", {
      ...zone,
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
    });
  }

  /** The same for all times of a day. */
  key(timeMs: number): string {
    return this.#key.format(timeMs);
  }

  time(timeMs: number): string {
    return this.#time.format(timeMs);
  }

  day(timeMs: number, nowMs: number): string {
    if (this.key(timeMs) === this.key(nowMs)) return "Today";
    if (this.key(timeMs) === this.key(nowMs - 86_400_000)) return "Yesterday";
    const sameYear = this.key(timeMs).slice(0, 4) === this.key(nowMs).slice(0, 4);
    return (sameYear ? this.#day : this.#dayAndYear).format(timeMs);
  }

  /** As short as it can be: the hour today, else the day. */
  brief(timeMs: number, nowMs: number): string {
    const day = this.day(timeMs, nowMs);
    return day === "Today" ? this.time(timeMs) : day === "Yesterday" ? "yesterday" : day;
  }
}

/** What all parts of the screen are drawn with. */
export interface Frame {
  readonly columns: number;
  readonly rows: number;
  readonly nowMs: number;
  readonly calendar: Calendar;
}

/** Text, then a line for each attachment. */
export function contentText(content: Content): string {
  const reply = content.replyToSeq === 0 ? "" : `(answers #${content.replyToSeq}) `;
  const parts = content.text === "" ? [] : [clean(content.text)];
  const files = content.attachments.map(({ fileName, mediaType, width, height, size }) => {
    const pixels = width > 0 ? ` ${width}×${height}` : "";
    const name = cleanLine(fileName === "" ? mediaType : fileName);
    return `[image ${name}${pixels}, ${bytes(size)}]`;
  });
  return reply + [...parts, ...files].join("\n");
}

function bytes(size: number): string {
  if (size < 1_024) return `${size} B`;
  return size < 1_048_576
    ? `${Math.round(size / 1_024)} KB`
    : `${(size / 1_048_576).toFixed(1)} MB`;
}

/** A membership change as a sentence; undefined for messages. */
export function changeText(record: LogRecord, me: string): string | undefined {
  if (record.body.case === "erasure")
    return "messages of somebody who has left for good were erased";
  if (record.erased && record.senderId === "") return "erased: its sender has left for good";
  if (record.body.case !== "membership") return undefined;
  const { added, removed, title } = record.body.value;
  const who = nameOf(record.senderId, me);
  const others = added.filter((user) => user !== record.senderId);
  const parts: string[] = [];
  if (record.seq === 1)
    parts.push(`made the group${title === undefined ? "" : ` “${cleanLine(title)}”`}`);
  else if (title !== undefined) parts.push(`named the group “${cleanLine(title)}”`);
  if (others.length > 0) parts.push(`added ${names(others, me)}`);
  if (removed.length === 1 && removed[0] === record.senderId) parts.push("left");
  else if (removed.length > 0) parts.push(`removed ${names(removed, me)}`);
  return `${who} ${parts.length === 0 ? "changed the group" : parts.join(" and ")}`;
}

export function nameOf(user: string, me: string): string {
  return user === me ? "you" : cleanLine(user);
}

/** The first ten by name, the rest by number. */
export function names(users: readonly string[], me: string): string {
  const shown = users.slice(0, 10).map((user) => nameOf(user, me));
  return users.length > 10 ? `${shown.join(", ")} and ${users.length - 10} more` : shown.join(", ");
}

const palette = ["cyan", "magenta", "yellow", "blue", "green"] as const;

/** The same for a user everywhere. */
export function colorOf(user: string): (typeof palette)[number] {
  let hash = 0;
  for (const character of user) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) % 65_521;
  return palette[hash % palette.length] ?? "cyan";
}
