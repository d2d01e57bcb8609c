/** A chat through pipes: each line of the input is sent, whatever happens is printed as a line, for people or as JSON. */
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { Connection, SendHandle } from "../client/index.ts";
import { type ChatEvent, jsonLine, plainLine } from "./chat-events.ts";
import { type ChatSdk, linkOf, messageOf } from "./chat-sdk.ts";
import { type Link, peerOf } from "./chat-state.ts";

export interface LinesParts {
  readonly sdk: ChatSdk;
  readonly me: string;
  /** Undefined: all conversations are listened to, and nothing can be sent. */
  readonly conversation: string | undefined;
  readonly json: boolean;
  readonly input: Readable;
  print(line: string): void;
  complain(line: string): void;
  readonly signal: AbortSignal;
  /** What is unsent then waits for the next start. */
  after(ms: number, run: () => void): () => void;
}

/** Messages under way at once: more lines are read as these are sent. */
const underWayMax = 256;
/** How long it goes on trying after the end of the input. */
const finishMs = 60_000;

/** Resolves with the process's exit code: 0 once all is sent, 1 where something was not. */
export async function runLines(parts: LinesParts): Promise<number> {
  const { sdk, conversation, signal } = parts;
  const lines = new Lines(parts);
  const stopped = new Promise<void>((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
    sdk.on("connection", ({ t }) => {
      if (t === "stopped") resolve();
    });
  });
  sdk.connect();
  const input = createInterface({ input: parts.input, crlfDelay: Infinity });
  void stopped.then(() => input.close());
  try {
    for await (const line of input) {
      if (line.trim() === "") continue;
      if (conversation === undefined)
        lines.refuse("nothing can be sent without --with USER or --group ID");
      else lines.send(line);
      if (lines.underWay >= underWayMax) await Promise.race([lines.oneSent(), stopped]);
    }
  } catch (error) {
    lines.refuse(messageOf(error));
  }
  let cancel: (() => void) | undefined;
  const late = new Promise<void>((resolve) => {
    cancel = parts.after(finishMs, resolve);
  });
  await Promise.race([lines.finished(), stopped, late]);
  cancel?.();
  return lines.end();
}

class Lines {
  readonly #parts: LinesParts;
  readonly #peer: string | undefined;
  readonly #underWay = new Set<Promise<unknown>>();
  /** Messages of this process: their records are the ticks, not lines of their own. */
  readonly #own = new Set<string>();
  readonly #said = new Map<string, string>();
  #watching = false;
  #code = 0;
  #ended = false;

  constructor(parts: LinesParts) {
    this.#parts = parts;
    this.#peer =
      parts.conversation === undefined ? undefined : peerOf(parts.conversation, parts.me);
    this.#listen();
  }

  get underWay(): number {
    return this.#underWay.size;
  }

  send(text: string): void {
    const { sdk, conversation } = this.#parts;
    if (conversation === undefined) return;
    const exists = sdk.conversation(conversation) !== undefined;
    const target = this.#peer !== undefined && !exists ? { user: this.#peer } : { conversation };
    try {
      this.#follow(sdk.send(target, text));
    } catch (error) {
      this.refuse(messageOf(error));
    }
  }

  refuse(why: string): void {
    this.#code = 1;
    this.#complain(why);
  }

