import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import type { ReadStream, WriteStream } from "node:tty";
import { renderToString } from "ink";
import { createElement } from "react";
import { draw } from "../../cli/chat-draw.ts";
import { ChatRoom } from "../../cli/chat-room.ts";
import { Calendar } from "../../cli/chat-rows.ts";
import { Sheet, openScreen } from "../../cli/chat-screen.ts";
import { emptyState } from "../../cli/chat-state.ts";
import { FakeSdk, noonMs } from "./fake-sdk.ts";

/** A pipe that says that it is a terminal. */
function terminal(): {
  stdin: ReadStream;
  stdout: WriteStream;
  typed: PassThrough;
  raw: boolean[];
  text(): string;
} {
  const typed = new PassThrough();
  const written = new PassThrough();
  const raw: boolean[] = [];
  let text = "";
  written.on("data", (data: Buffer) => {
    text += data.toString();
  });
  const stdin = Object.assign(typed, {
    isTTY: true,
    setRawMode: (on: boolean) => void raw.push(on),
  });
  const stdout = Object.assign(written, { isTTY: true, columns: 60, rows: 12 });
  return {
    stdin: stdin as unknown as ReadStream,
    stdout: stdout as unknown as WriteStream,
    typed,
    raw,
    text: () => text,
  };
}

describe("the chat's terminal", () => {
  it("shows the rows as they are drawn", () => {
    const state = { ...emptyState("alice"), notice: ["hello"] };
    const first = draw(state, {
      columns: 60,
      rows: 10,
      nowMs: noonMs,
      calendar: new Calendar("UTC"),
    });
    const shown = renderToString(createElement(Sheet, { first, listen: () => undefined }), {
      columns: 60,
    });
    const drawn = first.rows.map((row) =>
      row
        .map(({ text }) => text)
        .join("")
        .trimEnd(),
    );
    assert.deepEqual(
      shown.split("\n").map((line) => line.trimEnd()),
      drawn,
    );
  });

  it("hands on what is typed, and gives the terminal back as it was", async () => {
    const sdk = new FakeSdk();
    const { stdin, stdout, typed, raw, text } = terminal();
    let ended = (): void => undefined;
    const quit = new Promise<void>((resolve) => {
      ended = resolve;
    });
    const room = new ChatRoom({
      sdk,
      me: "alice",
      now: () => noonMs,
      changed: () => screen.changed(),
      upload: () => Promise.reject(new Error("none")),
      quit: () => ended(),
    });
    const screen = openScreen({ stdin, stdout }, () => room);
    room.showUser("bob");
    sdk.goLive();
    typed.write("hello \u001b[200~one\rtwo\u001b[201~\r");
    typed.write("\u0003");
    await quit;
    screen.close();
    assert.deepEqual(
      sdk.sent.map((one) => one.text),
      ["hello one\ntwo"],
    );
    assert.deepEqual([raw[0], raw.at(-1)], [true, false]);
    assert.ok(text().startsWith("\u001b[?1049h"));
    assert.ok(text().endsWith("\u001b[?1049l"));
    assert.equal(typed.listenerCount("keypress"), 0);
    assert.equal(stdout.listenerCount("resize"), 0);
  });
});
