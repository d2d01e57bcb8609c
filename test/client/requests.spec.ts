import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { Requests } from "../../client/requests.ts";
import { ManualClock } from "../../mesh/clock.ts";
import { ServerFrameSchema, type ClientFrame } from "../../proto/gen/parley/v1/frame_pb.ts";
import {
  SetTypingRequestSchema,
  SetTypingResponseSchema,
} from "../../proto/gen/parley/v1/chat_pb.ts";

const answerMs = 15_000;

/** Requests over a line that hears nothing by itself. */
function line() {
  const clock = new ManualClock();
  const silences: number[] = [];
  const requests = new Requests(clock, answerMs, (ms) => {
    silences.push(ms);
    // As the client does: the next line comes at once.
    requests.down();
    requests.up(deliver);
  });
  const sent: ClientFrame[] = [];
  const deliver = (frames: readonly ClientFrame[]): void => void sent.push(...frames);
  requests.up(deliver);
  const ask = (): void =>
    requests.ask({ case: "setTyping", value: create(SetTypingRequestSchema) }, () => undefined);
  const hear = (requestId: number): void => {
    const value = create(SetTypingResponseSchema);
    requests.answer(create(ServerFrameSchema, { requestId, frame: { case: "setTyping", value } }));
  };
  /** What was asked last, once it has gone out. */
  const last = async (): Promise<number> => {
    await new Promise<void>((turned) => clock.afterTurn(turned));
    return sent.at(-1)?.requestId ?? 0;
  };
  return { clock, silences, ask, hear, last };
}

describe("requests over a line", () => {
  it("find it dead when nothing comes while an answer is due, and only then (P1)", async () => {
    const { clock, silences, ask, hear, last } = line();
    clock.advance(10 * answerMs);
    ask();
    hear(await last());
    clock.advance(10 * answerMs);
    assert.deepEqual(silences, [], "nothing is due");
    ask();
    clock.advance(answerMs - 1);
    assert.deepEqual(silences, []);
    clock.advance(1);
    assert.deepEqual(silences, [answerMs]);
  });

  it("wait for an answer as long as anything else comes", () => {
    const { clock, silences, ask, hear } = line();
    ask();
    for (let times = 0; times < 10; times += 1) {
      clock.advance(answerMs - 1);
      hear(0);
    }
    assert.deepEqual(silences, []);
    clock.advance(answerMs);
    assert.deepEqual(silences, [answerMs]);
  });

  it("give a line twice the time after each that was dead, up to 8 times, until one answers", async () => {
    const { clock, silences, ask, hear, last } = line();
    for (let times = 0; times < 5; times += 1) {
      ask();
      clock.advance(8 * answerMs);
    }
    const times = silences.map((ms) => ms / answerMs);
    assert.deepEqual(times, [1, 2, 4, 8, 8]);
    ask();
    hear(await last());
    ask();
    clock.advance(answerMs);
    assert.equal(silences.at(-1), answerMs);
  });
});
