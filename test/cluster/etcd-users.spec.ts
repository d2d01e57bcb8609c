/** etcd that asks who calls: a name and a password, tokens that end, members that forget them; what is wrong is said, and waited for. */
import assert from "node:assert/strict";
import { systemClock } from "../../mesh/clock.ts";
import type { Directory, Instance } from "../../mesh/directory.ts";
import { openEtcdDirectory } from "../../mesh/etcd/directory.ts";
import type { EtcdCredentials } from "../../mesh/etcd/login.ts";
import { createLog } from "../../mesh/log.ts";
import { newId, systemRandom } from "../../mesh/random.ts";
import { asked } from "../support/within.ts";
import { network } from "./ground.ts";
import { Etcd, callEtcd } from "./servers/etcd.ts";

const address = `${network}.0.41`;
const endpoint = `${address}:2379`;
const mostMs = 30_000;
const tokenSeconds = 2;
const parley: EtcdCredentials = { username: "parley", password: "a password" };
const stranger: EtcdCredentials = { username: "stranger", password: "another" };
const administrator = { name: "root", password: "the root's" };
const base64 = (text: string): string => Buffer.from(text).toString("base64");

/** As an operator makes them: Parley's user may do all below its prefix, and nothing else. */
async function makeUsers(): Promise<void> {
  const ask = (path: string, body: object): Promise<unknown> =>
    callEtcd(endpoint, `auth/${path}`, body);
  await ask("user/add", administrator);
  await ask("role/add", { name: "root" });
  await ask("user/grant", { user: "root", role: "root" });
  for (const { username: name, password } of [parley, stranger])
    await ask("user/add", { name, password });
  await ask("role/add", { name: "parley" });
  const perm = { permType: "READWRITE", key: base64("/users/"), range_end: base64("/users0") };
  await ask("role/grant", { name: "parley", perm });
  await ask("user/grant", { user: parley.username, role: "parley" });
  await ask("enable", {});
}

const instance = (): Instance => ({
  service: "session",
  id: newId(systemRandom),
  name: "",
  address: "127.0.0.1:1",
  region: "",
  url: "",
  draining: false,
});

describe("etcd with users", function () {
  this.timeout(120_000);
  let etcd: Etcd;
  const opened: Directory[] = [];

  const until = (what: string, look: () => boolean): Promise<true> =>
    asked(mostMs, what, () => Promise.resolve(look() ? true : undefined));

  /** What it logs goes to `said`. */
  async function open(
    credentials: EtcdCredentials | undefined,
    said: (line: string) => void = () => undefined,
    signal = AbortSignal.timeout(mostMs),
  ): Promise<Directory> {
    const log = createLog({ level: "warn", to: { write: said } });
    const directory = await openEtcdDirectory(
      { endpoints: [endpoint], prefix: "/users", shards: 8, leaseSeconds: 3, credentials },
      { clock: systemClock, random: systemRandom, log },
      { signal },
    );
    opened.push(directory);
    return directory;
  }

  before(async () => {
    process.env["ETCD_FLAGS"] = `--auth-token-ttl=${tokenSeconds}`;
    etcd = await Etcd.start([address]);
    await makeUsers();
    // For `start.sh`, which asks whether a member answers.
    process.env["ETCDCTL_USER"] = `${administrator.name}:${administrator.password}`;
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((directory) => directory.close()));
  });
  after(async () => {
    delete process.env["ETCDCTL_USER"];
    delete process.env["ETCD_FLAGS"];
    await etcd?.remove();
  });

  it("is used with a name and a password, for longer than a token lasts, and over its restart", async () => {
    const [one, two] = await Promise.all([open(parley), open(parley)]);
    let lost = 0;
    const here = instance();
    const membership = await one.join(here, () => (lost += 1));
    await until("the other to see it", () =>
      two.instances("session").present.some(({ id }) => id === here.id),
    );
    const beganMs = performance.now();
    await until("the end of a token that nobody uses", () => {
      return performance.now() - beganMs > (2 * tokenSeconds + 1) * 1_000;
    });
    const owner = await two.shards.replace(1, undefined, here.id);
    assert.equal(owner?.incarnation, here.id);
    await membership.update({ draining: true });
    await until("a change", () => two.instances("session").present[0]?.draining === true);
    await etcd.kill(0);
    await etcd.start(0);
    const next = await asked(mostMs, "an answer", () =>
      two.shards.replace(1, owner, "next").catch(() => undefined),
    );
    await until("a change after the restart", () => one.shards.owner(1)?.epoch === next.epoch);
    assert.equal(lost, 0);
    await until("no problem", () => one.problems().length + two.problems().length === 0);
    await membership.leave();
    await until("its end", () => two.instances("session").present.length === 0);
  });

  for (const [what, credentials, why] of [
    ["a wrong password", { ...parley, password: "no" }, /invalid user ID or password/],
    ["no name", undefined, /user name is empty/],
    ["a user who may not", stranger, /permission denied/],
  ] as const)
    it(`${what}: it says so, and waits`, async () => {
      const lines: string[] = [];
      const giveUp = new AbortController();
      const opening = open(credentials, (line) => lines.push(line), giveUp.signal);
      opening.catch(() => undefined);
      await until("a reason", () => lines.some((line) => why.test(line)));
      assert.ok(!lines.some((line) => line.includes(parley.password)));
      giveUp.abort(new Error("enough"));
      await assert.rejects(opening, /enough/);
    });
});
