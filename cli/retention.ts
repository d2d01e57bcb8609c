/** `parley retention`: how long a conversation is kept; says it, sets it, and removes what is due. */
import { createClient } from "@connectrpc/connect";
import type { Command } from "commander";
import { StorageService, type Retention } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { type MeshOptions, overMesh, withMesh } from "./mesh.ts";

const dayMs = 86_400_000;

interface RetentionOptions extends MeshOptions {
  readonly days?: string;
}

export function addRetention(program: Command): void {
  const command = program
    .command("retention")
    .description(
      "say how long a conversation's messages are kept; with --days, set it and remove what is older",
    )
    .argument("<conversation>", "d:alice:bob or g:…")
    .option("--days <n>", "remove messages of so many days ago and before; 0: keep them for ever");
  withMesh(command, "any storage process").action(retention);
}

async function retention(conversationId: string, options: RetentionOptions): Promise<void> {
  const { days } = options;
  if (days !== undefined && !(Number(days) >= 0)) throw new Error("--days takes a number");
  const kept = await overMesh(options, "any storage process", async (transport) => {
    const storage = createClient(StorageService, transport);
    if (days === undefined) return (await storage.getRetention({ conversationId })).retention;
    const retentionMs = BigInt(Math.round(Number(days) * dayMs));
    let now: Retention | undefined;
    await storage.setRetention({ conversationId, retentionMs });
    for (let more = true; more;) {
      const step = await storage.sweepRetention({ conversationId });
      more = step.more;
      now = step.retention;
      if (more) process.stderr.write(`parley: removed up to #${(now?.floorSeq ?? 1) - 1}\n`);
    }
    return now;
  });
  const { retentionMs = 0n } = kept ?? {};
  // As a Sync says it: the history begins with #1 where nothing was removed.
  const floorSeq = Math.max(1, kept?.floorSeq ?? 0);
  const keptDays = retentionMs === 0n ? null : Number(retentionMs) / dayMs;
  console.log(JSON.stringify({ conversationId, days: keptDays, floorSeq }));
}
