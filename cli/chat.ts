/** `parley chat`. */
import type { Command } from "commander";

export function addChat(program: Command): void {
  void program;
}
