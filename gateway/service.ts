/** Puts the gateway together: its links, its calls, its sockets, and who tells whom. */
import type http from "node:http";
import type { Duplex } from "node:stream";
import { createClient } from "@connectrpc/connect";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Running, Surroundings } from "../mesh/lifecycle.ts";
import { newId } from "../mesh/random.ts";
import type { ShardMap } from "../mesh/shards.ts";
import type { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { StorageService } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { Admission } from "./admission.ts";
import { ChatCalls } from "./calls.ts";
import type { GatewayConfig } from "./config.ts";
import type { Shared } from "./state.ts";
import { Connections } from "./connections.ts";
import { Console } from "./console.ts";
import { Uploads } from "./content.ts";
import { DeliveryLinks } from "./delivery-links.ts";
import { Elsewhere } from "./elsewhere.ts";
import { Following } from "./following.ts";
import { FrameWriter } from "./frames.ts";
import { Meter } from "./meter.ts";
import { SessionLinks } from "./session-links.ts";
import { Operators } from "./operators.ts";
import { Flusher } from "./outbox.ts";
import type { Authenticator, Calls } from "./ports.ts";
import { Reads } from "./reads.ts";
import { Requests } from "./requests.ts";
import { Streams } from "./subscription.ts";
import { Sweep } from "./sweep.ts";
import { WatchElsewhere } from "./watch-elsewhere.ts";
import { PresenceLinks } from "./watches.ts";
import { Sockets } from "./websocket.ts";

/** Where the numbers of a life's connections may begin: high enough for two lives not to meet, low enough for all to be small integers. */
const firstNumbers = 2 ** 30;

export interface Gateway extends Running<typeof GatewayService> {
  readonly gatewayId: string;
  /** ChatService's operations, for the Connect side of the edge. */
  readonly calls: Calls;
  /** For the HTTP server's event 'upgrade', once path and origin are checked; `address`: the client's, where it is not the socket's. */
  upgrade(request: http.IncomingMessage, socket: Duplex, head: Buffer, address?: string): void;
  /** Takes no new connections and sends the present ones away, spread over the time. Resolves to how many there were. */
  drain(spreadMs: number): Promise<number>;
}

export class ChatGateway implements Gateway {
  readonly gatewayId: string;
  readonly calls: Calls;
  readonly service: ServiceImpl<typeof GatewayService>;
  readonly #operators: Operators;
  readonly #delivery: DeliveryLinks;
  readonly #session: SessionLinks;
  readonly #presence: PresenceLinks;
  readonly #sockets: Sockets;
  readonly #sweep: Sweep;

  constructor(
    surroundings: Surroundings,
    config: GatewayConfig,
    auth: Authenticator,
    shards: ShardMap,
  ) {
    const { clock, random, log } = surroundings;
    const storage = createClient(StorageService, surroundings.transport(StorageService));
    const writer = new FrameWriter();
    const connections = new Connections(
      config.connectionsMax,
      config.connectionsPerUserMax,
      config.strangersPerAddressMax,
      Math.floor(random.unit() * firstNumbers),
    );
    const reads = new Reads(storage);
    const uploads = new Uploads(storage);
    this.gatewayId = config.gatewayId === "" ? newId(random) : config.gatewayId;
    const delivery = new DeliveryLinks(surroundings, shards);
    const session = new SessionLinks(surroundings, this.gatewayId);
    const presence = new PresenceLinks(surroundings, connections);
    const { gatewayId } = this;
    const meter = new Meter(clock, surroundings.metrics, connections);
    const following = new Following(surroundings);
    const seen = { config, clock, random, log, writer, meter, following };
    const base = { ...seen, connections, delivery, session, presence };
    const elsewhere = new Elsewhere(surroundings, config.region);
    const parts = { ...base, elsewhere, reads, uploads, storage, auth, gatewayId };
    const streams = new Streams(parts);
    const watchElsewhere = new WatchElsewhere(surroundings);
    const calls = new ChatCalls(surroundings, { ...parts, streams, watchElsewhere });
    const admission = new Admission(parts);
    const requests = new Requests({ ...parts, calls });
    const shared: Shared = {
      config,
      clock,
      random,
      writer,
      meter,
      flusher: new Flusher(clock),
      greeted: (connection, token, frame) => admission.greeted(connection, token, frame),
      admitted: (connection, state) => admission.admitted(connection, state),
      asked: (connection, live, frame) => requests.asked(connection, live, frame),
      left(connection) {
        const { number, userId, deviceId } = connection;
        log.debug({ connection: number, userId, deviceId }, "a device is gone");
        session.detach(connection);
        presence.ended(connection.number);
        connections.leave(connection);
      },
      gone: (connection) => connections.remove(connection),
    };
    this.#sockets = new Sockets(shared, connections);
    this.#operators = new Operators(gatewayId, clock, random, connections, elsewhere);
    this.#sweep = new Sweep(parts);
    this.#delivery = delivery;
    this.#session = session;
    this.#presence = presence;
    this.calls = calls;
    this.service = new Console(surroundings, this.#operators, shards, delivery, calls);
  }

  start(): Promise<void> {
    this.#delivery.start();
    this.#session.start();
    this.#presence.start();
    this.#sweep.start();
    return Promise.resolve();
  }

  problems(): string[] {
    const all = [this.#operators, this.#delivery, this.#session, this.#presence];
    return all.flatMap((one) => one.problems());
  }

  upgrade(
    request: http.IncomingMessage,
    socket: Duplex,
    head: Buffer,
    address = request.socket.remoteAddress ?? "",
  ): void {
    this.#sockets.upgrade(request, socket, head, address);
  }

  drain(spreadMs: number): Promise<number> {
    return this.#operators.empty(spreadMs);
  }

  async close(): Promise<void> {
    await this.drain(0);
    this.#sweep.close();
    this.#sockets.close();
    await Promise.all([this.#delivery.close(), this.#session.close(), this.#presence.close()]);
  }
}
