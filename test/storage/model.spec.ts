/** The store over lmdb against the one in memory: the same random changes, the same answers, through checkpoints, evictions and restarts. */
import assert from "node:assert/strict";
import { seededRandom } from "../../mesh/random.ts";
import type { Random } from "../../mesh/random.ts";
import type { ConversationWrite, Member } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { openMemoryStore } from "../../storage/index.ts";
import type { Store } from "../../storage/index.ts";
import { newFolder, openIn, removeFolder } from "./folder.ts";
import { batch, member, write } from "./writes.ts";

const conversations = ["d:u1:u2", "g:1", "g:10", "g:many"];
const users = Array.from({ length: 40 }, (_, index) => `u${index}`);

class Changes {
  readonly #random: Random;
  readonly #heads = new Map<string, number>();

  constructor(random: Random) {
    this.#random = random;
  }

  below(limit: number): number {
    return Math.floor(this.#random.unit() * limit);
  }

  #members(id: string, headSeq: number): Member[] {
    const among = id === "g:many" ? users : users.slice(0, 4);
    return Array.from({ length: this.below(4) }, () => {
      const userId = among[this.below(among.length)] ?? "u1";
      const seqs = [1, 2, 3].map(() => this.below(headSeq + 1));
      const [deliveredSeq = 0, readSeq = 0, changeSeq = 0] = seqs;
      const left = this.below(8) === 0 ? { leftSeq: changeSeq } : {};
      return member(userId, { deliveredSeq, readSeq, readOrdinal: readSeq, ...left });
    });
  }

  write(id: string): ConversationWrite {
    const knownSeq = this.#heads.get(id) ?? 0;
    const count = this.below(12) === 0 ? 100 : this.below(4);
    if (count === 0 && knownSeq > 0) {
      return {
        ...write({ id, from: knownSeq }),
        cells: [],
        state: undefined,
        members: this.#members(id, knownSeq),
      };
    }
    const headSeq = knownSeq + Math.max(count, 1);
    this.#heads.set(id, headSeq);
    const title = `title ${this.below(5)}`;
    return write({
      id,
      from: knownSeq + 1,
      count: headSeq - knownSeq,
      title,
      members: this.#members(id, headSeq),
    });
  }

  writes(): ConversationWrite[] {
    return conversations.filter(() => this.below(2) === 0).map((id) => this.write(id));
  }
}

/** All that a store answers, as text. */
async function answers(store: Store, changes: Changes): Promise<string> {
  const all: unknown[] = [];
  for (const id of conversations) {
    const from = changes.below(300);
    const cells = await store.cells(id, from, from + changes.below(200));
    all.push(await store.conversation(id));
    for (const { record, ...rest } of cells) all.push(rest, Buffer.from(record));
    const after = users[changes.below(users.length)] ?? "";
    all.push(await store.members(id, users), await store.membersAfter(id, after, 7));
    all.push(await store.membersAfter(id, "", 1_000));
  }
  for (const userId of users) all.push(await store.index(userId));
  all.push(await store.lastSeen(users));
  return JSON.stringify(all, (_, value: unknown) => {
    return typeof value === "bigint" ? `${value}n` : value;
  });
}

const settings = {
  config: { checkpointBytes: 3_000, checkpointMs: 20, cachedConversationsMax: 1 },
  cachedConversationsMax: 1,
};

describe("the store over lmdb, by the one in memory", () => {
  for (const seed of [1, 2, 3, 4]) {
    it(`answers the same to everything, seed ${seed}`, async function () {
      this.timeout(60_000);
      const folder = await newFolder();
      let { store } = await openIn(folder, settings);
      const model = openMemoryStore();
      const changes = new Changes(seededRandom(seed));
      for (let step = 1; step <= 120; step += 1) {
        const groups = Array.from({ length: 1 + changes.below(4) }, () =>
          batch("one", ...changes.writes()),
        );
        const kept = groups.map((one) => store.append(one, () => undefined));
        for (const one of groups) await model.append(one, () => undefined);
        const seen = [
          {
            ...{ $typeName: "parley.storage.v1.LastSeen" as const },
            userId: users[step % 40] ?? "",
            timeMs: BigInt(changes.below(9)),
          },
        ];
        await Promise.all([...kept, store.putLastSeen(seen), model.putLastSeen(seen)]);
        if (step % 40 === 0) {
          await store.close();
          ({ store } = await openIn(folder, settings));
        }
        if (step % 3 !== 0) continue;
        const reads = 1_000 * seed + step;
        const expected = await answers(model, new Changes(seededRandom(reads)));
        assert.equal(
          await answers(store, new Changes(seededRandom(reads))),
          expected,
          `step ${step}`,
        );
      }
      await store.close();
      await removeFolder(folder);
    });
  }
});
