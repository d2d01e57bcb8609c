/** The store's own tables, read from its CREATE TABLE statements, and how values of their types are kept and put in order. */
import assert from "node:assert/strict";
import { steps } from "../../../storage/cassandra/schema.ts";

export type Type = "text" | "int" | "bigint" | "blob" | "boolean";

export interface Column {
  readonly name: string;
  readonly type: Type;
}

export interface Table {
  readonly name: string;
  readonly partition: readonly Column[];
  /** Rows of a partition are told apart, and are in order of, this; undefined: one row a partition. */
  readonly clustering: Column | undefined;
  /** Kept once for a partition. */
  readonly statics: readonly Column[];
  readonly regular: readonly Column[];
}

/** Every column, as `SELECT *` gives them. */
export const columnsOf = ({ partition, clustering, statics, regular }: Table): Column[] => [
  ...partition,
  ...(clustering === undefined ? [] : [clustering]),
  ...statics,
  ...regular,
];

export const tables: ReadonlyMap<string, Table> = new Map(
  steps.map((step) => tableOf(step)).map((table) => [table.name, table]),
);

function tableOf(statement: string): Table {
  const found = /^CREATE TABLE IF NOT EXISTS (\w+) \(([\s\S]*?)\)\s*WITH /.exec(statement);
  assert(found !== null, `no table: ${statement}`);
  const [, name = "", body = ""] = found;
  const keyed = /PRIMARY KEY \(\(([^)]*)\)(?:, (\w+))?\)/.exec(body);
  const alone = /(\w+) text PRIMARY KEY/.exec(body)?.[1];
  const partition = keyed === null ? [alone ?? ""] : (keyed[1] ?? "").split(/,\s*/);
  const declared = body
    .replace(/,\s*PRIMARY KEY \([\s\S]*$/, "")
    .split(",")
    .map((one) => /^\s*(\w+) (text|int|bigint|blob|boolean)( static)?( PRIMARY KEY)?\s*$/.exec(one))
    .map((one) => {
      assert(one !== null, `a column of ${name} is not understood`);
      return { name: one[1] ?? "", type: one[2] as Type, fixed: one[3] !== undefined };
    });
  const column = (wanted: string): Column => {
    const one = declared.find((each) => each.name === wanted);
    assert(one !== undefined, `${name} has no column ${wanted}`);
    return { name: one.name, type: one.type };
  };
  const keys = keyed?.[2] === undefined ? partition : [...partition, keyed[2]];
  const rest = declared.filter((one) => !keys.includes(one.name));
  return {
    name,
    partition: partition.map(column),
    clustering: keyed?.[2] === undefined ? undefined : column(keyed[2]),
    statics: rest.filter(({ fixed }) => fixed).map((one) => column(one.name)),
    regular: rest.filter(({ fixed }) => !fixed).map((one) => column(one.name)),
  };
}

/** As bytes, one a character: equal where the values are, and in the order in which Cassandra has them. Undefined: not of that type. */
export function encoded(type: Type, value: unknown): string | undefined {
  switch (type) {
    case "text":
      return typeof value === "string" ? Buffer.from(value).toString("latin1") : undefined;
    case "blob":
      return value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : undefined;
    case "boolean":
      return typeof value === "boolean" ? (value ? "\x01" : "\x00") : undefined;
    case "int": {
      if (typeof value !== "number" || !Number.isInteger(value)) return undefined;
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE((value + 2 ** 31) >>> 0);
      return bytes.toString("latin1");
    }
    case "bigint": {
      if (typeof value !== "bigint") return undefined;
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64BE(BigInt.asUintN(64, value + 2n ** 63n));
      return bytes.toString("latin1");
    }
  }
}

export function decoded(type: Type, bytes: string): unknown {
  const buffer = Buffer.from(bytes, "latin1");
  switch (type) {
    case "text":
      return buffer.toString();
    case "blob":
      return buffer;
    case "boolean":
      return bytes === "\x01";
    case "int":
      return buffer.readUInt32BE() - 2 ** 31;
    case "bigint":
      return buffer.readBigUInt64BE() - 2n ** 63n;
  }
}
