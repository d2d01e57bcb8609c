/** What a client told, and a way to wait for more of it. */
import type { ClientEvents, ParleyClient } from "../../client/index.ts";

export class Watch {
  readonly records: string[] = [];
  readonly gaps: string[] = [];
  readonly statuses: ClientEvents["status"][] = [];
  readonly states: string[] = [];
  readonly errors: string[] = [];
  readonly resyncs: string[] = [];
  readonly #watchers = new Set<() => void>();

  constructor(client: ParleyClient) {
    const names: (keyof ClientEvents)[] = [
      ...(["record", "gap", "status", "connection", "conversation", "synced"] as const),
      ...(["cursor", "presence", "typing", "error", "resync", "anew"] as const),
    ];
    client.on("record", ({ record }) => this.records.push(textOf(record)));
    client.on("gap", ({ from, to, more }) => this.gaps.push(`${from}-${to}${more ? "+" : ""}`));
    client.on("status", (event) => this.statuses.push(event));
    client.on("connection", (state) => this.states.push(state.t));
    client.on("error", ({ during, error }) => this.errors.push(`${during}: ${String(error)}`));
    client.on("resync", ({ why }) => this.resyncs.push(why));
    for (const name of names) client.on(name, () => this.#tell());
  }

  async until(found: () => boolean): Promise<void> {
    while (!found()) {
      await new Promise<void>((resolve) => {
        const watcher = (): void => {
          this.#watchers.delete(watcher);
          resolve();
        };
        this.#watchers.add(watcher);
      });
    }
  }

  #tell(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

/** "3:hello". */
function textOf(record: ClientEvents["record"]["record"]): string {
  return record.body.case === "message"
    ? `${record.seq}:${record.body.value.text}`
    : `${record.seq}`;
}
