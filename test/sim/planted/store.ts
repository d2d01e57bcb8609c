/** Faults planted between storage and Cassandra: each leaves out one of the rules of commit and takeover, or of quorums. */
import { types } from "cassandra-driver";
import type { Asked, Nodes, Statement } from "../../../storage/cassandra/nodes.ts";
import { indexQueries, statementsOf } from "../../../storage/cassandra/rows.ts";
import { readCell, Reader } from "../../../storage/codec.ts";
import { unavailable } from "../../../mesh/errors.ts";
import { sleep } from "../../../mesh/clock.ts";
import type { Cell } from "../../../proto/gen/parley/storage/v1/storage_pb.ts";
import type { Store } from "../../../storage/index.ts";
import { over, type Patch } from "../patch.ts";
import type { SimProcess } from "../process.ts";

const { cell: insertCell, index: updateIndex } = statementsOf("parley");
const isRevokedRead = ({ query }: Statement): boolean =>
  query.startsWith("SELECT revoked FROM parley.revoked");

const quorum = types.consistencies.localQuorum;
const nothing = (): void => undefined;

/** Each statement as it is changed to; undefined: it is not carried out, and nobody knows. */
function statements(nodes: Nodes, change: (statement: Statement) => Statement | undefined): Nodes {
  return over<Nodes>(nodes, {
    execute: async (statement, asked) => {
      const changed = change(statement);
      return changed === undefined ? { rows: [] } : nodes.execute(changed, asked);
    },
    batch: async (all, consistency) => {
      const changed = all.flatMap((one) => change(one) ?? []);
      if (changed.length > 0) await nodes.batch(changed, consistency);
    },
  });
}

function cellIn({ params }: Statement): Cell {
  const [, , , bytes] = params;
  if (!(bytes instanceof Uint8Array)) throw new Error("a cell has no bytes");
  return readCell(new Reader(bytes));
}

/** A cell that its writer adopted from an earlier owner. */
const isSealed = ({ epoch, term }: Cell): boolean => epoch !== term;

/** The cell's timestamp. */
const withTimestamp = ({ query, params }: Statement, timestamp: bigint): Statement => ({
  query,
  params: [...params.slice(0, 4), timestamp],
});

const micros = ({ host }: SimProcess): bigint => BigInt(host.clock.now()) * 1_000n;

/** Every batch of a store in place of what it would do. */
const appending = (
  append: (
    ...args: [...Parameters<Store["append"]>, store: Store, nodes: Nodes, process: SimProcess]
  ) => Promise<void>,
): Patch => ({
  store: (store, process, nodes) =>
    over<Store>(store, {
      append: (batch, committed) => append(batch, committed, store, nodes, process),
    }),
});

export const noCheck: Patch = {
  nodes: (nodes) => statements(nodes, (one) => (isRevokedRead(one) ? undefined : one)),
};

/** The answer to a read that began long before. */
export const checkBefore: Patch = {
  nodes: (nodes) => {
    let before = nodes.execute.bind(nodes);
    return over<Nodes>(nodes, {
      execute: async (statement: Statement, asked: Asked) => {
        if (!isRevokedRead(statement)) return nodes.execute(statement, asked);
        const now = nodes.execute(statement, asked);
        const answer = before(statement, asked);
        before = () => now;
        now.catch(nothing);
        return answer;
      },
    });
  },
};

export const indexEarly: Patch = appending(async (batch, committed, store, nodes) => {
  for (const write of batch.writes) {
    const { before, last } = indexQueries(statementsOf("parley"), write, true);
    for (const { query, params } of [...before, ...last])
      await nodes.execute({ query, params }, { consistency: quorum }).catch(nothing);
  }
  await store.append(batch, committed);
});

export const noSeal: Patch = {
  nodes: (nodes) =>
    statements(nodes, (one) =>
      one.query === insertCell && isSealed(cellIn(one)) ? undefined : one,
    ),
};

export const sealUnderOldEpoch: Patch = {
  nodes: (nodes) =>
    statements(nodes, (one) =>
      one.query === insertCell ? withTimestamp(one, cellIn(one).term) : one,
    ),
};

export const noCheckAfterSeal: Patch = {
  nodes: (nodes) => {
    let sealed = false;
    return statements(nodes, (one) => {
      if (one.query === insertCell && isSealed(cellIn(one))) sealed = true;
      if (!isRevokedRead(one) || !sealed) return one;
      sealed = false;
      return undefined;
    });
  },
};

