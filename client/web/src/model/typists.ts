/** Who is typing where: nobody says when they stop, so it ends by itself. */
import { signal } from "@preact/signals";

const lastsMs = 5_000;

export class Typists {
  readonly #until = new Map<string, Map<string, number>>();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly all = signal<ReadonlyMap<string, readonly string[]>>(new Map());

  add(conversationId: string, userId: string): void {
    const until = this.#until.get(conversationId) ?? new Map<string, number>();
    until.set(userId, performance.now() + lastsMs);
    this.#until.set(conversationId, until);
    this.#publish(conversationId);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      const end = until.get(userId);
      if (end === undefined || end > performance.now() + 50) return;
      this.remove(conversationId, userId);
    }, lastsMs + 10);
    this.#timers.add(timer);
  }

  remove(conversationId: string, userId: string): void {
    if (this.#until.get(conversationId)?.delete(userId) === true) this.#publish(conversationId);
  }

  end(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #publish(conversationId: string): void {
    const users = [...(this.#until.get(conversationId)?.keys() ?? [])];
    this.all.value = new Map(this.all.value).set(conversationId, users);
  }
}
