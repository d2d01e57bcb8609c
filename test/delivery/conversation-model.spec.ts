/** The conversation core against a naive list of all that happened, over any sequence of sends, changes, moves of cursors and takeovers. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Conversation } from "../../delivery/conversation.ts";
import { update } from "../../delivery/groups.ts";
import { decodeRecord } from "../../delivery/record.ts";
import { ConnectError } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { UpdateGroupRequestSchema } from "../../proto/gen/parley/v1/chat_pb.ts";
import type {
  Cell,
  ConversationState,
  Member,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { Kind } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { type Entry, NaiveConversation, type Said } from "./naive-conversation.ts";

const users = ["alice", "bob", "carol", "dave", "erin"];
const user = fc.constantFrom(...users);
const some = fc.subarray(users, { maxLength: 3 });
const clientNumber = fc.integer({ min: 1, max: 12 });

type Step =
  | { readonly t: "send"; readonly by: string; readonly client: number; readonly nowMs: number }
  | {
      readonly t: "change";
      readonly by: string;
      readonly client: number;
      readonly add: readonly string[];
      readonly remove: readonly string[];
      readonly title: string | undefined;
    }
  | { readonly t: "move"; readonly by: string; readonly delivered: number; readonly read: number }
  | { readonly t: "commit" }
  | { readonly t: "takeover"; readonly tail: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      t: fc.constant("send" as const),
      by: user,
      client: clientNumber,
      nowMs: fc.nat(50),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      t: fc.constant("change" as const),
      by: user,
      client: clientNumber,
      add: some,
      remove: some,
      title: fc.constantFrom(undefined, "one", "other"),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      t: fc.constant("move" as const),
      by: user,
      delivered: fc.nat(30),
      read: fc.nat(30),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ t: "commit" } as const) },
  { weight: 1, arbitrary: fc.record({ t: fc.constant("takeover" as const), tail: fc.nat(10) }) },
);

const idOf = (client: number): Uint8Array => new Uint8Array(16).fill(client);

type Members = ReturnType<NaiveConversation["members"]>;

/** What storage has at the index head. */
interface Kept {
  readonly state: ConversationState | undefined;
  readonly members: readonly Member[];
  readonly said: readonly Said[];
}

/** The core, driven as its owner drives it, and the list beside it. */
class Both {
  readonly #id: string;
  readonly #kind: Kind;
  readonly #first: readonly string[];
  readonly naive: NaiveConversation;
  core: Conversation;
  /** Written, and above what is kept. */
  #tail: Cell[] = [];
  #kept: Kept = { state: undefined, members: [], said: [] };
  #epoch = 3n;

