/** What the SDK needs on Node besides: a WebSocket for versions without one, and a store in a file. */
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { WebSocket } from "ws";
import { ParleyClient } from "./client.ts";
import type { ClientOptions } from "./options.ts";
import type { ClientStore } from "./store.ts";

/** Compression costs memory in every connection and gains little on short messages. */
export class NodeWebSocket extends WebSocket {
  constructor(url: string, protocols: string[]) {
    super(url, protocols, { perMessageDeflate: false });
  }
}

/**
 * Keeps all in one JSON file, written anew at each save: for a device's outbox and conversations, not for a history. A crash
 * leaves the old file or the new one.
 */
export class FileStore implements ClientStore {
  readonly #path: string;
  readonly #items = new Map<string, Uint8Array>();

  constructor(path: string) {
    this.#path = path;
  }

  /** Rejects where the file is not one that a FileStore wrote. */
  async load(): Promise<ReadonlyMap<string, Uint8Array>> {
    const text = await readFile(this.#path, "utf8").catch((error: unknown) => {
      if (isMissing(error)) return "{}";
      throw error;
    });
    this.#items.clear();
    for (const [key, value] of itemsOf(text, this.#path)) this.#items.set(key, value);
    return new Map(this.#items);
  }

  async save(changes: ReadonlyMap<string, Uint8Array | undefined>): Promise<void> {
    for (const [key, value] of changes) {
      if (value === undefined) this.#items.delete(key);
      else this.#items.set(key, value);
    }
    const entries = [...this.#items].map(([key, value]) => [
      key,
      Buffer.from(value).toString("base64"),
    ]);
    const next = `${this.#path}.next`;
    await mkdir(dirname(this.#path), { recursive: true });
    const file = await open(next, "w", 0o600);
    try {
      await file.writeFile(JSON.stringify(Object.fromEntries(entries), undefined, 1));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(next, this.#path);
  }
}

/** A client with `ws` for its WebSocket, and a file for its store where one is named. */
export function createNodeClient(
  options: ClientOptions & { readonly storePath?: string },
): ParleyClient {
  const { storePath, ...rest } = options;
  const store = storePath === undefined ? {} : { store: new FileStore(storePath) };
  return new ParleyClient({ webSocket: NodeWebSocket, ...store, ...rest });
}

function itemsOf(text: string, path: string): [string, Uint8Array][] {
  const whole: unknown = JSON.parse(text);
  if (typeof whole !== "object" || whole === null) {
    throw new TypeError(`${path} is not a client's store: move it away, or name another file`);
  }
  return Object.entries(whole).map(([key, value]) => [
    key,
    new Uint8Array(Buffer.from(String(value), "base64")),
  ]);
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
