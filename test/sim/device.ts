/** A user's device: the SDK as apps use it, over simulated sockets, and everything that its app was told, one life after the other. */
import { Availability, MemoryStore, ParleyClient } from "../../client/index.ts";
import type {
  Attachment,
  ConversationView,
  Record as LogRecord,
  SendHandle,
  SendTarget,
  WebSocketConstructor,
} from "../../client/index.ts";
import type { DeviceLog, SeenCursor, SeenRecord } from "../support/checker.ts";
import { tokenOf } from "./edge.ts";
import type { Host } from "./host.ts";
import { fetchOver } from "./http.ts";
import { SimWebSocket } from "./sockets.ts";
import type { World } from "./world.ts";

/** A message, from when the app asked for it. */
export interface Sending {
  readonly userId: string;
  readonly deviceId: string;
  readonly conversationId: string;
  readonly text: string;
  readonly clientId: string;
  readonly atMs: number;
  seq: number | undefined;
  ackedMs: number | undefined;
  /** The SDK gave it up, or lost it with its device's life. */
  failed: boolean;
}

export interface SeenPresence {
  readonly userId: string;
  readonly online: boolean;
  readonly atMs: number;
}

const everything = 1_000_000;
/** How it gets its messages: pushed over a WebSocket or a stream, by polls that wait, or by asking again and again. */
export type Way = "websocket" | "connect" | "poll" | "pull";
const noHttp = () => Promise.reject(new Error("there is no HTTP in this world"));

/** From one start of the app to its end. */
export class Life {
  readonly number: number;
  readonly host: Host;
  readonly client: ParleyClient;
  readonly records = new Map<string, SeenRecord[]>();
  /** When each record came, by conversation and seq. */
  readonly cameMs = new Map<string, number>();
  readonly gaps = new Map<string, string[]>();
  readonly cursors: SeenCursor[] = [];
  readonly heads = new Map<string, number[]>();
  readonly views = new Map<string, ConversationView>();
  readonly presence: SeenPresence[] = [];
  /** [from, to] of each time that it was live; the last one may have no end. */
  readonly liveMs: { fromMs: number; toMs: number | undefined }[] = [];
  ended = false;
  /** What its app asked for and was not answered yet. */
  asked = 0;
  /** It is about to ask about presence. */
  watching = false;
  /** Where it goes on, by what its store had. */
  readonly from = new Map<string, number>();

  constructor(number: number, host: Host, client: ParleyClient) {
    this.number = number;
    this.host = host;
    this.client = client;
  }
}

export class SimDevice {
  readonly userId: string;
  readonly deviceId: string;
  readonly way: Way;
  readonly sendings: Sending[] = [];
  readonly lives: Life[] = [];
  /** How long it takes over a message that came. */
  readMs = 0;
  /** Its messages are no shorter. */
  textBytes = 0;
  /** It asks to be told of these. */
  watches: readonly string[] = [];
  /** Told of every record that another user wrote. */
  onRecord: (conversationId: string, seq: number) => void = () => undefined;
  readonly #world: World;
  readonly #store = new MemoryStore();
  #life: Life;
  #sent = 0;

  constructor(world: World, userId: string, deviceId: string, way: Way) {
    this.#world = world;
    this.way = way;
    this.userId = userId;
    this.deviceId = deviceId;
    this.#life = this.#begin();
  }

  get name(): string {
    return `${this.userId}/${this.deviceId}`;
  }

  /** The present life, or the last one. */
  get life(): Life {
    return this.#life;
  }

  get client(): ParleyClient {
    return this.#life.client;
  }

  get live(): boolean {
    return !this.#life.ended && this.client.connection.t === "live";
  }

  connect(): void {
    this.does((client) => client.connect());
  }

  disconnect(): void {
    this.does((client) => client.disconnect());
  }

  /** The app does something; nothing, where it has none at the moment. */
  does(act: (client: ParleyClient) => void): void {
    const { host, client, ended } = this.#life;
    if (!ended) host.hears(() => act(client));
  }

  /** Its app asks for something; what it is answered is noted. */
  asks(what: string, ask: (client: ParleyClient) => Promise<unknown>): void {
    this.does((client) => {
      this.note(`asks for ${what}`);
      const { life } = this;
      life.asked += 1;
      ask(client)
        .then(
          () => this.note(`was answered ${what}`),
          (error: unknown) => this.note(`was refused ${what}: ${String(error)}`),
        )
        .finally(() => (life.asked -= 1));
    });
  }

