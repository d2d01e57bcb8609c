/** A server of a few lines that speaks Parley's frames by the generated code, keeps nothing, and errs on request. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { once } from "node:events";
import { WebSocketServer, type WebSocket } from "ws";
import {
  ClientBatchSchema,
  ServerBatchSchema,
  type ServerFrameSchema,
  type ClientFrame,
} from "../../proto/gen/parley/v1/frame_pb.ts";
import type { SendRequest, SyncRequest } from "../../proto/gen/parley/v1/chat_pb.ts";
import type { Target } from "../../bench/job.ts";

type Frame = NonNullable<MessageInitShape<typeof ServerFrameSchema>["frame"]>;

/** What is done to the n-th pushed copy of a message, counted over all of them. */
export type Err = (copy: number) => "lose" | "double" | "hold" | undefined;

interface Device {
  socket: WebSocket;
  userId: string;
  /** A push that waits to be overtaken. */
  held: Frame | undefined;
}

interface Talk {
  members: string[];
  head: number;
}

export interface Fake {
  readonly target: Target;
  /** Frames got, by their kind. */
  readonly got: Map<string, number>;
  close(): Promise<void>;
}

export interface FakeOptions {
  readonly err?: Err;
  /** After so many cursors, does not say any more how far the peer has come. */
  readonly silentAfter?: number;
  /** Refuses the n-th send. */
  readonly refuse?: (send: number) => boolean;
  /** Says a lower head in a sync than it acked. */
  readonly forget?: boolean;
  /** Sends a heartbeat first thing. */
  readonly heartbeat?: boolean;
}

function userOf(token: string): string {
  const claims: unknown = JSON.parse(
    Buffer.from(token.split(".")[1] ?? "", "base64url").toString(),
  );
  return typeof claims === "object" && claims !== null && "sub" in claims ? String(claims.sub) : "";
}

class FakeServer {
  readonly got = new Map<string, number>();
  readonly #options: FakeOptions;
  readonly #devices = new Map<string, Device>();
  readonly #talks = new Map<string, Talk>();
  #copies = 0;
  #sends = 0;
  #cursors = 0;

  constructor(options: FakeOptions) {
    this.#options = options;
  }

  serve(socket: WebSocket): void {
    const device: Device = { socket, userId: "", held: undefined };
    socket.on("message", (data: Buffer) => {
      for (const frame of fromBinary(ClientBatchSchema, data).frames) this.#take(device, frame);
    });
    socket.on("close", () => this.#devices.delete(device.userId));
  }

  #take(device: Device, { requestId, frame }: ClientFrame): void {
    const kind = frame.case ?? "none";
    this.got.set(kind, (this.got.get(kind) ?? 0) + 1);
    if (frame.case === "hello") {
      device.userId = userOf(frame.value.token);
      this.#devices.set(device.userId, device);
      this.#say(device, requestId, { case: "welcome", value: { userId: device.userId } });
      if (this.#options.heartbeat) this.#say(device, 0, { case: "heartbeat", value: {} });
      this.#say(device, 0, { case: "sync", value: { complete: true, token: Buffer.from("t") } });
    } else if (frame.case === "send") {
      this.#send(device, requestId, frame.value);
    } else if (frame.case === "moveCursor") {
      const { conversationId, deliveredSeq } = frame.value;
      this.#say(device, requestId, { case: "moveCursor", value: {} });
      if (this.#cursors++ >= (this.#options.silentAfter ?? Infinity)) return;
      const cursors = [{ conversationId, userId: device.userId, deliveredSeq }];
      this.#others(conversationId, device, () => ({ case: "pushed", value: { cursors } }));
    } else if (frame.case === "createGroup") {
      const members = [device.userId, ...frame.value.memberIds];
      this.#talks.set("g:1", { members, head: 1 });
      const conversation = { conversationId: "g:1", headSeq: 1, memberCount: members.length };
      this.#say(device, requestId, { case: "createGroup", value: { conversation } });
      const records = [
        { conversationId: "g:1", seq: 1, body: { case: "membership", value: {} } as const },
      ];
      this.#others("g:1", device, () => ({ case: "pushed", value: { records } }));
    } else if (frame.case === "sync") this.#sync(device, requestId, frame.value);
  }

  #send(device: Device, requestId: number, request: SendRequest): void {
    const { to } = request;
    const direct = [device.userId, to.value ?? ""].toSorted();
    const id = to.case === "conversationId" ? to.value : `d:${direct.join(":")}`;
    const talk = this.#talks.get(id) ?? { members: direct, head: 0 };
    this.#talks.set(id, talk);
    if (this.#options.refuse?.(this.#sends++)) {
      this.#say(device, requestId, { case: "failure", value: { code: 8, message: "too fast" } });
      return;
    }
    const seq = ++talk.head;
    const { clientId, content } = request;
    if (content === undefined || clientId.length !== 16) throw new Error("no proper message");
    const body = { case: "message", value: content } as const;
    const records = [{ conversationId: id, seq, senderId: device.userId, clientId, body }];
    this.#others(id, device, (other) => {
      const frame: Frame = { case: "pushed", value: { records } };
      const err = this.#options.err?.(this.#copies++);
      if (err === "lose") return undefined;
      if (err === "double") this.#say(other, 0, frame);
      if (err !== "hold") return frame;
      other.held = frame;
      return undefined;
    });
    this.#say(device, requestId, { case: "send", value: { conversationId: id, seq, timeMs: 5n } });
  }

  #others(id: string, from: Device, make: (to: Device) => Frame | undefined): void {
    for (const member of this.#talks.get(id)?.members ?? []) {
      const device = this.#devices.get(member);
      if (device === undefined || device === from) continue;
      const held = device.held;
      const frame = make(device);
      if (frame !== undefined) this.#say(device, 0, frame);
      if (held !== undefined && frame !== undefined) {
        device.held = undefined;
        this.#say(device, 0, held);
      }
    }
  }

  #sync(device: Device, requestId: number, request: SyncRequest): void {
    const mine = [...this.#talks].filter(([, { members }]) => members.includes(device.userId));
    const less = this.#options.forget ? 1 : 0;
    const conversations = mine.map(([conversationId, { head }]) => ({
      conversation: { conversationId, headSeq: head - less },
    }));
    const value = {
      conversations: request.token.length === 0 ? conversations : [],
      token: Buffer.from("t"),
      complete: true,
    };
    this.#say(device, requestId, { case: "sync", value });
  }

  #say(device: Device, requestId: number, frame: Frame): void {
    const batch = create(ServerBatchSchema, { frames: [{ requestId, frame }] });
    device.socket.send(toBinary(ServerBatchSchema, batch));
  }
}

export async function fakeParley(options: FakeOptions = {}): Promise<Fake> {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
  await once(server, "listening");
  const fake = new FakeServer(options);
  server.on("connection", (socket) => fake.serve(socket));
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("no address");
  return {
    target: { host: "127.0.0.1", port: address.port, secret: "secret", pid: undefined },
    got: fake.got,
    close: async () => {
      for (const client of server.clients) client.terminate();
      server.close();
      await once(server, "close");
    },
  };
}
