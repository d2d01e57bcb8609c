/** Valid inputs, from which the others are made. */
import { create, fromJson, toBinary } from "@bufbuild/protobuf";
import type { JsonObject } from "@bufbuild/protobuf";
import sharp from "sharp";
import { encodeToken } from "../../gateway/sync.ts";
import { ChatService } from "../../proto/gen/parley/v1/chat_pb.ts";
import { ClientBatchSchema } from "../../proto/gen/parley/v1/frame_pb.ts";
import { bomb } from "../support/pictures.ts";

export const usersMax = 64;
export const userName = (nth: number): string => `fuzz${nth % usersMax}`;
export const peerName = "peer";

const clientId = Buffer.alloc(16, 7).toString("base64");
const conversationId = "d:fuzz1:peer";
const token = Buffer.from(
  encodeToken({ log2: 4, sums: Array.from({ length: 16 }, (_, at) => at * 1_000) }),
).toString("base64");

/** A valid request of each method. */
const requests: Readonly<Record<string, readonly JsonObject[]>> = {
  Send: [
    { userId: peerName, clientId, content: { text: "hello" } },
    { conversationId, clientId, content: { text: "again" }, knownHeadSeq: 1, retry: true },
    {
      conversationId,
      clientId,
      content: {
        attachments: [
          {
            mediaId: "0".repeat(64),
            mediaType: "image/png",
            size: 100,
            width: 3,
            height: 2,
            thumbnail: "AAAA",
          },
        ],
      },
    },
  ],
  MoveCursor: [{ conversationId, deliveredSeq: 1, readSeq: 1 }],
  Sync: [{}, { token, recordsPerConversation: 5 }, { token, waitMs: 20 }],
  History: [
    { conversationId, limit: 10 },
    { conversationId, beforeSeq: 9, afterSeq: 1, limit: 200 },
  ],
  Subscribe: [{}, { token, recordsPerConversation: 3 }],
  ListMembers: [{ conversationId, limit: 10 }],
  CreateGroup: [{ clientId, title: "all", memberIds: [peerName, "fuzz2", "fuzz3"] }],
  UpdateGroup: [
    {
      conversationId: "g:0123456789abcdefghijkl",
      clientId,
      addMemberIds: ["fuzz4"],
      removeMemberIds: ["fuzz2"],
    },
  ],
  WatchPresence: [{ userIds: [peerName, "fuzz2"] }],
  SetTyping: [{ conversationId }],
};

export interface Call {
  readonly method: string;
  readonly streams: boolean;
  readonly json: JsonObject;
  readonly binary: Buffer;
}

export const calls: readonly Call[] = ChatService.methods.flatMap(({ name, methodKind, input }) => {
  const streams = methodKind !== "unary";
  const some = requests[name] ?? [];
  if (some.length === 0) throw new Error(`the corpus has no request of ${name}`);
  return some.map((json) => {
    const binary = Buffer.from(
      toBinary(input, fromJson(input, json, { ignoreUnknownFields: false })),
    );
    return { method: name, streams, json, binary };
  });
});

function batchOf(frames: JsonObject[]): Buffer {
  const numbered = frames.map((frame, at) => ({ requestId: at + 1, ...frame }));
  return Buffer.from(
    toBinary(ClientBatchSchema, fromJson(ClientBatchSchema, { frames: numbered })),
  );
}

const lower = (name: string): string => name.slice(0, 1).toLowerCase() + name.slice(1);

const frames: readonly JsonObject[] = [
  { heartbeatReply: {} },
  { hello: { token: "no", deviceId: "phone" } },
  ...calls.filter(({ streams }) => !streams).map(({ method, json }) => ({ [lower(method)]: json })),
];

/** ClientBatches of one frame each, and of all of them. */
export const batches: readonly Buffer[] = [
  ...frames.map((frame) => batchOf([frame])),
  batchOf([...frames]),
];

export function helloBatch(userToken: string, deviceId: string): Buffer {
  const hello = {
    requestId: 1,
    frame: { case: "hello", value: { token: userToken, deviceId } },
  } as const;
  return Buffer.from(toBinary(ClientBatchSchema, create(ClientBatchSchema, { frames: [hello] })));
}

export interface Picture {
  readonly type: string;
  readonly bytes: Buffer;
}

/** One of each type that is taken, and what is not what it seems. */
export async function pictures(): Promise<readonly Picture[]> {
  const background = { r: 200, g: 120, b: 40 };
  const image = (width: number): ReturnType<typeof sharp> =>
    sharp({ create: { width, height: 20, channels: 3, background } });
  const formats = ["png", "jpeg", "webp", "gif", "avif"] as const;
  const good = formats.map(async (format) => ({
    type: `image/${format}`,
    bytes: await image(format === "avif" ? 16 : 48)
      .toFormat(format)
      .toBuffer(),
  }));
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>`;
  return [
    ...(await Promise.all(good)),
    { type: "image/png", bytes: Buffer.from(bomb(30_000)) },
    { type: "image/svg+xml", bytes: Buffer.from(svg) },
  ];
}
