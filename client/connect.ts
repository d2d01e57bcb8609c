/** Links over HTTP alone: calls are unary, and what is not asked for comes by a Subscribe stream or by long poll. */
import { create } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createClient,
  type CallOptions,
  type Client,
} from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { ChatService, type SyncResponse } from "../proto/gen/parley/v1/chat_pb.ts";
import {
  ServerFrameSchema,
  type ClientFrame,
  type ServerFrame,
} from "../proto/gen/parley/v1/frame_pb.ts";
import { cancelling } from "./cancelling.ts";
import { closing, unauthenticatedCode, type Closing } from "./connection.ts";
import { failureFrame, type Answer, type Ask } from "./frames.ts";
import type { Link, LinkListener, LinkSettings } from "./link.ts";
import { fromBase64Url } from "./surroundings.ts";

/** A poll that comes back sooner than this with nothing is not repeated at once. */
const emptyPollMs = 1_000;

/** Pushes over a Subscribe stream. */
export function openStreamLink(settings: LinkSettings, listener: LinkListener): Link {
  const link = new ConnectLink(settings, listener);
  link.run(() => link.subscribe());
  return link;
}

/** Changes by Sync that waits: where streams do not come through. Presence and typing are not pushed here. */
export function openPollLink(settings: LinkSettings, listener: LinkListener): Link {
  const link = new ConnectLink(settings, listener);
  link.run(() => link.poll());
  return link;
}

class ConnectLink implements Link {
  readonly ordered = false;
  readonly #settings: LinkSettings;
  readonly #listener: LinkListener;
  readonly #client: Client<typeof ChatService>;
  readonly #abort = new AbortController();
  readonly #headers: Record<string, string>;
  #done = false;

