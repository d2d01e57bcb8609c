/** mTLS between processes: who has no good certificate is not let in, says why, and harms nobody; certificates change while all runs. */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { CertificateFiles } from "../../mesh/grpc/certificates.ts";
import { TestCa } from "../support/ca.ts";
import type { Proxy } from "../support/proxy.ts";
import type { Settings } from "../support/parley.ts";
import { Cluster } from "./cluster.ts";
import { notReady, optionsOn, sharedGround } from "./ground.ts";
import { Storm, balancerOf } from "./storm.ts";

const hourMs = 3_600_000;

const settingsOf = ({ certFile, keyFile, caFile }: CertificateFiles): Settings => ({
  PARLEY_TLS_CERT_FILE: certFile,
  PARLEY_TLS_KEY_FILE: keyFile,
  PARLEY_TLS_CA_FILE: caFile,
});

describe("certificates of processes", () => {
  let cluster: Cluster;
  let balancer: Proxy;
  let ca: TestCa;
  let remove: () => Promise<void>;
  let folder = "";

  const folderOf = async (name: string): Promise<string> => {
    const path = join(folder, "certificates", name);
    await mkdir(path, { recursive: true });
    return path;
  };

  before(async () => {
    const own = await optionsOn(await sharedGround());
    folder = own.options.folder;
    remove = own.remove;
    ca = await TestCa.create();
    const all = settingsOf(await ca.write(await folderOf("all")));
    cluster = await Cluster.start({ ...own.options, settings: { all } });
    balancer = await balancerOf(cluster);
  });
  after(async () => {
    await balancer?.close();
    await cluster?.close("SIGKILL");
    await remove?.();
  });

  it("P1 P2 P3 P4 P5: good ones: all is as without", async function () {
    this.timeout(120_000);
    const storm = await Storm.over([balancer.url], "tls", { perSecond: 200 });
    await storm.end();
  });

  it("P1 P2 P3 P4 P5: changed under load, the authority too: nobody sees it", async function () {
    this.timeout(180_000);
    const storm = await Storm.over([balancer.url], "renewed", { perSecond: 200 });
    await ca.write(await folderOf("all"));
    // They look every few seconds.
    await new Promise<void>((go) => setTimeout(go, 8_000));
    for (const name of ["session-0", "delivery-0", "storage-0", "gateway-0"])
      await cluster.restart(name);
    await storm.isBack("the change");
    await storm.end();
  });

  const bad: readonly [says: string, settings: (path: string) => Promise<Settings>, why: RegExp][] =
    [
      [
        "of another authority",
        async (path) => {
          const other = await TestCa.create("Another CA");
          return settingsOf(await other.write(path));
        },
        /certificate|authority|TLS/i,
      ],
      [
        "that has expired",
        async (path) => settingsOf(await ca.write(path, { fromMs: -2 * hourMs, untilMs: -hourMs })),
        /expired/,
      ],
      [
        "that is none",
        () =>
          Promise.resolve({
            PARLEY_TLS_CERT_FILE: "",
            PARLEY_TLS_KEY_FILE: "",
            PARLEY_TLS_CA_FILE: "",
          }),
        /certificate|TLS|reach|answer/i,
      ],
    ];

  for (const [says, settings, why] of bad) {
    for (const service of ["session", "delivery", "storage"] as const) {
      it(`P1 P2 P3 P4: a ${service} with one ${says} is not ready, says why, and chat goes on`, async function () {
        this.timeout(180_000);
        const name = `${service}-1`;
        const storm = await Storm.over([balancer.url], `${service}${says.length}`, {
          perSecond: 100,
          presence: false,
        });
        try {
          await cluster.end(name);
          await cluster.start(name, await settings(await folderOf(says.replaceAll(" ", "-"))));
          const body = await notReady(cluster, name, why, 20_000);
          storm.note(`it says: ${body.replaceAll("\n", "; ")}`);
          await storm.isBack("its start");
          await storm.more(500);
          assert.equal((await cluster.readiness(name)).status, 503, "still not ready");
          await cluster.end(name, "SIGKILL");
          await storm.isBack("its end");
          await cluster.start(name);
          await cluster.ready(name);
          await storm.end();
        } finally {
          await storm.load.close();
        }
      });
    }
  }
});