  constructor(direct: boolean) {
    this.#first = direct ? ["alice", "bob"] : [];
    this.#id = direct ? "d:alice:bob" : "g:0123456789abcdefghijkl";
    this.#kind = direct ? Kind.DIRECT : Kind.GROUP;
    this.naive = new NaiveConversation(this.#first);
    this.core = new Conversation(this.#id, this.#kind, this.#epoch);
    this.core.begin(this.#first);
    if (direct) return;
    const change = { added: ["alice", "bob"], removed: [], title: "one" };
    this.#wrote(this.core.change("alice", idOf(0), change, 10), {
      senderId: "alice",
      message: undefined,
      clientId: "0",
      timeMs: 10,
      term: this.#epoch,
      ...change,
    });
  }

  run(step: Step): void {
    switch (step.t) {
      case "send":
        return this.#send(step);
      case "change":
        return this.#change(step);
      case "move":
        return this.#move(step);
      case "commit":
        return this.#commit();
      case "takeover":
        return this.#takeover(step.tail);
    }
  }

  #send({ by, client, nowMs }: Step & { t: "send" }): void {
    const { naive, core } = this;
    if (!naive.present().includes(by)) {
      assert.throws(() => core.append(by, idOf(client), new Uint8Array(0), nowMs), ConnectError);
      return;
    }
    const earlier = naive.earlier(by, String(client));
    const text = `${naive.log.length}`;
    const content = Buffer.from([0x0a, text.length, ...Buffer.from(text)]);
    const verdict = core.append(by, idOf(client), content, nowMs);
    assert.equal(verdict.kind, earlier > 0 ? "duplicate" : "appended", "once (P2)");
    if (verdict.kind === "duplicate") {
      assert.deepEqual(verdict.place, { seq: earlier, timeMs: naive.log[earlier - 1]?.timeMs });
      return;
    }
    assert.equal(verdict.place.seq, naive.log.length + 1, "no hole (P3)");
    const timeMs = Math.max(nowMs, naive.log.at(-1)?.timeMs ?? 0);
    const what = { message: text, added: [], removed: [], title: undefined };
    this.#wrote(verdict.cell, {
      senderId: by,
      clientId: String(client),
      timeMs,
      term: this.#epoch,
      ...what,
    });
  }

  #change({ by, client, add, remove, title }: Step & { t: "change" }): void {
    const { naive, core } = this;
    const request = create(UpdateGroupRequestSchema, {
      clientId: idOf(100 + client),
      addMemberIds: [...add],
      removeMemberIds: [...remove],
      ...(title === undefined ? {} : { title }),
    });
    const present = naive.present();
    const refused =
      !present.includes(by) || this.#first.length > 0 || add.some((id) => remove.includes(id));
    if (refused) {
      assert.throws(() => update(core, by, request), ConnectError);
      return;
    }
    const change = update(core, by, request);
    const added = add.filter((id) => !present.includes(id));
    const removed = remove.filter((id) => present.includes(id));
    const newTitle = title === naive.title ? undefined : title;
    const changes = added.length + removed.length > 0 || newTitle !== undefined;
    assert.deepEqual(change, changes ? { added, removed, title: newTitle } : undefined);
    if (change === undefined) return;
    const timeMs = naive.log.at(-1)?.timeMs ?? 0;
    this.#wrote(core.change(by, idOf(100 + client), change, 0), {
      senderId: by,
      message: undefined,
      clientId: String(100 + client),
      timeMs,
      term: this.#epoch,
      ...change,
    });
  }

  #move({ by, delivered, read }: Step & { t: "move" }): void {
    const { naive, core } = this;
    if (!naive.present().includes(by)) {
      assert.throws(() => core.present(by), ConnectError);
      return;
    }
    if (Math.max(delivered, read) > naive.log.length) {
      assert.throws(() => core.checkCursor(delivered, read), ConnectError);
      return;
    }
    core.checkCursor(delivered, read);
    const before = naive.members().get(by);
    naive.said.push({ userId: by, atSeq: naive.log.length, delivered, read });
    const after = naive.members().get(by);
    const ordinal = core.ordinalAt(read) ?? naive.ordinal(read);
    const moved = core.moveCursor(core.present(by), delivered, read, ordinal);
    const moves =
      before?.deliveredSeq !== after?.deliveredSeq || before?.readSeq !== after?.readSeq;
    assert.equal(moved, moves);
  }

  #wrote(cell: Cell, entry: Entry): void {
    const { naive, core } = this;
    const before = naive.log.at(-1)?.term ?? 0n;
    naive.log.push(entry);
    this.#tail.push(cell);
    assert.deepEqual(
      [cell.seq, cell.epoch, cell.term, cell.previousTerm],
      [naive.log.length, this.#epoch, this.#epoch, before],
    );
    const { seq, conversationId, senderId, timeMs, ordinal, body } = decodeRecord(cell.record);
    assert.deepEqual(
      [conversationId, seq, senderId, timeMs, ordinal],
      [
        core.id,
        naive.log.length,
        entry.senderId,
        BigInt(entry.timeMs),
        naive.ordinal(naive.log.length),
      ],
    );
    assert.equal(body.case === "message" ? body.value.text : undefined, entry.message);
  }

  #commit(): void {
    const { naive, core } = this;
    if (!core.exists) return;
    core.committed(core.headSeq);
    const members = [...core.members.keys()].flatMap((id) => core.memberRow(id) ?? []);
    this.#kept = { state: core.state(), members, said: [...naive.said] };
    this.#tail = [];
  }

  /** The process is gone; of what was not kept, its first `written` records are found. */
  #takeover(written: number): void {
    const { naive } = this;
    const { state, members, said } = this.#kept;
    const found = this.#tail.slice(0, written);
    naive.log = naive.log.slice(0, (state?.headSeq ?? 0) + found.length);
    naive.said = [...said];
    naive.rememberedFrom = state?.headSeq ?? 0;
    this.#tail = found;
    this.#epoch += 1n;
    const core = new Conversation(this.#id, this.#kind, this.#epoch);
    if (state !== undefined) core.restore(state);
    for (const member of members) core.restoreMember(member);
    if (state === undefined) core.begin(this.#first);
    for (const cell of found) {
      const { senderId, clientId, body, timeMs } = decodeRecord(cell.record);
      const change =
        body.case === "membership" ? { ...body.value, title: body.value.title } : undefined;
      core.adopt(cell, { senderId, clientId, timeMs }, body.case === "message", change);
    }
    this.core = core;
  }

  /** Everything that the core shows is what the list says. */
  check(): void {
    const { naive, core } = this;
    const members = naive.members();
    assert.deepEqual(new Map(core.members), members);
    assert.deepEqual(core.audience.toSorted(), naive.present(members).toSorted());
    for (const [userId, row] of members) {
      const { $typeName: _, ...kept } = core.memberRow(userId) ?? { $typeName: "" };
      assert.deepEqual(kept, { userId, ...row });
    }
    for (let seq = 0; seq <= naive.log.length; seq += 1) {
      const ordinal = core.ordinalAt(seq);
      if (ordinal !== undefined) assert.equal(ordinal, naive.ordinal(seq), `the ordinal at ${seq}`);
      else assert.ok(seq < (this.#kept.state?.headSeq ?? 0), `the ordinal at ${seq} is known`);
    }
    this.#checkState(core.state(), members);
  }

  #checkState(state: ConversationState, members: Members): void {
    const { naive } = this;
    const head = naive.log.at(-1);
    assert.deepEqual(
      [state.kind, state.title, state.headSeq, state.headOrdinal, state.headTimeMs, state.headTerm],
      [
        this.#kind,
        naive.title,
        naive.log.length,
        naive.ordinal(naive.log.length),
        BigInt(head?.timeMs ?? 0),
        head?.term ?? 0n,
      ],
    );
    assert.equal(state.memberCount, naive.present(members).length);
    for (const [cursor, least] of [
      ["deliveredSeq", state.leastDelivered],
      ["readSeq", state.leastRead],
    ] as const) {
      const { seq, others } = naive.least(cursor, members);
      assert.equal(least?.seq, seq);
      // As each member is told: the least of the others.
      for (const [userId, expected] of others)
        assert.equal(userId === least.userId ? least.secondSeq : least.seq, expected, userId);
    }
  }

  /** P5: for who was a member all the while. */
  goneBack(before: Members): string[] {
    return [...before].flatMap(([userId, was]) => {
      const is = this.core.members.get(userId);
      if (is === undefined || is.floorSeq !== was.floorSeq) return [];
      return is.deliveredSeq < was.deliveredSeq ||
        is.readSeq < was.readSeq ||
        is.readOrdinal < was.readOrdinal
        ? [userId]
        : [];
    });
  }
}

describe("a conversation, whatever happens to it", () => {
  for (const kind of ["direct", "group"])
    it(`that is ${kind} is what a list of all that happened says, across takeovers (P2, P3, P5, P8)`, () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 50, size: "max" }), (steps) => {
          const both = new Both(kind === "direct");
          both.check();
          for (const one of steps) {
            const before = new Map([...both.core.members].map(([id, row]) => [id, { ...row }]));
            both.run(one);
            both.check();
            if (one.t !== "takeover")
              assert.deepEqual(both.goneBack(before), [], "forward only (P5)");
          }
        }),
        { numRuns: 50 },
      );
    });
});
