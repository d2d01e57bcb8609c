/** `parley erase`: erases a user for good, shows how far it is, and prints the receipt. */
import { createClient } from "@connectrpc/connect";
import type { Command } from "commander";
import { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { ErasureReceipt } from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { type MeshOptions, overMesh, withMesh } from "./mesh.ts";

export function addErase(program: Command, version: string): void {
  const command = program
    .command("erase")
    .description(
      "erase a user for good: what they wrote and uploaded, and what is kept of them; where it breaks off, run it again",
    )
    .argument("<user>", "the user's id")
    .option("--yes", "it cannot be taken back, and nobody can have the id again: do it");
  withMesh(command, "any gateway").action((user: string, options: EraseOptions) =>
    erase(user, version, options),
  );
}

interface EraseOptions extends MeshOptions {
  readonly yes?: true;
}

async function erase(user: string, version: string, options: EraseOptions): Promise<void> {
  if (options.yes !== true)
    throw new Error(`erasing ${user} cannot be taken back: say --yes if that is what you want`);
  const receipt = await overMesh(options, "any gateway", async (transport) => {
    let last: ErasureReceipt | undefined;
    const answers = createClient(GatewayService, transport).eraseUser({ userId: user });
    for await (const { conversationsLeft, receipt: told } of answers) {
      last = told;
      const done = `${told?.conversations ?? 0} conversations, ${told?.messages ?? 0} messages`;
      process.stderr.write(`parley: ${done} erased, ${conversationsLeft} conversations left\n`);
    }
    return last;
  });
  if (receipt === undefined || receipt.finishedMs === 0n)
    throw new Error("the erasure did not come to its end: run it again");
  console.log(JSON.stringify({ user, ...shown(receipt), version }));
}

const shown = (receipt: ErasureReceipt): object => ({
  userHash: receipt.userHash,
  began: new Date(Number(receipt.beganMs)).toISOString(),
  finished: new Date(Number(receipt.finishedMs)).toISOString(),
  conversations: receipt.conversations,
  messages: Number(receipt.messages),
  changes: Number(receipt.changes),
  media: Number(receipt.media),
});
