/** The checker of runs under load finds every fault that it is there to find, and nothing in a run without one. */
import assert from "node:assert/strict";
import { check, reportOf } from "./checker.ts";
import type { DeviceLog, Observed, PromiseId, SeenRecord } from "./checker.ts";

type Changeable<T> = { -readonly [K in keyof T]: Unlocked<T[K]> };
type Unlocked<T> =
  T extends ReadonlyMap<infer K, infer V>
    ? Map<K, Unlocked<V>>
    : T extends readonly (infer I)[]
      ? Changeable<I>[]
      : T;
type Run = Changeable<Observed>;

const id = "d:ann:ben";
const textAt = (seq: number): string => `${seq % 2 === 1 ? "ann" : "ben"} ${seq}`;

const recordAt = (seq: number): SeenRecord => ({
  seq,
  senderId: seq % 2 === 1 ? "ann" : "ben",
  clientId: `id-${seq}`,
  text: textAt(seq),
});
const records = (): SeenRecord[] => [1, 2, 3, 4, 5, 6].map(recordAt);

const deviceOf = (userId: string, deviceId: string): DeviceLog => ({
  userId,
  deviceId,
  records: new Map([[id, records()]]),
  gaps: new Map(),
  cursors: [
    { conversationId: id, userId: "ben", delivered: 3, read: 1 },
    { conversationId: id, userId: "ben", delivered: 5, read: 3 },
  ],
  heads: new Map([[id, [1, 3, 6]]]),
});

/** Two users with three devices, six messages, nothing wrong. */
const goodRun = (): Run =>
  structuredClone<Observed>({
    members: new Map([[id, ["ann", "ben"]]]),
    sent: records().map(({ seq, senderId, text }) => ({
      userId: senderId,
      deviceId: "phone",
      conversationId: id,
      text,
      seq,
    })),
    devices: [deviceOf("ann", "phone"), deviceOf("ann", "desk"), deviceOf("ben", "phone")],
    histories: ["ann", "ben"].map((userId) => ({
      userId,
      conversationId: id,
      records: records(),
    })),
    cursors: [{ conversationId: id, userId: "ben", delivered: 6, read: 4 }],
  }) as Run;

const each = (run: Run, change: (log: SeenRecord[]) => void): void => {
  for (const { records: log } of run.histories) change(log);
  for (const { records: logs } of run.devices) change(logs.get(id) ?? []);
};

