/** Carries out what the connection's state calls for: gets the token, opens and ends links, waits, listens for silence. */
import { Code } from "@connectrpc/connect";
import { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import type { ClientFrame, ServerFrame, Welcome } from "../proto/gen/parley/v1/frame_pb.ts";
import {
  begin,
  closing,
  next,
  unauthenticatedCode,
  type Closing,
  type Connection,
  type ConnectionEvent,
} from "./connection.ts";
import { openPollLink, openStreamLink } from "./connect.ts";
import type { Link, LinkListener, LinkSettings } from "./link.ts";
import { toldUrl, type Settings } from "./options.ts";
import type { Cancel, ClientClock } from "./surroundings.ts";
import { openWebSocketLink, probeWebSocket } from "./websocket.ts";

export interface DialerHooks {
  changed(now: Connection, before: Connection): void;
  frame(frame: ServerFrame): void;
  syncToken(): Uint8Array<ArrayBuffer>;
  deviceId(): string;
}

export class Dialer {
  readonly #settings: Settings;
  readonly #clock: ClientClock;
  readonly #hooks: DialerHooks;
  #state: Connection;
  #link: Link | undefined;
  #token = "";
  /** One for the state, whichever it is: opening, waiting. */
  #timer: Cancel = () => undefined;
  #watch: Cancel = () => undefined;
  #probe: Cancel = () => undefined;
  #heardMs = 0;
  #attempt = 0;

  constructor(settings: Settings, clock: ClientClock, hooks: DialerHooks) {
    this.#settings = settings;
    this.#clock = clock;
    this.#hooks = hooks;
    this.#state = begin(settings.rules);
  }

  get state(): Connection {
    return this.#state;
  }

  /** Whether sends under way together keep their order. */
  get ordered(): boolean {
    return this.#link?.ordered ?? false;
  }

  /** Before the first start: the transport that was live last. */
  prefer(transport: string): void {
    if (this.#state.t === "idle") this.#state = begin(this.#settings.rules, transport);
  }

  start(): void {
    this.#dispatch({ t: "start" });
  }

  stop(why: Closing): void {
    this.#dispatch({ t: "stop", why });
  }

  /** Ends the link, and comes back after a moment. */
  again(why: string): void {
    this.#closed(closing(0, why));
  }

  send(frames: readonly ClientFrame[]): void {
    this.#link?.send(frames);
  }

  #dispatch(event: ConnectionEvent): void {
    const before = this.#state;
    const now = next(before, event, this.#settings.rules);
    if (now === before) return;
    this.#state = now;
    if (now.t !== "greeting" && now.t !== "live") this.#dropLink();
    this.#enter(now);
    this.#hooks.changed(now, before);
  }

  #enter(now: Connection): void {
    const { limits } = this.#settings;
    // Greeting goes on under the timer that began with connecting.
    if (now.t === "greeting") return;
    this.#timer();
    this.#timer = () => undefined;
    switch (now.t) {
      case "connecting":
        this.#connect();
        return;
      case "waiting":
        this.#timer = this.#clock.after(now.delayMs, () => this.#dispatch({ t: "waited" }));
        return;
      case "live":
        if (now.trail.transport !== this.#settings.rules.transports[0]) {
          this.#probeLater(limits.upgradeMs);
        }
        return;
      case "idle":
      case "stopped":
        return;
    }
  }

  #connect(): void {
    const attempt = ++this.#attempt;
    const { tokenMs } = this.#settings.limits;
    const current = (): boolean => attempt === this.#attempt && this.#state.t === "connecting";
    this.#timer = this.#clock.after(tokenMs, () =>
      this.#closed(closing(0, `the token function gave nothing in ${tokenMs} ms`)),
    );
    this.#settings.token().then(
      (token) => {
        if (current()) this.#open(token);
      },
      (error: unknown) => {
        if (current()) this.#closed(closing(0, `the token function failed: ${String(error)}`));
      },
    );
  }

  #open(token: string): void {
    const { limits } = this.#settings;
    const { transport } = this.#state.trail;
    this.#token = token;
    this.#timer();
    this.#timer = this.#clock.after(limits.openMs, () => {
      const fault = transport === "connect" ? "stream" : "transport";
      this.#closed(closing(0, `nothing came by ${transport} in ${limits.openMs} ms`, fault));
    });
    let link: Link | undefined;
    const current = (): boolean => link !== undefined && this.#link === link;
    const listener: LinkListener = {
      opened: () => {
        if (current()) this.#dispatch({ t: "opened" });
      },
      frame: (frame) => {
        if (current()) this.#frame(frame);
      },
      closed: (why) => {
        if (current()) this.#closed(why);
      },
    };
    try {
      link = this.#openLink(transport, listener);
      this.#link = link;
    } catch (error) {
      this.#closed(closing(0, String(error), "transport"));
    }
  }

  #openLink(transport: string, listener: LinkListener): Link {
    const settings: LinkSettings = {
      baseUrl: this.#baseUrl(),
      token: this.#token,
      deviceId: this.#hooks.deviceId(),
      recordsPerConversation: this.#settings.recordsPerConversation,
      syncToken: () => this.#hooks.syncToken(),
      clock: this.#clock,
      fetch: this.#settings.fetch,
      webSocket: this.#settings.webSocket,
      callMs: this.#settings.limits.callMs,
      pollMs: this.#settings.limits.pollMs,
    };
    if (transport === "poll") return openPollLink(settings, listener);
    if (transport === "connect" || settings.webSocket === undefined) {
      return openStreamLink(settings, listener);
    }
    return openWebSocketLink(settings.webSocket, settings, listener);
  }

  #baseUrl(): string {
    return this.#state.trail.url || this.#settings.baseUrl;
  }

  #frame(heard: ServerFrame): void {
    const { frame } = heard;
    this.#heardMs = this.#clock.monotonic();
    if (frame.case === "welcome") this.#welcome(frame.value);
    else if (frame.case === "goodbye") {
      const { reason, reconnectAfterMs, url } = frame.value;
      const told = toldUrl(url, this.#settings.baseUrl);
      this.#closed(closing(4000 + reason, reasonText(reason), "none", reconnectAfterMs, told));
    } else if (frame.case === "failure" && frame.value.code === Code.Unauthenticated) {
      this.#closed(closing(unauthenticatedCode, frame.value.message));
    } else this.#hooks.frame(heard);
  }

  #welcome(welcome: Welcome): void {
    const { transport } = this.#state.trail;
    const silences = {
      websocket: 2 * welcome.heartbeatMs,
      connect: this.#settings.limits.streamSilenceMs,
      poll: 0,
    };
    this.#watchFor(silences[transport]);
    this.#dispatch({ t: "welcomed", userId: welcome.userId, atMs: this.#clock.monotonic() });
  }

  /** Takes the server for dead after so much silence; 0: never. */
  #watchFor(silenceMs: number): void {
    this.#watch();
    if (silenceMs === 0) return;
    const look = (): void => {
      const leftMs = this.#heardMs + silenceMs - this.#clock.monotonic();
      if (leftMs > 0) this.#watch = this.#clock.after(leftMs, look);
      else this.#closed(closing(0, `the server was silent for ${silenceMs} ms`, "transport"));
    };
    this.#watch = this.#clock.after(silenceMs, look);
  }

  /** Looks now and then whether a WebSocket comes through by now. */
  #probeLater(ms: number): void {
    const { webSocket, limits } = this.#settings;
    if (webSocket === undefined) return;
    const cancelTimer = this.#clock.after(ms, () => {
      const give = this.#clock.after(limits.openMs, () => {
        cancelProbe();
        this.#probeLater(limits.upgradeMs);
      });
      const cancelProbe = probeWebSocket(webSocket, this.#baseUrl(), () => {
        give();
        this.#dispatch({ t: "upgrade" });
      });
      this.#probe = () => {
        give();
        cancelProbe();
      };
    });
    this.#probe = cancelTimer;
  }

  #closed(why: Closing): void {
    const chance = this.#settings.random.unit();
    this.#dispatch({ t: "closed", closing: why, atMs: this.#clock.monotonic(), chance });
  }

  #dropLink(): void {
    this.#watch();
    this.#probe();
    this.#link?.close();
    this.#link = undefined;
  }
}

function reasonText(reason: CloseReason): string {
  switch (reason) {
    case CloseReason.DRAINING:
      return "the gateway is going away";
    case CloseReason.SLOW:
      return "the device did not read fast enough";
    case CloseReason.SILENT:
      return "nothing was heard from the device";
    case CloseReason.RATE:
      return "too many frames or bytes in too short a time";
    case CloseReason.ELSEWHERE:
      return "the user belongs to another region";
    case CloseReason.UNAUTHENTICATED:
      return "the token is missing, wrong or no longer valid";
    case CloseReason.PROTOCOL:
      return "a frame was no frame, or too large";
    case CloseReason.REPLACED:
      return "the same device connected again";
    default:
      return `the server ended the connection with reason ${reason}`;
  }
}
