/** The list of conversations, the latest activity first, and what stands above it. */
import { useComputed } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Chat } from "../model/chat.ts";
import type { ConversationView, Entry } from "../session.ts";
import { Avatar } from "./avatar.tsx";
import { ConnectionBar } from "./connection-bar.tsx";
import type { OpenDialog } from "./home.tsx";
import { Icon } from "./icons.tsx";
import { nameOf, summaryOf } from "./names.ts";
import { NotifyCard } from "./notify-card.tsx";
import { hrefOf, openId } from "./route.ts";
import { Ticks, tickOf } from "./ticks.tsx";
import { briefTime, fullTimeOf } from "./times.ts";

interface Props {
  readonly chat: Chat;
  readonly show: (dialog: OpenDialog) => void;
  readonly leave: () => Promise<void>;
}

export function Sidebar({ chat, show, leave }: Props): JSX.Element {
  const [find, setFind] = useState("");
  const me = chat.me.value;
  const wanted = find.trim().toLocaleLowerCase();
  const shown = chat.sorted.value.filter(
    (view) => wanted === "" || nameOf(view).toLocaleLowerCase().includes(wanted),
  );
  const known = chat.loaded.value && (chat.synced.value || chat.sorted.value.length > 0);
  return (
    <aside class="sidebar" aria-label="Conversations">
      <header class="bar">
        <h1 class="sr-only">Parley</h1>
        <button class="me" onClick={() => show("settings")}>
          <Avatar id={me} small />
          <span class="sr-only">Settings of </span>
          <bdi>{me}</bdi>
          <Icon name="settings" />
        </button>
        <button
          class="icon-button filled"
          aria-label="New conversation"
          onClick={() => show("new")}
        >
          <Icon name="plus" />
        </button>
      </header>
      <div class="find">
        <Icon name="search" />
        <input
          id="find"
          type="search"
          placeholder="Find a conversation"
          aria-label="Find a conversation"
          aria-keyshortcuts="Control+K"
          value={find}
          onInput={(event) => setFind(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "ArrowDown") focusRow(0);
          }}
        />
      </div>
      <ConnectionBar chat={chat} leave={leave} />
      <nav aria-label="Conversations" onKeyDown={onListKey}>
        {shown.length > 0 && (
          <ul class="conversations">
            {shown.map((view) => (
              <Row key={view.id} chat={chat} view={view} />
            ))}
          </ul>
        )}
        {known && shown.length === 0 && (
          <div class="empty">
            {wanted === "" ? (
              <>
                <p>No conversations yet.</p>
                <button class="primary" onClick={() => show("new")}>
                  Start one
                </button>
              </>
            ) : (
              <p>Nothing is called “{find.trim()}”.</p>
            )}
          </div>
        )}
        {!known && <Skeleton />}
      </nav>
      <NotifyCard chat={chat} />
    </aside>
  );
}

function Row({ chat, view }: { chat: Chat; view: ConversationView }): JSX.Element {
  const preview = useComputed(() => chat.previews.value.get(view.id)).value;
  const typing = useComputed(() => chat.typists.all.value.get(view.id) ?? []).value;
  const online = useComputed(() => chat.presences.value.get(view.peerId ?? "")?.online).value;
  const current = openId.value === view.id;
  const name = nameOf(view);
  useEffect(() => {
    if (preview === undefined) chat.needPreview(view.id);
  }, [preview === undefined, chat.synced.value]);
  return (
    <li>
      <a
        class={`row ${view.unreadCount > 0 ? "unread" : ""}`}
        href={hrefOf(view.id)}
        aria-current={current ? "page" : undefined}
      >
        <Avatar
          id={view.peerId ?? view.id}
          name={name}
          group={view.kind === "group"}
          online={online}
        />
        <span class="row-text">
          <span class="row-top">
            <bdi class="row-name">{name}</bdi>
            <time title={view.headTimeMs > 0 ? fullTimeOf(view.headTimeMs) : undefined}>
              {briefTime(view.headTimeMs)}
            </time>
          </span>
          <span class="row-bottom">
            {typing.length > 0 ? (
              <span class="typing-text">
                {view.kind === "group" ? `${typing[0]} is typing…` : "typing…"}
              </span>
            ) : (
              <RowPreview entry={preview} view={view} me={chat.me.value} />
            )}
            {view.unreadCount > 0 && !view.left && (
              <span class="badge">
                {view.unreadCount > 999 ? "999+" : view.unreadCount}
                <span class="sr-only"> unread</span>
              </span>
            )}
          </span>
        </span>
      </a>
    </li>
  );
}

interface PreviewProps {
  readonly entry: Entry | undefined;
  readonly view: ConversationView;
  readonly me: string;
}

function RowPreview({ entry, view, me }: PreviewProps): JSX.Element {
  if (view.left) return <span class="preview">You are no longer in this group</span>;
  if (entry === undefined) return <span class="preview" />;
  const own = entry.senderId === me && entry.body.t === "message";
  return (
    <span class="preview">
      {own && <Ticks tick={tickOf(entry.seq, view)} />}
      <bdi>{summaryOf(entry, view, me)}</bdi>
    </span>
  );
}

function Skeleton(): JSX.Element {
  return (
    <div class="skeleton" role="status">
      <span class="sr-only">Loading conversations</span>
      {[0, 1, 2, 3, 4].map((row) => (
        <span key={row} class="skeleton-row" />
      ))}
    </div>
  );
}

function onListKey(event: KeyboardEvent): void {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  const ends = event.key === "Home" ? 0 : event.key === "End" ? -1 : undefined;
  if (step === 0 && ends === undefined) return;
  const rows = allRows();
  const at = rows.findIndex((row) => row === document.activeElement);
  if (at < 0) return;
  event.preventDefault();
  if (at === 0 && step < 0) document.getElementById("find")?.focus();
  else if (ends !== undefined) rows.at(ends)?.focus();
  else rows[at + step]?.focus();
}

function focusRow(index: number): void {
  allRows()[index]?.focus();
}

function allRows(): HTMLElement[] {
  return [...document.querySelectorAll<HTMLElement>(".conversations .row")];
}
