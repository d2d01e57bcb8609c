/** The own messages that are not in the log: on their way, or refused and why. */
import type { SendHandle, StatusEvent } from "../client/index.ts";
import { messageOf } from "./chat-sdk.ts";
import type { Outgoing } from "./chat-state.ts";

const failedMax = 50;

export class Sent {
  /** Sent from here, until their fate is known. */
  readonly #open = new Map<string, { conversation: string; handle: SendHandle }>();
  readonly #failed = new Map<string, { conversation: string; outgoing: Outgoing }>();

  add(conversation: string, handle: SendHandle): void {
    this.#open.set(handle.clientId, { conversation, handle });
  }

  /** False: a message was refused that is shown nowhere. */
  status(event: StatusEvent): boolean {
    const { clientId, status } = event;
    const known = this.#open.get(clientId);
    if (status !== "pending") this.#open.delete(clientId);
    if (status !== "failed") return true;
    if (known === undefined) return false;
    const { content } = known.handle;
    const outgoing = { clientId, content, failed: messageOf(event.error) };
    this.#failed.set(clientId, { conversation: known.conversation, outgoing });
    for (const oldest of this.#failed.keys()) {
      if (this.#failed.size > failedMax) this.#failed.delete(oldest);
    }
    return true;
  }

  /** What a conversation shows below its records; `pending` is what the SDK has not sent yet. */
  outgoing(conversation: string, pending: readonly SendHandle[]): Outgoing[] {
    const failed = [...this.#failed.values()].filter(
      (entry) => entry.conversation === conversation,
    );
    const waiting = pending.filter(
      ({ clientId, conversationId }) =>
        (conversationId ?? this.#open.get(clientId)?.conversation) === conversation,
    );
    return [
      ...failed.map(({ outgoing }) => outgoing),
      ...waiting.map(({ clientId, content }) => ({ clientId, content, failed: undefined })),
    ];
  }
}
