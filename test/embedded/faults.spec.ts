/** When the machine fails: kill -9 under load, a full disk, a data directory that is somebody else's. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { rm, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { Rows } from "../../storage/rows.ts";
import { Tables, formatVersion } from "../../storage/tables.ts";
import { SocketDevice } from "../support/device.ts";
import { newFolder, testSettings, tokenFor } from "../support/parley.ts";
import { ServerProcess } from "../support/server-process.ts";
import { newClientId, syncAll, textInto, textOf, textTo, wholeLog } from "../support/town.ts";
import { asked, within } from "../support/within.ts";

const connect = async (url: string, userId: string, deviceId = "phone"): Promise<SocketDevice> =>
  SocketDevice.open({ url, token: await tokenFor(userId), deviceId });

interface Message {
  readonly text: string;
  readonly clientId: Uint8Array<ArrayBuffer>;
  knownHeadSeq: number;
  tried: boolean;
}

/** Somebody who writes and writes, a few messages at a time, and tries each again until it is acked, whatever happens. */
class Writer {
  /** By text. */
  readonly acked = new Map<string, number>();
  readonly #userId: string;
  readonly #conversationId: string;
  /** A user who writes to two conversations has two devices. */
  readonly #deviceId: string;
  #next = 0;
  #waiting: Message[] = [];
  #headSeq = 0;

  constructor(userId: string, conversationId: string) {
    this.#userId = userId;
    this.#conversationId = conversationId;
    this.#deviceId = conversationId.slice(0, 40);
  }

  /** Until the connection is lost or `stopped` says so. */
  async write(url: string, stopped: () => boolean): Promise<void> {
    let device: SocketDevice;
    try {
      device = await connect(url, this.#userId, this.#deviceId);
    } catch {
      return;
    }
    while (!stopped() && device.socket.open) {
      while (this.#waiting.length < 4) {
        this.#next += 1;
        this.#waiting.push({
          text: `${this.#userId} ${this.#next}`,
          clientId: newClientId(),
          knownHeadSeq: this.#headSeq,
          tried: false,
        });
      }
      await this.#tryAll(device);
    }
    await device.socket.cut();
  }

  /** Sends what is left over, and nothing new. */
  async finish(url: string): Promise<void> {
    const device = await connect(url, this.#userId, this.#deviceId);
    while (this.#waiting.length > 0) await this.#tryAll(device);
    await device.close();
  }

  async #tryAll(device: SocketDevice): Promise<void> {
    const frames = this.#waiting.map((message) => {
      const { text, clientId, knownHeadSeq, tried } = message;
      message.tried = true;
      const to = { case: "conversationId", value: this.#conversationId } as const;
      const value = { to, clientId, content: { text }, knownHeadSeq, retry: tried };
      return { case: "send", value } as const;
    });
    const answers = await Promise.allSettled(device.socket.callAll(frames));
    const left: Message[] = [];
    this.#waiting.forEach((message, at) => {
      const answer = answers[at];
      if (answer?.status === "fulfilled" && answer.value.case === "send") {
        const { seq } = answer.value.value;
        this.acked.set(message.text, seq);
        this.#headSeq = Math.max(this.#headSeq, seq);
      } else left.push(message);
    });
    this.#waiting = left;
  }
}

describe("kill -9 under load", () => {
  const rounds = 20;
  /** Checkpoints come so often that some rounds end in the middle of one. */
  const settings = {
    PARLEY_STORAGE_CHECKPOINT_BYTES: "65536",
    PARLEY_STORAGE_CHECKPOINT_MS: "100",
  };

  it(`P1 P2 P3 P4: ${rounds} times, and every acked message is there once, in order`, async function () {
    this.timeout(120_000);
    const folder = await newFolder();
    let server = await ServerProcess.start(folder.path, settings);
    const first = await connect(server.url, "ann");
    const members = ["ben", "cleo"];
    const request = { clientId: newClientId(), title: "all", memberIds: members };
    const { conversation } = await first.createGroup(request);
    const groupId = conversation?.conversationId ?? "";
    await first.send(textTo("ben", "begin"));
    await first.close();
    const direct = "d:ann:ben";
    const writers = [
      ["ann", groupId],
      ["ben", groupId],
      ["cleo", groupId],
      ["ann", direct],
      ["ben", direct],
    ].map(([userId = "", id = ""]) => ({ id, writer: new Writer(userId, id) }));
    const acked = () => writers.reduce((sum, { writer }) => sum + writer.acked.size, 0);

    for (let round = 0; round < rounds; round += 1) {
      let over = false;
      const writing = writers.map(({ writer }) => writer.write(server.url, () => over));
      const before = acked();
      await asked(10_000, "messages in this round", () =>
        Promise.resolve(acked() > before + 20 ? true : undefined),
      );
      // At a random moment of what goes on now.
      const delayMs = randomInt(0, 60);
      await new Promise<void>((go) => setTimeout(go, delayMs));
      const { signal } = await server.end("SIGKILL");
      assert.equal(signal, "SIGKILL");
      over = true;
      await Promise.all(writing);
      server = await ServerProcess.start(folder.path, settings);
    }
    for (const { writer } of writers) await writer.finish(server.url);
    const reader = await connect(server.url, "ben", "desk");
    for (const id of [groupId, direct]) {
      const log = await wholeLog(reader, id);
      assert.deepEqual(
        log.map(({ seq }) => seq),
        log.map((_, at) => at + 1),
        "P3: no hole",
      );
      const texts = log.map(textOf);
      assert.equal(new Set(texts).size, texts.length, "P2: none twice");
      for (const { writer } of writers.filter((one) => one.id === id)) {
        assert.ok(writer.acked.size > 20 * rounds * 0.1, `${writer.acked.size} acked`);
        for (const [text, seq] of writer.acked) assert.equal(texts[seq - 1], text, "P1: kept");
        const numbers = [...writer.acked.entries()]
          .toSorted(([, one], [, other]) => one - other)
          .map(([text]) => Number(text.split(" ")[1]));
        assert.deepEqual(
          numbers,
          numbers.toSorted((one, other) => one - other),
          "P4: in the sender's order",
        );
      }
    }
    const { conversations } = await syncAll(reader);
    assert.equal(conversations.length, 2, "P6");
    await reader.close();
    await server.end("SIGTERM");
    await folder.remove();
  });
});

