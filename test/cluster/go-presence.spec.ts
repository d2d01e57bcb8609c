/** A cluster whose presence is in another language: what clients see of it is the same, also where both languages share the users. */
import assert from "node:assert/strict";
import { devicesSuite } from "../e2e/devices.ts";
import { LoadDevice } from "../support/load.ts";
import { buildGoPresence } from "../support/go.ts";
import { newCluster, sharedGround } from "./ground.ts";
import type { OwnCluster } from "./ground.ts";
import { onCluster } from "./mode.ts";

const onlineMs = 10_000;
/** The lease of a presence, and the 10 s within which the service is back. */
const offlineMs = 5_000 + 10_000;

describe("presence in Go", () => {
  let program = "";

  before(async function () {
    this.timeout(900_000);
    const built = buildGoPresence();
    if (built.lack !== undefined) {
      console.log(`      skipped: ${built.lack}`);
      this.skip();
    }
    ({ program } = built);
    // Here there is time for it.
    await sharedGround();
  });

  devicesSuite("a cluster with presence in Go", (settings) =>
    onCluster({ presence: program })(settings),
  );

  describe("beside one of ours", () => {
    let own: OwnCluster;
    before(async () => {
      own = await newCluster({
        programs: { "presence-0": program },
        settings: { presence: { PARLEY_PRESENCE_GRACE_MS: "1000" } },
      });
    });
    after(() => own?.close());

    it("P7: shares the users with it, and either takes over the other's when that is killed", async function () {
      this.timeout(180_000);
      const { cluster } = own;
      const [url = ""] = cluster.urls;
      const friend = new LoadDevice(url, "friend", "phone");
      const others = Array.from({ length: 12 }, (_, at) => new LoadDevice(url, `user-${at}`, "p"));
      const userIds = others.map(({ userId }) => userId);
      try {
        await Promise.all([friend, ...others].map((one) => one.connect()));
        for (const { client } of others) await client.send({ user: "friend" }, "I am here").sent;
        await friend.watch(userIds);
        for (const userId of userIds) await friend.told(userId, true, onlineMs);
        for (const [at, name] of ["presence-0", "presence-1"].entries()) {
          await cluster.end(name, "SIGKILL");
          const leaving = others.slice(6 * at, 6 * at + 6);
          for (const { client } of leaving) client.disconnect();
          for (const { userId } of leaving) await friend.told(userId, false, offlineMs);
          const offline = new Set(friend.offlineAtMs.map(({ userId }) => userId));
          assert.deepEqual([...offline].sort(), userIds.slice(0, 6 * at + 6).sort());
          await cluster.start(name);
          await cluster.ready(name);
        }
      } finally {
        await Promise.all([friend, ...others].map(({ client }) => client.close()));
      }
    });
  });
});