  /** It is gone from one instant to the next; nobody is told. */
  vanish(): void {
    const life = this.#life;
    if (life.ended) return;
    life.ended = true;
    this.note("vanishes");
    closeLive(life, this.#world.timeline.nowMs);
    life.host.die("vanished");
    // What the store does not have yet is lost with it.
  }

  /** The app starts again, with what the store has. */
  restart(): void {
    if (!this.#life.ended) return;
    this.note("starts again");
    this.#life = this.#begin();
    const { client } = this.#life;
    this.connect();
    const { from } = this.#life;
    this.#world.timeline.in(1, () =>
      this.does(() => {
        for (const { id, gotSeq } of client.conversations()) from.set(id, gotSeq + 1);
        const pending = new Map(client.pending().map((handle) => [handle.clientId, handle]));
        for (const sending of this.sendings) {
          if (sending.seq !== undefined || sending.failed) continue;
          const handle = pending.get(sending.clientId);
          if (handle === undefined) sending.failed = true;
          else this.#follow(sending, handle);
        }
      }),
    );
  }

  /** Undefined where it cannot. */
  send(
    to: SendTarget,
    conversationId: string,
    attachments: readonly Attachment[] = [],
  ): Sending | undefined {
    let sending: Sending | undefined;
    this.does((client) => {
      const text = `${this.name} ${(this.#sent += 1)}`.padEnd(this.textBytes, ".");
      this.note(`sends "${brief(text)}" into ${conversationId}`);
      let handle: SendHandle;
      try {
        handle = client.send(to, { text, attachments });
      } catch (error) {
        this.note(`"${brief(text)}" was refused: ${String(error)}`);
        return;
      }
      const { userId, deviceId } = this;
      sending = {
        userId,
        deviceId,
        conversationId,
        text,
        clientId: handle.clientId,
        atMs: this.#world.timeline.nowMs,
        seq: undefined,
        ackedMs: undefined,
        failed: false,
      };
      this.sendings.push(sending);
      this.#follow(sending, handle);
    });
    return sending;
  }

  /**
   * Asks again about those of whom it was never told: a record is pushed before every index shows its conversation, and who asks in between
   * is told nothing of the others in it.
   */
  watchMissing(): void {
    const told = new Set(this.#life.presence.map(({ userId }) => userId));
    if (this.watches.some((userId) => !told.has(userId))) this.#watchSoon(this.#life);
  }

  gotOf(conversationId: string): number {
    return this.client.conversation(conversationId)?.gotSeq ?? 0;
  }

  /** One of each life. */
  logs(): DeviceLog[] {
    return this.lives.map(({ number, records, gaps, cursors, heads, ended, from }) => ({
      userId: this.userId,
      deviceId: number === 1 ? this.deviceId : `${this.deviceId}#${number}`,
      records,
      gaps,
      cursors,
      heads,
      ended,
      from,
    }));
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

  note(what: string): void {
    this.#world.timeline.note(`${this.name} ${what}`);
  }

  #begin(): Life {
    const world = this.#world;
    const number = this.lives.length + 1;
    const host = world.host(`${this.name}.${number}`, this.name);
    const net = {
      network: world.network,
      host,
      readMs: () => this.readMs,
      edge: () => world.anyGateway(host),
    };
    const webSocket: WebSocketConstructor = class extends SimWebSocket {
      constructor(url: string) {
        super(net, url);
      }
    };
    const { wide = false } = world.options;
    const client = new ParleyClient({
      url: "http://gateway",
      deviceId: this.deviceId,
      token: wide ? tokenOf(this.userId, "") : this.userId,
      transport: this.way === "pull" ? "poll" : this.way,
      historyOnSync: everything,
      webSocket: world.options.patch?.socket?.(webSocket) ?? webSocket,
      fetch: wide ? fetchOver(net) : noHttp,
      clock: host.clock,
      random: host.random,
      store: this.#store,
      limits: {
        backoffCapMs: 2_000,
        streamSilenceMs: 12_000,
        pollMs: this.way === "pull" ? 0 : 10_000,
      },
    });
    const life = new Life(number, host, client);
    this.lives.push(life);
    this.#listen(life);
    return life;
  }

  #follow(sending: Sending, handle: SendHandle): void {
    const { text, conversationId } = sending;
    handle.sent.then(
      ({ seq }) => {
        sending.seq = seq;
        sending.ackedMs = this.#world.timeline.nowMs;
        this.note(`"${brief(text)}" was acked as ${seq} in ${conversationId}`);
      },
      (error: unknown) => {
        sending.failed = true;
        this.note(`"${brief(text)}" failed: ${String(error)}`);
      },
    );
  }

  /** Of those whom its user has nothing to do with yet nobody is told: so it asks again when there is another conversation. */
  #watchSoon(life: Life): void {
    if (life.watching || this.watches.length === 0) return;
    life.watching = true;
    this.#world.timeline.in(500, () =>
      this.does((client) => {
        life.watching = false;
        if (!this.live) return;
        client.watchPresence(this.watches).catch((error: unknown) => {
          this.note(`cannot watch: ${String(error)}`);
          this.#watchSoon(life);
        });
      }),
    );
  }

  #listen(life: Life): void {
    const { client, records, gaps, cursors, heads, views, presence, cameMs, liveMs } = life;
    const { timeline } = this.#world;
    client.on("record", ({ conversationId, record }) => {
      const seen = seenRecord(record);
      this.note(`sees ${conversationId} #${seen.seq} ${seen.senderId}: ${brief(seen.text)}`);
      listOf(records, conversationId).push(seen);
      cameMs.set(`${conversationId} ${seen.seq}`, timeline.nowMs);
      if (seen.senderId !== this.userId) this.onRecord(conversationId, seen.seq);
    });
    client.on("gap", ({ conversationId, from, to, more }) => {
      this.note(`misses ${conversationId} ${from}-${to}`);
      listOf(gaps, conversationId).push(`${from}-${to}${more ? "" : ", for good,"}`);
    });
    client.on("cursor", ({ conversationId, userId, deliveredSeq, readSeq }) => {
      this.note(`hears ${conversationId} ${userId} ${deliveredSeq}/${readSeq}`);
      cursors.push({ conversationId, userId, delivered: deliveredSeq, read: readSeq });
    });
    client.on("conversation", (view) => {
      if (!views.has(view.id)) this.#watchSoon(life);
      views.set(view.id, view);
      listOf(heads, view.id).push(view.headSeq);
    });
    client.on("connection", ({ t }) => {
      this.note(`is ${t}`);
      if (t === "live") liveMs.push({ fromMs: timeline.nowMs, toMs: undefined });
      else closeLive(life, timeline.nowMs);
      if (t === "live") this.#watchSoon(life);
    });
    client.on("resync", ({ why }) => this.note(`syncs anew: ${why}`));
    client.on("error", ({ during, error }) => this.note(`has trouble ${during}: ${String(error)}`));
    client.on("presence", ({ userId, availability }) => {
      const online = availability === Availability.ONLINE;
      this.note(`hears that ${userId} is ${online ? "online" : "offline"}`);
      presence.push({ userId, online, atMs: timeline.nowMs });
    });
  }
}

const brief = (text: string): string => text.replace(/\.{9,}$/, "…");

function closeLive({ liveMs }: Life, nowMs: number): void {
  const last = liveMs.at(-1);
  if (last !== undefined && last.toMs === undefined) last.toMs = nowMs;
}

function listOf<T>(lists: Map<string, T[]>, key: string): T[] {
  let list = lists.get(key);
  if (list === undefined) lists.set(key, (list = []));
  return list;
}

/** A change of members as "+added -removed". */
export function seenRecord({ seq, senderId, clientId, body, erased }: LogRecord): SeenRecord {
  // Two of a kind are not one and the same.
  let text = `<${String(body.case)}>${seq}`;
  if (body.case === "message") text = erased ? `erased ${seq}` : body.value.text;
  if (body.case === "membership") {
    const { added, removed, title } = body.value;
    const who = [...added.map((id) => `+${id}`), ...removed.map((id) => `-${id}`)].join(" ");
    text = `<${who}${title === undefined ? "" : ` "${title}"`}>${erased ? ` erased ${seq}` : seq}`;
  }
  return { seq, senderId, clientId: Buffer.from(clientId).toString("hex"), text };
}