  constructor(settings: LinkSettings, listener: LinkListener) {
    this.#settings = settings;
    this.#listener = listener;
    this.#headers = {
      authorization: `Bearer ${settings.token}`,
      "parley-device": settings.deviceId,
    };
    const transport = createConnectTransport({
      baseUrl: settings.baseUrl,
      useBinaryFormat: true,
      fetch: cancelling(settings.fetch),
    });
    this.#client = createClient(ChatService, transport);
  }

  send(frames: readonly ClientFrame[]): void {
    if (this.#done) return;
    for (const { requestId, frame } of frames) {
      // There is no heartbeat to answer: HTTP has its own ends.
      if (frame.case !== "heartbeatReply") void this.#call(requestId, frame);
    }
  }

  close(): void {
    this.#done = true;
    this.#abort.abort();
  }

  /** Runs what brings the pushes, from the next microtask on: whoever opens a link has it before it speaks. */
  run(receive: () => Promise<Closing>): void {
    const { clock } = this.#settings;
    void Promise.resolve()
      .then(() => {
        if (!this.#done) this.#listener.opened();
        return receive();
      })
      .catch((error: unknown) => closingOf(error))
      .then((why) => clock.afterTurn(() => this.#end(why)));
  }

  async subscribe(): Promise<Closing> {
    const request = {
      token: this.#settings.syncToken(),
      recordsPerConversation: this.#settings.recordsPerConversation,
    };
    let welcomed = false;
    for await (const { event } of this.#client.subscribe(request, this.#options())) {
      if (!welcomed && event.case !== "goodbye") {
        this.#welcome();
        welcomed = true;
      }
      this.#emit(0, event);
    }
    return closing(0, "the stream ended", "transport");
  }

  async poll(): Promise<Closing> {
    const { clock, pollMs, callMs } = this.#settings;
    let last: SyncResponse | undefined;
    while (!this.#done) {
      const startedMs = clock.monotonic();
      const waitMs = last?.complete ? pollMs : 0;
      const request = {
        token: this.#settings.syncToken(),
        waitMs,
        recordsPerConversation: this.#settings.recordsPerConversation,
      };
      const response = await this.#client.sync(request, this.#options(waitMs + callMs));
      if (last === undefined) this.#welcome();
      const nothing = last?.complete === true && response.conversations.length === 0;
      last = response;
      this.#emit(0, { case: "sync", value: response });
      const tookMs = clock.monotonic() - startedMs;
      if (nothing && tookMs < emptyPollMs) await this.#pause(emptyPollMs - tookMs);
    }
    return closing(0, "closed");
  }

  async #call(requestId: number, ask: Ask): Promise<void> {
    try {
      const answer = await this.#perform(ask, this.#options(this.#settings.callMs));
      this.#emit(requestId, answer);
    } catch (thrown) {
      if (this.#done) return;
      const error = ConnectError.from(thrown);
      const why = closingOf(error);
      // No token, no network: what was asked is asked again by the next link.
      if (error.code === Code.Unauthenticated || error.cause !== undefined) this.#end(why);
      else {
        const failure = failureFrame(requestId, error.code, error.rawMessage, why.retryAfterMs);
        this.#listener.frame(failure);
      }
    }
  }

  async #perform(ask: Ask, options: CallOptions): Promise<Answer> {
    const client = this.#client;
    switch (ask.case) {
      case "send":
        return { case: "send", value: await client.send(ask.value, options) };
      case "moveCursor":
        return { case: "moveCursor", value: await client.moveCursor(ask.value, options) };
      case "sync":
        return { case: "sync", value: await client.sync(ask.value, options) };
      case "history":
        return { case: "history", value: await client.history(ask.value, options) };
      case "listMembers":
        return { case: "listMembers", value: await client.listMembers(ask.value, options) };
      case "createGroup":
        return { case: "createGroup", value: await client.createGroup(ask.value, options) };
      case "updateGroup":
        return { case: "updateGroup", value: await client.updateGroup(ask.value, options) };
      case "watchPresence":
        return { case: "watchPresence", value: await client.watchPresence(ask.value, options) };
      case "setTyping":
        return { case: "setTyping", value: await client.setTyping(ask.value, options) };
      case "hello":
      case "heartbeatReply":
      case undefined:
        throw new ConnectError("not a call", Code.Unimplemented);
    }
  }

  #options(timeoutMs?: number): CallOptions {
    const options: CallOptions = { headers: this.#headers, signal: this.#abort.signal };
    return timeoutMs === undefined ? options : { ...options, timeoutMs };
  }

  #welcome(): void {
    this.#emit(0, {
      case: "welcome",
      value: {
        $typeName: "parley.v1.Welcome",
        userId: subjectOf(this.#settings.token),
        gatewayId: "",
        heartbeatMs: 0,
        maxFrameBytes: 0,
        framesPerSecond: 0,
        bytesPerSecond: 0,
      },
    });
  }

  #emit(requestId: number, frame: ServerFrame["frame"]): void {
    if (!this.#done) this.#listener.frame(create(ServerFrameSchema, { requestId, frame }));
  }

  #end(why: Closing): void {
    if (this.#done) return;
    this.close();
    this.#listener.closed(why);
  }

  #pause(ms: number): Promise<void> {
    const { signal } = this.#abort;
    return new Promise((resolve) => {
      const cancel = this.#settings.clock.after(ms, done);
      signal.addEventListener("abort", done);
      function done(): void {
        cancel();
        signal.removeEventListener("abort", done);
        resolve();
      }
    });
  }
}

/** What an error says about coming back. */
function closingOf(thrown: unknown): Closing {
  const error = ConnectError.from(thrown);
  const retryAfterMs = Number(error.metadata.get("retry-after-ms") ?? 0) || 0;
  if (error.code === Code.Unauthenticated) return closing(unauthenticatedCode, error.rawMessage);
  return closing(0, error.rawMessage, "transport", retryAfterMs);
}

/** The user id in a JWT, unchecked (the server checks): over Connect there is no Welcome to tell it. Empty: not readable. */
export function subjectOf(token: string): string {
  try {
    const bytes = fromBase64Url(token.split(".")[1] ?? "");
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof claims !== "object" || claims === null || !("sub" in claims)) return "";
    return typeof claims.sub === "string" ? claims.sub : "";
  } catch {
    return "";
  }
}
