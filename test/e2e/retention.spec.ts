/** A conversation that is not kept for ever: what its members are shown, and that they go on. */
import assert from "node:assert/strict";
import { StorageService } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { modes } from "../support/parley.ts";
import { Town, directId, textOf, textTo } from "../support/town.ts";

for (const [mode, start] of modes.entries()) {
  describe(`retention, ${mode}`, () => {
    let town: Town;
    before(async () => {
      town = await Town.start(start);
    });
    after(() => town.close());

    it("removes what is old, tells readers where the log begins, and lets cursors pass (P3, P5)", async () => {
      const [ann, ben] = [await town.onSocket("ann"), await town.onSocket("ben")];
      for (let at = 1; at <= 5; at += 1) await ann.send(textTo("ben", `text ${at}`));
      const conversationId = directId("ann", "ben");
      const [storage] = town.operators(StorageService);
      assert(storage !== undefined);
      await storage.setRetention({ conversationId, retentionMs: 1n });
      // The last one stays; what is of this very millisecond goes a little later.
      await ann.send(textTo("ben", "text 6"));
      for (let floorSeq = 0; floorSeq < 6;) {
        const { retention } = await storage.sweepRetention({ conversationId });
        floorSeq = retention?.floorSeq ?? 0;
      }
      const { records, floorSeq, headSeq } = await ben.history({ conversationId, afterSeq: 2 });
      assert.deepEqual([records.map(textOf), floorSeq, headSeq], [["text 6"], 6, 6]);
      const older = await ben.history({ conversationId, beforeSeq: 4 });
      assert.deepEqual([older.records, older.floorSeq], [[], 6]);
      const { cursor } = await ben.moveCursor({ conversationId, readSeq: 3 });
      assert.equal(cursor?.readSeq, 3);
      assert.equal((await ben.send(textTo("ann", "on"))).seq, 7);
      await town.leave();
    });
  });
}
