/** A device over WebSocket or over Connect: the same calls and the same inbox, so that one test runs over both. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { ChatService } from "../../proto/gen/parley/v1/chat_pb.ts";
import type {
  CreateGroupRequestSchema,
  CreateGroupResponse,
  HistoryRequestSchema,
  HistoryResponse,
  ListMembersRequestSchema,
  ListMembersResponse,
  MoveCursorRequestSchema,
  MoveCursorResponse,
  SendRequestSchema,
  SendResponse,
  SetTypingRequestSchema,
  SetTypingResponse,
  SyncRequestSchema,
  SyncResponse,
  UpdateGroupRequestSchema,
  UpdateGroupResponse,
  WatchPresenceRequestSchema,
  WatchPresenceResponse,
} from "../../proto/gen/parley/v1/chat_pb.ts";
import { Inbox } from "./inbox.ts";
import { SocketClient, unexpected } from "./socket-client.ts";

export interface Device {
  readonly inbox: Inbox;
  send(request: MessageInitShape<typeof SendRequestSchema>): Promise<SendResponse>;
  moveCursor(
    request: MessageInitShape<typeof MoveCursorRequestSchema>,
  ): Promise<MoveCursorResponse>;
  sync(request: MessageInitShape<typeof SyncRequestSchema>): Promise<SyncResponse>;
  history(request: MessageInitShape<typeof HistoryRequestSchema>): Promise<HistoryResponse>;
  listMembers(
    request: MessageInitShape<typeof ListMembersRequestSchema>,
  ): Promise<ListMembersResponse>;
  createGroup(
    request: MessageInitShape<typeof CreateGroupRequestSchema>,
  ): Promise<CreateGroupResponse>;
  updateGroup(
    request: MessageInitShape<typeof UpdateGroupRequestSchema>,
  ): Promise<UpdateGroupResponse>;
  watchPresence(
    request: MessageInitShape<typeof WatchPresenceRequestSchema>,
  ): Promise<WatchPresenceResponse>;
  setTyping(request: MessageInitShape<typeof SetTypingRequestSchema>): Promise<SetTypingResponse>;
  close(): Promise<void>;
}

export interface Who {
  readonly url: string;
  readonly token: string;
  readonly deviceId: string;
  readonly syncToken?: Uint8Array<ArrayBuffer>;
  readonly recordsPerConversation?: number;
}

/** Over a WebSocket, synced. */
export class SocketDevice implements Device {
  readonly socket: SocketClient;

  private constructor(socket: SocketClient) {
    this.socket = socket;
  }

  static async open({ url, ...who }: Who): Promise<SocketDevice> {
    const socket = await SocketClient.open(url);
    await socket.hello(who);
    await socket.inbox.synced();
    return new SocketDevice(socket);
  }

  get inbox(): Inbox {
    return this.socket.inbox;
  }

  async send(value: MessageInitShape<typeof SendRequestSchema>): Promise<SendResponse> {
    const answer = await this.socket.call({ case: "send", value });
    if (answer.case !== "send") throw unexpected(answer);
    return answer.value;
  }

  async moveCursor(
    value: MessageInitShape<typeof MoveCursorRequestSchema>,
  ): Promise<MoveCursorResponse> {
    const answer = await this.socket.call({ case: "moveCursor", value });
    if (answer.case !== "moveCursor") throw unexpected(answer);
    return answer.value;
  }

  async sync(value: MessageInitShape<typeof SyncRequestSchema>): Promise<SyncResponse> {
    const answer = await this.socket.call({ case: "sync", value });
    if (answer.case !== "sync") throw unexpected(answer);
    return answer.value;
  }

  async history(value: MessageInitShape<typeof HistoryRequestSchema>): Promise<HistoryResponse> {
    const answer = await this.socket.call({ case: "history", value });
    if (answer.case !== "history") throw unexpected(answer);
    return answer.value;
  }

  async listMembers(
    value: MessageInitShape<typeof ListMembersRequestSchema>,
  ): Promise<ListMembersResponse> {
    const answer = await this.socket.call({ case: "listMembers", value });
    if (answer.case !== "listMembers") throw unexpected(answer);
    return answer.value;
  }

  async createGroup(
    value: MessageInitShape<typeof CreateGroupRequestSchema>,
  ): Promise<CreateGroupResponse> {
    const answer = await this.socket.call({ case: "createGroup", value });
    if (answer.case !== "createGroup") throw unexpected(answer);
    return answer.value;
  }

  async updateGroup(
    value: MessageInitShape<typeof UpdateGroupRequestSchema>,
  ): Promise<UpdateGroupResponse> {
    const answer = await this.socket.call({ case: "updateGroup", value });
    if (answer.case !== "updateGroup") throw unexpected(answer);
    return answer.value;
  }

