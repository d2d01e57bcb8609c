import assert from "node:assert/strict";
import { ConnectError } from "@connectrpc/connect";
import { draw } from "../../cli/chat-draw.ts";
import { emptyEditor } from "../../cli/chat-editor.ts";
import { Calendar } from "../../cli/chat-rows.ts";
import {
  type ChatState,
  type OpenConversation,
  emptyState,
  newestHole,
  openConversation,
  withRecords,
} from "../../cli/chat-state.ts";
import { cells } from "../../cli/chat-text.ts";
import { change, message, noonMs, view } from "./fake-sdk.ts";

const id = "d:alice:bob";
const calendar = new Calendar("UTC");

function screen(state: ChatState, columns = 60, rows = 14, nowMs = noonMs + 60_000): string[] {
  const drawing = draw(state, { columns, rows, nowMs, calendar });
  assert.equal(drawing.rows.length, rows);
  const lines = drawing.rows.map((row) => row.map(({ text }) => text).join(""));
  for (const line of lines) assert.ok(cells(line) <= columns, `too wide: ${line}`);
  return lines.map((line) => line.trimEnd());
}

function talking(parts: Partial<OpenConversation>, state: Partial<ChatState> = {}): ChatState {
  const open = { ...openConversation(id, "alice"), ...parts };
  return { ...emptyState("alice"), link: { t: "live", transport: "websocket" }, open, ...state };
}

const records = [
  message(id, 1, "alice", "hello"),
  message(id, 2, "bob", "hi there"),
  message(id, 3, "alice", "how are you?"),
  message(id, 4, "alice", "still there?"),
];

