/** `parley send` and `parley history`. */
import { randomBytes } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Command } from "commander";
import { wholeNumber } from "./arguments.ts";
import { chatClient } from "./chat-client.ts";
import { type IdentityOptions, tokens, userOf, withIdentity } from "./identity.ts";
import { upload } from "./upload.ts";
import { directConversation } from "../client/index.ts";
import { SendResponseSchema } from "../proto/gen/parley/v1/chat_pb.ts";
import {
  type Attachment,
  type Record as ChatRecord,
  RecordSchema,
} from "../proto/gen/parley/v1/record_pb.ts";

interface SendOptions extends IdentityOptions {
  readonly with?: string;
  readonly group?: string;
  readonly image?: string[];
  readonly json?: true;
}

interface HistoryOptions extends IdentityOptions {
  readonly with?: string;
  readonly group?: string;
  readonly limit: number;
  readonly before: number;
  readonly json?: true;
}

const triesMax = 5;

export function addMessageCommands(program: Command): void {
  withIdentity(program.command("send").description("send one message, and wait until it is sent"))
    .argument("[text]", "the message")
    .option("--with <user>", "to this user")
    .option("--group <id>", "to this conversation")
    .option("--image <file...>", "images to send along (the conversation must exist)")
    .option("--json", "print the answer as JSON")
    .action(send);
  withIdentity(
    program.command("history").description("print a conversation's records, oldest first"),
  )
    .option("--with <user>", "the conversation with this user")
    .option("--group <id>", "this conversation")
    .option("--limit <n>", "how many records, 200 at most", wholeNumber, 50)
    .option("--before <seq>", "only records before this one", wholeNumber, 0)
    .option("--json", "print each record as a line of JSON")
    .action(history);
}

/** The direct conversation of the token's user with another one. */
async function conversationOf(options: SendOptions | HistoryOptions): Promise<string> {
  if (options.group !== undefined) return options.group;
  if (options.with === undefined)
    throw new Error("with whom? Name a user by --with or a conversation by --group");
  return directConversation(userOf(await tokens(options)()), options.with);
}

async function send(text: string | undefined, options: SendOptions): Promise<void> {
  const conversationId = await conversationOf(options);
  const client = chatClient(options);
  const attachments: Attachment[] = [];
  for (const file of options.image ?? [])
    attachments.push(await upload(file, conversationId, options.url, await tokens(options)()));
  const to =
    options.with === undefined
      ? ({ case: "conversationId", value: conversationId } as const)
      : ({ case: "userId", value: options.with } as const);
  const clientId = randomBytes(16);
  for (let attempt = 1; ; attempt += 1) {
    try {
      const answer = await client.send({
        to,
        clientId,
        content: { text: text ?? "", attachments },
        retry: attempt > 1,
      });
      if (options.json)
        console.log(
          JSON.stringify(toJson(SendResponseSchema, answer, { alwaysEmitImplicit: true })),
        );
      else
        console.log(
          `sent: ${answer.conversationId} #${answer.seq}${answer.duplicate ? " (an earlier try had made it)" : ""}`,
        );
      return;
    } catch (error) {
      const { code, metadata } = ConnectError.from(error);
      if (attempt === triesMax || (code !== Code.Unavailable && code !== Code.ResourceExhausted))
        throw error;
      await new Promise((resolve) =>
        setTimeout(resolve, Number(metadata.get("retry-after-ms") ?? 500)),
      );
    }
  }
}

async function history(options: HistoryOptions): Promise<void> {
  const conversationId = await conversationOf(options);
  const answer = await chatClient(options).history({
    conversationId,
    limit: options.limit,
    beforeSeq: options.before,
  });
  for (const record of answer.records) {
    console.log(options.json ? JSON.stringify(toJson(RecordSchema, record)) : line(record));
  }
}

/** A record as a line for people. */
export function line(record: ChatRecord): string {
  const time = new Date(Number(record.timeMs)).toISOString().slice(0, 16).replace("T", " ");
  if (record.body.case === "erasure") return `#${record.seq}  ${time}  (messages were erased)`;
  if (record.erased && record.senderId === "") return `#${record.seq}  ${time}  (erased)`;
  const head = `#${record.seq}  ${time}  ${record.senderId}`;
  if (record.body.case === "message") {
    const { text, attachments } = record.body.value;
    const images = attachments.map(
      ({ fileName, mediaType, width, height }) => `[${fileName || mediaType} ${width}×${height}]`,
    );
    return `${head}: ${[text, ...images].filter((part) => part !== "").join(" ")}`;
  }
  if (record.body.case === "membership") {
    const { added, removed, title } = record.body.value;
    const parts: string[] = [];
    if (title !== undefined) parts.push(`named the group "${title}"`);
    if (added.length > 0) parts.push(`added ${added.join(", ")}`);
    if (removed.length > 0) parts.push(`removed ${removed.join(", ")}`);
    return `${head} ${parts.join(", ")}`;
  }
  return head;
}
