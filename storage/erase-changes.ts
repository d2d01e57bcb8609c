/** What an erasure or a retention changes in the embedded store: how each change is journalled, and applied, now or when the journal is read again. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type Cell,
  type ErasureReceipt,
  ErasureReceiptSchema,
  type Retention,
  RetentionSchema,
} from "../proto/gen/parley/storage/v1/storage_pb.ts";
import { readCell, type Reader, type Region, writeCell, type Writer } from "./codec.ts";
import type { Change } from "./commits.ts";
import type { EncodedCell } from "./conversation.ts";
import type { Memtable } from "./memtable.ts";
import type { OwnUpload } from "./ports.ts";

/** On from those of changes.ts. */
const tags = {
  rewrite: 5,
  forget: 6,
  mark: 7,
  upload: 8,
  removeUpload: 9,
  unseen: 10,
  retention: 11,
  trim: 12,
  remove: 13,
} as const;

const change = (encode: (to: Writer) => void, apply: () => void): Change => ({
  admit: () => undefined,
  encode,
  apply,
  undo: () => undefined,
});

/** Both or none. */
export const together = (one: Change, other: Change): Change =>
  change(
    (to) => {
      one.encode(to);
      other.encode(to);
    },
    () => {
      one.apply();
      other.apply();
    },
  );

export function rewriteChange(
  memtable: Memtable,
  conversationId: string,
  cells: readonly Cell[],
): Change {
  const encoded: [number, EncodedCell][] = [];
  return change(
    (to) => {
      to.byte(tags.rewrite);
      to.text(conversationId);
      to.uint(cells.length);
      for (const cell of cells) {
        const from = to.length;
        writeCell(to, cell);
        encoded.push([cell.seq, { region: to.region, from, to: to.length }]);
      }
    },
    () => rewrite(memtable, conversationId, encoded),
  );
}

function rewrite(
  memtable: Memtable,
  conversationId: string,
  encoded: readonly [number, EncodedCell][],
): void {
  const conversation = memtable.open(conversationId);
  const headSeq = conversation.state?.headSeq ?? 0;
  for (const [seq, cell] of encoded) if (seq <= headSeq) conversation.rewrite(seq, cell);
  memtable.touched(conversation);
}

export function forgetChange(memtable: Memtable, conversationId: string, userId: string): Change {
  return change(
    (to) => {
      to.byte(tags.forget);
      to.text(conversationId);
      to.text(userId);
    },
    () => memtable.forgetMember(memtable.open(conversationId), userId),
  );
}

export function markChange(memtable: Memtable, receipt: ErasureReceipt): Change {
  return change(
    (to) => {
      to.byte(tags.mark);
      to.bytesField(toBinary(ErasureReceiptSchema, receipt));
    },
    () => memtable.putErasure(receipt),
  );
}

/** Whose upload a medium is: follows on its header, which the format has without it. */
export function encodeUpload(to: Writer, upload: OwnUpload): void {
  to.byte(tags.upload);
  writeUpload(to, upload);
}

function writeUpload(to: Writer, { userId, conversationId, mediaId }: OwnUpload): void {
  to.text(userId);
  to.text(conversationId);
  to.text(mediaId);
}

export function removeUploadChange(
  memtable: Memtable,
  upload: OwnUpload,
  withHeader: boolean,
): Change {
  return change(
    (to) => {
      to.byte(tags.removeUpload);
      writeUpload(to, upload);
      to.byte(withHeader ? 1 : 0);
    },
    () => memtable.removeUpload(upload, withHeader),
  );
}

export function unseenChange(memtable: Memtable, userId: string): Change {
  return change(
    (to) => {
      to.byte(tags.unseen);
      to.text(userId);
    },
    () => memtable.forgetSeen(userId),
  );
}

export function retentionChange(memtable: Memtable, retention: Retention): Change {
  return change(
    (to) => {
      to.byte(tags.retention);
      to.bytesField(toBinary(RetentionSchema, retention));
    },
    () => memtable.putRetention(retention),
  );
}

export function trimChange(memtable: Memtable, conversationId: string, floorSeq: number): Change {
  return change(
    (to) => {
      to.byte(tags.trim);
      to.text(conversationId);
      to.uint(floorSeq);
    },
    () => memtable.trim(memtable.open(conversationId), floorSeq),
  );
}

export function removeChange(memtable: Memtable, conversationId: string): Change {
  return change(
    (to) => {
      to.byte(tags.remove);
      to.text(conversationId);
    },
    () => memtable.removeConversation(memtable.open(conversationId)),
  );
}

/** False: it is none of these. */
export function replayErasing(
  tag: number,
  memtable: Memtable,
  from: Reader,
  region: Region,
): boolean {
  switch (tag) {
    case tags.rewrite:
      replayRewrite(memtable, from, region);
      return true;
    case tags.forget:
      memtable.forgetMember(memtable.open(from.text()), from.text());
      return true;
    case tags.mark:
      memtable.putErasure(fromBinary(ErasureReceiptSchema, from.bytesField()));
      return true;
    case tags.upload:
      memtable.putUpload(readUpload(from), true);
      return true;
    case tags.removeUpload:
      memtable.removeUpload(readUpload(from), from.byte() === 1);
      return true;
    case tags.unseen:
      memtable.forgetSeen(from.text());
      return true;
    case tags.retention:
      memtable.putRetention(fromBinary(RetentionSchema, from.bytesField()));
      return true;
    case tags.trim:
      memtable.trim(memtable.open(from.text()), from.uint());
      return true;
    case tags.remove:
      memtable.removeConversation(memtable.open(from.text()));
      return true;
    default:
      return false;
  }
}

const readUpload = (from: Reader): OwnUpload => ({
  userId: from.text(),
  conversationId: from.text(),
  mediaId: from.text(),
});

function replayRewrite(memtable: Memtable, from: Reader, region: Region): void {
  const conversationId = from.text();
  const encoded = Array.from({ length: from.uint() }, (): [number, EncodedCell] => {
    const start = from.at;
    const { seq } = readCell(from);
    return [seq, { region, from: start, to: from.at }];
  });
  rewrite(memtable, conversationId, encoded);
}
