/** A server by script: enough of ChatService, over WebSocket and Connect, for the client to be put through what may happen. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { WebSocketServer, type WebSocket } from "ws";
import {
  ChatService,
  type CloseReason,
  SubscribeResponseSchema,
  SyncResponseSchema,
  HistoryResponseSchema,
  MoveCursorResponseSchema,
  SendResponseSchema,
  type HistoryRequest,
  type HistoryResponse,
  type MoveCursorRequest,
  type MoveCursorResponse,
  type SendRequest,
  type SendResponse,
  type SubscribeResponse,
  type SyncRequest,
  type SyncResponse,
} from "../../proto/gen/parley/v1/chat_pb.ts";
import {
  ClientBatchSchema,
  ClientFrameSchema,
  ServerBatchSchema,
  type ServerFrameSchema,
  type ClientFrame,
  type Hello,
} from "../../proto/gen/parley/v1/frame_pb.ts";
import {
  ConversationKind,
  ConversationSchema,
  RecordSchema,
  type Record as LogRecord,
} from "../../proto/gen/parley/v1/record_pb.ts";

type Answer = MessageInitShape<typeof ServerFrameSchema>["frame"];
/** Answers a frame, or says "drop" (no answer), "cut" (the connection ends), "do" (as usual). */
export type Script = (
  frame: ClientFrame,
  connection: FakeConnection,
) => Answer | "drop" | "cut" | "do";

export class FakeConnection {
  readonly number: number;
  readonly socket: WebSocket;
  constructor(number: number, socket: WebSocket) {
    this.number = number;
    this.socket = socket;
  }

  tell(...frames: MessageInitShape<typeof ServerFrameSchema>[]): void {
    const batch = create(ServerBatchSchema, { frames });
    this.socket.send(toBinary(ServerBatchSchema, batch));
  }

  push(...records: LogRecord[]): void {
    this.tell({ frame: { case: "pushed", value: { records } } });
  }
}

interface Heard {
  readonly frame: ClientFrame;
  readonly connection: number;
}

export class FakeServer {
  readonly logs = new Map<string, LogRecord[]>();
  readonly floors = new Map<string, number>();
  readonly cursors = new Map<string, { deliveredSeq: number; readSeq: number }>();
  readonly heard: Heard[] = [];
  /** The frames of each message. */
  readonly batches: ClientFrame[][] = [];
  readonly connections: FakeConnection[] = [];
  readonly calls: string[] = [];
  script: Script = () => "do";
  /** Whether upgrades are refused, and streams stay silent. */
  webSockets = true;
  streams = true;
  goodToken: string | undefined;
  /** All that a Subscribe stream says, where it is set. */
  goodbye: { reason: CloseReason; reconnectAfterMs: number; url: string } | undefined;
  heartbeatMs = 30_000;
  user = "alice";
  storeId = "";
  #http: Server;
  #ws = new WebSocketServer({ noServer: true, handleProtocols: () => "parley.v1" });
  #watchers = new Set<() => void>();
  #streamPushes = new Set<(event: SubscribeResponse) => void>();
  #changed = new Set<() => void>();

