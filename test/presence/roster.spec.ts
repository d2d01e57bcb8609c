import assert from "node:assert/strict";
import fc from "fast-check";
import { Availability } from "../../proto/gen/parley/v1/record_pb.ts";
import type { Watcher } from "../../presence/ports.ts";
import type { Watch } from "../../presence/roster.ts";
import { Roster } from "../../presence/roster.ts";

const graceMs = 10_000;
const startMs = 1_000_000;
/** Calendar and monotonic time differ, so that mixing them up shows. */
const at = (ms: number) => ({ nowMs: startMs + ms, monotonicMs: ms });

class FakeWatcher implements Watcher {
  readonly told: string[] = [];

  changed({ userId, state }: { userId: string; state: string }): void {
    this.told.push(`${userId} ${state}`);
  }
}

function watchOn(roster: Roster, watcher: Watcher, connection: number, userIds: string[]): Watch {
  const watch = roster.watch(watcher, connection);
  roster.set(watch, userIds);
  watch.answered = true;
  return watch;
}

const nobody = { people: 0, leaving: 0, unsaved: 0 };

describe("presence roster", () => {
  let roster: Roster;
  let watcher: FakeWatcher;

  const shown = (userId: string) => {
    const presence = roster.find(userId);
    if (presence === undefined) return "unknown";
    const { availability, lastSeenMs } = presence;
    return availability === Availability.ONLINE ? `online ${lastSeenMs}` : `offline ${lastSeenMs}`;
  };

  beforeEach(() => {
    roster = new Roster({ graceMs, unsavedMax: 100 });
    watcher = new FakeWatcher();
  });

  it("shows a user online at the first session and offline a grace after the last (P7)", () => {
    watchOn(roster, watcher, 1, ["ann"]);
    roster.online("ann");
    assert.deepEqual(watcher.told, ["ann online"]);
    roster.offline("ann", at(5_000));
    assert.equal(roster.nextDeadlineMs, 15_000);
    roster.expire(14_999);
    assert.equal(shown("ann"), "online 0");
    roster.expire(15_000);
    assert.deepEqual(watcher.told, ["ann online", "ann offline"]);
    assert.equal(shown("ann"), `offline ${startMs + 5_000}`, "seen last when the session ended");
  });

  it("tells nothing of a user who is back within the grace (P7)", () => {
    watchOn(roster, watcher, 1, ["ann"]);
    roster.online("ann");
    roster.offline("ann", at(0));
    roster.online("ann");
    assert.equal(roster.nextDeadlineMs, undefined);
    roster.expire(60_000);
    assert.deepEqual(watcher.told, ["ann online"]);
    // Each leave has the whole grace.
    roster.offline("ann", at(61_000));
    assert.equal(roster.nextDeadlineMs, 71_000);
  });

  it("lets nobody go offline because the list began anew, and gives the missing their grace (P7)", () => {
    watchOn(roster, watcher, 1, ["ann", "bob", "eve"]);
    for (const userId of ["ann", "bob"]) roster.online(userId);
    roster.offline("bob", at(0));
    watcher.told.length = 0;
    roster.beginList();
    for (const userId of ["bob", "eve"]) roster.online(userId);
    assert.deepEqual(watcher.told, ["eve online"]);
    roster.endList(at(3_000));
    roster.expire(12_999);
    assert.deepEqual(watcher.told, ["eve online"]);
    roster.expire(13_000);
    assert.deepEqual(watcher.told, ["eve online", "ann offline"]);
  });

  it("tells only those who watch, and only what they watch now (P8)", () => {
    const other = new FakeWatcher();
    const watch = watchOn(roster, watcher, 1, ["ann"]);
    watchOn(roster, other, 1, ["bob"]);
    roster.online("ann");
    roster.set(watch, ["bob"]);
    watch.answered = true;
    roster.online("eve");
    roster.online("bob");
    assert.deepEqual(watcher.told, ["ann online", "bob online"]);
    assert.deepEqual(other.told, ["bob online"]);
    roster.unwatch(watch);
    roster.offline("bob", at(0));
    roster.expire(graceMs);
    assert.deepEqual(watcher.told, ["ann online", "bob online"]);
    assert.deepEqual(other.told, ["bob online", "bob offline"]);
  });

  it("asks for the last-seen times that it does not know, and never lets one go back", () => {
    roster.online("ann");
    roster.offline("bob", at(5_000));
    roster.expire(15_000);
    const watch = roster.watch(watcher, 1);
    assert.deepEqual(roster.set(watch, ["ann", "bob", "eve", "eve"]), ["eve"]);
    roster.learn("eve", 77);
    roster.learn("bob", 77);
    assert.equal(shown("eve"), "offline 77");
    assert.equal(shown("bob"), `offline ${startMs + 5_000}`);
    assert.equal(shown("ann"), "online 0");
    assert.equal(shown("nobody"), "unknown");
  });

  it("hands out last-seen times until the newest of each user is kept", () => {
    roster.offline("ann", at(1));
    roster.offline("bob", at(2));
    assert.deepEqual(roster.unsaved(1), [["ann", startMs + 1]]);
    const taken = roster.unsaved(10);
    roster.offline("ann", at(3));
    roster.saved(taken);
    assert.deepEqual(roster.unsaved(10), [["ann", startMs + 3]]);
  });

  it("forgets whoever is offline, unwatched and kept, and nobody else (P9)", () => {
    const watch = watchOn(roster, watcher, 1, ["ann", "bob"]);
    for (const userId of ["ann", "bob", "eve", "joe"]) roster.online(userId);
    for (const userId of ["bob", "eve"]) roster.offline(userId, at(0));
    roster.expire(graceMs);
    assert.deepEqual(roster.size, { people: 4, leaving: 0, unsaved: 2 });
    roster.saved(roster.unsaved(10));
    assert.equal(shown("eve"), "unknown");
    assert.equal(shown("bob"), `offline ${startMs}`);
    roster.unwatch(watch);
    assert.equal(shown("bob"), "unknown");
    for (const userId of ["ann", "joe"]) roster.offline(userId, at(20_000));
    roster.saved(roster.unsaved(10));
    assert.equal(roster.size.people, 2);
    roster.expire(30_000);
    assert.deepEqual(roster.size, nobody);
  });

  it("holds a bounded number of times that cannot be kept (P9)", () => {
    for (let user = 0; user < 250; user += 1) roster.offline(`user ${user}`, at(user));
    roster.expire(100_000);
    assert.deepEqual(roster.size, { people: 100, leaving: 0, unsaved: 100 });
    assert.equal(roster.unsaved(1)[0]?.[0], "user 150");
  });

  it("shows everybody as the sum of what happened, whatever happened (P7)", () => {
    const step = fc.record({
      what: fc.constantFrom("online", "offline", "wait", "watch", "unwatch", "keep"),
      userId: fc.constantFrom("ann", "bob"),
      ms: fc.integer({ min: 0, max: 12_000 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const tested = new Roster({ graceMs, unsavedMax: 100 });
        const online = new Set<string>();
        const endedMs = new Map<string, number>();
        let watch: Watch | undefined;
        let nowMs = 0;
        for (const { what, userId, ms } of steps) {
          if (what === "online") {
            online.add(userId);
            tested.online(userId);
          } else if (what === "offline") {
            online.delete(userId);
            endedMs.set(userId, nowMs);
            tested.offline(userId, at(nowMs));
          } else if (what === "wait") {
            nowMs += ms;
            tested.expire(nowMs);
          } else if (what === "keep") tested.saved(tested.unsaved(10));
          else if (what === "watch") tested.set((watch ??= tested.watch(watcher, 1)), [userId]);
          else if (watch !== undefined) tested.set(watch, []);
          for (const one of ["ann", "bob"]) {
            const since = nowMs - (endedMs.get(one) ?? -Infinity);
            const expected = online.has(one) || since < graceMs;
            const found = tested.find(one);
            assert.equal(found?.availability === Availability.ONLINE, expected);
          }
        }
        nowMs += graceMs;
        tested.expire(nowMs);
        tested.saved(tested.unsaved(10));
        if (watch !== undefined) tested.unwatch(watch);
        assert.deepEqual(tested.size, { people: online.size, leaving: 0, unsaved: 0 });
      }),
    );
  });
});
