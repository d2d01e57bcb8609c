/** etcd over TLS: it is known by its authority and asks for a certificate; what is wrong with either is said, and waited for. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../mesh/clock.ts";
import type { Directory, Instance } from "../../mesh/directory.ts";
import { openEtcdDirectory } from "../../mesh/etcd/directory.ts";
import type { EtcdConfig } from "../../mesh/etcd/directory.ts";
import type { CertificateFiles } from "../../mesh/grpc/certificates.ts";
import { createLog } from "../../mesh/log.ts";
import type { RunningProcess } from "../../mesh/process.ts";
import { newId, systemRandom } from "../../mesh/random.ts";
import { sessionCommand } from "../../session/main.ts";
import { TestCa } from "../support/ca.ts";
import { asked, within } from "../support/within.ts";
import { Etcd, whyNoEtcd } from "./servers/etcd.ts";

const network = process.env["TEST_NETWORK"] ?? "127.50";
const address = `${network}.0.31`;
const mostMs = 30_000;
const silent = createLog({ level: "silent" });

const until = (what: string, look: () => boolean): Promise<true> =>
  asked(mostMs, what, () => Promise.resolve(look() ? true : undefined));

describe("etcd over TLS", function () {
  this.timeout(60_000);
  let folder: string;
  let ca: TestCa;
  let other: TestCa;
  let etcd: Etcd | undefined;
  let ours: CertificateFiles;
  const opened: Directory[] = [];

  const write = async (name: string, of: TestCa, trusted = of): Promise<CertificateFiles> => {
    await mkdir(join(folder, name), { recursive: true });
    return of.write(join(folder, name), { names: [address, "parley.mesh"] }, trusted);
  };

  before(async function () {
    this.timeout(30 * 60_000);
    const reason = await whyNoEtcd();
    if (reason !== undefined) {
      console.log(`    skipped: ${reason}`);
      this.skip();
    }
    folder = await mkdtemp(join(tmpdir(), "parley-etcd-tls-"));
    [ca, other] = await Promise.all([TestCa.create(), TestCa.create("Other")]);
    await write("etcd", ca);
    ours = await write("ours", ca);
    etcd = await Etcd.start([address], join(folder, "etcd"));
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((directory) => directory.close()));
  });
  after(async () => {
    await etcd?.remove();
    if (folder !== undefined) await rm(folder, { recursive: true });
  });

  const config = (tls: EtcdConfig["tls"], more: Partial<EtcdConfig> = {}): EtcdConfig => ({
    endpoints: [`${address}:2379`],
    prefix: "/tls",
    shards: 8,
    leaseSeconds: 3,
    tls,
    ...more,
  });

  async function open(of: EtcdConfig, log = silent, signal?: AbortSignal): Promise<Directory> {
    const directory = await openEtcdDirectory(
      of,
      { clock: systemClock, random: systemRandom, log },
      signal === undefined ? {} : { signal },
    );
    opened.push(directory);
    return directory;
  }

  for (const scheme of ["", "https://"]) {
    it(`"${scheme}host:port": with the authority and a certificate all is as without TLS`, async () => {
      const endpoints = [`${scheme}${address}:2379`];
      const [one, two] = await Promise.all([
        open(config(ours, { endpoints })),
        open(config(ours, { endpoints })),
      ]);
      const instance: Instance = {
        service: "session",
        id: newId(systemRandom),
        name: "",
        address: "127.0.0.1:1",
        region: "",
        url: "",
        draining: false,
      };
      const membership = await one.join(instance, () => undefined);
      await until("the other to see it", () =>
        two.instances("session").present.some(({ id }) => id === instance.id),
      );
      await membership.update({ draining: true });
      await until("a change", () =>
        two.instances("session").present.some(({ draining }) => draining),
      );
      await membership.leave();
      await until("its end", () => two.instances("session").present.length === 0);
    });
  }

  const wrong: readonly [string, (files: CertificateFiles) => EtcdConfig["tls"], RegExp][] = [
    [
      "another authority for etcd's certificate",
      ({ certFile, keyFile }) => ({ certFile, keyFile, caFile: join(folder, "other", "ca.crt") }),
      /unable to verify the first certificate/,
    ],
    [
      "no certificate of its own",
      ({ caFile }) => ({ caFile, certFile: undefined, keyFile: undefined }),
      /certificate required|bad certificate|ECONNRESET|closed/i,
    ],
    [
      "a certificate of another authority",
      ({ caFile }) => ({
        caFile,
        certFile: join(folder, "other", "mesh.crt"),
        keyFile: join(folder, "other", "mesh.key"),
      }),
      /unknown ca|bad certificate|ECONNRESET|closed/i,
    ],
    [
      "a file that is not there",
      ({ certFile, keyFile }) => ({ certFile, keyFile, caFile: join(folder, "none.crt") }),
      /none\.crt cannot be read/,
    ],
    ["no TLS", () => undefined, /./],
  ];
  for (const [says, tls, why] of wrong) {
    it(`with ${says} it waits, and says why`, async () => {
      await write("other", other);
      const lines: string[] = [];
      const log = createLog({ level: "warn", to: { write: (line) => void lines.push(line) } });
      const giveUp = new AbortController();
      const opening = open(config(tls(ours)), log, giveUp.signal);
      opening.catch(() => undefined);
      await until(`a line like ${why.source}`, () =>
        lines.some((line) => why.test((JSON.parse(line) as { reason: string }).reason)),
      );
      giveUp.abort(new Error("no longer"));
      await assert.rejects(opening, /no longer/);
    });
  }

  it("files that become good are taken, without a start", async () => {
    const files = await write("later", other);
    const opening = open(config(files));
    let isOpen = false;
    const open_ = opening.then(() => (isOpen = true));
    await asked(
      mostMs,
      "some tries",
      (() => {
        let tries = 0;
        return () => Promise.resolve((tries += 1) > 5 ? true : undefined);
      })(),
    );
    assert.equal(isOpen, false);
    await write("later", ca);
    await within(mostMs, "etcd", open_);
  });

  it("a process takes them from its settings", async () => {
    let process: RunningProcess | undefined;
    try {
      process = await sessionCommand
        .configured({
          PARLEY_ETCD: `${address}:2379`,
          PARLEY_ETCD_PREFIX: "/tls-process",
          PARLEY_ETCD_CA_FILE: ours.caFile,
          PARLEY_ETCD_CERT_FILE: ours.certFile,
          PARLEY_ETCD_KEY_FILE: ours.keyFile,
          PARLEY_MESH_PORT: "0",
          PARLEY_HEALTH_PORT: "0",
          PARLEY_DRAIN_MS: "0",
        })
        .start({
          log: silent,
          openDirectory: (given, outside, signal) => openEtcdDirectory(given, outside, { signal }),
        });
      const watching = await open(config(ours, { prefix: "/tls-process", shards: 1_024 }));
      const { id } = process;
      await until("its announcement", () =>
        watching.instances("session").present.some((one) => one.id === id),
      );
    } finally {
      await process?.stop();
    }
  });
});
