/** Our own services keep to their contracts, tried as those of other languages are. */
import { Ground } from "./ground.ts";
import { contracts } from "./contracts.ts";
import type { Played } from "./contract.ts";
import { endTitle } from "./process.ts";
import { startOwn } from "./own.ts";
import type { RunningProcess } from "../../../mesh/process.ts";

const host = `${process.env["TEST_NETWORK"] ?? "127.50"}.9.1`;

for (const contract of Object.values(contracts)) {
  describe(`${contract.name}, as its contract says`, function () {
    this.timeout(120_000);
    let ground: Ground;
    let played: Played;
    let running: RunningProcess;

    before(async () => {
      ground = await Ground.open(host, 0);
      played = await contract.play(ground);
      running = await startOwn(contract.name, ground, contract.settings);
      await played.meet(running.mesh, `http://${running.front}`);
    });

    after(async () => {
      await running.stop();
      await played.close();
      await ground.close();
    });

    for (const title of contract.titles) it(title, () => played.run(title));
    it(endTitle, () => played.ends(() => running.stop()));
  });
}
