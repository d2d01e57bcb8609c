/** What operators ask of a service that runs: `parley processes`, `connections`, `sessions`, `shard`, `move`, `explain`, `log`, `drain`. */
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import {
  DrainResponseSchema,
  type ExplainMessageRequest,
  ExplainMessageResponseSchema,
  GetShardResponseSchema,
  GetUserResponseSchema,
  ListConnectionsResponseSchema,
  ListProcessesResponseSchema,
  MoveShardResponseSchema,
  ReadLogResponseSchema,
} from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { wholeNumber } from "./arguments.ts";
import { line } from "./messages.ts";
import { type OperatorOptions, asked, asksGateway } from "./operator-client.ts";
import {
  connectionsText,
  explanationText,
  processesText,
  shardText,
  userText,
} from "./operator-text.ts";

export function addOperators(program: Command): void {
  addWhere(program);
  addShards(program);
  addMessages(program);
}

function addWhere(program: Command): void {
  const processes = program.command("processes").description("list the processes of all services");
  asksGateway(processes)
    .argument("[service]", "only of this service: gateway, session, delivery, presence, storage")
    .option("-q, --quiet", "print the ids alone")
    .action(listProcesses);
  const connections = program.command("connections").description("list who is connected where");
  asksGateway(connections)
    .option("--user <user>", "only this user's")
    .option("--gateway <id>", "only those of this gateway")
    .option("--limit <n>", "at most so many of each gateway, up to 1000", wholeNumber, 200)
    .action(listConnections);
  const sessions = program
    .command("sessions")
    .description("say whether a user is online, and where each device is");
  asksGateway(sessions).argument("<user>", "the user's id").action(getUser);
  const drain = program
    .command("drain")
    .description("send a gateway's clients away; it takes no more until it is started again");
  asksGateway(drain)
    .argument("<gateway>", "the gateway's id")
    .option("--over <ms>", "over so many milliseconds", wholeNumber, 5_000)
    .action(drainGateway);
}

function addShards(program: Command): void {
  const which = "a conversation, or the number of a shard";
  const shard = program.command("shard").description("say who owns a conversation's shard");
  asksGateway(shard).argument("<conversation>", which).action(getShard);
  const move = program
    .command("move")
    .description("move a shard to a delivery process, where it stays until that one stops");
  asksGateway(move)
    .argument("<conversation>", which)
    .argument("[process]", "the id of the delivery process; none: where hashing places it")
    .action(moveShard);
}

function addMessages(program: Command): void {
  const explain = program
    .command("explain")
    .description("say why a message was delivered, or was not: all that the services know of it");
  asksGateway(explain)
    .argument("<conversation>", "the conversation's id")
    .argument("[seq]", "the message's number", wholeNumber)
    .option("--sender <user>", "instead of a number: who sent it")
    .option("--client-id <base64>", "and the client_id that it was sent with")
    .option("--user <user>", "only what became of it for this member")
    .option("--limit <n>", "at most so many members, up to 100", wholeNumber, 20)
    .action(explainMessage);
  const log = program
    .command("log")
    .description("read a conversation's log: who did what when, and what was said if asked");
  asksGateway(log)
    .argument("<conversation>", "the conversation's id")
    .option("--after <seq>", "records after this one, the lowest first", wholeNumber, 0)
    .option("--before <seq>", "records before this one", wholeNumber, 0)
    .option("--limit <n>", "at most so many, up to 200", wholeNumber, 50)
    .option("--content", "with what was said")
    .action(readLog);
}

const whichOf = (
  text: string,
): { case: "shard"; value: number } | { case: "conversationId"; value: string } =>
  /^\d+$/.test(text)
    ? { case: "shard", value: wholeNumber(text) }
    : { case: "conversationId", value: text };

/** JSON for machines, where they ask for it. */
function print<D extends DescMessage>(
  { json }: OperatorOptions,
  schema: D,
  answer: MessageShape<D>,
  text: (answer: MessageShape<D>) => string,
): void {
  const all = { alwaysEmitImplicit: true };
  console.log(json === true ? JSON.stringify(toJson(schema, answer, all)) : text(answer));
}

