/** The message that another one answers, in short; a click goes there. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Chat } from "../model/chat.ts";
import type { Room } from "../model/room.ts";
import { withErasure } from "../erased.ts";
import type { Entry, ErasureBody } from "../session.ts";
import { hueOf } from "./avatar.tsx";
import { saidOf } from "./names.ts";

export function Quote({ chat, room, seq }: { chat: Chat; room: Room; seq: number }): JSX.Element {
  const [found, setFound] = useState<Entry | undefined>(() => foundIn(room, seq));
  const entry = found && room.erasures.value.reduce(withoutErased, found);
  const [missing, setMissing] = useState(false);
  useEffect(() => {
    if (found !== undefined) return;
    chat.session.history(room.id, { afterSeq: seq - 1, beforeSeq: seq + 1, limit: 1 }).then(
      ({ entries: [first] }) => (first === undefined ? setMissing(true) : setFound(first)),
      () => undefined,
    );
  }, [seq]);
  if (entry === undefined) {
    return <div class="quote">{missing ? "A message that is not there any more" : "…"}</div>;
  }
  const who = entry.senderId === chat.me.value ? "You" : entry.senderId;
  return (
    <button class={`quote hue-${hueOf(entry.senderId)}`} onClick={() => void room.jumpTo(seq)}>
      <span class="sr-only">In answer to </span>
      {who !== "" && <bdi class="quote-who">{who}</bdi>}
      <span class="quote-text" dir="auto">
        {textOf(entry)}
      </span>
    </button>
  );
}

export function textOf(entry: Entry): string {
  if (entry.body.t === "erased") return "A message that was erased";
  return entry.body.t === "message" ? saidOf(entry.body) : "A change of members";
}

const withoutErased = (entry: Entry, erasure: ErasureBody): Entry =>
  withErasure([entry], erasure)[0] ?? entry;

function foundIn(room: Room, seq: number): Entry | undefined {
  return room.entries.peek().find((entry) => entry.seq === seq);
}
