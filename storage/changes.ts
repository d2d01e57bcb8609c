/** What can happen to the embedded store: how each change is checked, journalled, and applied, now or when the journal is read again. */
import type { ConnectError } from "@connectrpc/connect";
import { invalid } from "../mesh/errors.ts";
import type {
  AppendRequest,
  ConversationWrite,
  LastSeen,
  MediaHeader,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  readCell,
  readMedia,
  readMember,
  readState,
  Reader,
  writeCell,
  writeMedia,
  writeMember,
  writeState,
} from "./codec.ts";
import type { Region, Writer } from "./codec.ts";
import type { Change } from "./commits.ts";
import type { Conversation } from "./conversation.ts";
import { encodeUpload, replayErasing } from "./erase-changes.ts";
import { conflictError, revokedError } from "./errors.ts";
import { refusal } from "./history.ts";
import type { Memtable } from "./memtable.ts";
import { malformed } from "./shape.ts";

const tags = { write: 1, revoke: 2, seen: 3, media: 4 } as const;

export function appendChange(memtable: Memtable, batch: AppendRequest): Change {
  const { incarnation, writes } = batch;
  const conversations: Conversation[] = [];
  const planned: number[] = [];

  function check(): ConnectError | undefined {
    if (memtable.isRevoked(incarnation)) return revokedError(incarnation);
    const number = memtable.nextBatch();
    for (const write of writes) {
      const reason = malformed(write);
      if (reason !== undefined) return invalid(reason);
      const conversation = memtable.open(write.conversationId);
      if (conversation.batch === number) {
        return invalid(`the batch names ${write.conversationId} twice: make it one write`);
      }
      conversation.batch = number;
      const refused = refusal(conversation, write);
      if (refused !== undefined) return conflictError(write.conversationId, refused);
      conversations.push(conversation);
    }
    return undefined;
  }

  return {
    admit: check,
    encode(to) {
      for (const [index, write] of writes.entries()) {
        planned[index] = 0;
        const conversation = conversations[index];
        if (conversation !== undefined) {
          planned[index] = encodeWrite(to, conversation, write);
        }
      }
    },
    apply() {
      for (const [index, write] of writes.entries()) {
        const conversation = conversations[index];
        if (conversation !== undefined) memtable.apply(conversation, write);
      }
    },
    undo() {
      for (const [index, count] of planned.entries()) conversations[index]?.unplan(count);
    },
  };
}

/** Plans for the cells while it encodes them, and answers how many are new. */
function encodeWrite(to: Writer, conversation: Conversation, write: ConversationWrite): number {
  const { cells, state, members } = write;
  const knownSeq = conversation.headSeq;
  to.byte(tags.write);
  to.text(conversation.id);
  to.uint(cells.length);
  for (const cell of cells) {
    const from = to.length;
    writeCell(to, cell);
    if (cell.seq <= knownSeq) continue;
    conversation.plan(cell, { region: to.region, from, to: to.length });
  }
  to.byte(state === undefined ? 0 : 1);
  if (state !== undefined) writeState(to, state);
  to.uint(members.length);
  for (const member of members) writeMember(to, member);
  return conversation.headSeq - knownSeq;
}

export function revokeChange(memtable: Memtable, incarnation: string): Change {
  let planned = false;
  return {
    admit() {
      planned = memtable.planRevoke(incarnation);
      return undefined;
    },
    encode(to) {
      to.byte(tags.revoke);
      to.text(incarnation);
    },
    apply: () => memtable.revoke(incarnation),
    undo() {
      if (planned) memtable.unplanRevoke(incarnation);
    },
  };
}

export function seenChange(memtable: Memtable, seen: readonly LastSeen[]): Change {
  return {
    admit: () => undefined,
    encode(to) {
      for (const { userId, timeMs } of seen) {
        to.byte(tags.seen);
        to.text(userId);
        to.wide(timeMs);
      }
    },
    apply() {
      for (const { userId, timeMs } of seen) memtable.putLastSeen(userId, timeMs);
    },
    undo: () => undefined,
  };
}

export function mediaChange(memtable: Memtable, header: MediaHeader, userId: string): Change {
  const { conversationId, mediaId } = header;
  const upload = { userId, conversationId, mediaId };
  return {
    admit: () => undefined,
    encode(to) {
      to.byte(tags.media);
      writeMedia(to, header);
      if (userId !== "") encodeUpload(to, upload);
    },
    apply() {
      memtable.putMedia(header);
      if (userId !== "") memtable.putUpload(upload, true);
    },
    undo: () => undefined,
  };
}

/** Applies what a group of the journal has. Doing so again changes nothing. */
export function replayGroup(memtable: Memtable, body: Buffer): void {
  const from = new Reader(body);
  const region: Region = { bytes: body, base: 0 };
  while (from.more) replayChange(memtable, from, region);
  memtable.dirtyBytes += body.length;
  memtable.sweep();
}

function replayChange(memtable: Memtable, from: Reader, region: Region): void {
  const tag = from.byte();
  switch (tag) {
    case tags.write:
      replayWrite(memtable, from, region);
      break;
    case tags.revoke:
      memtable.revoke(from.text());
      break;
    case tags.seen:
      memtable.putLastSeen(from.text(), BigInt.asIntN(64, from.wide()));
      break;
    case tags.media:
      memtable.putMedia(readMedia(from));
      break;
    default:
      if (replayErasing(tag, memtable, from, region)) return;
      throw new Error(`the journal has a change of an unknown kind (${tag})`);
  }
}

function replayWrite(memtable: Memtable, from: Reader, region: Region): void {
  const conversation = memtable.open(from.text());
  const cells = Array.from({ length: from.uint() }, () => {
    const start = from.at;
    const cell = readCell(from);
    if (cell.seq > conversation.headSeq) {
      conversation.plan(cell, { region, from: start, to: from.at });
    }
    return cell;
  });
  const state = from.byte() === 0 ? undefined : readState(from);
  const members = Array.from({ length: from.uint() }, () => readMember(from));
  memtable.apply(conversation, {
    $typeName: "parley.storage.v1.ConversationWrite",
    conversationId: conversation.id,
    cells,
    state,
    indexUserIds: [],
    members,
  });
}
