/** What the registry needs from those who use it, as it sees them. */
import type { ConnectError } from "@connectrpc/connect";
import type { Push } from "../proto/gen/parley/session/v1/session_pb.ts";

/** That a connection is attached now, or was replaced. */
export interface Notice {
  readonly kind: "attached" | "replaced";
  readonly connection: number;
}

/**
 * The way to one gateway. What is told arrives in its order, but that of one turn arrives together: attachments, then
 * replacements, then pushes.
 */
export interface GatewayLink {
  /** False means that it is full or ended: the caller cuts it. */
  tell(told: Push | Notice): boolean;
  /** Forgets what was not sent and ends the gateway's stream with the error. */
  cut(error: ConnectError): void;
}

/** Is told of a user whose first session began or whose last one ended; how it is now, it looks up when it needs it. */
export interface OnlineWatcher {
  changed(userId: string): void;
}
