/** What fetches holes, against answers by script, on a clock that the test moves. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { Calls } from "../../client/calls.ts";
import { Filler } from "../../client/filler.ts";
import { settingsOf } from "../../client/options.ts";
import { Requests } from "../../client/requests.ts";
import { addRecords, applyHistory, giveUp, newTimeline } from "../../client/timeline.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { seededRandom } from "../../mesh/random.ts";
import { ServerFrameSchema, type ServerFrame } from "../../proto/gen/parley/v1/frame_pb.ts";
import { RecordSchema, type Record as LogRecord } from "../../proto/gen/parley/v1/record_pb.ts";

const limits = { keptMax: 500, earlyMax: 500, pageMax: 200 };
const me = "alice";
const id = "d:alice:bob";

const record = (seq: number): LogRecord =>
  create(RecordSchema, {
    conversationId: id,
    seq,
    senderId: "bob",
    body: { case: "message", value: { text: `${seq}` } },
  });

type Said = (requestId: number) => ServerFrame;

const failure =
  (code: Code): Said =>
  (requestId) =>
    create(ServerFrameSchema, {
      requestId,
      frame: { case: "failure", value: { code, message: "no" } },
    });

const found =
  (...records: LogRecord[]): Said =>
  (requestId) =>
    create(ServerFrameSchema, {
      requestId,
      frame: { case: "history", value: { records, headSeq: 3, floorSeq: 1 } },
    });

/** Of 1 and 3, which were pushed: what was asked, and what the app sees, while the server says these one after the other. */
async function filled(...said: Said[]): Promise<{ asked: number; shown: string }> {
  const clock = new ManualClock();
  const requests = new Requests(clock, 15_000, () => assert.fail("silence"));
  const settings = settingsOf({ url: "http://parley", token: "t", clock });
  const { unit } = seededRandom(1);
  const random = { unit, bytes: (length: number) => new Uint8Array(length) };
  const calls = new Calls(requests, clock, random, settings.limits);
  const timeline = newTimeline(id);
  const shown: string[] = [];
  const show = (outcome: ReturnType<typeof giveUp>): void => {
    for (const item of outcome)
      shown.push(item.t === "record" ? `${item.record.seq}` : `(${item.gap.from}-${item.gap.to})`);
  };
  const filler = new Filler(calls, clock, settings.limits, limits, {
    underWay: () => false,
    live: () => true,
    filled: (_, answer) => show(applyHistory(timeline, answer, me, limits)),
    lost: () => show(giveUp(timeline, me, limits)),
    failed: (error) => shown.push(String(error)),
  });
  let asked = 0;
  requests.up((frames) => {
    for (const { requestId } of frames) {
      const say = said[asked];
      asked += 1;
      if (say !== undefined) requests.answer(say(requestId));
    }
  });
  show(addRecords(timeline, [record(1), record(3)], me, limits));
  filler.look(timeline);
  for (const _ of said) {
    clock.advance(1_000);
    // The turn's batch goes out, and the answer is taken.
    await new Promise((resolve) => void setImmediate(resolve));
  }
  return { asked, shown: shown.join(" ") };
}

describe("what fills holes", () => {
  it("asks on where the server does not show the conversation yet (P3 P6)", async () => {
    const unseen = Array.from({ length: 20 }, () => failure(Code.NotFound));
    assert.deepEqual(await filled(...unseen, found(record(2))), { asked: 21, shown: "1 2 3" });
  });

  it("names a hole in a conversation that is not shown in a minute (P6)", async () => {
    const unseen = Array.from({ length: 61 }, () => failure(Code.NotFound));
    assert.deepEqual(await filled(...unseen), { asked: 60, shown: "1 (2-2) 3" });
  });

  it("names one at once where the server will not have it (P6)", async () => {
    const refused = failure(Code.PermissionDenied);
    assert.deepEqual(await filled(refused, refused), { asked: 1, shown: "1 (2-2) 3" });
  });
});
