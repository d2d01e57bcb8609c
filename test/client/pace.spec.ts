/** The client's pace against the server's own rate: however an app sends, and however the network lets wait and hurries, the server takes it. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Pace } from "../../client/pace.ts";
import { TokenBucket } from "../../gateway/rate.ts";

const limits = { ratePerSecond: 500, bytesPerSecond: 100_000 };

/** When batches that an app asks for at these times go out. */
function sentAt(pace: Pace, asked: readonly { afterMs: number; frames: number; bytes: number }[]) {
  let nowMs = 0;
  let askedMs = 0;
  return asked.map(({ afterMs, frames, bytes }) => {
    askedMs += afterMs;
    nowMs = Math.max(nowMs, askedMs);
    for (let waitMs = pace.take(nowMs, frames, bytes); waitMs > 0;) {
      nowMs += waitMs;
      waitMs = pace.take(nowMs, frames, bytes);
    }
    return { atMs: nowMs, frames, bytes };
  });
}

function newPace(): Pace {
  const pace = new Pace(0);
  pace.allow(limits.ratePerSecond, limits.bytesPerSecond);
  return pace;
}

describe("the client's pace", () => {
  const batch = fc.record({
    afterMs: fc.integer({ min: 0, max: 300 }),
    frames: fc.integer({ min: 1, max: 100 }),
    bytes: fc.integer({ min: 1, max: 60_000 }),
  });

  it("is never too fast for the server, where what was sent waits on the way up to half a second", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(batch, fc.integer({ min: 0, max: 500 })), { maxLength: 200 }),
        (all) => {
          const bucket = new TokenBucket(0, limits);
          let heardMs = 0;
          const sent = sentAt(
            newPace(),
            all.map(([one]) => one),
          );
          for (const [at, { atMs, frames, bytes }] of sent.entries()) {
            heardMs = Math.max(heardMs, atMs + (all[at]?.[1] ?? 0));
            assert.ok(bucket.take(heardMs, frames, bytes), `batch ${at} at ${heardMs} ms`);
          }
        },
      ),
    );
  });

  it("lets as much through as the server takes, but for a little", () => {
    const sent = sentAt(
      newPace(),
      Array.from({ length: 100 }, () => ({ afterMs: 0, frames: 100, bytes: 1_000 })),
    );
    const seconds = (sent.at(-1)?.atMs ?? 0) / 1_000;
    assert.ok(seconds > 19 && seconds < 21, `10,000 frames took ${seconds} s`);
  });

  it("lets a quiet device's messages go at once", () => {
    const sent = sentAt(
      newPace(),
      Array.from({ length: 50 }, () => ({ afterMs: 20, frames: 2, bytes: 300 })),
    );
    assert.deepEqual(
      sent.map(({ atMs }) => atMs),
      Array.from({ length: 50 }, (_, at) => 20 * (at + 1)),
    );
  });
});
