/** How far an own message has come: pending, sent, delivered, read. */
import type { JSX } from "preact";
import type { ConversationView } from "../session.ts";

export type Tick = "pending" | "failed" | "sent" | "delivered" | "read";

const words: Record<Tick, string> = {
  pending: "Waiting to be sent",
  failed: "Not sent",
  sent: "Sent",
  delivered: "Delivered",
  read: "Read",
};

export function tickOf(seq: number, view: ConversationView | undefined): Tick {
  if (view === undefined) return "sent";
  if (view.peersReadSeq >= seq) return "read";
  return view.peersDeliveredSeq >= seq ? "delivered" : "sent";
}

export function Ticks({ tick }: { tick: Tick }): JSX.Element {
  return (
    <span class={`ticks ${tick}`} role="img" aria-label={words[tick]} title={words[tick]}>
      <svg viewBox="0 0 20 12" aria-hidden="true" focusable="false">
        {tick === "pending" && (
          <path d="M10 11a5 5 0 1 0 0-10 5 5 0 0 0 0 10zM10 3.200V6l1.800 1.200" />
        )}
        {tick === "failed" && <path d="M10 1.500v5.500M10 10v.2" />}
        {tick === "sent" && <path d="M5 6.500L8.500 10 15 2.500" />}
        {(tick === "delivered" || tick === "read") && (
          <path d="M1.500 6.500L5 10l6.500-7.500M8.800 9.200l.9.8 6.500-7.500" />
        )}
      </svg>
    </span>
  );
}
