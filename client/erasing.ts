/** What an erasure leaves of records that a device has: as much as the server leaves of them. Pure. */
import { create } from "@bufbuild/protobuf";
import {
  ContentSchema,
  MembershipChangeSchema,
  type Erasure,
  type Record as LogRecord,
} from "../proto/gen/parley/v1/record_pb.ts";

/** What came erased is as the server left it, and stays so. */
export function withoutErased(records: readonly LogRecord[], { ranges }: Erasure): LogRecord[] {
  const isIn = (seq: number): boolean =>
    ranges.some(({ firstSeq, lastSeq }) => seq >= firstSeq && seq <= lastSeq);
  return records.map((record) => (!record.erased && isIn(record.seq) ? emptied(record) : record));
}

function emptied(record: LogRecord): LogRecord {
  const { body } = record;
  const said =
    body.case === "message" ? { case: body.case, value: create(ContentSchema) } : undefined;
  const changed =
    body.case === "membership"
      ? { case: body.case, value: create(MembershipChangeSchema) }
      : undefined;
  const rest = said ?? changed ?? body;
  return { ...record, senderId: "", clientId: new Uint8Array(0), body: rest, erased: true };
}
