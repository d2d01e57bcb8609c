import assert from "node:assert/strict";
import { seededRandom } from "../../mesh/random.ts";
import {
  begin,
  closing,
  next,
  type Closing,
  type Connection,
  type ConnectionEvent,
  type ConnectionRules,
} from "../../client/connection.ts";

const rules: ConnectionRules = {
  transports: ["websocket", "connect", "poll"],
  tokenRenewable: true,
  backoffBaseMs: 500,
  backoffCapMs: 30_000,
  stableMs: 10_000,
};
const lost = closing(1006, "lost", "transport");

function closed(why: Closing, atMs = 0, chance = 0.5): ConnectionEvent {
  return { t: "closed", closing: why, atMs, chance };
}

function run(state: Connection, events: ConnectionEvent[], by = rules): Connection {
  return events.reduce((now, event) => next(now, event, by), state);
}

const opening: ConnectionEvent[] = [{ t: "start" }, { t: "opened" }];
const welcomed: ConnectionEvent = { t: "welcomed", userId: "alice", atMs: 0 };
const live = run(begin(rules), [...opening, welcomed]);

describe("the client's connection", () => {
  it("goes from idle over greeting to live", () => {
    assert.equal(begin(rules).t, "idle");
    assert.equal(run(begin(rules), [{ t: "start" }]).t, "connecting");
    assert.equal(run(begin(rules), opening).t, "greeting");
    assert.deepEqual(live.t === "live" && live.userId, "alice");
  });

  it("backs off with full jitter, doubling up to the cap", () => {
    const random = seededRandom(7);
    const only: ConnectionRules = { ...rules, transports: ["websocket"] };
    const samples: number[][] = Array.from({ length: 12 }, () => []);
    for (let round = 0; round < 200; round++) {
      let state = begin(only);
      for (const delays of samples) {
        state = next(state, { t: "start" }, only);
        state = next(state, closed(lost, 0, random.unit()), only);
        assert.equal(state.t, "waiting");
        if (state.t === "waiting") delays.push(state.delayMs);
      }
    }
    for (const [failures, delays] of samples.entries()) {
      const ceiling = Math.min(30_000, 500 * 2 ** failures);
      assert.ok(Math.max(...delays) <= ceiling, `failure ${failures} waits at most ${ceiling}`);
      assert.ok(Math.max(...delays) > ceiling * 0.9, `failure ${failures} uses the whole range`);
      assert.ok(Math.min(...delays) < ceiling * 0.1, `failure ${failures} uses the whole range`);
    }
  });

  it("begins the backoff anew only after a connection that lasted", () => {
    const failedTwice = run(begin(rules), [{ t: "start" }, closed(lost), { t: "waited" }]);
    const shortLife = run(failedTwice, [{ t: "opened" }, welcomed, closed(lost, 9_999)]);
    const longLife = run(failedTwice, [{ t: "opened" }, welcomed, closed(lost, 10_000)]);
    assert.equal(shortLife.trail.failures, 2);
    assert.equal(longLife.trail.failures, 1);
  });

  it("comes back when the server wants it back, within reason", () => {
    const away = next(live, closed(closing(4001, "draining", "none", 7_000)), rules);
    assert.equal(away.t === "waiting" && away.delayMs, 7_000);
    const long = next(live, closed(closing(4001, "draining", "none", 2 ** 31)), rules);
    assert.equal(long.t === "waiting" && long.delayMs, 300_000);
  });

  it("waits no longer than the server wants, unless the link before did not last", () => {
    const soon = closing(4001, "draining", "none", 5);
    const first = next(live, closed(soon, 0, 0.9), rules);
    assert.equal(first.t === "waiting" && first.delayMs, 5);
    const again = run(first, [
      { t: "waited" },
      { t: "opened" },
      welcomed,
      closed(soon, 9_999, 0.9),
    ]);
    assert.equal(again.t === "waiting" && again.delayMs, 900);
    const lasted = run(first, [{ t: "waited" }, { t: "opened" }, welcomed, closed(soon, 10_000)]);
    assert.equal(lasted.t === "waiting" && lasted.delayMs, 5);
  });

  it("resumes after close codes below 4100, stops from there on", () => {
    for (const code of [1000, 1001, 1006, 1011, 4000, 4001, 4002, 4003, 4004, 4099]) {
      assert.equal(next(live, closed(closing(code, "")), rules).t, "waiting", `${code}`);
    }
    for (const code of [4101, 4102, 4103, 4999]) {
      const stopped = next(live, closed(closing(code, "why")), rules);
      assert.equal(stopped.t === "stopped" && stopped.why.code, code);
    }
  });

  it("asks for another token once, and stops where there is none", () => {
    const refused = closed(closing(4100, "expired"));
    const again = run(begin(rules), [...opening, refused]);
    assert.equal(again.t, "waiting");
    assert.equal(run(again, [{ t: "waited" }, { t: "opened" }, refused]).t, "stopped");
    const fixed = { ...rules, tokenRenewable: false };
    assert.equal(run(begin(fixed), [...opening, refused], fixed).t, "stopped");
  });

  it("takes a token's end after a long life for a first refusal", () => {
    const refused = (atMs: number): ConnectionEvent => closed(closing(4100, "expired"), atMs);
    const renewed = run(live, [refused(3_600_000), { t: "waited" }, { t: "opened" }, welcomed]);
    assert.equal(renewed.t, "live");
    assert.equal(next(renewed, refused(3_600_000), rules).t, "waiting");
  });

  it("falls back after two failures to open, around again in the end", () => {
    const transports: string[] = [];
    let state = begin(rules);
    for (let tries = 0; tries < 7; tries++) {
      state = next(state, { t: "start" }, rules);
      transports.push(state.trail.transport);
      state = next(state, closed(lost), rules);
    }
    assert.deepEqual(transports, [
      ...["websocket", "websocket", "connect", "connect", "poll", "poll", "websocket"],
    ]);
  });

  it("holds a lost live connection, and what the server says, against no transport", () => {
    const gone = run(live, [closed(lost), { t: "waited" }, closed(closing(4001, ""))]);
    assert.equal(gone.trail.openFailures, 0);
    assert.equal(gone.trail.transport, "websocket");
  });

  it("polls at once where streams do not come through", () => {
    const fallen = run(begin(rules), [{ t: "start" }, closed(lost), { t: "start" }, closed(lost)]);
    const silent = closing(0, "nothing came", "stream");
    assert.equal(run(fallen, [{ t: "start" }, closed(silent)]).trail.transport, "poll");
  });

  it("goes up to the best transport when that is seen to work", () => {
    const fallen = run(begin(rules), [{ t: "start" }, closed(lost), { t: "start" }, closed(lost)]);
    const overConnect = run(fallen, [{ t: "start" }, welcomed]);
    assert.equal(overConnect.trail.transport, "connect");
    const up = next(overConnect, { t: "upgrade" }, rules);
    assert.deepEqual([up.t, up.trail.transport], ["connecting", "websocket"]);
    assert.equal(next(live, { t: "upgrade" }, rules), live);
  });

  it("starts again where the app wants it, from stopped and from waiting", () => {
    const stopped = next(live, closed(closing(4102, "")), rules);
    assert.equal(next(stopped, { t: "waited" }, rules), stopped);
    assert.equal(next(stopped, { t: "start" }, rules).t, "connecting");
    assert.equal(run(live, [closed(lost), { t: "start" }]).t, "connecting");
  });

  describe("sent elsewhere", () => {
    const elsewhere = (url: string, atMs = 0): ConnectionEvent =>
      closed(closing(4005, "", "none", 300, url), atMs);
    const eu = "https://eu.example.org";
    const sent = run(begin(rules), [...opening, elsewhere(eu)]);

    it("goes there next, when the server said", () => {
      assert.equal(sent.t === "waiting" && sent.delayMs, 300);
      assert.equal(sent.trail.url, eu);
      const there = run(sent, [{ t: "waited" }, { t: "opened" }, welcomed]);
      assert.deepEqual([there.t, there.trail.url], ["live", eu]);
    });

    it("goes back to the configured address where no welcome comes from there, whatever is said there", () => {
      for (const event of [
        closed(lost),
        elsewhere("https://us.example.org"),
        closed(closing(0, "")),
      ]) {
        const back = run(sent, [{ t: "waited" }, { t: "opened" }, event]);
        assert.deepEqual([back.t, back.trail.url], ["waiting", ""]);
      }
      const blocked = run(sent, [{ t: "waited" }, closed(lost), { t: "waited" }, closed(lost)]);
      assert.deepEqual([blocked.trail.transport, blocked.trail.openFailures], ["websocket", 1]);
    });

    it("goes back to it after a link that was lost, and after a stop", () => {
      const there = run(sent, [{ t: "waited" }, { t: "opened" }, welcomed]);
      assert.equal(next(there, closed(lost), rules).trail.url, "");
      assert.equal(next(there, { t: "stop", why: closing(1000, "") }, rules).trail.url, "");
      const drained = closed(closing(4001, "", "none", 0, "https://eu2.example.org"));
      assert.equal(next(there, drained, rules).trail.url, "https://eu2.example.org");
    });

    it("cannot spin between servers that point at each other: waits grow", () => {
      let state = begin(rules);
      const delays: number[] = [];
      const urls = new Set<string>();
      for (let tries = 0; tries < 12; tries += 1) {
        const event = elsewhere(tries % 2 === 0 ? eu : "https://us.example.org");
        state = run(state, [{ t: "start" }, { t: "opened" }, event]);
        assert.ok(state.t === "waiting");
        delays.push(state.delayMs);
        urls.add(state.trail.url);
      }
      assert.deepEqual([...urls].toSorted(), ["", eu]);
      // Half of a ceiling that doubles, from the 300 ms on that the server says.
      assert.deepEqual(delays.slice(0, 4), [300, 500, 1_000, 2_000]);
      assert.equal(delays.at(-1), 15_000);
    });
  });

  it("begins with what worked last, where that is to be had", () => {
    assert.equal(begin(rules, "poll").trail.transport, "poll");
    assert.equal(begin(rules, "carrier pigeon").trail.transport, "websocket");
    const upgraded = run(begin(rules, "connect"), [...opening, welcomed, { t: "upgrade" }]);
    assert.equal(upgraded.trail.transport, "websocket");
  });

  it("ignores what does not fit", () => {
    assert.equal(next(live, { t: "opened" }, rules), live);
    assert.equal(next(begin(rules), closed(lost), rules).t, "idle");
    const waiting = next(live, closed(lost), rules);
    assert.equal(next(waiting, closed(lost), rules), waiting);
    assert.equal(next(waiting, welcomed, rules), waiting);
  });
});
