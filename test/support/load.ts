/** Users who write to one another without a pause, through the SDK as apps use it, and all that they see. It knows nothing of what is done to the servers meanwhile. */
import { Availability } from "../../client/index.ts";
import type { ParleyClient, Record as LogRecord, SendTarget } from "../../client/index.ts";
import { createNodeClient } from "../../client/node.ts";
import type { DeviceLog, HistoryOf, Observed, SeenCursor, SeenRecord } from "./checker.ts";
import { tokenFor } from "./parley.ts";
import { asked, within } from "./within.ts";

export interface LoadOptions {
  /** Devices are spread over these in turn. */
  readonly urls: readonly string[];
  /** So that loads on one server do not meet: begins all user ids. */
  readonly name?: string;
  readonly perSecond?: number;
  readonly users?: number;
  readonly groups?: number;
  readonly groupSize?: number;
  /** How long anything may take that is waited for at the beginning and at the end. */
  readonly boundMs?: number;
}

/** A message, from when the app asked for it. */
export interface Sending {
  readonly userId: string;
  readonly deviceId: string;
  readonly conversationId: string;
  readonly text: string;
  readonly begunMs: number;
  seq: number | undefined;
  ackedMs: number | undefined;
  /** The SDK gave it up. */
  error: Error | undefined;
}

export interface Numbers {
  readonly sent: number;
  readonly acked: number;
  readonly failed: number;
  /** The longest that a message took to be acked, those under way included. */
  readonly slowestMs: number;
  /** The longest time without any ack. */
  readonly gapMs: number;
  readonly perSecond: number;
}

interface Writer {
  readonly device: LoadDevice;
  readonly to: SendTarget;
  readonly conversationId: string;
}

const tickMs = 20;
/** What is missed while away is fetched whole: a named gap would hide a loss. */
const historyOnSync = 1_000_000;
const wholePage = 200;
/** Good for servers whose clocks are an hour or two away. */
const tokenSeconds = 6 * 3_600;

export class Load {
  readonly #options: Required<LoadOptions>;
  readonly #devices: LoadDevice[] = [];
  readonly #members = new Map<string, readonly string[]>();
  readonly #writers: Writer[] = [];
  readonly #sendings: Sending[] = [];
  readonly #pending = new Set<Promise<void>>();
  #turn = 0;
  #timer: NodeJS.Timeout | undefined;
  #startMs = 0;
  #ranMs = 0;
  #lastAckMs = 0;
  #acked = 0;
  #gapMs = 0;

  private constructor(options: Required<LoadOptions>) {
    this.#options = options;
  }

  /** Connects everybody, and makes the conversations. */
  static async begin(options: LoadOptions): Promise<Load> {
    const standard = { name: "load", perSecond: 500, users: 24, groups: 3, groupSize: 6 };
    const load = new Load({ boundMs: 60_000, ...standard, ...options });
    try {
      await load.#connect();
      await load.#converse();
    } catch (error) {
      await load.close();
      throw error;
    }
    return load;
  }

  get devices(): readonly LoadDevice[] {
    return this.#devices;
  }

