/** As much of the metadata reflection proposal as the certificate library asks of its host. To be imported before it. */

const kept = new WeakMap<object, Map<unknown, unknown>>();

function defineMetadata(key: unknown, value: unknown, target: object): void {
  const all = kept.get(target) ?? new Map<unknown, unknown>();
  kept.set(target, all.set(key, value));
}

const getOwnMetadata = (key: unknown, target: object): unknown => kept.get(target)?.get(key);

function getMetadata(key: unknown, target: object): unknown {
  for (
    let at: object | null = target;
    at !== null;
    at = Object.getPrototypeOf(at) as object | null
  ) {
    const value = getOwnMetadata(key, at);
    if (value !== undefined) return value;
  }
  return undefined;
}

Object.assign(Reflect, { defineMetadata, getOwnMetadata, getMetadata });