describe("the data directory", () => {
  it("is one process's: a second one says who must go, and ends with code 1", async () => {
    const folder = await newFolder();
    const server = await ServerProcess.start(folder.path);
    const { code, output } = await ServerProcess.run(testSettings(folder.path));
    assert.equal(code, 1);
    assert.match(
      output,
      /is in use by another process: stop that one, or choose another directory/,
    );
    const alice = await connect(server.url, "alice");
    assert.equal((await alice.send(textTo("bob", "all is well"))).seq, 1);
    await alice.close();
    await server.end("SIGKILL");
    const again = await ServerProcess.start(folder.path);
    await again.end("SIGTERM");
    await folder.remove();
  });

  it("that a newer version wrote is refused, and left as it is", async () => {
    const folder = await newFolder();
    const server = await ServerProcess.start(folder.path);
    await server.end("SIGTERM");
    await setFormat(folder.path, 1_000);
    const { code, output } = await ServerProcess.run(testSettings(folder.path));
    assert.equal(code, 1, output);
    assert.match(output, /was written by a newer Parley \(format 1000, .*start that version again/);
    await setFormat(folder.path, formatVersion);
    const again = await ServerProcess.start(folder.path);
    await again.end("SIGTERM");
    await folder.remove();
  });
});

describe("a full disk", () => {
  const mebibyte = 1_024 * 1_024;
  let folder: Awaited<ReturnType<typeof newFolder>>;
  let mounted = false;

  before(async function () {
    folder = await newFolder();
    const isRoot = process.platform === "linux" && process.getuid?.() === 0;
    if (isRoot) {
      try {
        const args = ["-t", "tmpfs", "-o", "size=24m", "tmpfs", folder.path];
        execFileSync("mount", args, { stdio: "pipe" });
        mounted = true;
      } catch {
        // A container may not mount: said below.
      }
    }
    if (mounted) return;
    console.log("      skipped: a full disk needs root on Linux, to mount a small tmpfs");
    this.skip();
  });
  after(async () => {
    if (mounted) execFileSync("umount", [folder.path]);
    await folder.remove();
  });

  it("P1: sends fail with what to do, nothing acked is lost, and all goes on once there is room", async function () {
    this.timeout(60_000);
    const server = await ServerProcess.start(folder.path);
    const alice = await connect(server.url, "alice");
    const bob = await connect(server.url, "bob");
    const acked = new Map<number, string>();
    const { conversationId } = await alice.send(textTo("bob", "begin"));
    acked.set(1, "begin");
    const ballast = join(folder.path, "ballast");
    await fillDisk(ballast, 2 * mebibyte);

    let failure: ConnectError | undefined;
    for (let n = 0; failure === undefined && n < 2_000; n += 1) {
      const text = `${n} ${"x".repeat(16_000)}`;
      try {
        acked.set((await alice.send(textInto(conversationId, text))).seq, text);
      } catch (error) {
        failure = ConnectError.from(error);
      }
    }
    assert.equal(failure?.code, Code.ResourceExhausted, failure?.message);
    assert.match(failure.rawMessage, /disk is full.*free some space, then it goes on by itself/);
    assert.ok(Number(failure.metadata.get("retry-after-ms")) > 0);
    assert.ok(server.alive);
    const upload = await fetch(`${server.url}/media?conversation=${conversationId}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${await tokenFor("alice")}` },
      body: "not an image",
    });
    assert.equal(upload.status, 415, "what needs no room is answered as ever");
    assert.deepEqual((await wholeLog(bob, conversationId)).map(textOf), [...acked.values()]);
    assert.equal((await fetch(`${server.url}/healthz`)).status, 200);

    await rm(ballast);
    const message = textInto(conversationId, "there is room again");
    const { seq } = await asked(20_000, "a send that is taken", () =>
      alice.send({ ...message, retry: true }).catch(() => undefined),
    );
    assert.equal(seq, acked.size + 1);
    acked.set(seq, "there is room again");
    await within(5_000, "the push", bob.inbox.record(conversationId, seq));

    await server.end("SIGKILL");
    const again = await ServerProcess.start(folder.path);
    const reader = await connect(again.url, "bob");
    assert.deepEqual((await wholeLog(reader, conversationId)).map(textOf), [...acked.values()]);
    await reader.close();
    await again.end("SIGTERM");
  });
});

/** Writes until so much room is left. */
async function fillDisk(path: string, left: number): Promise<void> {
  const { bavail, bsize } = await statfs(join(path, ".."));
  await writeFile(path, Buffer.alloc(Math.max(0, bavail * bsize - left)));
}

/** Writes into the tables which version wrote them. */
async function setFormat(folder: string, version: number): Promise<void> {
  const tables = new Tables(folder, join(folder, "tables.mdb"));
  const rows = new Rows();
  rows.number("format", version);
  await tables.write(rows);
  await tables.close();
}