  async watchPresence(
    value: MessageInitShape<typeof WatchPresenceRequestSchema>,
  ): Promise<WatchPresenceResponse> {
    const answer = await this.socket.call({ case: "watchPresence", value });
    if (answer.case !== "watchPresence") throw unexpected(answer);
    return answer.value;
  }

  async setTyping(
    value: MessageInitShape<typeof SetTypingRequestSchema>,
  ): Promise<SetTypingResponse> {
    const answer = await this.socket.call({ case: "setTyping", value });
    if (answer.case !== "setTyping") throw unexpected(answer);
    return answer.value;
  }

  close(): Promise<void> {
    return this.socket.close();
  }
}

/** ChatService as one device calls it. */
export function chatClient(
  url: string,
  token: string | undefined,
  deviceId: string,
): Client<typeof ChatService> {
  const transport = createConnectTransport({
    baseUrl: url,
    httpVersion: "1.1",
    interceptors: [
      (next) => (request) => {
        if (token !== undefined) request.header.set("Authorization", `Bearer ${token}`);
        request.header.set("Parley-Device", deviceId);
        return next(request);
      },
    ],
  });
  return createClient(ChatService, transport);
}

/** Over Connect: calls are requests of their own, pushes come by Subscribe. Synced. */
export class ConnectDevice implements Device {
  readonly inbox = new Inbox();
  readonly client: Client<typeof ChatService>;
  /** Resolves when the stream has ended, with the error that it ended with, if any. */
  readonly ended: Promise<ConnectError | undefined>;
  readonly #leaving = new AbortController();

  private constructor(who: Who) {
    this.client = chatClient(who.url, who.token, who.deviceId);
    this.ended = this.#follow(who);
  }

  static async open(who: Who): Promise<ConnectDevice> {
    const device = new ConnectDevice(who);
    await device.inbox.synced();
    return device;
  }

  async #follow({ syncToken, recordsPerConversation = 0 }: Who): Promise<ConnectError | undefined> {
    const request = { token: syncToken ?? new Uint8Array(), recordsPerConversation };
    let error: ConnectError | undefined;
    try {
      const events = this.client.subscribe(request, { signal: this.#leaving.signal });
      for await (const { event } of events) {
        if (event.case === "sync") this.inbox.syncs.push(event.value);
        else if (event.case === "pushed") this.inbox.pushed.push(event.value);
        else if (event.case === "heartbeat") this.inbox.heartbeats.push(event.value);
        else if (event.case === "goodbye") this.inbox.goodbye = event.value;
        this.inbox.tell();
      }
    } catch (reason) {
      error = ConnectError.from(reason);
    }
    this.inbox.tell(error ?? new Error("the stream ended"));
    return error;
  }

  send(request: MessageInitShape<typeof SendRequestSchema>): Promise<SendResponse> {
    return this.client.send(request);
  }

  moveCursor(
    request: MessageInitShape<typeof MoveCursorRequestSchema>,
  ): Promise<MoveCursorResponse> {
    return this.client.moveCursor(request);
  }

  sync(request: MessageInitShape<typeof SyncRequestSchema>): Promise<SyncResponse> {
    return this.client.sync(request);
  }

  history(request: MessageInitShape<typeof HistoryRequestSchema>): Promise<HistoryResponse> {
    return this.client.history(request);
  }

  listMembers(
    request: MessageInitShape<typeof ListMembersRequestSchema>,
  ): Promise<ListMembersResponse> {
    return this.client.listMembers(request);
  }

  createGroup(
    request: MessageInitShape<typeof CreateGroupRequestSchema>,
  ): Promise<CreateGroupResponse> {
    return this.client.createGroup(request);
  }

  updateGroup(
    request: MessageInitShape<typeof UpdateGroupRequestSchema>,
  ): Promise<UpdateGroupResponse> {
    return this.client.updateGroup(request);
  }

  watchPresence(
    request: MessageInitShape<typeof WatchPresenceRequestSchema>,
  ): Promise<WatchPresenceResponse> {
    return this.client.watchPresence(request);
  }

  setTyping(request: MessageInitShape<typeof SetTypingRequestSchema>): Promise<SetTypingResponse> {
    return this.client.setTyping(request);
  }

  async close(): Promise<void> {
    this.#leaving.abort();
    await this.ended;
  }
}

/** The ways to be a device. */
export const protocols: Readonly<Record<string, (who: Who) => Promise<Device>>> = {
  WebSocket: (who) => SocketDevice.open(who),
  Connect: (who) => ConnectDevice.open(who),
};
