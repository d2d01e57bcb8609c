/** The one hash by which things are spread: over shards and over the buckets of a sync. Written into tokens and keys, so it never changes. */

/**
 * 32 bits of a text, unsigned: FNV-1a over its UTF-16 units, then MurmurHash3's finalizer, without which texts that differ only in their
 * last letters would share buckets.
 */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
