/** Settings as flags of a command: flags win over the environment, and names of the environment that are no setting are still found out. */
import { type Command, Option } from "commander";
import type { Setting, SettingValues } from "../mesh/env.ts";

export function addSettings(command: Command, settings: readonly Setting[]): void {
  for (const { name, flag, doc, standard, range } of settings) {
    const words = [
      doc,
      range === "" ? "" : `(${range})`,
      standard === "" ? "" : `[${standard}]`,
      name,
    ];
    command.addOption(
      new Option(`${flag} <value>`, words.filter((word) => word !== "").join(" ")).env(name),
    );
  }
}

/** Settings of the commands of clients and operators. */
const clientOnly = new Set(["PARLEY_URL", "PARLEY_TOKEN", "PARLEY_MESH"]);

export function settingValues(command: Command): SettingValues {
  const values: Record<string, string | undefined> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (name.startsWith("PARLEY_") && !clientOnly.has(name)) values[name] = value;
  }
  for (const option of command.options) {
    const value: unknown = command.getOptionValue(option.attributeName());
    if (option.envVar !== undefined && typeof value === "string") values[option.envVar] = value;
  }
  return values;
}