/** Each, and what is to be found; other findings may come along. */
const faults: [says: string, plant: (run: Run) => void, promise: PromiseId, what: RegExp][] = [
  [
    "an acked message that is nowhere",
    (run) => each(run, (log) => log.splice(5, 1)),
    "P1",
    /"ben 6" was acked as 6; ann reads nothing/,
  ],
  [
    "an acked message that one member lacks",
    (run) => run.histories[1]?.records.splice(5, 1),
    "P1",
    /"ben 6" was acked as 6; ben reads nothing/,
  ],
  [
    "an acked message whose place another has",
    (run) =>
      each(run, (log) => log.splice(3, 1, { ...recordAt(4), text: "other", clientId: "other" })),
    "P1",
    /"ben 4" was acked as 4; ann reads 4 "other"/,
  ],
  ["a member without a history", (run) => run.histories.splice(1, 1), "P1", /ben has no history/],
  [
    "a message twice in the log",
    (run) => each(run, (log) => log.push({ ...recordAt(5), seq: 7 })),
    "P2",
    /d:ann:ben: "ann 5" is both 5 and 7/,
  ],
  [
    "a client id twice in the log",
    (run) => each(run, (log) => log.push({ ...recordAt(5), seq: 7, text: "again" })),
    "P2",
    /"again" is both 5 and 7/,
  ],
  [
    "a record handed twice to a device",
    (run) => run.devices[1]?.records.get(id)?.splice(3, 0, recordAt(3)),
    "P2",
    /on ann\/desk: "ann 3" is both 3 and 3/,
  ],
  [
    "two acks with one seq",
    (run) =>
      run.sent.push({
        ...recordAt(6),
        userId: "ann",
        deviceId: "desk",
        conversationId: id,
        text: "x",
      }),
    "P2",
    /"ben 6" and "x" were both acked as 6/,
  ],
  [
    "histories that differ",
    (run) => run.histories[1]?.records.splice(2, 1, { ...recordAt(3), text: "else" }),
    "P3",
    /histories differ from 3 on/,
  ],
  [
    "a hole in a history",
    (run) => each(run, (log) => log.splice(2, 1)),
    "P3",
    /history has 4 where 3 is due/,
  ],
  [
    "a hole on a device",
    (run) => run.devices[2]?.records.get(id)?.splice(2, 1),
    "P3",
    /on ben\/phone: 4 came where 3 was due/,
  ],
  [
    "a device that saw another order",
    (run) => run.devices[0]?.records.get(id)?.splice(2, 2, recordAt(4), recordAt(3)),
    "P3",
    /on ann\/phone: 4 came where 3 was due/,
  ],
  [
    "a device that saw another record",
    (run) => run.devices[0]?.records.get(id)?.splice(4, 1, { ...recordAt(5), text: "ghost" }),
    "P3",
    /saw 5 "ghost" of ann, 5 "ann 5" of ann is kept/,
  ],
  [
    "a device that saw what is not kept",
    (run) => run.devices[0]?.records.get(id)?.push(recordAt(7)),
    "P3",
    /saw 7 "ann 7" of ann, nothing is kept/,
  ],
  [
    "a device that lacks the end",
    (run) => run.devices[1]?.records.get(id)?.pop(),
    "P3",
    /on ann\/desk: ends before 6, the log has 6/,
  ],
  [
    "a device that saw nothing",
    (run) => run.devices[1]?.records.clear(),
    "P3",
    /on ann\/desk: ends before 1, the log has 6/,
  ],
  ["a gap", (run) => run.devices[0]?.gaps.set(id, ["2-3"]), "P3", /on ann\/phone: 2-3 is a gap/],
  [
    "a sender's messages in another order",
    (run) => run.sent.splice(2, 3, ...run.sent.slice(2, 5).reverse()),
    "P4",
    /"ann 3" is 3, "ann 5", sent before, is 5/,
  ],
  [
    "a sender's order broken by a message that was never acked",
    (run) => {
      run.sent.splice(2, 3, ...run.sent.slice(2, 5).reverse());
      for (const one of run.sent) one.seq = undefined;
    },
    "P4",
    /"ann 3" is 3/,
  ],
  [
    "a cursor that went back",
    (run) =>
      run.devices[0]?.cursors.push({ conversationId: id, userId: "ben", delivered: 5, read: 2 }),
    "P5",
    /ben on ann\/phone: went back from 5\/3 to 5\/2/,
  ],
  [
    "a cursor that was told and is not kept",
    (run) => run.cursors.splice(0, 1, { conversationId: id, userId: "ben", delivered: 4, read: 3 }),
    "P5",
    /saw 5\/3, 4\/3 is kept/,
  ],
  [
    "a head that went back",
    (run) => run.devices[0]?.heads.get(id)?.push(5),
    "P5",
    /on ann\/phone: head 6, then 5/,
  ],
];

describe("checker of runs", () => {
  it("finds nothing where nothing is wrong", () => {
    const run = goodRun();
    assert.deepEqual(check(run), []);
    assert.equal(reportOf([]), "nothing is wrong");
  });

  it("finds nothing wrong with a message that failed, kept or not, nor with one who came later", () => {
    const run = goodRun();
    const more = { userId: "ann", deviceId: "phone", conversationId: id, seq: undefined };
    run.sent.push({ ...more, text: "lost" }, { ...more, text: "kept" });
    each(run, (log) => log.push({ seq: 7, senderId: "ann", clientId: "id-7", text: "kept" }));
    run.devices[1]?.records.get(id)?.splice(0, 3);
    assert.deepEqual(check(run), []);
  });

  for (const [says, plant, promise, what] of faults) {
    it(`finds ${says} (${promise})`, () => {
      const run = goodRun();
      plant(run);
      const findings = check(run);
      const hit = findings.find((one) => one.promise === promise && what.test(one.what));
      assert.ok(hit, reportOf(findings));
      assert.match(reportOf(findings), new RegExp(`broken:.*${promise}: \\d`));
    });
  }

  it("reports how many there are, and the first ones", () => {
    const many = Array.from({ length: 40 }, (_, at) => ({ promise: "P1" as const, what: `${at}` }));
    const report = reportOf(many).split("\n");
    assert.equal(report[0], "broken: P1: 40");
    assert.equal(report.at(-1), "  … and 10 more");
    assert.equal(report.length, 32);
  });
});
