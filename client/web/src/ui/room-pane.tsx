/** The open conversation: who it is with, what was said, and where to answer. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { peerOf, type Chat } from "../model/chat.ts";
import type { Room } from "../model/room.ts";
import type { Entry } from "../session.ts";
import { Avatar } from "./avatar.tsx";
import { Composer } from "./composer.tsx";
import { Icon } from "./icons.tsx";
import type { RoomActions } from "./items.ts";
import { ImageViewer, type Shown } from "./image-viewer.tsx";
import { MembersSheet } from "./members-sheet.tsx";
import { MessageInfo } from "./message-info.tsx";
import { MessageList } from "./message-list.tsx";
import { nameOf } from "./names.ts";
import { goTo } from "./route.ts";
import { lastSeen } from "./times.ts";

export function RoomPane({ chat, room }: { chat: Chat; room: Room }): JSX.Element {
  const [members, setMembers] = useState(false);
  const [info, setInfo] = useState<Entry>();
  const [shown, setShown] = useState<Shown>();
  const [dragging, setDragging] = useState(false);
  const draft = chat.draftOf(room.id);
  // A picture may be of a message that was erased.
  useEffect(() => setShown(undefined), [room.erasures.value]);
  const view = room.view.value;
  const gone = view === undefined && room.id.startsWith("g:") && chat.synced.value;
  const actions: RoomActions = {
    reply(entry) {
      room.replyTo.value = entry;
      document.getElementById("composer")?.focus();
    },
    info: setInfo,
    view: setShown,
  };
  const hasFiles = (event: DragEvent): boolean =>
    event.dataTransfer?.types.includes("Files") === true;
  return (
    <main
      class={`room ${dragging ? "dragging" : ""}`}
      onDragOver={(event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        setDragging(true);
      }}
      onDragLeave={(event) => {
        const { relatedTarget: to } = event;
        if (!(to instanceof Node && event.currentTarget.contains(to))) setDragging(false);
      }}
      onDrop={(event) => {
        setDragging(false);
        if (!hasFiles(event)) return;
        event.preventDefault();
        draft.add(event.dataTransfer?.files ?? []);
      }}
    >
      <RoomBar chat={chat} room={room} showMembers={() => setMembers(true)} />
      {gone ? (
        <div class="nothing-open">
          <p>This conversation is not there, or you are not in it.</p>
        </div>
      ) : (
        <>
          <MessageList chat={chat} room={room} actions={actions} />
          {view?.left === true ? (
            <p class="left-note">
              You are no longer in this group. What was said until then stays readable.
            </p>
          ) : (
            <Composer chat={chat} room={room} draft={draft} />
          )}
        </>
      )}
      {dragging && <div class="drop-hint">Drop pictures to send them</div>}
      {members && <MembersSheet chat={chat} room={room} close={() => setMembers(false)} />}
      {info && (
        <MessageInfo chat={chat} room={room} entry={info} close={() => setInfo(undefined)} />
      )}
      {shown && <ImageViewer chat={chat} shown={shown} close={() => setShown(undefined)} />}
    </main>
  );
}

interface BarProps {
  readonly chat: Chat;
  readonly room: Room;
  readonly showMembers: () => void;
}

function RoomBar({ chat, room, showMembers }: BarProps): JSX.Element {
  const view = room.view.value;
  const peer = peerOf(room.id, chat.me.value);
  const name = view === undefined ? (peer ?? "A group") : nameOf(view);
  const presence = chat.presences.value.get(peer ?? "");
  return (
    <header class="bar room-bar">
      <button
        class="icon-button back"
        aria-label="Back to the conversations"
        onClick={() => goTo(undefined)}
      >
        <Icon name="back" />
      </button>
      <h1 class="sr-only">
        <bdi>{name}</bdi>
      </h1>
      <button class="room-name" onClick={showMembers}>
        <Avatar
          id={peer ?? room.id}
          name={name}
          group={peer === undefined}
          online={presence?.online}
        />
        <span class="room-name-text">
          <bdi class="room-title">{name}</bdi>
          <RoomState chat={chat} room={room} />
        </span>
      </button>
      <button class="icon-button" aria-label="Members and details" onClick={showMembers}>
        <Icon name={peer === undefined ? "people" : "info"} />
      </button>
    </header>
  );
}

/** Who types, who is there: one quiet line below the name. */
function RoomState({ chat, room }: { chat: Chat; room: Room }): JSX.Element {
  const [nowMs, setNowMs] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNowMs(Date.now()), 30_000);
    return () => clearInterval(timer);
  }, []);
  const typing = chat.typists.all.value.get(room.id) ?? [];
  if (typing.length > 0) {
    const group = room.id.startsWith("g:");
    const who = new Intl.ListFormat("en").format(typing.slice(0, 3));
    const words = group ? `${who} ${typing.length > 1 ? "are" : "is"} typing…` : "typing…";
    return <span class="room-state typing-text">{words}</span>;
  }
  const peer = peerOf(room.id, chat.me.value);
  if (peer !== undefined) {
    const known = chat.presences.value.get(peer);
    if (known === undefined) return <span class="room-state" />;
    const words = known.online ? "Online" : lastSeen(known.lastSeenMs, nowMs);
    return <span class={`room-state ${known.online ? "online" : ""}`}>{words}</span>;
  }
  const others = room.memberIds.value;
  const online = others.filter((user) => chat.presences.value.get(user)?.online === true).length;
  const count = room.view.value?.memberCount ?? others.length;
  const members = count === 1 ? "1 member" : `${count} members`;
  return (
    <span class="room-state">
      {online > 0 ? `${members}, ${online} other${online > 1 ? "s" : ""} online` : members}
    </span>
  );
}