  constructor() {
    const routes = (router: ConnectRouter): void => this.#routes(router);
    this.#http = createServer(connectNodeAdapter({ routes }));
    this.#http.on("upgrade", (request, socket, head) => {
      this.calls.push("upgrade");
      this.#tellWatchers();
      if (!this.webSockets) {
        socket.on("error", () => undefined);
        socket.end("HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n");
        return;
      }
      this.#ws.handleUpgrade(request, socket, head, (opened) => this.#connected(opened));
    });
  }

  static async start(): Promise<FakeServer> {
    const server = new FakeServer();
    server.#http.listen(0, "127.0.0.1");
    await once(server.#http, "listening");
    return server;
  }

  get url(): string {
    const { port } = this.#http.address() as AddressInfo;
    return `http://127.0.0.1:${port}`;
  }

  get last(): FakeConnection {
    const last = this.connections.at(-1);
    if (last === undefined) throw new Error("nobody is connected");
    return last;
  }

  async stop(): Promise<void> {
    for (const { socket } of this.connections) socket.terminate();
    this.#ws.close();
    this.#http.closeAllConnections();
    this.#http.close();
    await once(this.#http, "close");
  }

  /** Resolves once `found` gives something: looked at after everything that is heard. */
  async until<Value>(found: () => Value | undefined | false): Promise<Value> {
    for (;;) {
      const value = found();
      if (value !== undefined && value !== false) return value;
      await new Promise<void>((resolve) => {
        const watcher = (): void => {
          this.#watchers.delete(watcher);
          resolve();
        };
        this.#watchers.add(watcher);
      });
    }
  }

  /** What was asked so far, by what `pick` takes out of a frame. */
  asked<Value>(pick: (frame: ClientFrame["frame"]) => Value | undefined): Value[] {
    return this.heard.flatMap(({ frame }) => pick(frame.frame) ?? []);
  }

  get sends(): SendRequest[] {
    return this.asked((frame) => (frame.case === "send" ? frame.value : undefined));
  }

  get moves(): MoveCursorRequest[] {
    return this.asked((frame) => (frame.case === "moveCursor" ? frame.value : undefined));
  }

  get histories(): HistoryRequest[] {
    return this.asked((frame) => (frame.case === "history" ? frame.value : undefined));
  }

  get hellos(): Hello[] {
    return this.asked((frame) => (frame.case === "hello" ? frame.value : undefined));
  }

  /** Commits a record; pushes nothing. */
  commit(
    conversationId: string,
    senderId: string,
    text: string,
    clientId: Uint8Array<ArrayBuffer> = new Uint8Array(),
  ): LogRecord {
    const log = this.logs.get(conversationId) ?? [];
    this.logs.set(conversationId, log);
    const record = create(RecordSchema, {
      conversationId,
      seq: log.length + 1,
      senderId,
      clientId,
      timeMs: BigInt(1_700_000_000_000 + log.length),
      ordinal: log.length + 1,
      body: { case: "message", value: { text } },
    });
    log.push(record);
    for (const wake of [...this.#changed]) wake();
    return record;
  }

  /** Tells all Subscribe streams. */
  pushToStreams(...records: LogRecord[]): void {
    const event = create(SubscribeResponseSchema, {
      event: { case: "pushed", value: { records } },
    });
    for (const push of this.#streamPushes) push(event);
  }

  sync(token: Uint8Array, records: number): SyncResponse {
    const known: Record<string, number> =
      token.length === 0 ? {} : JSON.parse(new TextDecoder().decode(token));
    const heads: Record<string, number> = {};
    const response = create(SyncResponseSchema, { complete: true, storeId: this.storeId });
    for (const [id, log] of this.logs) {
      heads[id] = log.length;
      if ((known[id] ?? 0) >= log.length) continue;
      const { deliveredSeq, readSeq } = this.cursors.get(id) ?? { deliveredSeq: 0, readSeq: 0 };
      const conversation = create(ConversationSchema, {
        conversationId: id,
        kind: id.startsWith("g:") ? ConversationKind.GROUP : ConversationKind.DIRECT,
        headSeq: log.length,
        floorSeq: this.floors.get(id) ?? 1,
        memberCount: 2,
        deliveredSeq,
        readSeq,
        unreadCount: log.filter((one) => one.seq > readSeq && one.senderId !== this.user).length,
        headTimeMs: log.at(-1)?.timeMs ?? 0n,
      });
      const newest = records === 0 ? [] : log.slice(-records);
      response.conversations.push({
        $typeName: "parley.v1.ConversationDelta",
        conversation,
        records: newest,
        left: false,
      });
    }
    response.token = new TextEncoder().encode(JSON.stringify(heads));
    return response;
  }

  #connected(socket: WebSocket): void {
    const connection = new FakeConnection(this.connections.length + 1, socket);
    this.connections.push(connection);
    socket.on("message", (data) => {
      const { frames } = fromBinary(ClientBatchSchema, new Uint8Array(data as Buffer));
      this.batches.push(frames);
      for (const frame of frames) {
        this.heard.push({ frame, connection: connection.number });
        const said = this.script(frame, connection);
        if (said === "cut") {
          socket.terminate();
          break;
        }
        if (said === "do") this.#do(frame, connection);
        else if (said !== "drop" && said !== undefined) {
          connection.tell({ requestId: frame.requestId, frame: said });
        }
      }
      this.#tellWatchers();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => this.#tellWatchers());
  }

  #do({ requestId, frame }: ClientFrame, connection: FakeConnection): void {
    if (frame.case === "hello") {
      const { token, syncToken, recordsPerConversation } = frame.value;
      if (this.goodToken !== undefined && token !== this.goodToken) {
        connection.tell({ frame: { case: "goodbye", value: { reason: 100 } } });
        connection.socket.close(4100);
        return;
      }
      const { user: userId, heartbeatMs } = this;
      connection.tell(
        { requestId, frame: { case: "welcome", value: { userId, heartbeatMs, gatewayId: "g" } } },
        { frame: { case: "sync", value: this.sync(syncToken, recordsPerConversation) } },
      );
      return;
    }
    const answer = this.#answer(frame);
    if (answer !== undefined) connection.tell({ requestId, frame: answer });
  }

  #answer(frame: ClientFrame["frame"]): Answer | undefined {
    switch (frame.case) {
      case "send":
        return { case: "send", value: this.#send(frame.value) };
      case "moveCursor":
        return { case: "moveCursor", value: this.#move(frame.value) };
      case "sync":
        return {
          case: "sync",
          value: this.sync(frame.value.token, frame.value.recordsPerConversation),
        };
      case "history":
        return { case: "history", value: this.#history(frame.value) };
      case "setTyping":
        return { case: "setTyping", value: {} };
      case "watchPresence":
        return { case: "watchPresence", value: {} };
      default:
        return undefined;
    }
  }

  #move(request: MoveCursorRequest): MoveCursorResponse {
    const { conversationId, deliveredSeq, readSeq } = request;
    const was = this.cursors.get(conversationId) ?? { deliveredSeq: 0, readSeq: 0 };
    const cursor = {
      deliveredSeq: Math.max(was.deliveredSeq, deliveredSeq),
      readSeq: Math.max(was.readSeq, readSeq),
    };
    this.cursors.set(conversationId, cursor);
    return create(MoveCursorResponseSchema, {
      cursor: { conversationId, userId: this.user, ...cursor },
    });
  }

  #history(request: HistoryRequest): HistoryResponse {
    const { conversationId, afterSeq, beforeSeq } = request;
    const log = this.logs.get(conversationId) ?? [];
    const floorSeq = this.floors.get(conversationId) ?? 1;
    const found = log.filter(
      ({ seq }) => seq >= floorSeq && seq > afterSeq && (beforeSeq === 0 || seq < beforeSeq),
    );
    const most = request.limit || 50;
    const records = afterSeq > 0 ? found.slice(0, most) : found.slice(-most);
    return create(HistoryResponseSchema, { records, headSeq: log.length, floorSeq });
  }

  #send(request: SendRequest): SendResponse {
    const id =
      request.to.case === "userId"
        ? `d:${this.user}:${request.to.value}`
        : (request.to.value ?? "");
    const key = Buffer.from(request.clientId).toString("hex");
    const earlier = (this.logs.get(id) ?? []).find(
      (record) => Buffer.from(record.clientId).toString("hex") === key,
    );
    const record =
      earlier ??
      this.commit(id, this.user, request.content?.text ?? "", new Uint8Array(request.clientId));
    const { seq, timeMs } = record;
    const duplicate = earlier !== undefined;
    return create(SendResponseSchema, { conversationId: id, seq, timeMs, duplicate });
  }

  #routes(router: ConnectRouter): void {
    const called = (frame: ClientFrame["frame"], headers: Headers): void => {
      this.calls.push(frame.case ?? "");
      this.#authenticate(headers);
      this.heard.push({ frame: create(ClientFrameSchema, { frame }), connection: 0 });
      queueMicrotask(() => this.#tellWatchers());
    };
    router.service(ChatService, {
      send: (value, { requestHeader }) => {
        called({ case: "send", value }, requestHeader);
        return this.#send(value);
      },
      moveCursor: (value, { requestHeader }) => {
        called({ case: "moveCursor", value }, requestHeader);
        return this.#move(value);
      },
      history: (value, { requestHeader }) => {
        called({ case: "history", value }, requestHeader);
        return this.#history(value);
      },
      sync: (request, context) => this.#poll(request, context.requestHeader, context.signal),
      subscribe: (request, context) =>
        this.#subscribe(request, context.requestHeader, context.signal),
    });
  }

  #authenticate(headers: Headers): void {
    if (this.goodToken === undefined) return;
    if (headers.get("authorization") === `Bearer ${this.goodToken}`) return;
    throw new ConnectError("the token has expired", Code.Unauthenticated);
  }

  async #poll(request: SyncRequest, headers: Headers, signal: AbortSignal): Promise<SyncResponse> {
    this.calls.push("sync");
    this.#tellWatchers();
    this.#authenticate(headers);
    for (;;) {
      const response = this.sync(request.token, request.recordsPerConversation);
      if (request.waitMs === 0 || response.conversations.length > 0) return response;
      await new Promise<void>((resolve, reject) => {
        const wake = (): void => {
          this.#changed.delete(wake);
          resolve();
        };
        this.#changed.add(wake);
        signal.addEventListener("abort", () => reject(new ConnectError("gone", Code.Canceled)));
      });
    }
  }

  async *#subscribe(
    request: { token: Uint8Array; recordsPerConversation: number },
    headers: Headers,
    signal: AbortSignal,
  ): AsyncGenerator<SubscribeResponse> {
    this.calls.push("subscribe");
    this.#tellWatchers();
    this.#authenticate(headers);
    if (this.goodbye !== undefined) {
      yield create(SubscribeResponseSchema, { event: { case: "goodbye", value: this.goodbye } });
      return;
    }
    const gone = new Promise<undefined>((resolve) =>
      signal.addEventListener("abort", () => resolve(undefined)),
    );
    if (!this.streams) {
      await gone;
      return;
    }
    const waiting: SubscribeResponse[] = [];
    let wake: () => void = () => undefined;
    const push = (event: SubscribeResponse): void => {
      waiting.push(event);
      wake();
    };
    this.#streamPushes.add(push);
    const sync = this.sync(request.token, request.recordsPerConversation);
    yield create(SubscribeResponseSchema, { event: { case: "sync", value: sync } });
    while (!signal.aborted) {
      const event = waiting.shift();
      if (event) yield event;
      else await Promise.race([gone, new Promise<void>((resolve) => (wake = resolve))]);
    }
    this.#streamPushes.delete(push);
  }

  #tellWatchers(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

/** An unsigned JWT: the fake does not look. */
export function tokenOf(userId: string, nonce = ""): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part({ sub: userId, nonce })}.`;
}
