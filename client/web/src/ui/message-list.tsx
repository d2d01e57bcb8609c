/**
 * What was said, as a virtual list that begins at its end: only what is in view is in the page. It keeps its place when older messages
 * come, and follows new ones while the reader is at the newest.
 */
import type { JSX, TargetedKeyboardEvent } from "preact";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Virtualizer, type VirtualizerHandle } from "virtua";
import type { Chat } from "../model/chat.ts";
import type { Room } from "../model/room.ts";
import { Icon } from "./icons.tsx";
import { keyOf, type Item, type RoomActions } from "./items.ts";
import { MessageItem } from "./message-item.tsx";
import { saidOf } from "./names.ts";

interface Props {
  readonly chat: Chat;
  readonly room: Room;
  readonly actions: RoomActions;
}

/** So near to an end, the next page is fetched. */
const nearPx = 1_500;
const atEndPx = 60;
/** As high as the note above the first message. */
const topPx = 52;

export function MessageList({ chat, room, actions }: Props): JSX.Element {
  const entries = room.entries.value;
  const pending = room.atNewest.value ? room.pending.value : [];
  const items: readonly Item[] = pending.length === 0 ? entries : [...entries, ...pending];
  const scroll = useScroll(room, items);
  const { focusKey, onKeyDown, setFocusKey } = useRoving(scroll.list, items, actions);
  const [flash, setFlash] = useState(0);
  useWish(room, items, scroll, setFlash);
  const unread = room.view.value?.unreadCount ?? 0;
  const focusIndex =
    focusKey === undefined ? -1 : items.findIndex((item) => keyOf(item) === focusKey);
  return (
    <div class="messages">
      <div
        class="scroller"
        ref={scroll.box}
        role="log"
        aria-live="off"
        aria-label="Messages"
        aria-busy={room.loading.value !== "none"}
        tabIndex={0}
        onKeyDown={onKeyDown}
      >
        <div class="filler">
          <Top room={room} empty={items.length === 0} />
        </div>
        <Virtualizer
          ref={scroll.list}
          scrollRef={scroll.box}
          data={items}
          shift={scroll.shift}
          startMargin={topPx}
          bufferSize={600}
          keepMounted={focusIndex < 0 ? [] : [focusIndex]}
          onScroll={scroll.onScroll}
          onResize={scroll.onResize}
        >
          {(item, index) => (
            <MessageItem
              key={keyOf(item)}
              chat={chat}
              room={room}
              item={item}
              before={items[index - 1]}
              after={items[index + 1]}
              flash={"seq" in item && item.seq === flash}
              focusable={keyOf(item) === focusKey}
              focused={setFocusKey}
              actions={actions}
            />
          )}
        </Virtualizer>
      </div>
      {(!scroll.atEnd || !room.atNewest.value) && items.length > 0 && (
        <button class="to-newest" onClick={() => void room.jumpToNewest()}>
          <Icon name="down" />
          <span class="sr-only">Jump to the newest message</span>
          {unread > 0 && (
            <span class="badge">
              {unread}
              <span class="sr-only"> unread</span>
            </span>
          )}
        </button>
      )}
      <Spoken chat={chat} room={room} />
    </div>
  );
}

interface Scroll {
  readonly box: { current: HTMLDivElement | null };
  readonly list: { current: VirtualizerHandle | null };
  readonly shift: boolean;
  readonly atEnd: boolean;
  readonly onScroll: (offset: number) => void;
  readonly onResize: () => void;
  readonly toEnd: () => void;
  /** The reader is taken elsewhere: the end is not followed any more. */
  readonly release: () => void;
}

