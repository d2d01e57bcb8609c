/** One replica's tables: cells with the timestamps of their writes, how two versions of a cell are merged, and what a read finds. */

/** A value and when it was written, by its writer's word; no bytes: deleted. */
export interface Cell {
  readonly bytes: string | undefined;
  readonly timestamp: bigint;
}

export const cellWith = (bytes: string | undefined, timestamp: bigint): Cell => ({
  bytes,
  timestamp,
});

/** What changes in one partition, whole or not at all. */
export interface Mutation {
  readonly table: string;
  readonly partition: string;
  readonly statics: ReadonlyMap<string, Cell>;
  /** The row's key; undefined where only what is kept once for the partition changes. */
  readonly row: string | undefined;
  /** An insert's: the row is there though it may have no other cell. */
  readonly marker: bigint | undefined;
  readonly cells: ReadonlyMap<string, Cell>;
}

export interface Range {
  /** No condition on rows. */
  readonly whole: boolean;
  rows(row: string): boolean;
  readonly limit?: number;
}

interface Row {
  marker: bigint | undefined;
  cells: Map<string, Cell>;
}

/** What a replica has of what was asked for. */
export interface Found {
  readonly statics: ReadonlyMap<string, Cell>;
  readonly rows: ReadonlyMap<string, Readonly<Row>>;
}

/** Which of two versions stays. */
export type Wins = (one: Cell, other: Cell) => boolean;

/** The later one; at one time a deletion, else the greater value: the same on every replica, whatever arrives last. */
export const laterWins: Wins = (one, other) => {
  if (one.timestamp !== other.timestamp) return one.timestamp > other.timestamp;
  if (one.bytes === undefined || other.bytes === undefined) return one.bytes === undefined;
  return one.bytes > other.bytes;
};

/** The cell of a row, of no column, by which all of it up to that time is deleted. */
export const deletion = "";

/** What is kept once for a partition, of no column: rows below it are deleted, whenever written, as only what is above all other times does. */
export const deletedBelow = "<";

const deletedAt = (cells: ReadonlyMap<string, Cell>): bigint =>
  cells.get(deletion)?.timestamp ?? -(2n ** 63n);

/** The bytes of a column that a read finds. */
export function bytesIn(cells: ReadonlyMap<string, Cell>, column: string): string | undefined {
  const cell = cells.get(column);
  return cell === undefined || cell.timestamp <= deletedAt(cells) ? undefined : cell.bytes;
}

export const isLive = ({ marker, cells }: Readonly<Row>): boolean =>
  (marker !== undefined && marker > deletedAt(cells)) ||
  [...cells.keys()].some((column) => bytesIn(cells, column) !== undefined);

class Partition {
  readonly statics = new Map<string, Cell>();
  readonly rows = new Map<string, Row>();
  /** The rows' keys in order, as long as no row is added. */
  #keys: string[] | undefined;

  apply({ statics, row: key, marker, cells }: Mutation, wins: Wins): void {
    merge(this.statics, statics, wins);
    if (key === undefined) return;
    let row = this.rows.get(key);
    if (row === undefined) {
      row = { marker: undefined, cells: new Map() };
      this.rows.set(key, row);
      this.#keys = undefined;
    }
    if (marker !== undefined && (row.marker === undefined || marker > row.marker))
      row.marker = marker;
    merge(row.cells, cells, wins);
  }

  find({ rows: wanted, limit = Infinity }: Range): Found {
    this.#keys ??= [...this.rows.keys()].toSorted((one, other) => (one < other ? -1 : 1));
    const rows = new Map<string, Row>();
    const below = this.statics.get(deletedBelow)?.bytes ?? "";
    let live = 0;
    for (const key of this.#keys) {
      if (live >= limit) break;
      const row = this.rows.get(key);
      if (row === undefined || !wanted(key) || key < below) continue;
      rows.set(key, { marker: row.marker, cells: new Map(row.cells) });
      if (isLive(row)) live += 1;
    }
    return { statics: new Map(this.statics), rows };
  }
}

function merge(into: Map<string, Cell>, from: ReadonlyMap<string, Cell>, wins: Wins): void {
  for (const [column, cell] of from) {
    const kept = into.get(column);
    if (kept === undefined || wins(cell, kept)) into.set(column, cell);
  }
}

export class Tables {
  readonly #partitions = new Map<string, Partition>();
  readonly #wins: Wins;

  constructor(wins: Wins) {
    this.#wins = wins;
  }

  apply(mutation: Mutation): void {
    const key = `${mutation.table} ${mutation.partition}`;
    let partition = this.#partitions.get(key);
    if (partition === undefined) this.#partitions.set(key, (partition = new Partition()));
    partition.apply(mutation, this.#wins);
  }

  find(table: string, partition: string, range: Range): Found {
    const found = this.#partitions.get(`${table} ${partition}`);
    return found?.find(range) ?? { statics: new Map(), rows: new Map() };
  }
}

/** What several replicas' answers come to, the later cell of each. */
export function merged(
  table: string,
  partition: string,
  answers: readonly Found[],
  { limit }: Range,
): Found {
  const all = new Tables(laterWins);
  for (const { statics, rows } of answers) {
    all.apply({ ...nothing, table, partition, statics });
    for (const [row, { marker, cells }] of rows)
      all.apply({ ...nothing, table, partition, row, marker, cells });
  }
  const range = { whole: true, rows: () => true };
  return all.find(table, partition, limit === undefined ? range : { ...range, limit });
}

const nothing = {
  statics: new Map<string, Cell>(),
  row: undefined,
  marker: undefined,
  cells: new Map<string, Cell>(),
};

/** What a replica lacks of what the answers came to: one change, since it is one partition. Empty: nothing. */
export function lacking(table: string, partition: string, whole: Found, part: Found): Mutation[] {
  const newer = (
    cells: ReadonlyMap<string, Cell>,
    kept: ReadonlyMap<string, Cell> | undefined,
  ): Map<string, Cell> => {
    const more = [...cells].filter(([column, cell]) => {
      const own = kept?.get(column);
      return own === undefined || own.timestamp !== cell.timestamp || own.bytes !== cell.bytes;
    });
    return new Map(more);
  };
  const mutations: Mutation[] = [];
  const statics = newer(whole.statics, part.statics);
  if (statics.size > 0) mutations.push({ ...nothing, table, partition, statics });
  for (const [row, { marker, cells }] of whole.rows) {
    const own = part.rows.get(row);
    const more = newer(cells, own?.cells);
    if (more.size > 0 || marker !== own?.marker)
      mutations.push({ ...nothing, table, partition, row, marker, cells: more });
  }
  return mutations;
}
