/** `parley bench`: the load generator of bench/, with its options. */
import type { Command } from "commander";
import { main } from "../bench/main.ts";

export function addBench(program: Command): void {
  program
    .command("bench")
    .description(
      "measure throughput, latency and memory, and look for lost, doubled and reordered messages",
    )
    .allowUnknownOption()
    .helpOption(false)
    .argument("[options...]", "see parley bench --help")
    .action(async (options: string[]) => main(options));
}
