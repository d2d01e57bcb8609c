/** Nobody is announced whom no other process would talk to; and nobody waits for those who are not there. */
import assert from "node:assert/strict";
import { Code, ConnectError } from "@connectrpc/connect";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../mesh/clock.ts";
import type { Clock } from "../../mesh/clock.ts";
import type { Instance } from "../../mesh/directory.ts";
import { createLog } from "../../mesh/log.ts";
import { MemoryDirectories } from "../../mesh/memory-directory.ts";
import { command } from "../../mesh/process.ts";
import type { RunningProcess } from "../../mesh/process.ts";
import { type OwnConfig, withoutEdge } from "../../mesh/process-config.ts";
import { SessionService } from "../../proto/gen/parley/session/v1/session_pb.ts";
import { TestCa } from "../support/ca.ts";
import type { Service } from "../support/ca.ts";
import { asked } from "../support/within.ts";

const boundMs = 20_000;
const hourMs = 3_600_000;

/** Waits are shorter on it, so that tests are. */
const hurried: Clock = { ...systemClock, after: (ms, run) => systemClock.after(ms / 4, run) };

const unserved = (): never => {
  throw new ConnectError("nothing is served here", Code.Unimplemented);
};

const session = command<typeof SessionService, OwnConfig>({
  name: "session",
  service: SessionService,
  readConfig: withoutEdge,
  make: () =>
    Promise.resolve({
      running: {
        service: {
          attach: unserved,
          publish: unserved,
          watchOnline: unserved,
          listSessions: unserved,
        },
        start: () => Promise.resolve(),
        problems: () => [],
        close: () => Promise.resolve(),
      },
    }),
});

type Settings = Record<string, string>;

