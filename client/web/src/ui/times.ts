/** Times as the reader's language and zone have them. */
const dayMs = 86_400_000;

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const shortWeekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDate = new Intl.DateTimeFormat(undefined, {
  weekday: "long",
  day: "numeric",
  month: "long",
});
const withYear = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });
const shortWithYear = new Intl.DateTimeFormat(undefined, { dateStyle: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

export const timeOf = (ms: number): string => clock.format(ms);
export const fullTimeOf = (ms: number): string => full.format(ms);

/** Days since 1970 where the reader is. */
export function dayOf(ms: number): number {
  const at = new Date(ms);
  return Math.floor(Date.UTC(at.getFullYear(), at.getMonth(), at.getDate()) / dayMs);
}

/** "Today", "Yesterday", "Wednesday", "Wednesday 5 March", "5 March 2024". */
export function dayName(ms: number, nowMs = Date.now()): string {
  const ago = dayOf(nowMs) - dayOf(ms);
  if (ago === 0 || ago === 1) return capital(relative.format(-ago, "day"));
  if (ago > 1 && ago < 7) return weekday.format(ms);
  const sameYear = new Date(ms).getFullYear() === new Date(nowMs).getFullYear();
  return sameYear ? longDate.format(ms) : withYear.format(ms);
}

/** For a list: the time today, then ever less of it. */
export function briefTime(ms: number, nowMs = Date.now()): string {
  if (ms === 0) return "";
  const ago = dayOf(nowMs) - dayOf(ms);
  if (ago <= 0) return clock.format(ms);
  if (ago === 1) return capital(relative.format(-1, "day"));
  if (ago < 7) return shortWeekday.format(ms);
  const sameYear = new Date(ms).getFullYear() === new Date(nowMs).getFullYear();
  return sameYear ? date.format(ms) : shortWithYear.format(ms);
}

export function lastSeen(ms: number, nowMs = Date.now()): string {
  if (ms === 0) return "Offline";
  const minutes = Math.floor((nowMs - ms) / 60_000);
  if (minutes < 1) return "Last seen just now";
  if (minutes < 60) return `Last seen ${relative.format(-minutes, "minute")}`;
  const ago = dayOf(nowMs) - dayOf(ms);
  if (ago === 0) return `Last seen at ${clock.format(ms)}`;
  if (ago === 1) return `Last seen ${relative.format(-1, "day")} at ${clock.format(ms)}`;
  return `Last seen ${date.format(ms)}`;
}

function capital(text: string): string {
  const [first = ""] = text;
  return first.toLocaleUpperCase() + text.slice(first.length);
}
