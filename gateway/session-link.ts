/** One session instance, as this gateway speaks to it: a stream of connections there and of pushes back. It must not know why a connection is announced here. */
import type { Client } from "@connectrpc/connect";
import { createClient } from "@connectrpc/connect";
import { unavailable } from "../mesh/errors.ts";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Peer } from "../mesh/peers.ts";
import { Gather } from "../mesh/pipe.ts";
import { keepStream } from "../mesh/stream.ts";
import type { KeptStream } from "../mesh/stream.ts";
import { SessionService } from "../proto/gen/parley/session/v1/session_pb.ts";
import type {
  AttachRequest,
  AttachResponse,
  Attachment,
} from "../proto/gen/parley/session/v1/session_pb.ts";
import { Arrivals } from "./arrivals.ts";
import type { Recipient } from "./connections.ts";
import { SharedPush } from "./pushes.ts";

/** A connection that is announced here. */
export interface Announced {
  readonly recipient: Recipient;
  /** At any instance, some time. */
  readonly wasAttached: boolean;
}

/** What the instance says of connections, besides what it pushes to them. */
export interface SessionTold<A extends Announced> {
  /** A stream begins: what was attached by the one before is not any more. */
  opened(link: SessionLink<A>): void;
  attached(link: SessionLink<A>, announced: A): void;
  /** Its device may have missed something. */
  resync(announced: A): void;
  replaced(link: SessionLink<A>, announced: A): void;
}

const announcementsMax = 100_000;
const announcedAtOnce = 1_000;

export class SessionLink<A extends Announced> {
  readonly #surroundings: Surroundings;
  readonly #client: Client<typeof SessionService>;
  readonly #gatewayId: string;
  readonly #told: SessionTold<A>;
  readonly #arrivals: Arrivals;
  readonly #present = new Map<number, A>();
  /** Numbers of connections that came or went; how each one is now is looked up when it is sent. */
  #gather: Gather<number> | undefined;
  readonly #stream: KeptStream;
  #closed = false;

  constructor(surroundings: Surroundings, gatewayId: string, peer: Peer, told: SessionTold<A>) {
    this.#surroundings = surroundings;
    this.#client = createClient(SessionService, peer.transport);
    this.#gatewayId = gatewayId;
    this.#told = told;
    this.#arrivals = new Arrivals(surroundings);
    const log = surroundings.log.child({ session: peer.id });
    this.#stream = keepStream({ ...surroundings, log }, "gateway to session", (signal) =>
      this.#run(signal),
    );
  }

  get up(): boolean {
    return this.#gather !== undefined;
  }

  /** Whether the instance is gone: nothing comes of what is announced here. */
  get closed(): boolean {
    return this.#closed;
  }

  present(): IterableIterator<A> {
    return this.#present.values();
  }

  /** Announces it, once more where it is announced already. */
  enter(announced: A): void {
    this.#present.set(announced.recipient.number, announced);
    this.#announce(announced.recipient.number);
  }

  leave({ recipient }: A): void {
    if (this.#present.delete(recipient.number)) this.#announce(recipient.number);
  }

  /** Gives the stream up; the next one announces everything anew. */
  restart(reason: string): void {
    this.#gather?.end(unavailable(reason));
    this.#gather = undefined;
  }

  close(): Promise<void> {
    this.#closed = true;
    return this.#stream.close();
  }

  #announce(number: number): void {
    if (this.#gather === undefined || this.#gather.add(number)) return;
    this.restart("session does not take announcements fast enough");
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#surroundings;
    const gather = new Gather<number>(clock, announcementsMax);
    const present = [...this.#present.keys()];
    this.#told.opened(this);
    this.#gather = gather;
    try {
      const requests = this.#requests(present, gather);
      for await (const response of this.#client.attach(requests, { signal })) {
        this.#take(response, clock.monotonic());
      }
    } finally {
      if (this.#gather === gather) this.#gather = undefined;
      gather.end();
    }
  }

  async *#requests(present: number[], gather: Gather<number>): AsyncGenerator<AttachRequest> {
    const gatewayId = this.#gatewayId;
    const bootId = this.#surroundings.identity.id;
    yield { ...this.#request(present.slice(0, announcedAtOnce)), gatewayId, bootId };
    for (let at = announcedAtOnce; at < present.length; at += announcedAtOnce) {
      yield this.#request(present.slice(at, at + announcedAtOnce));
    }
    for await (const numbers of gather) {
      for (let at = 0; at < numbers.length; at += announcedAtOnce) {
        yield this.#request(numbers.slice(at, at + announcedAtOnce));
      }
    }
  }

  /** As these connections are now. One that left and came again in a turn is attached: it must not be detached after that. */
  #request(numbers: number[]): AttachRequest {
    const attached: Attachment[] = [];
    const detached: number[] = [];
    for (const number of numbers) {
      const announced = this.#present.get(number);
      if (announced === undefined) detached.push(number);
      else attached.push(attachmentOf(announced));
    }
    const $typeName = "parley.session.v1.AttachRequest";
    return { $typeName, gatewayId: "", bootId: "", attached, detached };
  }

  #take({ attached, replaced, pushes }: AttachResponse, nowMs: number): void {
    for (const number of attached) {
      const announced = this.#present.get(number);
      if (announced !== undefined) this.#told.attached(this, announced);
    }
    let isFirst = true;
    for (const pushed of pushes) {
      const { connections, payload } = pushed;
      if (payload === undefined) continue;
      if (isFirst && payload.payload.case === "record") {
        isFirst = false;
        this.#arrivals.record(payload.payload.value.record);
      }
      const push = new SharedPush(payload.payload);
      const isResync = payload.payload.case === "resync";
      for (const number of connections) {
        const announced = this.#present.get(number);
        if (announced === undefined) continue;
        if (isResync) this.#told.resync(announced);
        else announced.recipient.push(push, nowMs);
      }
      if (pushed.trace !== undefined) this.#arrivals.followed(pushed.trace, pushed);
    }
    for (const number of replaced) {
      const announced = this.#present.get(number);
      if (announced === undefined) continue;
      this.#present.delete(number);
      this.#told.replaced(this, announced);
    }
  }
}

const attachmentOf = ({ recipient, wasAttached }: Announced): Attachment => ({
  $typeName: "parley.session.v1.Attachment",
  connection: recipient.number,
  userId: recipient.userId,
  deviceId: recipient.deviceId,
  again: wasAttached,
});
