/** mTLS between processes: who has no good certificate is not let in, says why, and harms nobody; certificates change while all runs. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ServiceName } from "../../mesh/directory.ts";
import type { CertificateFiles } from "../../mesh/grpc/certificates.ts";
import { TestCa } from "../support/ca.ts";
import type { Proxy } from "../support/proxy.ts";
import type { Settings } from "../support/parley.ts";
import { asked } from "../support/within.ts";
import { Cluster } from "./cluster.ts";
import { directoryOf, notReady, optionsOn, sharedGround } from "./ground.ts";
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

  before(async function () {
    this.timeout(300_000);
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

  /** A certificate is in use by all processes: each says so in its log. */
  const inUse = async (serial: string): Promise<void> => {
    await asked(60_000, "all processes to use a certificate", async () => {
      const logs = await Promise.all(cluster.names.map((name) => cluster.log(name)));
      return logs.every((log) => log.includes(serial)) ? true : undefined;
    });
  };

  it("P1 P2 P3 P4 P5: changed under load, and then the authority, in three steps: nobody sees it", async function () {
    this.timeout(360_000);
    const storm = await Storm.over([balancer.url], "renewed", { perSecond: 200 });
    try {
      const path = await folderOf("all");
      const next = await TestCa.create("The next CA");
      const change = async (of: TestCa, ...trusted: TestCa[]): Promise<void> => {
        const { certFile } = await of.write(path, {}, trusted);
        await inUse(new X509Certificate(await readFile(certFile)).serialNumber);
      };
      await change(ca, ca);
      await change(ca, ca, next);
      await change(next, ca, next);
      await cluster.restart("session-0");
      await change(next, next);
      ca = next;
      for (const name of ["session-1", "delivery-0", "storage-0", "gateway-0"])
        await cluster.restart(name);
      await storm.isBack("the change");
      await storm.end();
    } finally {
      await storm.load.close();
    }
  });

  const bad: readonly [
    service: ServiceName,
    says: string,
    settings: (path: string) => Promise<Settings>,
    why: RegExp,
  ][] = [
    [
      "session",
      "of another authority",
      async (path) => {
        const other = await TestCa.create("Another CA");
        return settingsOf(await other.write(path));
      },
      /no other process lets it in.*PARLEY_TLS_CA_FILE/,
    ],
    [
      "delivery",
      "that has expired",
      async (path) => settingsOf(await ca.write(path, { fromMs: -2 * hourMs, untilMs: -hourMs })),
      /expired/,
    ],
    [
      "storage",
      "that is none",
      () =>
        Promise.resolve({
          PARLEY_TLS_CERT_FILE: "",
          PARLEY_TLS_KEY_FILE: "",
          PARLEY_TLS_CA_FILE: "",
        }),
      /no other process lets it in.*PARLEY_TLS_CA_FILE/,
    ],
  ];

  for (const [service, says, settings, why] of bad) {
    it(`P1 P2 P3 P4: a ${service} with one ${says} is not announced, says why, and chat goes on`, async function () {
      this.timeout(240_000);
      const name = `${service}-1`;
      const storm = await Storm.over([balancer.url], service, { perSecond: 100, presence: false });
      const directory = await directoryOf(cluster);
      const announced = (): string[] =>
        directory.instances(service).present.map(({ address }) => address);
      try {
        await cluster.end(name);
        await cluster.start(name, await settings(await folderOf(service)));
        const body = await notReady(cluster, name, why, 20_000);
        storm.note(`it says: ${body.replaceAll("\n", "; ")}`);
        await storm.isBack("its start");
        await storm.more(200);
        assert.equal((await cluster.readiness(name)).status, 503, "still not ready");
        assert.deepEqual(announced(), [cluster.process(`${service}-0`).mesh]);
        await cluster.end(name, "SIGKILL");
        await storm.isBack("its end");
        await cluster.start(name);
        await cluster.ready(name);
        assert.equal(announced().length, 2);
        await storm.end();
      } finally {
        await directory.close();
        await storm.load.close();
      }
    });
  }
});