describe("a process is let in before it is announced", function () {
  this.timeout(60_000);
  let ca: TestCa;
  let other: TestCa;
  let folder: string;
  let directories: MemoryDirectories;
  let watching: ReturnType<MemoryDirectories["open"]>;
  let running: RunningProcess[];
  let servers: Server[];
  let lines: string[];

  before(async () => ([ca, other] = await Promise.all([TestCa.create(), TestCa.create("Other")])));
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "parley-admission-"));
    directories = new MemoryDirectories(systemClock, { shards: 8, ttlMs: 60_000 });
    watching = directories.open();
    [running, servers, lines] = [[], [], []];
  });
  afterEach(async () => {
    await Promise.all(running.map((process) => process.stop()));
    for (const server of servers) server.close();
    await watching.close();
    await rm(folder, { recursive: true });
  });

  const write = async (name: string, of: TestCa, service: Service = {}): Promise<Settings> => {
    await mkdir(join(folder, name), { recursive: true });
    const { certFile, keyFile, caFile } = await of.write(join(folder, name), service);
    return {
      PARLEY_TLS_CERT_FILE: certFile,
      PARLEY_TLS_KEY_FILE: keyFile,
      PARLEY_TLS_CA_FILE: caFile,
    };
  };

  async function start(settings: Settings): Promise<RunningProcess> {
    const write = (line: string): void => void lines.push(line);
    const process = await session
      .configured({
        PARLEY_MESH_PORT: "0",
        PARLEY_HEALTH_PORT: "0",
        PARLEY_DRAIN_MS: "0",
        ...settings,
      })
      .start({
        log: createLog({ level: "warn", to: { write } }),
        clock: hurried,
        openDirectory: () => Promise.resolve(directories.open()),
      });
    running.push(process);
    return process;
  }

  const present = (): string[] => watching.instances("session").present.map(({ id }) => id);

  const until = (what: string, look: () => boolean): Promise<true> =>
    asked(boundMs, what, () => Promise.resolve(look() ? true : undefined));

  const ready = (process: RunningProcess): Promise<true> =>
    until("its readiness", () => process.problems().length === 0);

  const says = (process: RunningProcess, why: RegExp): Promise<true> =>
    until(`${why.source}, not ${process.problems().join("; ")}`, () =>
      process.problems().some((one) => why.test(one)),
    );

  /** Announces somebody who is not there, or not as a process is. */
  const announce = (address: string): Promise<unknown> => {
    const instance: Instance = {
      service: "delivery",
      id: `id of ${address}`,
      name: "",
      address,
      region: "",
      url: "",
      draining: false,
    };
    return directories.open().join(instance, () => undefined);
  };

  /** A port at which connections are treated so. */
  async function listener(taken: Parameters<typeof createServer>[1]): Promise<string> {
    const server = createServer(taken).listen(0, "127.0.0.1");
    servers.push(server);
    await new Promise((listening) => server.once("listening", listening));
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  const strangers: readonly [string, () => Promise<Settings>, () => Promise<Settings>, RegExp][] = [
    [
      "one of another authority",
      () => write("good", ca),
      () => write("bad", other),
      /no other process lets it in, like the session at 127.*PARLEY_TLS_CA_FILE must be of the same authority/,
    ],
    [
      "an expired one",
      () => write("good", ca),
      () => write("bad", ca, { fromMs: -2 * hourMs, untilMs: -hourMs }),
      /no other process would let it in: the certificate in .* expired/,
    ],
    [
      "none among those with one",
      () => write("good", ca),
      () => Promise.resolve({}),
      /no other process lets it in, like the session at 127.*set for none/,
    ],
    [
      "one among those with none",
      () => Promise.resolve({}),
      () => write("bad", ca),
      /no other process lets it in, like the session at 127.*set for none/,
    ],
  ];
  for (const [says_, good, bad, why] of strangers) {
    it(`with ${says_}: it is not announced, says why, in the log only once, and does not end`, async () => {
      const first = await start(await good());
      await ready(first);
      lines.length = 0;
      const stranger = await start(await bad());
      let tries = 0;
      await says(stranger, why);
      // Some tries.
      await until("a while", () => (tries += 1) > 10);
      assert.deepEqual(present(), [first.id]);
      assert.deepEqual(first.problems(), []);
      assert.equal(lines.filter((line) => /it is not announced/.test(line)).length, 1);
    });
  }

  it("once its files are good it is announced, without a start", async () => {
    const first = await start(await write("good", ca));
    await ready(first);
    const second = await start(await write("second", other));
    await says(second, /no other process lets it in/);
    await write("second", ca);
    await ready(second);
    assert.equal(present().length, 2);
  });

  it("nobody waits for those who are not there", async () => {
    const gone = await listener(undefined);
    servers.pop()?.close();
    await announce(gone);
    await announce("nowhere.invalid:9090");
    const one = await start(await write("good", ca));
    await ready(one);
    assert.deepEqual(present(), [one.id]);
  });

  it("nor for one who takes connections and says nothing; should it refuse later, it goes again", async () => {
    const silent: Socket[] = [];
    let isSilent = true;
    await announce(
      await listener((socket) => {
        if (isSilent) silent.push(socket);
        else socket.destroy();
      }),
    );
    const one = await start(await write("good", ca));
    await ready(one);
    isSilent = false;
    for (const socket of silent) socket.destroy();
    await says(one, /like the delivery at 127/);
  });

  it("one that lets it in is enough", async () => {
    await announce(await listener((socket) => socket.destroy()));
    const one = await start(await write("good", ca));
    await says(one, /like the delivery at 127/);
    await directories.open().join(
      {
        service: "storage",
        id: "good",
        name: "",
        address: (await listenOnly(await write("other", ca))).mesh,
        region: "",
        url: "",
        draining: false,
      },
      () => undefined,
    );
    await ready(one);
  });

  /** A process of this mesh that waits for its directory for ever. */
  async function listenOnly(settings: Settings): Promise<RunningProcess> {
    const process = await session
      .configured({ PARLEY_MESH_PORT: "0", PARLEY_HEALTH_PORT: "0", ...settings })
      .start({
        log: createLog({ level: "silent" }),
        openDirectory: (_config, _outside, signal) =>
          new Promise((_, reject) => {
            signal.addEventListener("abort", () => reject(new Error("ended")), { once: true });
          }),
      });
    running.push(process);
    return process;
  }

  it("what it was before at the same address, under a lease that is not over, does not let it in", async () => {
    const first = await start(await write("good", ca));
    await ready(first);
    const port = await listener(undefined);
    servers.pop()?.close();
    await announce(port);
    const stranger = await start({
      ...(await write("bad", other)),
      PARLEY_MESH_PORT: port.slice(port.lastIndexOf(":") + 1),
    });
    assert.equal(stranger.mesh, port);
    await says(stranger, /no other process lets it in/);
    assert.ok(!present().includes(stranger.id));
    assert.deepEqual(first.problems(), []);
  });

  it("all at once: all are announced, and a stranger among them goes again", async () => {
    const settings = await Promise.all([
      ...["a", "b", "c"].map((name) => write(name, ca)),
      write("bad", other),
    ]);
    const all = await Promise.all(settings.map(start));
    const [stranger, ...good] = all.reverse();
    assert.ok(stranger !== undefined);
    await says(stranger, /no other process lets it in/);
    await until("all others", () => present().length === 3);
    for (const one of good) assert.deepEqual(one.problems(), []);
    assert.deepEqual(present(), good.map(({ id }) => id).sort());
  });

  it("what will be wrong with its certificate is said while it is ready, and in the log", async () => {
    const settings = await write("good", ca, { untilMs: hourMs });
    const one = await start(settings);
    await ready(one);
    const readyz = async (): Promise<string> => {
      const answer = await fetch(`http://${one.front}/readyz`);
      return `${answer.status} ${await answer.text()}`;
    };
    assert.match(
      await readyz(),
      /^200 ready\nwarning: the certificate in .*mesh.crt expires on .*\n$/,
    );
    await writeFile(settings["PARLEY_TLS_KEY_FILE"] ?? "", (await ca.issue()).key);
    const mismatch = /mesh.crt with the key in .*mesh.key cannot be used: .*; the one before stays/;
    await until("a warning", () => lines.some((line) => mismatch.test(line)));
    assert.match(await readyz(), /^200 ready\nwarning: .*; the one before stays in use\nwarning:/);
    assert.equal(lines.length, 2);
  });
});
