/** Up to where the index of conversations is known to be raised, of those that were written last. What it forgets is written once more. */
import type { ConversationWrite } from "../../proto/gen/parley/storage/v1/storage_pb.ts";

const rememberedMax = 65_536;

export class RaisedHeads {
  readonly #heads = new Map<string, number>();

  /** Whether the write's state is to be written: not where only cursors move and every row has that head. */
  toRaise({ conversationId, cells, state }: ConversationWrite): boolean {
    if (state === undefined) return false;
    return cells.length > 0 || (this.#heads.get(conversationId) ?? 0) < state.headSeq;
  }

  /** All rows have it. */
  raised({ conversationId, state }: ConversationWrite): void {
    const known = this.#heads.get(conversationId) ?? 0;
    if (state === undefined || state.headSeq <= known) return;
    this.#heads.delete(conversationId);
    this.#heads.set(conversationId, state.headSeq);
    if (this.#heads.size <= rememberedMax) return;
    for (const oldest of this.#heads.keys()) {
      this.#heads.delete(oldest);
      return;
    }
  }
}
