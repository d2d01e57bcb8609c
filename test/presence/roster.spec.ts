import assert from "node:assert/strict";
import fc from "fast-check";
import { Availability } from "../../proto/gen/parley/v1/record_pb.ts";
import type { Watcher } from "../../presence/ports.ts";
import type { Person, Source, Watch } from "../../presence/roster.ts";
import { Roster, newSource } from "../../presence/roster.ts";

const graceMs = 10_000;
const startMs = 1_000_000;
/** Calendar and monotonic time differ, so that mixing them up shows. */
const at = (ms: number) => ({ nowMs: startMs + ms, monotonicMs: ms });

class FakeWatcher implements Watcher {
  readonly told: string[] = [];

  changed({ userId, state }: { userId: string; state: string }): void {
    this.told.push(`${userId} ${state}`);
  }

  moved(): void {
    this.told.push("moved");
  }
}

function watchOn(roster: Roster, watcher: Watcher, connection: number, userIds: string[]): Watch {
  const watch = roster.watch(watcher, connection);
  roster.set(watch, userIds);
  watch.answered = true;
  return watch;
}

const always = () => true;
/** As where every user connects to the source that told of the end. */
const whereHeard = ({ leftBy }: Person) => leftBy?.heard ?? true;
const never = () => false;

const nobody = { people: 0, leaving: 0, unsaved: 0 };