export const clockTimestamps: Patch = {
  nodes: (nodes, process) =>
    statements(nodes, (one) =>
      one.query === insertCell ? withTimestamp(one, micros(process)) : one,
    ),
};

/** The new owner goes on before the old one is revoked. */
export const revokedLate: Patch = {
  store: (store, { host }) =>
    over<Store>(store, {
      revoke: (incarnation) => {
        void sleep(host.clock, 5_000).then(() => store.revoke(incarnation).catch(nothing));
        return Promise.resolve();
      },
    }),
};

/** Of records that come together the first is written last, after the batch was answered. */
export const outOfOrder: Patch = {
  nodes: (nodes, { host }) => {
    const late = (statement: Statement): void =>
      void sleep(host.clock, 3_000).then(() =>
        nodes.execute(statement, { consistency: quorum }).catch(nothing),
      );
    return over<Nodes>(nodes, {
      batch: async (all, consistency) => {
        const [first] = all.filter(({ query }) => query === insertCell);
        if (first === undefined) return nodes.batch(all, consistency);
        late(first);
        const rest = all.filter((one) => one !== first);
        return rest.length > 0 ? nodes.batch(rest, consistency) : undefined;
      },
    });
  },
};

/** A write of unknown outcome is given up, and its place given to another. */
export const placeUsedAgain: Patch = appending(async (batch, committed, store, _, { host }) => {
  const kept = store.append(batch, committed);
  kept.catch(nothing);
  await Promise.race([
    kept,
    sleep(host.clock, 1_000).then(() => Promise.reject(unavailable("it takes too long"))),
  ]);
});

export const pushedEarly: Patch = appending((batch, committed, store) => {
  committed();
  return store.append(batch, nothing);
});

export const ackedBeforeCommit: Patch = appending((batch, committed, store) => {
  store.append(batch, nothing).catch(nothing);
  committed();
  return Promise.resolve();
});

export const indexedAfterAck: Patch = appending(
  (batch, committed, store) =>
    new Promise((resolve, reject) => {
      const done = (): void => {
        committed();
        resolve();
      };
      store.append(batch, done).then(resolve, reject);
    }),
);

/** What takes over adopts whatever is there, as if it followed on the record before it. */
export const linksNotChecked: Patch = {
  store: (store) =>
    over<Store>(store, {
      cells: async (id, first, last) => {
        const cells = await store.cells(id, first, last);
        const state = await store.conversation(id);
        return cells.map((cell, at) => {
          const headTerm =
            cell.seq === (state?.headSeq ?? 0) + 1 ? (state?.headTerm ?? 0n) : undefined;
          const before = cells[at - 1];
          const previousTerm = headTerm ?? before?.term ?? cell.previousTerm;
          return { ...cell, previousTerm };
        });
      },
    }),
};

export const readsOfOne: Patch = {
  nodes: (nodes) =>
    over<Nodes>(nodes, {
      execute: (statement, asked) =>
        nodes.execute(
          statement,
          statement.query.startsWith("SELECT")
            ? { ...asked, consistency: types.consistencies.one }
            : asked,
        ),
    }),
};

export const writesOfOne: Patch = {
  nodes: (nodes) =>
    over<Nodes>(nodes, {
      execute: (statement, asked) =>
        nodes.execute(
          statement,
          statement.query.startsWith("SELECT")
            ? asked
            : { ...asked, consistency: types.consistencies.one },
        ),
      batch: (all) => nodes.batch(all, types.consistencies.one),
    }),
};

export const lastArrivalWins: Patch = { rules: { laterWins: false } };

/** Cursors have a clock's timestamp, and the clocks differ. */
export const cursorsByClock: Patch = {
  nodes: (nodes, process) =>
    statements(nodes, (one) => {
      const [, head, ...rest] = one.params;
      if (one.query !== updateIndex || head !== undefined) return one;
      return { query: one.query, params: [micros(process), head, ...rest] };
    }),
};

/** Everybody is a member of everything. */
export const membersNotChecked: Patch = {
  store: (store) =>
    over<Store>(store, {
      membership: async (id, userId) => {
        const own = await store.membership(id, userId);
        if (own !== undefined) return own;
        const { state, members } = await store.opened(id, 1);
        const [member] = members;
        if (state === undefined || member === undefined) return undefined;
        return { state, member: { ...member, userId, floorSeq: 1, leftSeq: 0 } };
      },
    }),
};
