/**
 * The journal: every group of writes, durable in one write of its own, until the tables have it too. Two files in turn, written
 * over in place, because a write to blocks that a file already has costs a third of one that makes it grow.
 */
import { constants, write } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { Random } from "../mesh/random.ts";
import type { Writer } from "./codec.ts";
import { syncFolder, writeError } from "./disk.ts";

const magic = 0x314a_5250;
/** magic, crc of all that follows, length of the body, number of the group (6 bytes), 2 spare, salt. */
export const groupHeaderBytes = 28;
const blankBytes = 1_048_576;
/** Groups of one file have one salt, so that nobody can send a message that looks like the next group. */
const saltBytes = 8;
const saltAt = groupHeaderBytes - saltBytes;

/** A write that returns once it is on the disk. Elsewhere fdatasync does it, at twice the price. */
const syncedWrites = process.platform === "linux" ? constants.O_DSYNC : 0;

export interface Group {
  readonly number: number;
  readonly body: Buffer;
}

interface File {
  readonly handle: FileHandle;
  /** Where the next group goes. */
  at: number;
  lastNumber: number;
  salt: Uint8Array;
}

export class Journal {
  readonly #folder: string;
  readonly #random: Random;
  readonly #files: [File, File];
  #current: File;
  #number: number;
  /** Whether the place of the next group may hold one that failed. */
  #torn = false;

  private constructor(
    folder: string,
    random: Random,
    files: [File, File],
    current: File,
    number: number,
  ) {
    this.#folder = folder;
    this.#random = random;
    this.#files = files;
    this.#current = current;
    this.#number = number;
  }

  /**
   * Opens it, and finds what the tables lack: they have all groups up to `applied`.
   * A group that was being written when the process died is not there; a hole between groups is an error.
   */
  static async open(
    folder: string,
    random: Random,
    applied: number,
  ): Promise<{ journal: Journal; groups: Group[] }> {
    const first = await openFile(join(folder, "journal-0"), random);
    const second = await openFile(join(folder, "journal-1"), random);
    await syncFolder(folder);
    const current = second.file.lastNumber > first.file.lastNumber ? second : first;
    const older = current === first ? second : first;
    const groups = [...older.groups, ...current.groups].filter(({ number }) => number > applied);
    for (const [index, { number }] of groups.entries()) {
      if (number !== applied + 1 + index) {
        throw new Error(
          `the journal in ${folder} is damaged: group ${applied + 1 + index} is missing and ${number} is there; restore the folder from a backup`,
        );
      }
    }
    const number = Math.max(applied, current.file.lastNumber);
    const journal = new Journal(folder, random, [first.file, second.file], current.file, number);
    return { journal, groups };
  }

  /** The number of the last group that is durable. */
  get lastNumber(): number {
    return this.#number;
  }

  /** Where a group's body begins in what `append` is given. */
  static begin(group: Writer): void {
    group.begin();
    for (let index = 0; index < groupHeaderBytes; index += 1) group.byte(0);
  }

  /** Resolves when the group is durable. One at a time. Where it rejects, no later `open` finds the group. */
  async append(group: Writer): Promise<void> {
    const { bytes } = group;
    const number = this.#number + 1;
    bytes.writeUInt32LE(magic, 0);
    bytes.writeUInt32LE(bytes.length - groupHeaderBytes, 8);
    bytes.writeUIntLE(number, 12, 6);
    bytes.set(this.#current.salt, saltAt);
    bytes.writeUInt32LE(crc32(bytes.subarray(8)), 4);
    const file = this.#current;
    try {
      if (this.#torn) await this.#mend();
      this.#torn = true;
      await writeAt(file.handle, bytes, file.at);
      this.#torn = false;
    } catch (error) {
      await this.#mend().catch(() => undefined);
      throw writeError(this.#folder, error);
    }
    file.at += bytes.length;
    file.lastNumber = number;
    this.#number = number;
  }

  /** Makes sure that what failed is not taken for a group. */
  async #mend(): Promise<void> {
    await writeAt(this.#current.handle, Buffer.alloc(groupHeaderBytes), this.#current.at);
    this.#torn = false;
  }

  /** Goes on at the start of the other file, where all that it has is in the tables. Not while an append is under way. */
  turn(applied: number, evenIfEmpty = false): boolean {
    const other = this.#other;
    if (this.#torn || other.lastNumber > applied) return false;
    if (this.#current.at === 0 && !evenIfEmpty) return false;
    other.at = 0;
    other.salt = this.#random.bytes(saltBytes);
    this.#current = other;
    return true;
  }

  get #other(): File {
    const [first, second] = this.#files;
    return this.#current === first ? second : first;
  }

  /** Overwrites the file that is not written to now, all of which is in the tables. Not while it may take its turn. */
  async blank(): Promise<void> {
    const { handle } = this.#other;
    const nothing = Buffer.alloc(blankBytes);
    const { size } = await handle.stat();
    try {
      for (let at = 0; at < size; at += blankBytes)
        await writeAt(handle, nothing.subarray(0, Math.min(blankBytes, size - at)), at);
    } catch (error) {
      throw writeError(this.#folder, error);
    }
  }

  async close(): Promise<void> {
    await this.#files[0].handle.close();
    await this.#files[1].handle.close();
  }
}

async function openFile(path: string, random: Random): Promise<{ file: File; groups: Group[] }> {
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT | syncedWrites, 0o600);
  const bytes = await handle.readFile();
  const groups = groupsIn(bytes);
  const at = groups.reduce((sum, { body }) => sum + groupHeaderBytes + body.length, 0);
  const lastNumber = groups.at(-1)?.number ?? 0;
  const salt = at > 0 ? bytes.subarray(saltAt, groupHeaderBytes) : random.bytes(saltBytes);
  return { file: { handle, at, lastNumber, salt: Uint8Array.from(salt) }, groups };
}

/** The groups from the start on, as long as they are whole and their numbers follow: behind them is what was there before. */
function groupsIn(bytes: Buffer): Group[] {
  const groups: Group[] = [];
  for (let at = 0; at + groupHeaderBytes <= bytes.length;) {
    const end = at + groupHeaderBytes + bytes.readUInt32LE(at + 8);
    if (bytes.readUInt32LE(at) !== magic || end > bytes.length) break;
    if (bytes.readUInt32LE(at + 4) !== crc32(bytes.subarray(at + 8, end))) break;
    const number = bytes.readUIntLE(at + 12, 6);
    const previous = groups.at(-1);
    if (previous !== undefined && number !== previous.number + 1) break;
    if (bytes.compare(bytes, saltAt, groupHeaderBytes, at + saltAt, at + groupHeaderBytes) !== 0)
      break;
    groups.push({ number, body: bytes.subarray(at + groupHeaderBytes, end) });
    at = end;
  }
  return groups;
}

async function writeAt(handle: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += await writeSome(handle.fd, bytes, done, position + done);
  }
  if (syncedWrites === 0) await handle.datasync();
}

/** FileHandle.write without its cost. */
function writeSome(fd: number, bytes: Buffer, from: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, from, bytes.length - from, position, (error, written) => {
      if (error === null) resolve(written);
      else reject(error);
    });
  });
}