  async oneSent(): Promise<void> {
    await Promise.race(this.#underWay);
  }

  /** What was committed before is known, and all is sent, what an earlier process left included. */
  async finished(): Promise<void> {
    await this.#parts.sdk.ready().catch(() => undefined);
    for (const handle of this.#parts.sdk.pending()) this.#follow(handle);
    await Promise.all(this.#underWay);
    // Cursors go out at the end of a turn.
    for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }

  end(): number {
    const { sdk } = this.#parts;
    const unsent = sdk.pending().length;
    if (unsent > 0) this.refuse(`${unsent} message${unsent === 1 ? " is" : "s are"} not sent yet`);
    if (sdk.connection.t === "stopped") this.#code = 1;
    this.#ended = true;
    return this.#code;
  }

  #follow(handle: SendHandle): void {
    if (this.#own.has(handle.clientId)) return;
    this.#own.add(handle.clientId);
    const settled = handle.sent.then(
      () => undefined,
      () => {
        this.#code = 1;
      },
    );
    this.#underWay.add(settled);
    void settled.then(() => this.#underWay.delete(settled));
  }

  #listen(): void {
    const { sdk, conversation, me } = this.#parts;
    const here = (id: string): boolean => conversation === undefined || id === conversation;
    sdk.on("connection", (connection) => {
      const link = linkOf(connection, 0);
      this.#state(connection, link);
      if (link.t === "stopped") this.#complain(link.why);
      this.#watching = false;
    });
    sdk.on("synced", () => {
      this.#say({ type: "synced" });
      this.#watch();
    });
    sdk.on("conversation", () => this.#watch());
    sdk.on("record", ({ conversationId, record, own }) => {
      if (!here(conversationId)) return;
      this.#say({ type: "record", record, own });
      if (conversation !== undefined) sdk.markRead(conversation, record.seq);
    });
    sdk.on("status", (event) => {
      if (!("conversationId" in event) || here(event.conversationId))
        this.#say({ type: "status", status: event });
    });
    sdk.on("typing", ({ conversationId, userId }) => {
      if (here(conversationId) && userId !== me)
        this.#say({ type: "typing", conversationId, userId });
    });
    sdk.on("presence", (presence) => this.#say({ type: "presence", presence }));
    sdk.on("gap", (gap) => {
      if (here(gap.conversationId)) this.#say({ type: "gap", ...gap });
    });
    sdk.on("error", ({ during, error }) => this.#complain(`${during}: ${messageOf(error)}`));
  }

  #state(connection: Connection, link: Link): void {
    if (link.t === "waiting") {
      const { untilMs: delayMs, why: reason } = link;
      this.#say({ type: "state", state: "waiting", delayMs, reason });
    } else if (link.t === "stopped")
      this.#say({ type: "state", state: "stopped", reason: link.why });
    else if (link.t === "live") {
      this.#say({ type: "state", state: "live", transport: link.transport });
    } else if (connection.t === "connecting") this.#say({ type: "state", state: "connecting" });
  }

  /** Tells of the others' coming and going, once it is known who they are. */
  #watch(): void {
    const { sdk, conversation, me } = this.#parts;
    if (conversation === undefined || this.#watching || sdk.connection.t !== "live") return;
    if (sdk.conversation(conversation) === undefined) return;
    this.#watching = true;
    const others =
      this.#peer !== undefined
        ? Promise.resolve([this.#peer])
        : sdk
            .listMembers(conversation, { limit: 1_000 })
            .then(({ members }) =>
              members.map(({ userId }) => userId).filter((user) => user !== me),
            );
    others
      .then((users) => sdk.watchPresence(users))
      .catch((error: unknown) => this.#complain(`presence: ${messageOf(error)}`));
  }

  #complain(why: string): void {
    if (!this.#ended) this.#parts.complain(why);
  }

  #say(event: ChatEvent): void {
    if (this.#ended) return;
    const { json, conversation, me } = this.#parts;
    if (json) return this.#parts.print(jsonLine(event));
    const line = plainLine(event, {
      me,
      all: conversation === undefined,
      isOwnHere: (clientId) => this.#own.has(clientId),
    });
    if (line === undefined) return;
    // A status or a presence that is told again, with other numbers, says nothing new to people.
    if (line.once !== undefined) {
      if (this.#said.get(line.once) === line.text) return;
      if (this.#said.size > 10_000) this.#said.clear();
      this.#said.set(line.once, line.text);
    }
    this.#parts.print(line.text);
  }
}
