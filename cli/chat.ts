/** `parley chat`: talk in a terminal, or through pipes. */
import type { ReadStream, WriteStream } from "node:tty";
import { type Command, Option } from "commander";
import { createNodeClient } from "../client/node.ts";
import { commandHelp } from "./chat-commands.ts";
import { runLines } from "./chat-lines.ts";
import { ChatRoom } from "./chat-room.ts";
import { type StateFile, freeStateFile, stateFolder, takeStateFile } from "./chat-state-file.ts";
import { type IdentityOptions, tokens, userOf, withIdentity } from "./identity.ts";
import { upload } from "./upload.ts";
import { directConversation } from "../client/index.ts";
import type { ParleyClient } from "../client/index.ts";

const lingerMs = 1_000;

interface ChatOptions extends IdentityOptions {
  readonly with?: string;
  readonly group?: string;
  readonly json?: true;
  /** False: none. Undefined: the usual one. */
  readonly state?: string | false;
}

export function addChat(program: Command): void {
  withIdentity(
    program
      .command("chat")
      .description("talk: in a terminal, or through pipes (each line of the input is a message)"),
  )
    .option("--with <user>", "talk to this user")
    .addOption(new Option("--group <id>", "talk in this conversation").conflicts("with"))
    .option("--json", "print whatever happens as lines of JSON, also in a terminal")
    .option(
      "--state <file>",
      "keeps what is unsent, and the name of this device [~/.local/state/parley/USER@HOST.json]",
    )
    .option("--no-state", "keep nothing: be a new device, and forget what is unsent")
    .addHelpText("after", `\nIn a terminal:\n${commandHelp.map((line) => `  ${line}`).join("\n")}`)
    .action(chat);
}

async function chat(options: ChatOptions): Promise<void> {
  const token = tokens(options);
  const me = userOf(await token());
  const state = await stateOf(options, me);
  try {
    const sdk = createNodeClient({
      url: options.url,
      token,
      ...(state === undefined ? {} : { storePath: state.path }),
      ...(options.device === undefined ? {} : { deviceId: options.device }),
      // A server that was away is no blocked WebSocket: back to it soon, for whoever is online and typing.
      limits: { upgradeMs: 15_000 },
    });
    try {
      const { stdin, stdout } = process;
      const piped = options.json === true || !stdin.isTTY || !stdout.isTTY;
      if (piped) process.exitCode = await lines(options, sdk, me);
      else await screen(options, sdk, me, { stdin, stdout });
    } finally {
      await sdk.close();
    }
  } finally {
    await state?.release();
    // A connection that does not end when it is told to must not keep the command alive.
    setTimeout(() => process.exit(), lingerMs).unref();
  }
}

async function lines(options: ChatOptions, sdk: ParleyClient, me: string): Promise<number> {
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  process.once("SIGINT", abort);
  process.once("SIGTERM", abort);
  // Whoever reads the output is gone.
  process.stdout.on("error", abort);
  try {
    return await runLines({
      sdk,
      me,
      conversation:
        options.group ??
        (options.with === undefined ? undefined : directConversation(me, options.with)),
      json: options.json === true,
      input: process.stdin,
      print: (line) => void process.stdout.write(`${line}\n`),
      complain: (line) => void process.stderr.write(`parley: ${line}\n`),
      signal: stop.signal,
      after: (ms, run) => {
        const timer = setTimeout(run, ms);
        return () => clearTimeout(timer);
      },
    });
  } finally {
    process.off("SIGINT", abort);
    process.off("SIGTERM", abort);
    process.stdin.destroy();
  }
}

async function screen(
  options: ChatOptions,
  sdk: ParleyClient,
  me: string,
  terminal: { stdin: ReadStream; stdout: WriteStream },
): Promise<void> {
  // Somebody sits at this terminal, whatever the environment says: ink would draw nothing.
  Object.assign(process.env, { CI: "false", CONTINUOUS_INTEGRATION: "false" });
  // Only a terminal needs it, and it is slow to load.
  const { openScreen } = await import("./chat-screen.ts");
  let quit = (): void => undefined;
  const ended = new Promise<void>((resolve) => {
    quit = resolve;
  });
  let changed = (): void => undefined;
  const room = new ChatRoom({
    sdk,
    me,
    now: () => Date.now(),
    changed: () => changed(),
    upload: async (file, conversation) =>
      upload(file, conversation, options.url, await tokens(options)()),
    quit: () => quit(),
  });
  if (options.group !== undefined) room.show(options.group);
  else if (options.with !== undefined) room.showUser(options.with);
  const shown = openScreen(terminal, () => room);
  ({ changed } = shown);
  process.once("SIGTERM", quit);
  process.once("SIGHUP", quit);
  try {
    sdk.connect();
    await ended;
  } finally {
    shown.close();
    process.off("SIGTERM", quit);
    process.off("SIGHUP", quit);
  }
  const unsent = sdk.pending().length;
  if (unsent > 0)
    console.error(
      `${unsent} message${unsent === 1 ? " is" : "s are"} not sent yet${options.state === false ? "" : "; the next chat sends them"}`,
    );
}

async function stateOf(options: ChatOptions, me: string): Promise<StateFile | undefined> {
  if (options.state === false) return undefined;
  if (typeof options.state !== "string")
    return freeStateFile(stateFolder(process.env), me, options.url);
  const file = await takeStateFile(options.state);
  if (file === undefined)
    throw new Error(`another chat uses ${options.state}: each needs a --state of its own`);
  return file;
}
