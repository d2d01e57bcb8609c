/** What presence needs from outside: of the generated clients only this, so that tests can stand in for it. */
import type { Client } from "@connectrpc/connect";
import type { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import type { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import type { Person } from "./roster.ts";

/** First everybody online, then every change. */
export type Sessions = Pick<Client<typeof SessionService>, "watchOnline">;

/** Who may watch whom. */
export type Acquaintances = Pick<Client<typeof StorageService>, "filterAcquainted">;

/** When users were last seen; a lower time than the kept one changes nothing. */
export type SeenTimes = Pick<Client<typeof StorageService>, "getLastSeen" | "putLastSeen">;

/** Is told of everybody whom one of its connections watches and who came or went; how it is now, it looks up when it sends. */
export interface Watcher {
  changed(person: Person): void;
  /** Some whom it watches are told of by another instance from now on. */
  moved(): void;
}

/** Is told of what is heard about who is online. */
export interface Follower {
  /** The roster changed. */
  told(): void;
  /** Of whom it is known whether they are online changed. */
  learned(): void;
}
