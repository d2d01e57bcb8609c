/** What the list of messages is made of, and what can be done with it. */
import type { Entry, Pending } from "../session.ts";
import type { Shown } from "./image-viewer.tsx";

export type Item = Entry | Pending;

/** The same while a message goes from pending to sent. */
export function keyOf(item: Item): string {
  return item.clientId === "" && "seq" in item ? `#${item.seq}` : item.clientId;
}

export interface RoomActions {
  reply(entry: Entry): void;
  info(entry: Entry): void;
  view(shown: Shown): void;
}
