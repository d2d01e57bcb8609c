/** The keys of the embedded store's tables. */

/** What ends all keys that begin with an id and the 0 behind it. */
export const idEnd = 1;

export function idKey(id: string): Buffer {
  return Buffer.from(id);
}

/** An id, a 0, and what is below it; ids have no 0. */
export function pairKey(id: string, below: string, end = 0): Buffer {
  return Buffer.from(`${id}${String.fromCharCode(end)}${below}`);
}

export function seqKey(id: string, seq: number): Buffer {
  const length = Buffer.byteLength(id);
  const key = Buffer.allocUnsafe(length + 5);
  key.write(id);
  key[length] = 0;
  key.writeUInt32BE(seq, length + 1);
  return key;
}

export const belowOf = (key: Buffer, id: string): string =>
  Buffer.from(key).toString("utf8", Buffer.byteLength(id) + 1);

/** Of the table "meta": where the store's own id is. A backup is without it, so that what is started from one makes another. */
export const storeIdKey = idKey("store-id");
