/** One entry of the log in its place: what stands above it (a day, a hole, the unread divider) and itself. */
import type { JSX } from "preact";
import { memo } from "preact/compat";
import type { Chat } from "../model/chat.ts";
import type { Room } from "../model/room.ts";
import type { Entry, MessageBody, Pending } from "../session.ts";
import { Avatar, hueOf } from "./avatar.tsx";
import { Icon } from "./icons.tsx";
import { keyOf, type Item, type RoomActions } from "./items.ts";
import { MessageText, isEmojiOnly } from "./message-text.tsx";
import { noticeText, saidOf } from "./names.ts";
import { Photos } from "./photos.tsx";
import { Quote } from "./quote.tsx";
import { Ticks, tickOf } from "./ticks.tsx";
import { dayName, dayOf, fullTimeOf, timeOf } from "./times.ts";

interface Props {
  readonly chat: Chat;
  readonly room: Room;
  readonly item: Item;
  readonly before: Item | undefined;
  readonly after: Item | undefined;
  readonly flash: boolean;
  readonly focusable: boolean;
  readonly focused: (key: string) => void;
  readonly actions: RoomActions;
}

/** One sender's messages within this time stand together. */
const togetherMs = 5 * 60_000;

export const MessageItem = memo(
  Drawn,
  (a, b) =>
    a.item === b.item &&
    a.before === b.before &&
    a.after === b.after &&
    a.flash === b.flash &&
    a.focusable === b.focusable,
);

function Drawn(props: Props): JSX.Element {
  const { room, item, before } = props;
  const divider = room.dividerSeq.value;
  const firstUnread =
    divider > 0 &&
    "seq" in item &&
    item.seq > divider &&
    (before === undefined || !("seq" in before) || before.seq <= divider);
  const hole = holeBefore(item, before);
  const newDay = before === undefined || dayOf(timeOfItem(item)) !== dayOf(timeOfItem(before));
  return (
    <>
      {hole && <Hole room={room} from={hole.from} to={hole.to} />}
      {newDay && (
        <p class="day">
          <time>{dayName(timeOfItem(item))}</time>
        </p>
      )}
      {firstUnread && <p class="divider">New messages</p>}
      {"seq" in item && item.body.t !== "message" ? (
        <p class="change" data-seq={item.seq}>
          {noticeText(item, item.body, props.chat.me.value)}
        </p>
      ) : (
        <Message {...props} newBlock={newDay || firstUnread || hole !== undefined} />
      )}
    </>
  );
}

