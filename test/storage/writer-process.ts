/** A process that writes to a data directory until it is killed, and says what was answered. Run by crash.spec.ts. */
import { openIn } from "./folder.ts";
import { batch, member, write } from "./writes.ts";

const [folder = "", conversations = "1"] = process.argv.slice(2);
const config = { checkpointBytes: 40_000, checkpointMs: 10 };
const { store } = await openIn(folder, { config });

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
    await new Promise((said) => process.stdout.write(`${id} ${headSeq}\n`, said));
  }
}

await Promise.all(
  Array.from({ length: Number(conversations) }, (_, index) => keepWriting(`g:${index}`)),
);
