/** What a statement of the store means: a change of one row, or the rows that it asks for. What it does not understand it refuses. */
import { errors, types } from "cassandra-driver";
import { type Column, columnsOf, encoded, type Table, tables } from "./schema.ts";
import { type Cell, cellWith, deletedBelow, deletion, type Mutation, type Range } from "./table.ts";

/** A partition's rows, or some of them; `columns` are those that are told. */
export interface Selection {
  readonly kind: "read";
  readonly table: Table;
  readonly partition: string;
  readonly range: Range;
  readonly columns: readonly Column[];
}

export interface Change {
  readonly kind: "write";
  readonly mutation: Mutation;
}

const refused = (message: string): errors.ResponseError =>
  new errors.ResponseError(types.responseErrorCodes.invalid, message);

const keyOf = (parts: readonly string[]): string =>
  parts.map((part) => `${part.length}:${part}`).join("");

type Values = ReadonlyMap<string, unknown>;

interface Parsed {
  /** In the order of the statement's question marks and literals. */
  (params: readonly unknown[], clientMicros: () => bigint): Selection | Change;
}

const parsed = new Map<string, Parsed>();

/** `clientMicros`: the timestamp of a write that names none, which is the client's clock's. */
export function understood(
  query: string,
  params: readonly unknown[],
  clientMicros: () => bigint,
): Selection | Change {
  const known = parsed.get(query) ?? parse(query);
  parsed.set(query, known);
  return known(params, clientMicros);
}

function parse(query: string): Parsed {
  const insert =
    /^INSERT INTO \w+\.(\w+) \(([^)]+)\) VALUES \(([^)]+)\)(?: USING TIMESTAMP (\?|\d+))?$/.exec(
      query,
    );
  if (insert !== null) return insertOf(insert);
  const update = /^UPDATE \w+\.(\w+)(?: USING TIMESTAMP (\?|\d+))? SET (.+) WHERE (.+)$/.exec(
    query,
  );
  if (update !== null) return updateOf(update);
  const remove = /^DELETE FROM \w+\.(\w+) USING TIMESTAMP (\?|\d+) WHERE (.+)$/.exec(query);
  if (remove !== null) return removeOf(remove);
  const select = /^SELECT (.+) FROM \w+\.(\w+) WHERE (.+?)(?: LIMIT (\?|\d+))?$/.exec(query);
  if (select !== null) return selectOf(select);
  throw refused(`the simulated Cassandra does not know: ${query}`);
}

function tableNamed(name: string | undefined): Table {
  const table = tables.get(name ?? "");
  if (table === undefined) throw refused(`there is no table ${name}`);
  return table;
}

/** Takes the parameters one after the other. */
class Params {
  readonly #params: readonly unknown[];
  #at = 0;

  constructor(params: readonly unknown[]) {
    this.#params = params;
  }