function Message(props: Props & { readonly newBlock: boolean }): JSX.Element {
  const { chat, room, item, before, after, flash, focusable, focused, actions, newBlock } = props;
  const me = chat.me.value;
  const sender = senderOf(item, me);
  const own = sender === me;
  const body = bodyOf(item);
  const entry = "seq" in item ? item : undefined;
  const starts = newBlock || !together(before, item, me);
  const ends = !together(item, after, me);
  const group = room.id.startsWith("g:");
  const big = body.attachments.length === 0 && isEmojiOnly(body.text);
  const failed = "error" in item ? item.error : "";
  const classes = [
    "message",
    own ? "own" : "other",
    starts ? "starts" : "",
    ends ? "ends" : "",
    big ? "big" : "",
  ];
  if (flash) classes.push("flash");
  return (
    <div
      class={classes.join(" ")}
      role="article"
      data-key={keyOf(item)}
      data-seq={entry?.seq}
      tabIndex={focusable ? 0 : -1}
      aria-label={`${own ? "You" : sender}: ${saidOf(body)}`}
      onFocus={() => focused(keyOf(item))}
    >
      {group && !own && <span class="message-avatar">{ends && <Avatar id={sender} small />}</span>}
      <div class="bubble-line">
        <div class="bubble">
          {group && !own && starts && <bdi class={`sender hue-${hueOf(sender)}`}>{sender}</bdi>}
          {body.replyToSeq > 0 && <Quote chat={chat} room={room} seq={body.replyToSeq} />}
          {body.attachments.length > 0 && (
            <Photos
              chat={chat}
              conversationId={room.id}
              attachments={body.attachments}
              view={(at) =>
                actions.view({
                  conversationId: room.id,
                  attachments: body.attachments,
                  at,
                  by: own ? "You" : sender,
                  timeMs: timeOfItem(item),
                })
              }
            />
          )}
          {body.text !== "" && <MessageText text={body.text} />}
          <span class="meta">
            <time title={fullTimeOf(timeOfItem(item))}>{timeOf(timeOfItem(item))}</time>
            {own && <OwnTicks room={room} entry={entry} failed={failed !== ""} />}
          </span>
        </div>
        {entry && (
          <span class="actions">
            <button
              class="icon-button"
              aria-label="Reply"
              title="Reply (R)"
              tabIndex={focusable ? 0 : -1}
              onClick={() => actions.reply(entry)}
            >
              <Icon name="reply" />
            </button>
            <button
              class="icon-button"
              aria-label="Who got it"
              title="Who got it (I)"
              tabIndex={focusable ? 0 : -1}
              onClick={() => actions.info(entry)}
            >
              <Icon name="info" />
            </button>
          </span>
        )}
      </div>
      {failed !== "" && <Failed chat={chat} clientId={item.clientId} why={failed} />}
    </div>
  );
}

function OwnTicks({
  room,
  entry,
  failed,
}: {
  room: Room;
  entry: Entry | undefined;
  failed: boolean;
}): JSX.Element {
  if (entry === undefined) return <Ticks tick={failed ? "failed" : "pending"} />;
  return <Ticks tick={tickOf(entry.seq, room.view.value)} />;
}

function Failed({
  chat,
  clientId,
  why,
}: {
  chat: Chat;
  clientId: string;
  why: string;
}): JSX.Element {
  return (
    <p class="failed" role="alert">
      Not sent: {why}{" "}
      <button class="link" onClick={() => void chat.session.retry(clientId)}>
        Try again
      </button>{" "}
      <button class="link" onClick={() => void chat.session.drop(clientId)}>
        Delete
      </button>
    </p>
  );
}

function Hole({ room, from, to }: { room: Room; from: number; to: number }): JSX.Element {
  const count = to - from + 1;
  const words = count === 1 ? "1 message" : `${count} messages`;
  return (
    <p class="hole">
      {room.lost.value.has(to) ? (
        `${words} cannot be had any more`
      ) : (
        <button class="link" onClick={() => void room.fill(from, to)}>
          {words} in between: show
        </button>
      )}
    </p>
  );
}

function holeBefore(
  item: Item,
  before: Item | undefined,
): { from: number; to: number } | undefined {
  if (before === undefined || !("seq" in item) || !("seq" in before)) return undefined;
  return item.seq === before.seq + 1 ? undefined : { from: before.seq + 1, to: item.seq - 1 };
}

function together(one: Item | undefined, next: Item | undefined, me: string): boolean {
  if (one === undefined || next === undefined) return false;
  if (isChange(one) || isChange(next) || senderOf(one, me) !== senderOf(next, me)) return false;
  return (
    Math.abs(timeOfItem(next) - timeOfItem(one)) < togetherMs &&
    dayOf(timeOfItem(next)) === dayOf(timeOfItem(one))
  );
}

function isChange(item: Item): boolean {
  return item.body.t !== "message";
}

function senderOf(item: Item, me: string): string {
  return "seq" in item ? item.senderId : me;
}

function timeOfItem(item: Entry | Pending): number {
  return item.timeMs === 0 ? Date.now() : item.timeMs;
}

function bodyOf(item: Item): MessageBody {
  const { body } = item;
  return body.t === "message" ? body : { t: "message", text: "", attachments: [], replyToSeq: 0 };
}
