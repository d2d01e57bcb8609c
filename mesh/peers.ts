/** The other processes of a service, as they come and go, each reachable by a transport of its own. */
import type { Transport } from "@connectrpc/connect";
import { Ring } from "./ring.ts";

/** One life of a process. */
export interface Peer {
  /** Never used again by another life. */
  readonly id: string;
  /** What operators call it, the same over several lives ("gateway-3"); empty: it has no name. */
  readonly name: string;
  readonly region: string;
  /** Where clients reach it ("https://eu.example.org"); empty: they do not, or it was not told. */
  readonly url: string;
  /** It is going away: nothing new is placed on it. It still answers. */
  readonly draining: boolean;
  /** Where its gRPC listens, "host:port"; empty: it was not told. */
  readonly address?: string;
  /** Shards that an operator moved to it. */
  readonly pinned?: readonly number[];
  readonly transport: Transport;
}

export interface Peers {
  /** In order of id; another array after each change. Those that are not reachable just now are in it as long as their lease lives. */
  readonly present: readonly Peer[];
  /** Calls after each change, until the answer is called. */
  watch(changed: () => void): () => void;
}

/** Those that keys are spread over: whoever is not going away, or, where all are, everybody. */
export function ringOf(peers: readonly Peer[]): Ring {
  const staying = peers.filter(({ draining }) => !draining);
  return new Ring((staying.length > 0 ? staying : peers).map(({ id }) => id));
}

/** Peers as somebody tells of them. */
export class PeerTable implements Peers {
  #present: readonly Peer[];
  readonly #listeners = new Set<() => void>();

  constructor(present: readonly Peer[] = []) {
    this.#present = ordered(present);
  }

  get present(): readonly Peer[] {
    return this.#present;
  }

  watch(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  }

  replace(present: readonly Peer[]): void {
    this.#present = ordered(present);
    for (const listener of this.#listeners) listener();
  }
}

function ordered(peers: readonly Peer[]): readonly Peer[] {
  return peers.toSorted((left, right) => (left.id < right.id ? -1 : 1));
}

/** What a process knows of an instance that is always there: itself, or the other side of a test. */
export function peerOf(id: string, transport: Transport, more: Partial<Peer> = {}): Peer {
  return { id, name: "", region: "", url: "", draining: false, transport, ...more };
}
