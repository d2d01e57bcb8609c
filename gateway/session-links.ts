/** Which session instance each connection is announced at: its user's. It moves them when instances come and go. */
import type { Surroundings } from "../mesh/lifecycle.ts";
import { ringOf } from "../mesh/peers.ts";
import type { Peers } from "../mesh/peers.ts";
import { Ring } from "../mesh/ring.ts";
import { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import type { Recipient } from "./connections.ts";
import { Resyncs } from "./resyncs.ts";
import { SessionLink } from "./session-link.ts";
import type { SessionTold } from "./session-link.ts";

/**
 * How long a connection that moved stays attached where it was before, once it is attached where it is now: publishers who have not heard
 * of the change yet reach it there. A device knows records that it gets from both by their seq.
 */
const overlapMs = 5_000;
const replacedText = "the same device connected again";
const nowhere: readonly SessionLink<Placed>[] = [];

/** A connection and where it is announced. */
interface Placed {
  readonly recipient: Recipient;
  /** Where it belongs now; undefined while there is no instance. */
  home: SessionLink<Placed> | undefined;
  /** Where it belonged before and is still announced. */
  former: readonly SessionLink<Placed>[];
  /** How often it moved. */
  moves: number;
  /** Its home has said that it is attached, on the present stream. */
  isAttached: boolean;
  wasAttached: boolean;
}

export class SessionLinks implements SessionTold<Placed> {
  readonly #surroundings: Surroundings;
  readonly #gatewayId: string;
  readonly #peers: Peers;
  readonly #links = new Map<string, SessionLink<Placed>>();
  readonly #placed = new Map<number, Placed>();
  readonly #resyncs: Resyncs;
  readonly #stops: (() => void)[] = [];
  #ring = new Ring([]);
  /** Attached in this turn: their overlap ends together. */
  #moved: { readonly placed: Placed; readonly moves: number }[] = [];

  constructor(surroundings: Surroundings, gatewayId: string) {
    this.#surroundings = surroundings;
    this.#gatewayId = gatewayId;
    this.#resyncs = new Resyncs(surroundings.clock, surroundings.random);
    this.#peers = surroundings.peers(SessionService);
  }

  /** Whether any instance is spoken to. */
  get up(): boolean {
    for (const link of this.#links.values()) if (link.up) return true;
    return false;
  }

  /** One instance that is away stops nobody else's users: it is no reason to send clients away from here. */
  problems(): string[] {
    if (this.#links.size === 0) return ["the gateway knows of no session instance"];
    return this.up ? [] : ["the gateway has no stream to session"];
  }

  start(): void {
    const restart = (): void => {
      for (const link of this.#links.values()) link.restart("the gateway begins another life");
    };
    this.#stops.push(
      this.#peers.watch(() => this.#follow()),
      this.#surroundings.identity.watch(restart),
    );
    this.#follow();
  }

  async close(): Promise<void> {
    for (const stop of this.#stops.splice(0)) stop();
    this.#resyncs.close();
    await Promise.all(Array.from(this.#links.values(), (link) => link.close()));
  }

  /**
   * Announces it at its user's instance. Its `attached` is called once, when that instance knows it, now or when there is one. Whenever it
   * has to be announced again, there or elsewhere, its device is told to sync once it is attached.
   */
  attach(recipient: Recipient): void {
    const placed: Placed = {
      recipient,
      home: undefined,
      former: nowhere,
      moves: 0,
      isAttached: false,
      wasAttached: false,
    };
    this.#placed.set(recipient.number, placed);
    this.#place(placed);
  }

  detach(recipient: Recipient): void {
    const placed = this.#placed.get(recipient.number);
    if (placed === undefined) return;
    this.#placed.delete(recipient.number);
    this.#resyncs.forget(recipient);
    placed.home?.leave(placed);
    for (const link of placed.former) link.leave(placed);
    placed.home = undefined;
    placed.former = nowhere;
  }

  #follow(): void {
    const { present } = this.#peers;
    const ids = new Set(present.map(({ id }) => id));
    for (const [id, link] of this.#links) {
      if (ids.has(id)) continue;
      this.#links.delete(id);
      void link.close();
    }
    for (const peer of present) {
      if (this.#links.has(peer.id)) continue;
      this.#links.set(peer.id, new SessionLink(this.#surroundings, this.#gatewayId, peer, this));
    }
    const ring = ringOf(present);
    const same = ring.ids.join(" ") === this.#ring.ids.join(" ");
    this.#ring = ring;
    if (same) return;
    for (const placed of this.#placed.values()) this.#place(placed);
  }

  #place(placed: Placed): void {
    const id = this.#ring.of(placed.recipient.userId);
    const home = id === undefined ? undefined : this.#links.get(id);
    const before = placed.home;
    if (home === before) return;
    placed.home = home;
    placed.moves += 1;
    placed.isAttached = false;
    if (before !== undefined) {
      const former = [...placed.former, before];
      placed.former = former.filter((link) => link !== home && !link.closed);
    }
    home?.enter(placed);
  }

  opened(link: SessionLink<Placed>): void {
    for (const placed of link.present()) if (placed.home === link) placed.isAttached = false;
  }

  attached(link: SessionLink<Placed>, placed: Placed): void {
    if (placed.home !== link || placed.isAttached) return;
    placed.isAttached = true;
    if (placed.former.length > 0) this.#leaveLater(placed);
    if (placed.wasAttached) return this.resync(placed);
    placed.wasAttached = true;
    placed.recipient.attached();
  }

  resync({ recipient }: Placed): void {
    this.#resyncs.add(recipient);
  }

  replaced(link: SessionLink<Placed>, placed: Placed): void {
    // Where it was before, less is known of who is the younger one.
    if (placed.home === link) placed.recipient.end(CloseReason.REPLACED, replacedText, 0);
  }

  #leaveLater(placed: Placed): void {
    this.#moved.push({ placed, moves: placed.moves });
    if (this.#moved.length > 1) return;
    const { clock } = this.#surroundings;
    clock.afterTurn(() => {
      const moved = this.#moved;
      this.#moved = [];
      clock.after(overlapMs, () => {
        for (const one of moved) if (one.placed.moves === one.moves) leaveFormer(one.placed);
      });
    });
  }
}

/** One that moved again meanwhile leaves when it is attached there. */
function leaveFormer(placed: Placed): void {
  for (const link of placed.former) link.leave(placed);
  placed.former = nowhere;
}
