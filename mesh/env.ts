/** Reads settings once, at start: every fault is named at once, and what was read can be listed for documents and flags. */

export interface Setting {
  /** With its prefix: "PARLEY_PORT". */
  readonly name: string;
  readonly doc: string;
  /** As it would be written; empty where there is none. */
  readonly standard: string;
  /** What it may be, for people: "0 to 65535", "yes or no". */
  readonly range: string;
  /** How it is given on a command line: "--port". */
  readonly flag: string;
}

export type SettingValues = Readonly<Record<string, string | undefined>>;

/**
 * `read.done({ port: read.int("PORT", 8080, [0, 65_535], "…") })`. A setting that is empty counts as not set. Wrong ones read as their
 * standard value until `done` throws.
 */
export class EnvReader {
  readonly #values: SettingValues;
  readonly #prefix: string;
  readonly #settings = new Map<string, Setting>();
  readonly #faults: string[] = [];

  constructor(values: SettingValues, prefix: string) {
    this.#values = values;
    this.#prefix = prefix;
  }

  /** What was read so far, in that order. */
  get settings(): readonly Setting[] {
    return [...this.#settings.values()];
  }

  int(name: string, standard: number, [min, max]: readonly [number, number], doc: string): number {
    const range = `${min} to ${max}`;
    const text = this.#text(name, String(standard), range, doc);
    if (text === undefined) return standard;
    const value = /^-?\d+$/.test(text) ? Number(text) : NaN;
    if (value >= min && value <= max) return value;
    return this.#fault(name, `must be a whole number from ${range}, not "${text}"`, standard);
  }

  /** With decimals: "0.001". */
  number(
    name: string,
    standard: number,
    [min, max]: readonly [number, number],
    doc: string,
  ): number {
    const range = `${min} to ${max}`;
    const text = this.#text(name, String(standard), range, doc);
    if (text === undefined) return standard;
    const value = /^\d*\.?\d+$/.test(text) ? Number(text) : NaN;
    if (value >= min && value <= max) return value;
    return this.#fault(name, `must be a number from ${range}, not "${text}"`, standard);
  }

  string(name: string, standard: string, doc: string): string {
    return this.#text(name, standard, "", doc) ?? standard;
  }

  /** A text that there may be or not. */
  optional(name: string, doc: string): string | undefined {
    return this.#text(name, "", "", doc);
  }

  oneOf<T extends string>(name: string, standard: T, choices: readonly T[], doc: string): T {
    const range = choices.join(", ");
    const text = this.#text(name, standard, range, doc);
    if (text === undefined) return standard;
    const choice = choices.find((one) => one === text);
    return choice ?? this.#fault(name, `must be one of ${range}, not "${text}"`, standard);
  }

  flag(name: string, standard: boolean, doc: string): boolean {
    const text = this.#text(name, standard ? "yes" : "no", "yes or no", doc);
    if (text === undefined) return standard;
    if (/^(1|true|yes|on)$/i.test(text)) return true;
    if (/^(0|false|no|off)$/i.test(text)) return false;
    return this.#fault(name, `must be yes or no, not "${text}"`, standard);
  }

  /** Texts with commas between them. */
  list(name: string, standard: readonly string[], doc: string): readonly string[] {
    const text = this.#text(name, standard.join(","), "texts with commas between them", doc);
    if (text === undefined) return standard;
    return text
      .split(",")
      .map((one) => one.trim())
      .filter((one) => one !== "");
  }

  /** For what only the whole of the settings shows. */
  wrong(message: string): void {
    this.#faults.push(message);
  }

  /** The settings, frozen, or one error that names everything wrong, unknown names included. */
  done<T extends object>(config: T): Readonly<T> {
    for (const name of Object.keys(this.#values)) {
      if (name.startsWith(this.#prefix) && !this.#settings.has(name))
        this.#faults.push(`${name} is not a setting${this.#meant(name)}`);
    }
    if (this.#faults.length > 0)
      throw new Error(
        `the settings are wrong:\n${this.#faults.map((one) => `  ${one}`).join("\n")}`,
      );
    return freeze(config);
  }

  #text(name: string, standard: string, range: string, doc: string): string | undefined {
    const full = this.#prefix + name;
    const flag = `--${name.toLowerCase().replaceAll("_", "-")}`;
    this.#settings.set(full, { name: full, doc, standard, range, flag });
    const text = this.#values[full]?.trim();
    return text === "" ? undefined : text;
  }

  #fault<T>(name: string, message: string, standard: T): T {
    this.#faults.push(`${this.#prefix}${name} ${message}`);
    return standard;
  }

  /** The setting whose name is an edit or two away. */
  #meant(name: string): string {
    const near = [...this.#settings.keys()].find((known) => distance(known, name) <= 2);
    return near === undefined ? "" : `; did you mean ${near}?`;
  }
}

function freeze<T extends object>(value: T): Readonly<T> {
  for (const part of Object.values(value) as unknown[]) {
    if (Array.isArray(part) || isPlain(part)) freeze(part);
  }
  return Object.freeze(value);
}

function isPlain(value: unknown): value is object {
  return (
    typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype
  );
}

/** How many letters to add, drop or change to make one text of the other. */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (let i = 0; i < one.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < other.length; j++) {
      const change = (row[j] ?? 0) + (one[i] === other[j] ? 0 : 1);
      next.push(Math.min(change, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
