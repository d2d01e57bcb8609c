/** Sends under ids of the app's own, against the real service: who does not know whether an earlier client sent it, sends it again. */
import assert from "node:assert/strict";
import { createNodeClient } from "../../client/node.ts";
import type { ParleyClient } from "../../client/index.ts";
import { toBase64Url } from "../../client/surroundings.ts";
import { seededRandom } from "../../mesh/random.ts";
import { modes, tokenFor, type RunningParley } from "../support/parley.ts";

const name = toBase64Url(seededRandom(1).bytes(16));

for (const [mode, start] of modes.entries()) {
  describe(`a send under the app's own id: ${mode}`, () => {
    let parley: RunningParley;
    const clients: ParleyClient[] = [];
    before(async () => (parley = await start()));
    after(async () => {
      for (const client of clients) await client.close();
      await parley.close();
    });

    async function alice(deviceId: string): Promise<ParleyClient> {
      const token = await tokenFor("alice");
      const client = createNodeClient({ url: parley.url, token, deviceId });
      clients.push(client);
      client.connect();
      await client.ready();
      return client;
    }

    it("is one message, however many clients send it (P2)", async () => {
      const first = await alice("first");
      const one = first.send({ user: "bob" }, "once", { clientId: name, retry: false });
      assert.equal(first.send({ user: "bob" }, "once", { clientId: name, retry: true }), one);
      const { seq, conversationId } = await one.sent;
      const second = await alice("second");
      const again = await second.send({ user: "bob" }, "once", { clientId: name, retry: true })
        .sent;
      assert.deepEqual([again.seq, again.duplicate], [seq, true]);
      const { records } = await second.history(conversationId);
      assert.equal(records.length, 1);
    });

    it("needs an id of 16 bytes", async () => {
      const client = await alice("third");
      const send = (): unknown =>
        client.send({ user: "bob" }, "x", { clientId: "AAAA", retry: false });
      assert.throws(send, /3 bytes, not 16/);
    });
  });
}
