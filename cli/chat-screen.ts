/** The chat in a terminal: shows what is drawn through ink, and hands on what is typed. */
import { emitKeypressEvents } from "node:readline";
import type { ReadStream, WriteStream } from "node:tty";
import { Box, Text, render, useCursor } from "ink";
import { type ReactNode, createElement, useEffect, useState } from "react";
import { type Drawing, draw } from "./chat-draw.ts";
import type { Key } from "./chat-editor.ts";
import type { ChatRoom } from "./chat-room.ts";
import { Calendar, type Row, type Span } from "./chat-rows.ts";
import { cleanLine } from "./chat-text.ts";

export interface Terminal {
  readonly stdin: ReadStream;
  readonly stdout: WriteStream;
}

/** The other screen, so that what was there before comes back; and marks around what is pasted. */
const enter = "\u001B[?1049h\u001B[2J\u001B[H\u001B[?2004h";
const leave = "\u001B[?2004l\u001B[?1049l";
/** Countdowns and typing lines change with time alone. */
const tickMs = 1_000;

export interface Screen {
  /** Draws the room's state before this turn is over. */
  changed(): void;
  /** Gives the terminal back. */
  close(): void;
}

export function openScreen(terminal: Terminal, room: () => ChatRoom): Screen {
  const { stdin, stdout } = terminal;
  const calendar = new Calendar();
  let show: (drawing: Drawing) => void = () => undefined;
  let title = "";
  let due = false;
  // One row less than there are: a drawing that fills the terminal makes ink clear it each time.
  const size = (): { columns: number; rows: number } => ({
    columns: stdout.columns || 80,
    rows: Math.max(8, (stdout.rows || 24) - 1),
  });
  const redraw = (): void => {
    due = false;
    const drawing = draw(room().state, { ...size(), nowMs: Date.now(), calendar });
    show(drawing);
    if (drawing.scroll < room().state.scroll) room().scrollTo(drawing.scroll);
    if (room().title !== title) {
      ({ title } = room());
      stdout.write(`\u001B]0;${cleanLine(title)}\u0007`);
    }
  };
  const changed = (): void => {
    if (due) return;
    due = true;
    setImmediate(redraw);
  };
  const pressed = (characters: string | undefined, key: Key): void =>
    room().key(characters, key, Math.max(3, size().rows - 8));

  stdout.write(enter);
  const first = draw(room().state, { ...size(), nowMs: Date.now(), calendar });
  const listen = (listener: (drawing: Drawing) => void): void => {
    show = listener;
  };
  const ink = render(createElement(Sheet, { first, listen }), {
    stdout,
    stdin,
    exitOnCtrlC: false,
  });
  emitKeypressEvents(stdin);
  stdin.on("keypress", pressed);
  stdin.setRawMode(true);
  stdin.resume();
  stdout.on("resize", changed);
  const timer = setInterval(changed, tickMs);
  return {
    changed,
    close: () => {
      clearInterval(timer);
      stdout.off("resize", changed);
      stdin.off("keypress", pressed);
      stdin.setRawMode(false);
      stdin.pause();
      ink.unmount();
      stdout.write(leave);
    },
  };
}

interface SheetProps {
  readonly first: Drawing;
  readonly listen: (listener: (drawing: Drawing) => void) => void;
}

/** The drawing, and each one that comes after it. */
export function Sheet({ first, listen }: SheetProps): ReactNode {
  const [drawing, setDrawing] = useState(first);
  const { setCursorPosition } = useCursor();
  useEffect(() => listen(setDrawing), [listen]);
  setCursorPosition(drawing.cursor);
  return createElement(
    Box,
    { flexDirection: "column" },
    ...drawing.rows.map((row, at) => line(row, at)),
  );
}

function line(row: Row, at: number): ReactNode {
  return createElement(
    Text,
    { key: at, wrap: "truncate-end" },
    ...row.map((span, place) => piece(span, place)),
  );
}

function piece(span: Span, place: number): ReactNode {
  const { text, color, bold = false, dim = false, inverse = false } = span;
  return createElement(
    Text,
    { key: place, bold, dimColor: dim, inverse, ...(color === undefined ? {} : { color }) },
    text,
  );
}