function useScroll(room: Room, items: readonly Item[]): Scroll {
  const box = useRef<HTMLDivElement>(null);
  const list = useRef<VirtualizerHandle>(null);
  const follow = useRef(room.dividerSeq.peek() === 0);
  const first = useRef<string | undefined>(undefined);
  const placed = useRef(false);
  const [atEnd, setAtEnd] = useState(true);
  const latest = useRef(items);
  latest.current = items;
  const firstKey = items[0] && keyOf(items[0]);
  // Items came before the first one: the place is kept as counted from the end.
  const shift =
    first.current !== undefined &&
    firstKey !== first.current &&
    items.some((item) => keyOf(item) === first.current);
  const toEnd = useCallback((): void => {
    const last = latest.current.length - 1;
    if (last >= 0) list.current?.scrollToIndex(last, { align: "end" });
  }, []);
  const look = useCallback((): void => {
    const { current: handle } = list;
    const shown = latest.current;
    if (handle === null || shown.length === 0 || !placed.current) return;
    const { scrollOffset: offset, viewportSize: height, scrollSize: size } = handle;
    const left = size - offset - height;
    setAtEnd(left < atEndPx * 3);
    if (offset < nearPx) void room.loadOlder();
    if (left < nearPx) void room.loadNewer();
    if (document.visibilityState !== "visible") return;
    const lowest = shown[Math.min(handle.findItemIndex(offset + height - 24), shown.length - 1)];
    if (lowest !== undefined && "seq" in lowest) room.seen(lowest.seq);
    else if (lowest !== undefined) room.seen(room.entries.peek().at(-1)?.seq ?? 0);
  }, []);
  useLayoutEffect(() => {
    first.current = firstKey;
    if (items.length === 0) return;
    if (!placed.current) {
      placed.current = true;
      const divider = room.dividerSeq.peek();
      const at = items.findIndex((item) => "seq" in item && item.seq > divider);
      if (follow.current || at < 0) toEnd();
      else list.current?.scrollToIndex(at, { align: "start", offset: -90 });
    } else if (follow.current && room.atNewest.peek()) toEnd();
    requestAnimationFrame(look);
  }, [items]);
  useEffect(() => {
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, []);
  return {
    box,
    list,
    shift,
    atEnd,
    toEnd,
    release: () => void (follow.current = false),
    onScroll: (offset) => {
      const { current: handle } = list;
      if (handle !== null)
        follow.current = handle.scrollSize - offset - handle.viewportSize < atEndPx;
      look();
    },
    onResize: () => {
      if (follow.current && placed.current) toEnd();
      look();
    },
  };
}

/** Brings what the room wishes into view, once it is there. */
function useWish(
  room: Room,
  items: readonly Item[],
  scroll: Scroll,
  setFlash: (seq: number) => void,
): void {
  const wish = room.wish.value;
  useLayoutEffect(() => {
    if (wish === undefined) return;
    const at = items.findIndex((item) => "seq" in item && item.seq >= wish.seq);
    if (at < 0) return;
    room.wish.value = undefined;
    const newest = !wish.flash && at === room.entries.peek().length - 1;
    if (newest) scroll.toEnd();
    else {
      scroll.release();
      scroll.list.current?.scrollToIndex(at, {
        align: wish.flash ? "center" : "start",
        offset: wish.flash ? 0 : -90,
      });
    }
    if (wish.flash) {
      setFlash(wish.seq);
      setTimeout(() => setFlash(0), 1_600);
    }
  }, [wish, items]);
}

interface Roving {
  readonly focusKey: string | undefined;
  readonly setFocusKey: (key: string | undefined) => void;
  readonly onKeyDown: (event: TargetedKeyboardEvent<HTMLElement>) => void;
}

/** Up and down go from message to message, R replies, I tells who got it. */
function useRoving(
  list: { current: VirtualizerHandle | null },
  items: readonly Item[],
  actions: RoomActions,
): Roving {
  const [focusKey, setFocusKey] = useState<string>();
  const focusAt = (index: number): void => {
    const item = items[index];
    if (item === undefined) return;
    setFocusKey(keyOf(item));
    list.current?.scrollToIndex(index, { align: "nearest" });
    requestAnimationFrame(() =>
      document.querySelector<HTMLElement>(`[data-key="${CSS.escape(keyOf(item))}"]`)?.focus(),
    );
  };
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLElement>): void => {
    const { target, key } = event;
    const onMessage = target instanceof HTMLElement && target.dataset["key"] !== undefined;
    if (!(onMessage || target === event.currentTarget)) return;
    const at = items.findIndex((item) => keyOf(item) === focusKey);
    const item = items[at];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "ArrowUp") focusAt(onMessage ? Math.max(0, at - 1) : items.length - 1);
    else if (key === "ArrowDown" && onMessage && at === items.length - 1)
      document.getElementById("composer")?.focus();
    else if (key === "ArrowDown" && onMessage) focusAt(at + 1);
    else if (key === "r" && onMessage && item && "seq" in item) actions.reply(item);
    else if (key === "i" && onMessage && item && "seq" in item) actions.info(item);
    else if (key === "Escape") document.getElementById("composer")?.focus();
    else return;
    event.preventDefault();
  };
  return { focusKey, setFocusKey, onKeyDown };
}

function Top({ room, empty }: { room: Room; empty: boolean }): JSX.Element {
  const { failed, loading } = room;
  if (failed.value !== "") {
    return (
      <p class="top-note" role="status">
        Older messages cannot be loaded now.{" "}
        <button class="link" onClick={() => void (empty ? room.jumpToNewest() : room.loadOlder())}>
          Try again
        </button>
      </p>
    );
  }
  if (loading.value === "first" || loading.value === "older" || room.hasOlder) {
    return (
      <p class="top-note">
        <span class="spinner" />
        <span class="sr-only">Loading</span>
      </p>
    );
  }
  if (empty) return <p class="top-note">Say hello: this is where it begins.</p>;
  return <p class="top-note">{beginning(room)}</p>;
}

function beginning(room: Room): string {
  const [first] = room.entries.value;
  if ((room.view.value?.floorSeq ?? 1) <= 1) return "The beginning";
  const joined = first?.body.t === "members" && first.body.added.length > 0;
  return joined ? "You joined here" : "Older messages were removed";
}

/** Says new messages of others to who cannot see them. */
function Spoken({ chat, room }: { chat: Chat; room: Room }): JSX.Element {
  const [text, setText] = useState("");
  useEffect(
    () =>
      chat.on((event) => {
        if (event.t !== "entry" || event.entry.conversationId !== room.id) return;
        const { body, senderId } = event.entry;
        if (body.t !== "message" || senderId === chat.me.peek()) return;
        setText(`${senderId}: ${saidOf(body)}`);
      }),
    [room],
  );
  return (
    <p class="sr-only" aria-live="polite">
      {text}
    </p>
  );
}
