/** A connection that only remembers what it is told, and user ids that fall to an instance. */
import type { Inspected, Recipient } from "../../gateway/connections.ts";
import type { SharedPush } from "../../gateway/pushes.ts";
import { Ring } from "../../mesh/ring.ts";
import type { CloseReason } from "../../proto/gen/parley/v1/chat_pb.ts";

export class FakeRecipient implements Recipient {
  readonly number: number;
  readonly userId: string;
  readonly kind = "websocket";
  readonly deviceId = "phone";
  readonly sinceMs = 0;
  readonly remoteAddress: string;
  readonly outboxBytes = 0;
  /** What it was told, in order: "attached", "resync", "typing bob", "bob online". */
  readonly told: string[] = [];
  ended: CloseReason | undefined;

  constructor(number: number, userId: string, remoteAddress = "") {
    this.number = number;
    this.userId = userId;
    this.remoteAddress = remoteAddress;
  }

  attached(): void {
    this.told.push("attached");
  }

  push({ payload }: SharedPush): void {
    if (payload.case === "presences") {
      for (const { userId, availability } of payload.value.presences)
        this.told.push(`${userId} ${availability === 1 ? "online" : "offline"}`);
    } else if (payload.case === "typing") this.told.push(`typing ${payload.value.userId}`);
    else this.told.push(String(payload.case));
  }

  acked(): void {}
  inspect(): Inspected {
    return { stage: "live", unacked: undefined };
  }
  tick(): void {}

  end(reason: CloseReason): void {
    this.ended = reason;
  }
}

/** A user who falls to these instances: one for each set of ids, as in `{ "a b": "b" }`. */
export function userWho(falls: Readonly<Record<string, string>>, prefix = "user"): string {
  const rings = Object.entries(falls).map(([ids, id]) => [new Ring(ids.split(" ")), id] as const);
  for (let at = 0; ; at += 1) {
    const userId = `${prefix}${at}`;
    if (rings.every(([ring, id]) => ring.of(userId) === id)) return userId;
  }
}