describe("presence roster", () => {
  let roster: Roster;
  let one: Source;
  let watcher: FakeWatcher;

  const shown = (userId: string) => {
    const presence = roster.find(userId);
    if (presence === undefined) return "unknown";
    const { availability, lastSeenMs } = presence;
    return availability === Availability.ONLINE ? `online ${lastSeenMs}` : `offline ${lastSeenMs}`;
  };

  beforeEach(() => {
    roster = new Roster({ graceMs, unsavedMax: 100 });
    one = heard();
    watcher = new FakeWatcher();
  });

  /** A source that told everybody: nobody. */
  function heard(): Source {
    const source = newSource();
    roster.endList(source, at(0));
    return source;
  }

  it("shows a user online at the first session and offline a grace after the last (P7)", () => {
    watchOn(roster, watcher, 1, ["ann"]);
    roster.online(one, "ann");
    assert.deepEqual(watcher.told, ["ann online"]);
    roster.offline(one, "ann", at(5_000));
    assert.equal(roster.nextDeadlineMs, 15_000);
    roster.expire(14_999, always);
    assert.equal(shown("ann"), "online 0");
    roster.expire(15_000, always);
    assert.deepEqual(watcher.told, ["ann online", "ann offline"]);
    assert.equal(shown("ann"), `offline ${startMs + 5_000}`, "seen last when the session ended");
  });

  it("tells nothing of a user who is back within the grace (P7)", () => {
    watchOn(roster, watcher, 1, ["ann"]);
    roster.online(one, "ann");
    roster.offline(one, "ann", at(0));
    roster.online(one, "ann");
    assert.equal(roster.nextDeadlineMs, undefined);
    roster.expire(60_000, always);
    assert.deepEqual(watcher.told, ["ann online"]);
    // Each leave has the whole grace.
    roster.offline(one, "ann", at(61_000));
    assert.equal(roster.nextDeadlineMs, 71_000);
  });

  it("lets nobody go offline because the list began anew, and gives the missing their grace (P7)", () => {
    watchOn(roster, watcher, 1, ["ann", "bob", "eve"]);
    for (const userId of ["ann", "bob"]) roster.online(one, userId);
    roster.offline(one, "bob", at(0));
    watcher.told.length = 0;
    roster.beginList(one);
    for (const userId of ["bob", "eve"]) roster.online(one, userId);
    assert.deepEqual(watcher.told, ["eve online"]);
    roster.endList(one, at(3_000));
    roster.expire(12_999, always);
    assert.deepEqual(watcher.told, ["eve online"]);
    roster.expire(13_000, always);
    assert.deepEqual(watcher.told, ["eve online", "ann offline"]);
  });

  it("takes a list that broke off and began again as one list (P7)", () => {
    for (const userId of ["ann", "bob", "eve"]) roster.online(one, userId);
    roster.beginList(one);
    for (const userId of ["ann", "bob"]) roster.online(one, userId);
    roster.beginList(one);
    roster.online(one, "ann");
    roster.offline(one, "eve", at(500));
    roster.endList(one, at(1_000));
    roster.expire(11_000, always);
    assert.deepEqual(["ann", "bob", "eve"].map(shown), [
      "online 0",
      `offline ${startMs + 1_000}`,
      `offline ${startMs + 500}`,
    ]);
    roster.offline(one, "ann", at(12_000));
    roster.expire(22_000, always);
    assert.equal(shown("ann"), `offline ${startMs + 12_000}`, "counted once");
  });

  it("shows a user online while any source says so (P7)", () => {
    const two = heard();
    watchOn(roster, watcher, 1, ["ann"]);
    roster.online(one, "ann");
    roster.online(two, "ann");
    roster.online(one, "ann");
    roster.offline(one, "ann", at(0));
    roster.offline(one, "ann", at(0));
    roster.expire(60_000, always);
    assert.equal(shown("ann"), "online 0");
    roster.beginList(two);
    roster.online(one, "ann");
    roster.endList(two, at(60_000));
    assert.equal(roster.nextDeadlineMs, undefined, "online at the first one again");
    roster.offline(one, "ann", at(61_000));
    roster.expire(71_000, always);
    assert.deepEqual(watcher.told, ["ann online", "ann offline"]);
  });

  it("ends no grace while the source that told of the end is not heard, and holds nobody else up (P7)", () => {
    const two = heard();
    watchOn(roster, watcher, 1, ["ann", "bob", "joe"]);
    for (const userId of ["ann", "joe"]) {
      roster.online(one, userId);
      roster.offline(one, userId, at(0));
    }
    roster.online(two, "bob");
    roster.offline(two, "bob", at(1));
    watcher.told.length = 0;
    roster.beginList(one);
    roster.expire(60_000, whereHeard);
    assert.deepEqual(watcher.told, ["bob offline"]);
    roster.release(whereHeard);
    roster.online(one, "joe");
    roster.endList(one, at(61_000));
    roster.release(whereHeard);
    assert.deepEqual(watcher.told, ["bob offline", "ann offline"], "her grace was over long since");
    assert.equal(shown("joe"), "online 0");
  });

  it("gives those of a source that is gone their grace from then on (P7)", () => {
    const two = heard();
    for (const userId of ["ann", "bob"]) roster.online(one, userId);
    roster.online(two, "bob");
    roster.beginList(one);
    roster.online(one, "ann");
    roster.gone(one, at(5_000), never);
    assert.equal(shown("bob"), "online 0");
    assert.equal(roster.nextDeadlineMs, 15_000);
    roster.expire(15_000, whereHeard);
    assert.equal(shown("ann"), `offline ${startMs + 5_000}`);
    roster.offline(two, "bob", at(20_000));
    roster.expire(30_000, whereHeard);
    roster.saved(roster.unsaved(10));
    assert.deepEqual(roster.size, nobody);
  });

  it("gives whoever may have been back unseen at a source that is gone the whole grace again (P7)", () => {
    const two = heard();
    for (const [userId, source] of Object.entries({ ann: one, bob: two, joe: two })) {
      roster.online(source, userId);
      roster.offline(source, userId, at(0));
    }
    roster.online(one, "eve");
    roster.offline(one, "eve", at(9_000));
    roster.beginList(one);
    roster.expire(10_000, ({ userId }) => userId === "joe");
    roster.gone(one, at(12_000), ({ userId }) => userId === "bob");
    roster.release(always);
    roster.expire(21_999, always);
    assert.deepEqual(["ann", "bob", "joe", "eve"].map(shown), [
      "online 0",
      "online 0",
      `offline ${startMs}`,
      "online 0",
    ]);
    roster.expire(22_000, always);
    assert.deepEqual(["ann", "bob"].map(shown), [`offline ${startMs}`, `offline ${startMs}`]);
    assert.equal(shown("eve"), `offline ${startMs + 9_000}`, "seen last when it was seen");
    // One that was heard to its end leaves those be who left before.
    roster.online(two, "ann");
    roster.offline(two, "ann", at(30_000));
    roster.gone(two, at(35_000), always);
    assert.equal(roster.nextDeadlineMs, 40_000);
  });

  it("lets those go quietly who fall to others, and keeps when they were last seen", () => {
    const two = newSource();
    const other = new FakeWatcher();
    watchOn(roster, watcher, 1, ["ann", "bob"]);
    watchOn(roster, other, 1, ["bob"]);
    for (const userId of ["ann", "bob", "eve", "joe"]) roster.online(one, userId);
    roster.online(two, "ann");
    roster.offline(one, "joe", at(0));
    roster.beginList(one);
    roster.keepOnly((userId) => userId === "bob");
    assert.deepEqual(watcher.told, ["ann online", "bob online", "moved"]);
    assert.deepEqual(other.told, ["bob online"]);
    assert.deepEqual(["ann", "bob", "eve", "joe"].map(shown), [
      "unknown",
      "online 0",
      "unknown",
      "unknown",
    ]);
    roster.expire(60_000, always);
    roster.endList(two, at(60_000));
    roster.online(one, "bob");
    roster.endList(one, at(60_000));
    assert.deepEqual(roster.size, { people: 1, leaving: 0, unsaved: 1 });
    assert.deepEqual(roster.unsaved(10), [["joe", startMs]], "nobody else was seen to leave");
  });

  it("tells only those who watch, and only what they watch now (P8)", () => {
    const other = new FakeWatcher();
    const watch = watchOn(roster, watcher, 1, ["ann"]);
    watchOn(roster, other, 1, ["bob"]);
    roster.online(one, "ann");
    roster.set(watch, ["bob"]);
    watch.answered = true;
    roster.online(one, "eve");
    roster.online(one, "bob");
    assert.deepEqual(watcher.told, ["ann online", "bob online"]);
    assert.deepEqual(other.told, ["bob online"]);
    roster.unwatch(watch);
    roster.offline(one, "bob", at(0));
    roster.expire(graceMs, always);
    assert.deepEqual(watcher.told, ["ann online", "bob online"]);
    assert.deepEqual(other.told, ["bob online", "bob offline"]);
  });

  it("asks for the last-seen times that it does not know, and never lets one go back", () => {
    roster.online(one, "ann");
    roster.offline(one, "bob", at(5_000));
    roster.expire(15_000, always);
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
    roster.offline(one, "ann", at(1));
    roster.offline(one, "bob", at(2));
    assert.deepEqual(roster.unsaved(1), [["ann", startMs + 1]]);
    const taken = roster.unsaved(10);
    roster.offline(one, "ann", at(3));
    roster.saved(taken);
    assert.deepEqual(roster.unsaved(10), [["ann", startMs + 3]]);
  });

  it("forgets whoever is offline, unwatched and kept, and nobody else (P9)", () => {
    const watch = watchOn(roster, watcher, 1, ["ann", "bob"]);
    for (const userId of ["ann", "bob", "eve", "joe"]) roster.online(one, userId);
    for (const userId of ["bob", "eve"]) roster.offline(one, userId, at(0));
    roster.expire(graceMs, always);
    assert.deepEqual(roster.size, { people: 4, leaving: 0, unsaved: 2 });
    roster.saved(roster.unsaved(10));
    assert.equal(shown("eve"), "unknown");
    assert.equal(shown("bob"), `offline ${startMs}`);
    roster.unwatch(watch);
    assert.equal(shown("bob"), "unknown");
    for (const userId of ["ann", "joe"]) roster.offline(one, userId, at(20_000));
    roster.saved(roster.unsaved(10));
    assert.equal(roster.size.people, 2);
    roster.expire(30_000, always);
    assert.deepEqual(roster.size, nobody);
  });

  it("holds a bounded number of times that cannot be kept (P9)", () => {
    for (let user = 0; user < 250; user += 1) roster.offline(one, `user ${user}`, at(user));
    roster.expire(100_000, always);
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
        const source = newSource();
        const online = new Set<string>();
        const endedMs = new Map<string, number>();
        let watch: Watch | undefined;
        let nowMs = 0;
        for (const { what, userId, ms } of steps) {
          if (what === "online") {
            online.add(userId);
            tested.online(source, userId);
          } else if (what === "offline") {
            online.delete(userId);
            endedMs.set(userId, nowMs);
            tested.offline(source, userId, at(nowMs));
          } else if (what === "wait") {
            nowMs += ms;
            tested.expire(nowMs, always);
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
        tested.expire(nowMs, always);
        tested.saved(tested.unsaved(10));
        if (watch !== undefined) tested.unwatch(watch);
        assert.deepEqual(tested.size, { people: online.size, leaving: 0, unsaved: 0 });
      }),
    );
  });
});