describe("the chat's screen", () => {
  it("shows messages, the newest at the bottom, with what became of one's own", () => {
    const open = view(id, { headSeq: 4, peersDeliveredSeq: 3, peersReadSeq: 1 });
    assert.deepEqual(screen(talking({ view: open, records })).slice(2, 12), [
      "",
      "",
      "",
      "",
      "── Today ───────────────────────────────────────────────────",
      " 12:00  you  hello                                   ✓✓ read",
      " 12:00  bob  hi there",
      " 12:00  you  how are you?                            ✓✓",
      " 12:00  you  still there?                            ✓",
      "",
    ]);
  });

  it("shows what is on its way, and why something failed", () => {
    const outgoing = [
      { clientId: "1", content: content("never"), failed: "not a member" },
      { clientId: "2", content: content("later"), failed: undefined },
    ];
    const lines = screen(talking({ view: view(id), outgoing }));
    assert.match(lines[8] ?? "", /you {2}never +✗$/);
    assert.match(lines[9] ?? "", /not sent: not a member$/);
    assert.match(lines[10] ?? "", /you {2}later +…$/);
  });

  it("wraps long messages beside their sender, to any width", () => {
    const long = message(id, 1, "bob", "word ".repeat(40).trim());
    for (const columns of [20, 33, 60, 200]) {
      const lines = screen(talking({ view: view(id), records: [long] }), columns, 60);
      assert.equal(lines.join(" ").match(/word/g)?.length, 40);
    }
  });

  it("names what is not loaded, what cannot be had and what is new", () => {
    const open = talking({
      view: view(id, { headSeq: 30, readSeq: 20 }),
      records: [
        message(id, 13, "bob", "a"),
        message(id, 20, "alice", "b"),
        message(id, 30, "bob", "c"),
      ],
      lost: [{ from: 21, to: 29 }],
      newAfterSeq: 20,
    });
    const text = screen(open, 60, 20)
      .filter((line) => line.startsWith("──"))
      .slice(1, -1)
      .join("\n");
    assert.match(text, /── 12 older messages not loaded: \/more ─/);
    assert.match(text, /── 6 messages not loaded: \/more ─/);
    assert.match(text, /── 9 messages cannot be had ─/);
    assert.match(text, /── new ─+$/);
  });

  it("looks for the newest hole first, and not for what cannot be had", () => {
    const open = openConversation(id, "alice");
    const some = {
      ...withRecords(
        open,
        [records[3], message(id, 8, "bob", "x")].flatMap((one) => one ?? []),
      ),
      view: view(id, { headSeq: 8 }),
    };
    assert.deepEqual(newestHole(some), { from: 5, to: 7 });
    assert.deepEqual(newestHole({ ...some, lost: [{ from: 5, to: 7 }] }), { from: 1, to: 3 });
    assert.equal(
      newestHole({
        ...some,
        lost: [
          { from: 5, to: 7 },
          { from: 1, to: 3 },
        ],
      }),
      undefined,
    );
    assert.deepEqual(newestHole({ ...open, view: view(id, { headSeq: 8 }) }), { from: 1, to: 8 });
  });

  it("says who is online, when the other was last seen, and who is typing", () => {
    const presences = new Map([["bob", { online: true, lastSeenMs: 0 }]]);
    const typing = new Map([["bob", noonMs + 61_000]]);
    const lines = screen(talking({ view: view(id), typing }, { presences }));
    assert.match(lines[0] ?? "", /^ bob {2}● online +connected$/);
    assert.equal(lines[11], " bob is typing…");
    const later = screen(
      talking({ view: view(id), typing }, { presences }),
      60,
      14,
      noonMs + 61_000,
    );
    assert.equal(later[11], "");
    const gone = new Map([["bob", { online: false, lastSeenMs: noonMs - 60_000 }]]);
    assert.match(screen(talking({}, { presences: gone }))[0] ?? "", /bob {2}○ last seen 11:59/);
    const long = new Map([["bob", { online: false, lastSeenMs: noonMs - 86_400_000 }]]);
    assert.match(screen(talking({}, { presences: long }))[0] ?? "", /last seen yesterday 12:00/);
  });

  it("says how the connection is", () => {
    const line = (link: ChatState["link"]): string => screen(talking({}, { link }))[0] ?? "";
    assert.match(line({ t: "connecting" }), /connecting…$/);
    assert.match(
      line({ t: "waiting", untilMs: noonMs + 62_500, why: "gone" }),
      /reconnecting in 3 s$/,
    );
    assert.match(line({ t: "live", transport: "poll" }), /connected \(polling\)$/);
    const stopped = screen(
      talking({}, { link: { t: "stopped", why: "the token is no longer valid" } }),
    );
    assert.match(stopped[0] ?? "", /not connected$/);
    assert.equal(stopped[11], " the token is no longer valid");
  });

  it("tells of changes of a group, and what is unread elsewhere", () => {
    const group = "g:1";
    const trip = view(group, { title: "Trip", headSeq: 3, memberCount: 3 });
    const open = {
      ...openConversation(group, "alice"),
      view: trip,
      members: ["alice", "bob", "carol"],
      records: [
        change(group, 1, "alice", { title: "Trip", added: ["alice", "bob", "carol"] }),
        change(group, 2, "bob", { removed: ["bob"] }),
        change(group, 3, "alice", {
          title: "Long\ntrip",
          added: ["bob"],
          removed: ["dave", "erin"],
        }),
      ],
    };
    const presences = new Map([["carol", { online: true, lastSeenMs: 0 }]]);
    const conversations = [trip, view(id, { unreadCount: 2 })];
    const lines = screen({ ...talking({}), open, presences, conversations }, 90);
    assert.match(
      lines[0] ?? "",
      /^ Trip {2}3 members · online: carol .* 2 unread elsewhere {2}connected$/,
    );
    const text = lines.join("\n");
    assert.match(text, /you made the group “Trip” and added bob, carol/);
    assert.match(text, /bob left/);
    assert.match(text, /you named the group “Long ↵ trip” and added bob and removed dave, erin/);
  });

  it("lists conversations, the chosen one marked, with what is unread", () => {
    const conversations = [
      view(id, { unreadCount: 3 }),
      view("g:1", { title: "Trip", memberCount: 4 }),
    ];
    const lines = screen({ ...talking({}), open: undefined, conversations, selected: 1 }, 80);
    assert.match(lines[2] ?? "", /^ {4}1 {2}bob +3 unread +12:00$/);
    assert.match(lines[3] ?? "", /^ ▸ {2}2 {2}Trip +4 members +12:00$/);
  });

  it("says how to begin where there is nothing", () => {
    const lines = screen({ ...talking({}), open: undefined }, 90);
    assert.match(lines[3] ?? "", /\/with USER begins one/);
    assert.match(screen(talking({}))[10] ?? "", /Say hello to bob\./);
  });

  it("scrolls, no further than there is something", () => {
    const many = Array.from({ length: 30 }, (_, at) =>
      message(id, at + 1, "bob", `message ${at + 1}`),
    );
    const state = talking({ view: view(id, { headSeq: 30 }), records: many }, { scroll: 5 });
    const lines = screen(state);
    assert.match(lines[10] ?? "", /message 25$/);
    assert.equal(lines[11], " ↓ 5 more rows below (PgDn)");
    const frame = { columns: 60, rows: 14, nowMs: noonMs, calendar };
    // 30 messages and the day, 9 rows at once.
    assert.equal(draw({ ...state, scroll: 1_000 }, frame).scroll, 22);
  });

  it("shows the input with the cursor in its place, wrapped, in a few rows", () => {
    const frame = { columns: 20, rows: 14, nowMs: noonMs, calendar };
    const at = (before: string, after: string): unknown =>
      draw(talking({}, { editor: { ...emptyEditor, before, after } }), frame).cursor;
    assert.deepEqual(at("", ""), { x: 2, y: 13 });
    assert.deepEqual(at("日本", "x"), { x: 6, y: 13 });
    assert.deepEqual(at("x".repeat(20), ""), { x: 5, y: 13 });
    assert.deepEqual(at("a\nb", "\nc"), { x: 3, y: 12 });
    const lines = screen(talking({}, { editor: { ...emptyEditor, before: "x\n".repeat(20) } }), 20);
    assert.equal(lines.filter((line) => line.trim() === "x").length, 4);
  });

  it("fits any terminal", () => {
    const state = talking(
      { view: view(id, { headSeq: 4 }), records },
      { notice: ["one ".repeat(50), "two"] },
    );
    for (const columns of [20, 40, 300])
      for (const rows of [8, 9, 24, 100]) screen(state, columns, rows);
  });

  it("lets nobody steer the terminal", () => {
    const evil = "\u001b[31mred\u001b]0;title\u0007";
    const group = view("g:1", { title: evil });
    const open = {
      ...openConversation("g:1", "alice"),
      view: group,
      members: [evil],
      typing: new Map([[evil, Infinity]]),
    };
    const presences = new Map([[evil, { online: true, lastSeenMs: 0 }]]);
    const attachment = {
      fileName: evil,
      mediaType: "image/png",
      size: 1,
      width: 1,
      height: 1,
      mediaId: "",
      thumbnail: new Uint8Array(),
      $typeName: "parley.v1.Attachment",
    } as const;
    const list = [
      message("g:1", 1, evil, { text: evil, attachments: [attachment] }),
      change("g:1", 2, evil, { title: evil, added: [evil] }),
    ];
    const state = talking(
      {},
      { presences, notice: [new ConnectError(evil).message], conversations: [group] },
    );
    const text = [
      ...screen(
        {
          ...state,
          open: {
            ...open,
            records: list,
            outgoing: [{ clientId: "", content: content(evil), failed: evil }],
          },
        },
        60,
        30,
      ),
      ...screen({ ...state, open: undefined }),
      ...screen(talking({}, { link: { t: "stopped", why: evil } })),
    ].join("");
    // oxlint-disable-next-line no-control-regex -- what must not be there
    assert.doesNotMatch(text, /[\u0000-\u001f\u007f-\u009f]/);
  });
});

function content(text: string): OpenConversation["outgoing"][number]["content"] {
  return { $typeName: "parley.v1.Content", text, attachments: [], replyToSeq: 0 };
}