async function listProcesses(
  service: string | undefined,
  options: OperatorOptions & { quiet?: true },
): Promise<void> {
  const answer = await asked(options, (gateway) => gateway.listProcesses({}));
  const processes = answer.processes.filter(
    (one) => service === undefined || one.service === service,
  );
  if (service !== undefined && processes.length === 0)
    throw new Error(`there is no process of a service ${service}`);
  if (options.quiet === true) for (const { processId } of processes) console.log(processId);
  else print(options, ListProcessesResponseSchema, { ...answer, processes }, processesText);
}

async function listConnections(
  options: OperatorOptions & { user?: string; gateway?: string; limit: number },
): Promise<void> {
  const { user = "", gateway: gatewayId = "", limit } = options;
  const request = { userId: user, gatewayId, allGateways: gatewayId === "", limit };
  const answer = await asked(options, (gateway) => gateway.listConnections(request));
  print(options, ListConnectionsResponseSchema, answer, connectionsText);
}

async function getUser(userId: string, options: OperatorOptions): Promise<void> {
  const answer = await asked(options, (gateway) => gateway.getUser({ userId }));
  print(options, GetUserResponseSchema, answer, (user) => userText(userId, user));
}

async function drainGateway(
  gatewayId: string,
  options: OperatorOptions & { over: number },
): Promise<void> {
  const request = { gatewayId, spreadMs: options.over };
  const answer = await asked(options, (gateway) => gateway.drain(request));
  print(
    options,
    DrainResponseSchema,
    answer,
    ({ ended }) => `gateway ${gatewayId} is empty: ${ended} connections were sent away`,
  );
}

async function getShard(conversation: string, options: OperatorOptions): Promise<void> {
  const answer = await asked(options, (gateway) =>
    gateway.getShard({ which: whichOf(conversation) }),
  );
  print(options, GetShardResponseSchema, answer, ({ shard }) => shardText(shard));
}

async function moveShard(
  conversation: string,
  toProcessId: string | undefined,
  options: OperatorOptions,
): Promise<void> {
  const request = { which: whichOf(conversation), toProcessId: toProcessId ?? "" };
  const answer = await asked(options, (gateway) => gateway.moveShard(request));
  print(
    options,
    MoveShardResponseSchema,
    answer,
    ({ before, shard }) => `before  ${shardText(before)}\nnow     ${shardText(shard)}`,
  );
}

interface ExplainOptions extends OperatorOptions {
  readonly sender?: string;
  readonly clientId?: string;
  readonly user?: string;
  readonly limit: number;
}

async function explainMessage(
  conversationId: string,
  seq: number | undefined,
  options: ExplainOptions,
): Promise<void> {
  const message = messageOf(seq, options);
  const { user = "", limit } = options;
  const request = { conversationId, message, userId: user, limit };
  const answer = await asked(options, (gateway) => gateway.explainMessage(request));
  print(options, ExplainMessageResponseSchema, answer, explanationText);
}

function messageOf(
  seq: number | undefined,
  { sender, clientId }: ExplainOptions,
): ExplainMessageRequest["message"] {
  if (seq !== undefined) return { case: "seq", value: seq };
  if (sender === undefined || clientId === undefined)
    throw new Error("which message? Give its number, or --sender and --client-id");
  const bytes = Buffer.from(clientId, "base64");
  const $typeName = "parley.gateway.v1.SendName";
  return { case: "send", value: { $typeName, senderId: sender, clientId: bytes } };
}

async function readLog(
  conversationId: string,
  options: OperatorOptions & { after: number; before: number; limit: number; content?: true },
): Promise<void> {
  const { after, before, limit, content = false } = options;
  const request = { conversationId, afterSeq: after, beforeSeq: before, limit, content };
  const answer = await asked(options, (gateway) => gateway.readLog(request));
  print(options, ReadLogResponseSchema, answer, ({ records, headSeq }) =>
    [...records.map((record) => line(record).trimEnd()), `head  #${headSeq}`].join("\n"),
  );
}
