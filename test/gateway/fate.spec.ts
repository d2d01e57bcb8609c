/** What became of a message for a member, from what the services know. */
import assert from "node:assert/strict";
import { type MessageInitShape, create } from "@bufbuild/protobuf";
import { type Known, fateOf } from "../../gateway/fate.ts";
import {
  ConnectionSchema,
  Fate,
  UnackedSchema,
  UserSessionSchema,
} from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { MemberSchema } from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { Availability, PresenceSchema } from "../../proto/gen/parley/v1/record_pb.ts";

const session = create(UserSessionSchema, { gatewayId: "g1", connection: 7, deviceId: "phone" });
const connection = create(ConnectionSchema, {
  gatewayId: "g1",
  connection: 7,
  deviceId: "phone",
  kind: "websocket",
  stage: "live",
});
const away = create(PresenceSchema, { availability: Availability.OFFLINE, lastSeenMs: 1_000n });

const known = (
  more: Partial<Known> = {},
  member: MessageInitShape<typeof MemberSchema> = {},
): Known => ({
  seq: 5,
  sent: true,
  member: create(MemberSchema, { userId: "bob", floorSeq: 1, ...member }),
  presence: undefined,
  sessions: [session],
  connections: [connection],
  partial: false,
  ...more,
});

describe("the fate of a message for a member", () => {
  const pushed = (toSeq: number, outboxBytes = 0): Known => {
    const unacked = create(UnackedSchema, { fromSeq: 4, toSeq, forMs: 2_500, tries: 2 });
    return known({ connections: [{ ...connection, unacked, outboxBytes }] });
  };
  const cases: readonly (readonly [string, Known, Fate, RegExp])[] = [
    ["joined later", known({}, { floorSeq: 6 }), Fate.NOT_THEIRS, /from #6 on/],
    ["left before", known({}, { leftSeq: 4 }), Fate.NOT_THEIRS, /removed by #4/],
    ["was told of the own removal", known({}, { leftSeq: 5, readSeq: 5 }), Fate.READ, /#5/],
    ["read", known({}, { deliveredSeq: 6, readSeq: 5 }), Fate.READ, /read up to #5/],
    ["delivered", known({}, { deliveredSeq: 5, readSeq: 4 }), Fate.DELIVERED, /up to #5/],
    ["not sent", known({ sent: false }), Fate.NOT_SENT, /nobody may see it/],
    ["offline", known({ sessions: [], connections: [], presence: away }), Fate.OFFLINE, /1970/],
    ["pushed", pushed(5), Fate.UNACKED, /device phone at gateway g1 2.5 s ago, again 2 times/],
    ["pushed to who does not read", pushed(9, 77), Fate.UNACKED, /77 bytes wait/],
    ["an earlier one is pushed alone", pushed(4), Fate.UNTOLD, /nothing on its way/],
    ["connected", known(), Fate.UNTOLD, /by websocket, has nothing on its way/],
    [
      "syncing",
      known({ connections: [{ ...connection, stage: "syncing" }] }),
      Fate.UNACKED,
      /being told what it lacked/,
    ],
    ["unknown to session", known({ sessions: [] }), Fate.UNREACHED, /session does not know it/],
    [
      "unknown to its gateway",
      known({ connections: [] }),
      Fate.UNREACHED,
      /does not know connection 7/,
    ],
    [
      "known to session by another number",
      known({ sessions: [{ ...session, connection: 8 }] }),
      Fate.UNREACHED,
      /session does not know it/,
    ],
    ["nobody answers", known({ connections: [], partial: true }), Fate.UNKNOWN, /did not answer/],
  ];
  for (const [name, what, fate, said] of cases) {
    it(name, () => {
      const told = fateOf(what);
      assert.equal(told.fate, fate, told.explanation);
      assert.match(told.explanation, said);
    });
  }
});