  get conversations(): readonly string[] {
    return [...this.#members.keys()];
  }

  get sendings(): readonly Sending[] {
    return this.#sendings;
  }

  /** The first device of everybody asks to be told of all whom it talks with; resolves when all are told to be online. */
  async watch(): Promise<void> {
    const watching = this.#devices.filter(({ deviceId }) => deviceId === "phone");
    const peersOf = (userId: string): string[] => {
      const all = [...this.#members.values()].filter((userIds) => userIds.includes(userId)).flat();
      return [...new Set(all)].filter((one) => one !== userId);
    };
    await Promise.all(watching.map((device) => device.watch(peersOf(device.userId))));
    await asked(this.#options.boundMs, "everybody online", () =>
      Promise.resolve(watching.every((device) => device.allOnline) ? true : undefined),
    );
    for (const device of watching) device.offlineAtMs.length = 0;
  }

  /** Who of those that are connected was told to be offline, and to whom. */
  get falselyOffline(): string[] {
    return this.#devices.flatMap(({ userId: to, offlineAtMs }) =>
      offlineAtMs.map(({ userId }) => `${userId} to ${to}`),
    );
  }

  /** Resolves when that many more were acked. */
  more(count: number, boundMs: number): Promise<true> {
    const upTo = this.#acked + count;
    return asked(boundMs, `${count} more acked`, () =>
      Promise.resolve(this.#acked >= upTo ? true : undefined),
    );
  }

  /** Writes until `stop`. */
  start(): void {
    if (this.#timer !== undefined) throw new Error("it has begun already");
    const { perSecond } = this.#options;
    this.#startMs = this.#lastAckMs = performance.now();
    let sent = 0;
    this.#timer = setInterval(() => {
      const due = ((performance.now() - this.#startMs) / 1_000) * perSecond;
      for (; sent < due; sent += 1) this.#next();
    }, tickMs);
  }

  /** Writes no more, and resolves when it is known of every message what became of it. */
  async stop(): Promise<Numbers> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#ranMs = performance.now() - this.#startMs;
    await within(this.#options.boundMs, "the fate of every message", this.#allKnown());
    return this.numbers;
  }

  /** One message into every conversation, begun now; answers with how long the slowest took. */
  async probe(boundMs: number): Promise<number> {
    const begunMs = performance.now();
    const one = new Map(this.#writers.map((writer) => [writer.conversationId, writer]));
    const probes = [...one.values()].map((writer) => this.#send(writer));
    await asked(boundMs, "a send into every conversation", () => {
      const failed = probes.find(({ error }) => error !== undefined);
      if (failed !== undefined)
        throw new Error(`a send into ${failed.conversationId}`, { cause: failed.error });
      return Promise.resolve(probes.every(({ seq }) => seq !== undefined) ? true : undefined);
    }).catch((cause: unknown) => {
      const open = probes.filter(({ seq }) => seq === undefined);
      const names = open
        .slice(0, 5)
        .map(({ userId, deviceId, conversationId: id }) => `${userId}/${deviceId} into ${id}`);
      throw new Error(`${open.length} of ${probes.length} were not acked: ${names.join(", ")}`, {
        cause,
      });
    });
    return Math.max(...probes.map(({ ackedMs = 0 }) => ackedMs - begunMs));
  }

  get numbers(): Numbers {
    const failed = this.#sendings.filter(({ error }) => error !== undefined);
    const nowMs = performance.now();
    const took = this.#sendings.map(({ begunMs, ackedMs = nowMs }) => ackedMs - begunMs);
    const seconds = (this.#timer === undefined ? this.#ranMs : nowMs - this.#startMs) / 1_000;
    return {
      sent: this.#sendings.length,
      acked: this.#acked,
      failed: failed.length,
      slowestMs: Math.round(took.reduce((most, one) => Math.max(most, one), 0)),
      gapMs: Math.round(this.#gapMs),
      perSecond: Math.round(this.#acked / Math.max(seconds, 0.001)),
    };
  }

  /** What was sent and seen and is kept, after every device has come to the end of every conversation or its time is over. */
  async observed(): Promise<Observed> {
    const histories = await this.#histories();
    await this.#caughtUp(histories);
    const cursors: SeenCursor[] = [];
    for (const [conversationId, userIds] of this.#members) {
      const { members } = await this.#deviceOf(userIds[0]).client.listMembers(conversationId);
      for (const { userId, deliveredSeq, readSeq } of members)
        cursors.push({ conversationId, userId, delivered: deliveredSeq, read: readSeq });
    }
    return {
      members: this.#members,
      sent: this.#sendings,
      devices: this.#devices.map((device) => device.log),
      histories,
      cursors,
    };
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await Promise.all(this.#devices.map(({ client }) => client.close()));
  }

  async #connect(): Promise<void> {
    const { urls, name, users, boundMs } = this.#options;
    for (let at = 0; at < users; at += 1) {
      const userId = `${name}${at}`;
      // Every other one has two devices, on two gateways.
      for (const deviceId of at % 2 === 0 ? ["phone"] : ["phone", "desk"]) {
        const url = urls[this.#devices.length % urls.length] ?? "";
        this.#devices.push(new LoadDevice(url, userId, deviceId));
      }
    }
    await within(
      boundMs,
      "the connections",
      Promise.all(this.#devices.map((device) => device.connect())),
    );
  }

  /** Everybody talks with two neighbours, and the groups are spread over all. */
  async #converse(): Promise<void> {
    const { name, users, groups, groupSize, boundMs } = this.#options;
    const userAt = (at: number): string => `${name}${at % users}`;
    const begun: Promise<unknown>[] = [];
    for (let at = 0; at < users; at += 1) {
      const [one, other] = [userAt(at), userAt(at + 1)].toSorted();
      const id = `d:${one}:${other}`;
      this.#members.set(id, [one ?? "", other ?? ""]);
    }
    for (let at = 0; at < groups; at += 1) {
      const first = Math.floor((at * users) / groups);
      const userIds = Array.from({ length: groupSize }, (_, next) => userAt(first + next));
      const { client } = this.#deviceOf(userIds[0]);
      begun.push(
        client.createGroup(`${name} group ${at}`, userIds.slice(1)).then(({ id }) => {
          this.#members.set(id, userIds);
        }),
      );
    }
    await within(boundMs, "the groups", Promise.all(begun));
    for (const [conversationId, userIds] of this.#members)
      for (const device of this.#devices)
        if (userIds.includes(device.userId)) {
          const to = targetOf(conversationId, device.userId, userIds);
          this.#writers.push({ device, to, conversationId });
        }
  }

  #deviceOf(userId = ""): LoadDevice {
    const device = this.#devices.find((one) => one.userId === userId);
    if (device === undefined) throw new Error(`nobody is ${userId}`);
    return device;
  }

  /** Each writer in turn, in a fixed order: a prime step, so that neighbours do not write in one tick. */
  #next(): void {
    const writer = this.#writers[(this.#turn * 7_919) % this.#writers.length];
    if (writer !== undefined) this.#send(writer);
  }

  #send({ device, to, conversationId }: Writer): Sending {
    const { userId, deviceId, client } = device;
    const text = `${userId}/${deviceId} ${(this.#turn += 1)}`;
    const begunMs = performance.now();
    const sending: Sending = {
      userId,
      deviceId,
      conversationId,
      text,
      begunMs,
      seq: undefined,
      ackedMs: undefined,
      error: undefined,
    };
    this.#sendings.push(sending);
    try {
      const known = client.send(to, text).sent.then(
        ({ seq }) => this.#wasAcked(sending, seq),
        (error: unknown) => void (sending.error = asError(error)),
      );
      this.#pending.add(known);
      void known.finally(() => this.#pending.delete(known));
    } catch (error) {
      sending.error = asError(error);
    }
    return sending;
  }

  #wasAcked(sending: Sending, seq: number): void {
    const nowMs = performance.now();
    sending.seq = seq;
    sending.ackedMs = nowMs;
    if (this.#timer !== undefined) this.#gapMs = Math.max(this.#gapMs, nowMs - this.#lastAckMs);
    this.#lastAckMs = nowMs;
    this.#acked += 1;
  }

  async #allKnown(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  /** Asked of the server anew, whatever the devices have. */
  async #histories(): Promise<HistoryOf[]> {
    const histories: HistoryOf[] = [];
    const tasks = [...this.#members].flatMap(([conversationId, userIds]) =>
      userIds.map((userId) => ({ conversationId, userId })),
    );
    const next = async (): Promise<void> => {
      for (let task = tasks.pop(); task !== undefined; task = tasks.pop()) {
        const { client } = this.#deviceOf(task.userId);
        histories.push({ ...task, records: await wholeHistory(client, task.conversationId) });
      }
    };
    await Promise.all(Array.from({ length: 8 }, next));
    return histories;
  }

  /** Where a device does not catch up, the checker says what it lacks. */
  async #caughtUp(histories: readonly HistoryOf[]): Promise<void> {
    const heads = new Map(histories.map((one) => [one.conversationId, one.records.length]));
    const behind = (): boolean =>
      this.#devices.some((device) =>
        [...heads].some(
          ([id, head]) =>
            this.#members.get(id)?.includes(device.userId) === true && device.gotOf(id) < head,
        ),
      );
    await asked(this.#options.boundMs, "all devices at the end", () =>
      Promise.resolve(behind() ? undefined : true),
    ).catch(() => undefined);
  }
}

/** A device with everything that its app was told. */
export class LoadDevice {
  readonly url: string;
  readonly userId: string;
  readonly deviceId: string;
  readonly client: ParleyClient;
  /** Users it watches, as last told. */
  readonly online = new Map<string, boolean>();
  /** Every time that somebody was told to be offline. */
  readonly offlineAtMs: { readonly userId: string; readonly atMs: number }[] = [];
  /** How many records it was handed, and between which times they were committed, as they say. */
  received = 0;
  earliestMs = Infinity;
  latestMs = 0;
  readonly #records = new Map<string, SeenRecord[]>();
  readonly #gaps = new Map<string, string[]>();
  readonly #cursors: SeenCursor[] = [];
  readonly #heads = new Map<string, number[]>();

  constructor(url: string, userId: string, deviceId: string, region = "") {
    this.url = url;
    this.userId = userId;
    this.deviceId = deviceId;
    this.client = createNodeClient({
      url,
      deviceId,
      token: () => tokenFor(userId, tokenSeconds, region),
      transport: "websocket",
      historyOnSync,
      // As apps do that may not give up: a message waits for as long as it takes.
      limits: { outboxMessagesMax: 20_000, callMs: 60_000, backoffCapMs: 2_000 },
    });
    this.#listen();
  }

  connect(): Promise<void> {
    this.client.connect();
    return this.client.ready();
  }

  /** Asks to be told of these users. */
  async watch(userIds: readonly string[]): Promise<void> {
    for (const { userId, availability } of await this.client.watchPresence(userIds))
      this.online.set(userId, availability === Availability.ONLINE);
  }

  get allOnline(): boolean {
    return [...this.online.values()].every((online) => online);
  }

  /** Resolves with when it was told so. */
  told(userId: string, online: boolean, boundMs: number): Promise<number> {
    return asked(boundMs, `${userId} ${online ? "online" : "offline"}`, () =>
      Promise.resolve(this.online.get(userId) === online ? performance.now() : undefined),
    );
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

  #listen(): void {
    const { client } = this;
    client.on("record", ({ conversationId, record }) => {
      this.received += 1;
      this.earliestMs = Math.min(this.earliestMs, Number(record.timeMs));
      this.latestMs = Math.max(this.latestMs, Number(record.timeMs));
      listOf(this.#records, conversationId).push(seenRecord(record));
      // As an app does whose user looks on, now and then.
      if (record.seq % 16 === 0 && record.senderId !== this.userId)
        client.markRead(conversationId, record.seq);
    });
    client.on("gap", ({ conversationId, from, to, more }) =>
      listOf(this.#gaps, conversationId).push(`${from}-${to}${more ? "" : ", for good,"}`),
    );
    client.on("cursor", ({ conversationId, userId, deliveredSeq, readSeq }) =>
      this.#cursors.push({ conversationId, userId, delivered: deliveredSeq, read: readSeq }),
    );
    client.on("conversation", ({ id, headSeq }) => listOf(this.#heads, id).push(headSeq));
    client.on("presence", ({ userId, availability }) => {
      const online = availability === Availability.ONLINE;
      this.online.set(userId, online);
      if (!online) this.offlineAtMs.push({ userId, atMs: performance.now() });
    });
  }
}

/** A direct conversation begins with its first message to the other one. */
function targetOf(conversationId: string, userId: string, userIds: readonly string[]): SendTarget {
  const other = userIds.find((one) => one !== userId) ?? "";
  return conversationId.startsWith("d:") ? { user: other } : { conversation: conversationId };
}

const asError = (error: unknown): Error =>
  error instanceof Error ? error : new Error(String(error));

function listOf<T>(lists: Map<string, T[]>, key: string): T[] {
  let list = lists.get(key);
  if (list === undefined) lists.set(key, (list = []));
  return list;
}

function seenRecord({ seq, senderId, clientId, body }: LogRecord): SeenRecord {
  const text = body.case === "message" ? body.value.text : `<${String(body.case)}>`;
  return { seq, senderId, clientId: Buffer.from(clientId).toString("hex"), text };
}

async function wholeHistory(client: ParleyClient, conversationId: string): Promise<SeenRecord[]> {
  const records: SeenRecord[] = [];
  for (;;) {
    const afterSeq = records.at(-1)?.seq ?? 0;
    // After 0 means from the high end: the other side bounds the page.
    const page = await client.history(conversationId, {
      afterSeq,
      beforeSeq: afterSeq + wholePage + 1,
      limit: wholePage,
    });
    records.push(...page.records.map(seenRecord));
    if (page.records.length === 0) return records;
  }
}
