/** The host's end of the channel between the tabs of an account: carries calls to the host, and tells all tabs what happens. */
import {
  accountName,
  isChannelMessage,
  type ChannelMessage,
  type HostMessage,
  type TabMessage,
} from "./channel.ts";
import { Host, reasonOf } from "./host.ts";
import type { Account } from "./session.ts";

type Call = TabMessage & { readonly t: "call" };

export class HostChannel {
  readonly #number = Date.now();
  readonly #channel: BroadcastChannel;
  readonly #host: Host;
  readonly #ready: Promise<void>;
  readonly #tabs = new Set<string>();
  readonly #closing = new AbortController();

  constructor(url: string, account: Account) {
    const channel = new BroadcastChannel(accountName(account.userId));
    this.#channel = channel;
    this.#host = new Host(url, account, (event) =>
      this.#say({ t: "event", host: this.#number, event }),
    );
    channel.addEventListener("message", ({ data }) => {
      if (isChannelMessage(data)) this.#heard(data);
    });
    this.#ready = this.#host.begin();
    this.#say({ t: "here", host: this.#number });
  }

  get host(): Host {
    return this.#host;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#channel.close();
    await this.#ready.catch(() => undefined);
    await this.#host.close();
  }

  #heard(message: ChannelMessage): void {
    switch (message.t) {
      case "ping":
        this.#say({ t: "here", host: this.#number });
        return;
      case "hello":
        this.#say({ t: "here", host: this.#number });
        void this.#greet(message.tab);
        return;
      case "call":
        void this.#answer(message);
        return;
      default:
    }
  }

  async #greet(tab: string): Promise<void> {
    this.#watchTab(tab);
    await this.#ready;
    this.#say({ t: "snapshot", host: this.#number, tab, snapshot: this.#host.snapshot() });
  }

  /** Every tab holds a lock by its own name; who gets it here knows that the tab is gone. */
  #watchTab(tab: string): void {
    if (this.#tabs.has(tab)) return;
    this.#tabs.add(tab);
    navigator.locks
      .request(tab, { signal: this.#closing.signal }, () => {
        this.#tabs.delete(tab);
        this.#host.forget(tab);
      })
      .catch(() => undefined);
  }

  async #answer({ tab, id, name, args }: Call): Promise<void> {
    const answer = (value: unknown, error: string): void =>
      this.#say({ t: "answer", host: this.#number, tab, id, value, error });
    try {
      await this.#ready;
      const call: unknown = Reflect.get(this.#host, name);
      if (typeof call !== "function") throw new Error(`there is no call ${name}`);
      answer(await Reflect.apply(call, this.#host, args), "");
    } catch (error) {
      answer(undefined, reasonOf(error));
    }
  }

  #say(message: HostMessage): void {
    if (!this.#closing.signal.aborted) this.#channel.postMessage(message);
  }
}
