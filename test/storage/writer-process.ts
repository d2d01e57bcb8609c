/** A process that writes to a data directory until it is killed, and says what was answered. Run by crash.spec.ts. */
import assert from "node:assert/strict";
import { writeSync } from "node:fs";
import { openIn } from "./folder.ts";
import { batch, member, write } from "./writes.ts";

const [folder = "", conversations = "1"] = process.argv.slice(2);
const limits = { beginBytes: 40_000, beginMs: 10 };
const { store } = await openIn(folder, { limits });

/** One writer a conversation, each with one batch under way. */
async function keepWriting(id: string): Promise<never> {
  for (let headSeq = (await store.conversation(id))?.headSeq ?? 0; ;) {
    const count = 1 + (headSeq % 3);
    const members = [
      member("alice", { deliveredSeq: headSeq, readSeq: headSeq, readOrdinal: headSeq }),
    ];
    await store.append(
      batch("one", write({ id, from: headSeq + 1, count, members })),
      () => undefined,
    );
    headSeq += count;
    assert(writeSync(1, `${id} ${headSeq}\n`) > 0);
  }
}

await Promise.all(
  Array.from({ length: Number(conversations) }, (_, index) => keepWriting(`g:${index}`)),
);
