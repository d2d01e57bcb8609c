/** A running Parley with the devices that a test has opened there. */
import { randomBytes } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { toJson } from "@bufbuild/protobuf";
import type { DescService } from "@bufbuild/protobuf";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { Connection } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { RecordSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import type { Record } from "../../proto/gen/parley/v1/record_pb.ts";
import type { SyncResponse } from "../../proto/gen/parley/v1/chat_pb.ts";
import type { Device, Who } from "./device.ts";
import { ConnectDevice, SocketDevice } from "./device.ts";
import type { RunningParley, Settings, Start } from "./parley.ts";
import { tokenFor } from "./parley.ts";
import { SocketClient } from "./socket-client.ts";

type Extra = Partial<Pick<Who, "syncToken" | "recordsPerConversation">>;
type Open<D extends Device> = (who: Who) => Promise<D>;

export class Town {
  #parley: RunningParley;
  readonly #open: (() => Promise<unknown>)[] = [];
  #devices = 0;

  private constructor(parley: RunningParley) {
    this.#parley = parley;
  }

  static async start(start: Start, settings?: Settings): Promise<Town> {
    return new Town(await start(settings));
  }

  get url(): string {
    return this.#parley.url;
  }

  /** Where the processes of a service listen for gRPC. */
  meshUrls(service: string): readonly string[] {
    return this.#parley.meshUrls(service);
  }

  /** At each of the gateways in turn. */
  async device<D extends Device>(
    open: Open<D>,
    userId: string,
    deviceId: string,
    extra: Extra = {},
  ): Promise<D> {
    const { urls } = this.#parley;
    const url = urls[this.#devices++ % urls.length] ?? this.url;
    const device = await open({ url, token: await tokenFor(userId), deviceId, ...extra });
    this.#open.push(() => device.close());
    return device;
  }

  onSocket(userId: string, deviceId = "phone", extra: Extra = {}): Promise<SocketDevice> {
    return this.device((who) => SocketDevice.open(who), userId, deviceId, extra);
  }

  onConnect(userId: string, deviceId = "phone", extra: Extra = {}): Promise<ConnectDevice> {
    return this.device((who) => ConnectDevice.open(who), userId, deviceId, extra);
  }

  /** A WebSocket that has said nothing yet. */
  async socket(options?: Parameters<typeof SocketClient.open>[1]): Promise<SocketClient> {
    const socket = await SocketClient.open(this.url, options);
    this.#open.push(() => socket.cut());
    return socket;
  }

  /** Of a service inside, as operators call it: each of its processes. */
  operators<S extends DescService>(service: S): Client<S>[] {
    const urls = this.meshUrls(service.typeName);
    return urls.map((baseUrl) => createClient(service, createGrpcTransport({ baseUrl })));
  }

  /** Whoever of a user is connected, at whichever gateway. */
  async connectionsOf(userId: string): Promise<Connection[]> {
    const gateways = this.operators(GatewayService);
    const answers = await Promise.all(gateways.map((one) => one.listConnections({ userId })));
    return answers.flatMap(({ connections }) => connections);
  }

  /** Closes what the test has opened. */
  async leave(): Promise<void> {
    await Promise.all(this.#open.splice(0).map((close) => close()));
  }

  async restart(): Promise<void> {
    await this.leave();
    this.#parley = await this.#parley.restart();
  }

  async close(): Promise<void> {
    await this.leave();
    await this.#parley.close();
  }
}

export const newClientId = (): Uint8Array<ArrayBuffer> => new Uint8Array(randomBytes(16));

/** A send to a user, of a text. */
export const textTo = (userId: string, text: string) => ({
  to: { case: "userId", value: userId } as const,
  clientId: newClientId(),
  content: { text },
});

/** A send into a conversation, of a text. */
export const textInto = (conversationId: string, text: string) => ({
  to: { case: "conversationId", value: conversationId } as const,
  clientId: newClientId(),
  content: { text },
});

/** Records as JSON, to be compared: what bytes are kept in differs from protocol to protocol. */
export const plain = (records: readonly Record[]): unknown[] =>
  records.map((record) => toJson(RecordSchema, record));

export const directId = (one: string, other: string): string =>
  `d:${[one, other].toSorted().join(":")}`;

export const textOf = ({ body }: Record): string =>
  body.case === "message" ? body.value.text : `<${String(body.case)}>`;

/** All that a user has by now, page after page. */
export async function syncAll(
  device: Device,
  {
    token = new Uint8Array(),
    records = 50,
  }: { token?: Uint8Array<ArrayBuffer>; records?: number } = {},
): Promise<SyncResponse> {
  const all: SyncResponse["conversations"] = [];
  for (let next = token; ;) {
    const answer = await device.sync({ token: next, recordsPerConversation: records });
    all.push(...answer.conversations);
    if (answer.complete) return { ...answer, conversations: all };
    next = new Uint8Array(answer.token);
  }
}

/** One conversation as the user has it by now. */
export async function synced(device: Device, conversationId: string) {
  const { conversations } = await syncAll(device);
  const delta = conversations.find((one) => one.conversation?.conversationId === conversationId);
  if (delta?.conversation === undefined) throw new Error(`no ${conversationId} in the sync`);
  return { ...delta, conversation: delta.conversation };
}

/** Every record that the user may read, oldest first. */
export async function wholeLog(device: Device, conversationId: string): Promise<Record[]> {
  const log: Record[] = [];
  for (let beforeSeq = 0; ;) {
    const { records } = await device.history({ conversationId, beforeSeq, limit: 200 });
    log.unshift(...records);
    beforeSeq = records[0]?.seq ?? 0;
    if (beforeSeq <= 1) return log;
  }
}