  take(literal: string): unknown {
    if (literal === "true" || literal === "false") return literal === "true";
    if (/^\d+$/.test(literal)) return BigInt(literal);
    if (literal !== "?") throw refused(`a value is not understood: ${literal}`);
    if (this.#at >= this.#params.length) throw refused("there are too few parameters");
    this.#at += 1;
    return this.#params[this.#at - 1];
  }

  timestamp(literal: string | undefined, clientMicros: () => bigint): bigint {
    const value = literal === undefined ? clientMicros() : this.take(literal);
    if (typeof value !== "bigint") throw refused("a timestamp is no bigint");
    return value;
  }

  end(): void {
    if (this.#at !== this.#params.length) throw refused("there are too many parameters");
  }
}

function insertOf([, name, names = "", literals = "", time]: RegExpExecArray): Parsed {
  const table = tableNamed(name);
  const columns = names.split(/,\s*/);
  const wanted = literals.split(/,\s*/);
  return (all, clientMicros) => {
    const params = new Params(all);
    const values = new Map(columns.map((column, at) => [column, params.take(wanted[at] ?? "")]));
    const timestamp = params.timestamp(time, clientMicros);
    params.end();
    return { kind: "write", mutation: mutationOf(table, values, values, timestamp, true) };
  };
}

const pairs = (text: string, by: string): [string, string][] =>
  text.split(by).map((one) => {
    const [, column = "", literal = ""] = /^(\w+) = (\S+)$/.exec(one) ?? [];
    return [column, literal];
  });

/** Of one row, or of all rows of a partition below one. */
function removeOf([, name, time, where = ""]: RegExpExecArray): Parsed {
  const table = tableNamed(name);
  const below = /(\w+) < \?$/.exec(where)?.[1];
  const keys = pairs(where.replace(" < ", " = "), " AND ");
  return (all, clientMicros) => {
    const params = new Params(all);
    const timestamp = params.timestamp(time, clientMicros);
    const key = new Map(keys.map(([column, literal]) => [column, params.take(literal)]));
    params.end();
    if (below !== undefined) {
      const { clustering } = table;
      if (clustering?.name !== below) throw refused(`no range of ${below}`);
      const partition = keyOf(table.partition.map((column) => bytesOf(column, key)));
      const statics = new Map([[deletedBelow, cellWith(bytesOf(clustering, key), timestamp)]]);
      const rest = { row: undefined, marker: undefined, cells: new Map() };
      return { kind: "write", mutation: { table: table.name, partition, statics, ...rest } };
    }
    const mutation = mutationOf(table, key, new Map(), timestamp, false);
    if (mutation.row === undefined) throw refused("the row is missing");
    const cells = new Map([[deletion, cellWith(undefined, timestamp)]]);
    return { kind: "write", mutation: { ...mutation, cells } };
  };
}

function updateOf([, name, time, assignments = "", where = ""]: RegExpExecArray): Parsed {
  const table = tableNamed(name);
  const set = pairs(assignments, ", ");
  const keys = pairs(where, " AND ");
  return (all, clientMicros) => {
    const params = new Params(all);
    const timestamp = params.timestamp(time, clientMicros);
    const values = new Map(set.map(([column, literal]) => [column, params.take(literal)]));
    const key = new Map(keys.map(([column, literal]) => [column, params.take(literal)]));
    params.end();
    return { kind: "write", mutation: mutationOf(table, key, values, timestamp, false) };
  };
}

function bytesOf({ name, type }: Column, values: Values): string {
  const bytes = encoded(type, values.get(name));
  if (bytes === undefined) throw refused(`${name} is no ${type}`);
  return bytes;
}

function mutationOf(
  table: Table,
  key: Values,
  values: Values,
  timestamp: bigint,
  insert: boolean,
): Mutation {
  for (const name of [...key.keys(), ...values.keys()])
    if (!columnsOf(table).some((column) => column.name === name))
      throw refused(`${table.name} has no column ${name}`);
  // A null is a deletion, and what is undefined is left as it is.
  const cells = (columns: readonly Column[]): [string, Cell][] =>
    columns.flatMap((column) => {
      const value = values.get(column.name);
      if (value === undefined) return [];
      const bytes = value === null ? undefined : bytesOf(column, values);
      return [[column.name, cellWith(bytes, timestamp)]];
    });
  const { clustering } = table;
  const statics = cells(table.statics);
  const named = clustering !== undefined && key.has(clustering.name);
  if (clustering !== undefined && !named && (insert || statics.length === 0))
    throw refused(`${clustering.name} is missing`);
  const row = clustering === undefined ? "" : named ? bytesOf(clustering, key) : undefined;
  const regular = cells(table.regular);
  if (row === undefined && regular.length > 0) throw refused("the row is missing");
  return {
    table: table.name,
    partition: keyOf(table.partition.map((column) => bytesOf(column, key))),
    statics: new Map(statics),
    row,
    marker: insert ? timestamp : undefined,
    cells: new Map(regular),
  };
}

function selectOf([, told = "", name, where = "", limit]: RegExpExecArray): Parsed {
  const table = tableNamed(name);
  const columns = columnsOf(table).filter(
    (one) => told === "*" || told.split(", ").includes(one.name),
  );
  if (told !== "*" && columns.length !== told.split(", ").length)
    throw refused(`${table.name} has no such column: ${told}`);
  const conditions = where.split(" AND ").map((one) => {
    const [, column = "", operator = ""] = /^(\w+) (=|>|>=|<|<=|IN) \?$/.exec(one) ?? [];
    if (operator === "") throw refused(`a condition is not understood: ${one}`);
    return { column, operator };
  });
  return (all) => {
    const params = new Params(all);
    const key = new Map<string, unknown>();
    const range: { -readonly [K in keyof Range]: Range[K] } = { whole: true, rows: () => true };
    for (const { column, operator } of conditions) {
      const value = params.take("?");
      if (table.partition.some((one) => one.name === column) && operator === "=")
        key.set(column, value);
      else if (table.clustering?.name === column) {
        const [before, next] = [range.rows, rowsBy(table.clustering, operator, value)];
        range.whole = false;
        range.rows = (row) => before(row) && next(row);
      } else throw refused(`a condition is not on the key: ${column} ${operator}`);
    }
    const most = limit === undefined ? undefined : Number(params.take(limit));
    params.end();
    if (most !== undefined) range.limit = most;
    const partition = keyOf(table.partition.map((column) => bytesOf(column, key)));
    return { kind: "read", table, partition, range, columns };
  };
}

function rowsBy(column: Column, operator: string, value: unknown): (row: string) => boolean {
  if (operator === "IN") {
    if (!Array.isArray(value)) throw refused("what follows IN is no list");
    const named = new Set(value.map((one) => bytesOf(column, new Map([[column.name, one]]))));
    return (row) => named.has(row);
  }
  const bytes = bytesOf(column, new Map([[column.name, value]]));
  switch (operator) {
    case "=":
      return (row) => row === bytes;
    case ">":
      return (row) => row > bytes;
    case ">=":
      return (row) => row >= bytes;
    case "<":
      return (row) => row < bytes;
    default:
      return (row) => row <= bytes;
  }
}
