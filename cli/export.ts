/** `parley export`: everything of a user into a folder: the conversations they are in, all that they may read there, media. Run again, it goes on. */
import { createClient, type Client } from "@connectrpc/connect";
import { fromBinary, toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { appendFile, mkdir, open, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type IndexRow,
  IndexRowSchema,
  StorageService,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { type Record as ChatRecord, RecordSchema } from "../proto/gen/parley/v1/record_pb.ts";
import { type MeshOptions, overMesh, withMesh } from "./mesh.ts";

type Storage = Client<typeof StorageService>;

interface ExportOptions extends MeshOptions {
  readonly to?: string;
}

const pageRecords = 200;
const callMs = 60_000;

export function addExport(program: Command, version: string): void {
  const command = program
    .command("export")
    .description(
      "write everything of a user into a folder: their conversations with all that they may read, and media; run again, it goes on and adds what is new",
    )
    .argument("<user>", "the user's id")
    .option("--to <folder>", "where to [./export-USER]");
  withMesh(command, "any storage process").action(async (user: string, options: ExportOptions) => {
    const folder = options.to ?? `export-${user}`;
    const summary = await overMesh(options, "any storage process", (transport) =>
      new Export(createClient(StorageService, transport), user, folder, version, (line) =>
        process.stderr.write(`parley: ${line}\n`),
      ).run(),
    );
    console.log(JSON.stringify(summary));
  });
}

export class Export {
  readonly #storage: Storage;
  readonly #user: string;
  readonly #folder: string;
  readonly #version: string;
  readonly #say: (line: string) => void;
  #records = 0;
  #own = 0;
  /** In this run. */
  #media = 0;
  #missing = 0;

  constructor(
    storage: Storage,
    user: string,
    folder: string,
    version: string,
    say: (line: string) => void,
  ) {
    this.#say = say;
    this.#storage = storage;
    this.#user = user;
    this.#folder = folder;
    this.#version = version;
  }

  async run(): Promise<object> {
    await mkdir(join(this.#folder, "records"), { recursive: true, mode: 0o700 });
    await mkdir(join(this.#folder, "media"), { recursive: true, mode: 0o700 });
    const userId = this.#user;
    const { rows, erased } = await this.#storage.listIndex({ userId }, { timeoutMs: callMs });
    if (erased) throw new Error(`the data of ${userId} were erased`);
    const lines = rows.map((row) => JSON.stringify(toJson(IndexRowSchema, row)));
    await this.#write("conversations.ndjson", lines.map((line) => `${line}\n`).join(""));
    for (const [at, row] of rows.entries()) {
      this.#say(`${row.conversationId} (${at + 1} of ${rows.length})`);
      await this.#conversation(row);
    }
    const { uploads } = await this.#storage.listUploads({ userId }, { timeoutMs: callMs });
    for (const { conversationId, mediaId } of uploads) await this.#medium(conversationId, mediaId);
    const { seen } = await this.#storage.getLastSeen({ userIds: [userId] }, { timeoutMs: callMs });
    const summary = {
      user: userId,
      lastSeenMs: Number(seen[0]?.timeMs ?? 0n),
      conversations: rows.length,
      records: this.#records,
      own: this.#own,
      media: this.#media,
      mediaMissing: this.#missing,
      uploads: uploads.map(({ conversationId, mediaId }) => ({ conversationId, mediaId })),
      exportedMs: Date.now(),
      version: this.#version,
    };
    await this.#write("export.json", `${JSON.stringify(summary, undefined, 2)}\n`);
    return { ...summary, uploads: uploads.length, folder: this.#folder };
  }

  /** All at once, or as it was. */
  async #write(name: string, text: string): Promise<void> {
    const path = join(this.#folder, name);
    await writeFile(`${path}.part`, text, { mode: 0o600 });
    await rename(`${path}.part`, path);
  }

  /** One line a record, on from the last whole one. */
  async #conversation({ conversationId, member }: IndexRow): Promise<void> {
    const path = join(this.#folder, "records", `${encodeURIComponent(conversationId)}.ndjson`);
    let afterSeq = Math.max(
      await lastSeqIn(path, (record) => this.#count(record)),
      (member?.floorSeq ?? 1) - 1,
    );
    for (;;) {
      const { records, floorSeq } = await this.#page(conversationId, afterSeq);
      if (records.length === 0 && floorSeq <= afterSeq + 1) return;
      if (records.length === 0) afterSeq = floorSeq - 1;
      if (records.length === 0) continue;
      for (const record of records) await this.#attachments(record);
      const lines = records.map((record) => `${JSON.stringify(toJson(RecordSchema, record))}\n`);
      await appendFile(path, lines.join(""), { mode: 0o600 });
      for (const record of records) this.#count(record);
      afterSeq = records.at(-1)?.seq ?? afterSeq;
    }
  }

  #count({ senderId }: { readonly senderId?: string }): void {
    this.#records += 1;
    if (senderId === this.#user) this.#own += 1;
  }

  async #page(
    conversationId: string,
    afterSeq: number,
  ): Promise<{ records: ChatRecord[]; floorSeq: number }> {
    // What is not after a seq is asked from the other side.
    const range = afterSeq > 0 ? { afterSeq, limit: pageRecords } : { beforeSeq: 2, limit: 1 };
    const page = { conversationId, userId: this.#user, ...range };
    const { pages } = await this.#storage.read({ pages: [page] }, { timeoutMs: callMs });
    const records = (pages[0]?.records ?? []).map((bytes) => fromBinary(RecordSchema, bytes));
    return { records, floorSeq: pages[0]?.floorSeq ?? 0 };
  }

  async #attachments({ conversationId, body }: ChatRecord): Promise<void> {
    if (body.case !== "message") return;
    for (const { mediaId } of body.value.attachments) await this.#medium(conversationId, mediaId);
  }

  /** Under the hash of its bytes, so that what is there is whole. */
  async #medium(conversationId: string, mediaId: string): Promise<void> {
    if (!/^[0-9a-f]{64}$/.test(mediaId)) return;
    const path = join(this.#folder, "media", mediaId);
    if (await isThere(path)) return;
    const part = `${path}.part`;
    const file = await open(part, "w", 0o600);
    try {
      for await (const { part: got } of this.#storage.getMedia({ conversationId, mediaId }))
        if (got.case === "chunk") await file.appendFile(got.value);
      await file.sync();
      await file.close();
      await rename(part, path);
      this.#media += 1;
    } catch (error) {
      await file.close();
      await rm(part, { force: true });
      if (!isNotFound(error)) throw error;
      this.#missing += 1;
    }
  }
}

const isNotFound = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === 5;

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Of the last whole line, each of which `seen` is told; what is behind it is cut off. */
async function lastSeqIn(
  path: string,
  seen: (record: { readonly senderId?: string }) => void,
): Promise<number> {
  if (!(await isThere(path))) return 0;
  const file = await open(path, "r+");
  try {
    let bytes = 0;
    let last = 0;
    for await (const line of file.readLines({ autoClose: false, encoding: "utf8" })) {
      const length = Buffer.byteLength(line) + 1;
      const record = parsed(line);
      if (record === undefined) break;
      bytes += length;
      last = record.seq;
      seen(record);
    }
    const { size } = await file.stat();
    if (size > bytes) await file.truncate(bytes);
    if (size < bytes) await file.appendFile("\n");
    return last;
  } finally {
    await file.close();
  }
}

function parsed(line: string): { seq: number; senderId?: string } | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== "object" || value === null || !("seq" in value)) return undefined;
    const senderId = "senderId" in value ? String(value.senderId) : "";
    return { seq: Number(value.seq), senderId };
  } catch {
    return undefined;
  }
}
