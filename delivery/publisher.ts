/** The stream to one session instance: publications in their order, and which commits are indexed. */
import { type Client, createClient } from "@connectrpc/connect";
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { Peer } from "../mesh/peers.ts";
import { Gather, mapped } from "../mesh/pipe.ts";
import { type KeptStream, keepStream } from "../mesh/stream.ts";
import {
  type Publication,
  type PublishRequest,
  SessionService,
} from "../proto/gen/parley/session/v1/session_pb.ts";

/** A publication, or the number of a commit that is indexed now. */
type Told = Publication | bigint;

const toldMax = 262_144;

export class Publisher {
  readonly peerId: string;
  readonly #surroundings: Surroundings;
  readonly #client: Client<typeof SessionService>;
  /** The stream is back: what was published meanwhile, and before it broke, may be lost. */
  readonly #back: (publisher: Publisher) => void;
  #told: Gather<Told>;
  #stream: KeptStream | undefined;

  constructor(surroundings: Surroundings, peer: Peer, back: (publisher: Publisher) => void) {
    this.peerId = peer.id;
    this.#surroundings = surroundings;
    this.#client = createClient(SessionService, peer.transport);
    this.#back = back;
    this.#told = new Gather(surroundings.clock, toldMax);
  }

  get up(): boolean {
    return this.#stream?.up ?? false;
  }

  start(): void {
    let first = true;
    const log = this.#surroundings.log.child({ session: this.peerId });
    this.#stream = keepStream(
      { ...this.#surroundings, log },
      "delivery to session",
      async (signal) => {
        const told = (this.#told = new Gather<Told>(this.#surroundings.clock, toldMax));
        if (!first) this.#back(this);
        first = false;
        try {
          const requests = mapped(told, requestOf);
          for await (const _ of this.#client.publish(requests, { signal })) void _;
        } finally {
          told.end();
        }
      },
    );
  }

  async close(): Promise<void> {
    await this.#stream?.close();
  }

  /** What does not fit is lost on the way: the stream ends, and its devices are told to sync when it is back. */
  tell(told: Told): void {
    if (!this.#told.add(told))
      this.#told.end(new Error("session does not take publications fast enough"));
  }
}

function requestOf(batch: Told[]): PublishRequest {
  const publications: Publication[] = [];
  const indexedCommits: bigint[] = [];
  for (const told of batch) {
    if (typeof told === "bigint") indexedCommits.push(told);
    else publications.push(told);
  }
  return { $typeName: "parley.session.v1.PublishRequest", publications, indexedCommits };
}
