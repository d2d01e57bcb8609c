/** What a submitted line asks for, and the help that says so. Pure. */

export type ChatCommand =
  | { readonly t: "send"; readonly text: string }
  | { readonly t: "help" }
  | { readonly t: "list" }
  | { readonly t: "with"; readonly user: string }
  | { readonly t: "open"; readonly id: string }
  | { readonly t: "group"; readonly title: string; readonly users: readonly string[] }
  | { readonly t: "add"; readonly user: string }
  | { readonly t: "remove"; readonly user: string }
  | { readonly t: "leave" }
  | { readonly t: "rename"; readonly title: string }
  | { readonly t: "members" }
  | { readonly t: "image"; readonly file: string }
  | { readonly t: "more" }
  | { readonly t: "quit" }
  /** What is wrong with the line. */
  | { readonly t: "wrong"; readonly why: string };

const usage = {
  with: ["/with USER", "talk to USER"],
  group: ["/group TITLE USER…", 'make a group ("quote" a title with spaces)'],
  list: ["/list", "your conversations, with what is unread (also Esc)"],
  open: ["/open ID", "open one, by its id or its number in the list"],
  image: ["/image FILE", "send an image"],
  members: ["/members", "who is here, and who has got and read what"],
  add: ["/add USER", "add USER to this group"],
  remove: ["/remove USER", "remove USER from this group"],
  rename: ["/rename TITLE", "give this group another title"],
  leave: ["/leave", "leave this group"],
  more: ["/more", "load older messages (PgUp and PgDn scroll)"],
  help: ["/help", "this"],
  quit: ["/quit", "end (also Ctrl-C)"],
} as const;

export const tickLegend = "… on its way   ✓ sent   ✓✓ delivered to all   ✓✓ read by all   ✗ failed";

export const commandHelp: readonly string[] = [
  tickLegend,
  ...Object.values(usage).map(([call, does]) => `${call.padEnd(20)}${does}`),
  "//text              a message that begins with a slash",
  "Ctrl-J              a new line within the message",
];

export function parseCommand(line: string): ChatCommand {
  if (line.startsWith("//")) return { t: "send", text: line.slice(1) };
  if (!line.startsWith("/")) return { t: "send", text: line };
  const [, name = "", rest = ""] = /^\/(\S*)\s*([^]*)$/u.exec(line) ?? [];
  const text = rest.trim();
  const [word = "", ...more] = words(text);
  switch (name) {
    case "help":
    case "list":
    case "leave":
    case "members":
    case "more":
    case "quit":
      return text === "" ? { t: name } : wrong(name);
    case "with":
    case "add":
    case "remove":
      return word !== "" && more.length === 0 ? { t: name, user: word } : wrong(name);
    case "open":
      return word !== "" && more.length === 0 ? { t: name, id: word } : wrong(name);
    case "group":
      return word !== "" && more.length > 0 ? { t: name, title: word, users: more } : wrong(name);
    case "rename": {
      const title = more.length === 0 ? word : text;
      return title !== "" ? { t: name, title } : wrong(name);
    }
    case "image": {
      // A terminal that a file is dropped on quotes its name or puts backslashes before spaces.
      const file = /^(["']).*\1$/u.test(text)
        ? text.slice(1, -1)
        : text.replaceAll(/\\(.)/gu, "$1");
      return file !== "" ? { t: name, file } : wrong(name);
    }
    default:
      return {
        t: "wrong",
        why: `there is no /${name}: /help lists what there is, //${name} sends it as text`,
      };
  }
}

function wrong(name: keyof typeof usage): ChatCommand {
  const [call, does] = usage[name];
  return { t: "wrong", why: `use: ${call}   (${does})` };
}

/** Words, of which one in quotes may have spaces. */
function words(text: string): string[] {
  return Array.from(
    text.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/gu),
    ([, double, single, bare]) => double ?? single ?? bare ?? "",
  );
}
