/** The limits of calls over HTTP are settings, and say what to do when they are reached (P9). */
import assert from "node:assert/strict";
import { modes, tokenFor, type RunningParley } from "../support/parley.ts";

async function sync(parley: RunningParley, userId: string): Promise<Response> {
  return fetch(`${parley.url}/parley.v1.ChatService/Sync`, {
    method: "POST",
    headers: {
      Authorization: `Bearer ${await tokenFor(userId)}`,
      "Content-Type": "application/json",
    },
    body: "{}",
  });
}

for (const [mode, start] of modes.entries()) {
  describe(`limits of calls (${mode})`, () => {
    it("holds a user to PARLEY_CALLS_PER_SECOND, and nobody else", async () => {
      const parley = await start({ PARLEY_CALLS_PER_SECOND: "1" });
      try {
        const answers = await Promise.all(Array.from({ length: 8 }, () => sync(parley, "alice")));
        const refused = answers.filter(({ status }) => status === 429);
        assert.ok(refused.length >= 3, `${refused.length} of 8 calls were refused`);
        assert.ok(Number(refused[0]?.headers.get("retry-after-ms")) > 0);
        assert.equal((await sync(parley, "bob")).status, 200);
      } finally {
        await parley.close();
      }
    });

    it("refuses an upload over PARLEY_MEDIA_MAX_BYTES", async () => {
      const parley = await start({ PARLEY_MEDIA_MAX_BYTES: "1024" });
      try {
        const answer = await fetch(`${parley.url}/media?conversation=d:alice:bob`, {
          method: "POST",
          headers: { Authorization: `Bearer ${await tokenFor("alice")}` },
          body: new Uint8Array(2_000),
        });
        assert.equal(answer.status, 413);
        assert.match(await answer.text(), /1024/);
      } finally {
        await parley.close();
      }
    });
  });
}
