/** A user's device: the SDK as apps use it, over simulated sockets, and everything that its app was told. */
import { Availability, ParleyClient } from "../../client/index.ts";
import type { Record as LogRecord, SendTarget, WebSocketConstructor } from "../../client/index.ts";
import { MemoryStore } from "../../client/index.ts";
import type { DeviceLog, SeenCursor, SeenRecord } from "../support/checker.ts";
import type { Host } from "./host.ts";
import { SimWebSocket } from "./sockets.ts";
import type { World } from "./world.ts";

/** A message, from when the app asked for it. */
export interface Sending {
  readonly userId: string;
  readonly deviceId: string;
  readonly conversationId: string;
  readonly text: string;
  seq: number | undefined;
  /** The SDK gave it up. */
  failed: boolean;
}

const everything = 1_000_000;

export class SimDevice {
  readonly userId: string;
  readonly deviceId: string;
  readonly host: Host;
  readonly client: ParleyClient;
  readonly sendings: Sending[] = [];
  /** How long it takes over a message that came. */
  readMs = 0;
  readonly #world: World;
  readonly #records = new Map<string, SeenRecord[]>();
  readonly #gaps = new Map<string, string[]>();
  readonly #cursors: SeenCursor[] = [];
  readonly #heads = new Map<string, number[]>();
  readonly #presence: { userId: string; online: boolean; atMs: number }[] = [];
  #sent = 0;

  constructor(world: World, userId: string, deviceId: string) {
    this.#world = world;
    this.userId = userId;
    this.deviceId = deviceId;
    this.host = world.host(`${userId}/${deviceId}`);
    const net = {
      network: world.network,
      host: this.host,
      readMs: () => this.readMs,
      edge: () => this.#gateway(),
    };
    const webSocket: WebSocketConstructor = class extends SimWebSocket {
      constructor() {
        super(net);
      }
    };
    this.client = new ParleyClient({
      url: "http://gateway",
      deviceId,
      token: userId,
      transport: "websocket",
      historyOnSync: everything,
      webSocket,
      fetch: () => Promise.reject(new Error("there is no HTTP in this world")),
      clock: this.host.clock,
      random: this.host.random,
      store: new MemoryStore(),
      limits: { backoffCapMs: 2_000 },
    });
    this.#listen();
  }

  get name(): string {
    return `${this.userId}/${this.deviceId}`;
  }

  get live(): boolean {
    return this.client.connection.t === "live";
  }

  connect(): void {
    this.host.hears(() => this.client.connect());
  }

  send(to: SendTarget, conversationId: string): void {
    this.host.hears(() => {
      const text = `${this.name} ${(this.#sent += 1)}`;
      const { userId, deviceId } = this;
      const sending: Sending = {
        userId,
        deviceId,
        conversationId,
        text,
        seq: undefined,
        failed: false,
      };
      this.sendings.push(sending);
      this.#note(`sends "${text}" into ${conversationId}`);
      try {
        this.client.send(to, text).sent.then(
          ({ seq }) => {
            sending.seq = seq;
            this.#note(`"${text}" was acked as ${seq} in ${conversationId}`);
          },
          (error: unknown) => {
            sending.failed = true;
            this.#note(`"${text}" failed: ${String(error)}`);
          },
        );
      } catch (error) {
        sending.failed = true;
        this.#note(`"${text}" was refused: ${String(error)}`);
      }
    });
  }

  gotOf(conversationId: string): number {
    return this.#records.get(conversationId)?.at(-1)?.seq ?? 0;
  }

  get log(): DeviceLog {
    return {
      userId: this.userId,
      deviceId: this.deviceId,
      records: this.#records,
      gaps: this.#gaps,
      cursors: this.#cursors,
      heads: this.#heads,
    };
  }

  get presence(): readonly { userId: string; online: boolean; atMs: number }[] {
    return this.#presence;
  }

  /** As the server has it, page after page. */
  async history(conversationId: string): Promise<SeenRecord[]> {
    const page = 200;
    const records: SeenRecord[] = [];
    for (;;) {
      const afterSeq = records.at(-1)?.seq ?? 0;
      const bounds = { afterSeq, beforeSeq: afterSeq + page + 1, limit: page };
      const answer = await this.client.history(conversationId, bounds);
      records.push(...answer.records.map(seenRecord));
      if (answer.records.length === 0) return records;
    }
  }

  #gateway() {
    const gateways = this.#world.processes.filter(
      (one) => one.service === "gateway" && one.listening,
    );
    return gateways[Math.floor(this.host.random.unit() * gateways.length)];
  }

  #note(what: string): void {
    this.#world.timeline.note(`${this.name} ${what}`);
  }

  #listen(): void {
    const { client } = this;
    client.on("record", ({ conversationId, record }) => {
      const seen = seenRecord(record);
      this.#note(`sees ${conversationId} #${seen.seq} ${seen.senderId}: ${seen.text}`);
      listOf(this.#records, conversationId).push(seen);
    });
    client.on("gap", ({ conversationId, from, to, more }) => {
      this.#note(`misses ${conversationId} ${from}-${to}`);
      listOf(this.#gaps, conversationId).push(`${from}-${to}${more ? "" : ", for good,"}`);
    });
    client.on("cursor", ({ conversationId, userId, deliveredSeq, readSeq }) => {
      this.#note(`hears ${conversationId} ${userId} ${deliveredSeq}/${readSeq}`);
      this.#cursors.push({ conversationId, userId, delivered: deliveredSeq, read: readSeq });
    });
    client.on("conversation", ({ id, headSeq }) => listOf(this.#heads, id).push(headSeq));
    client.on("connection", ({ t }) => this.#note(`is ${t}`));
    client.on("resync", ({ why }) => this.#note(`syncs anew: ${why}`));
    client.on("presence", ({ userId, availability }) => {
      const online = availability === Availability.ONLINE;
      this.#note(`hears that ${userId} is ${online ? "online" : "offline"}`);
      this.#presence.push({ userId, online, atMs: this.#world.timeline.nowMs });
    });
  }
}

function listOf<T>(lists: Map<string, T[]>, key: string): T[] {
  let list = lists.get(key);
  if (list === undefined) lists.set(key, (list = []));
  return list;
}

function seenRecord({ seq, senderId, clientId, body }: LogRecord): SeenRecord {
  const text = body.case === "message" ? body.value.text : `<${String(body.case)}>`;
  return { seq, senderId, clientId: Buffer.from(clientId).toString("hex"), text };
}
