/** A conversation's members and what can be done about them: rename, add, remove, leave. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { peerOf, type Chat } from "../model/chat.ts";
import type { Room } from "../model/room.ts";
import { Avatar } from "./avatar.tsx";
import { Dialog } from "./dialog.tsx";
import { Icon } from "./icons.tsx";
import { PeopleField } from "./people-field.tsx";
import { goTo } from "./route.ts";
import { reasonOf } from "./sign-in-page.tsx";
import { lastSeen } from "./times.ts";

interface Props {
  readonly chat: Chat;
  readonly room: Room;
  readonly close: () => void;
}

export function MembersSheet({ chat, room, close }: Props): JSX.Element {
  const [error, setError] = useState("");
  const [adding, setAdding] = useState<readonly string[]>();
  const [leaving, setLeaving] = useState(false);
  const me = chat.me.value;
  const group = room.id.startsWith("g:");
  const left = room.view.value?.left === true;
  useEffect(() => void room.loadMembers(), []);
  const peer = peerOf(room.id, me);
  const known = room.memberIds.value;
  const members = known.length === 0 && peer !== undefined ? [peer, me] : known;
  const attempt = (what: Promise<void>, then?: () => void): void => {
    setError("");
    what.then(
      () => then?.(),
      (failed: unknown) => setError(reasonOf(failed)),
    );
  };
  const update = (
    change: Parameters<typeof chat.session.updateGroup>[1],
    then?: () => void,
  ): void => attempt(chat.session.updateGroup(room.id, change), then);
  const people = chat.sorted.value
    .flatMap(({ peerId }) => peerId ?? [])
    .filter((user) => !members.includes(user));
  return (
    <Dialog title={group ? "Group" : "Conversation"} close={close} kind="sheet">
      {group && !left && (
        <Title title={room.view.value?.title ?? ""} rename={(title) => update({ title })} />
      )}
      <p class="error" role="alert">
        {error}
      </p>
      <section class="people">
        <h3>
          Members <span class="quiet">{members.length}</span>
        </h3>
        <ul>
          {members
            .toSorted((a, b) => a.localeCompare(b))
            .map((user) => (
              <Member
                key={user}
                chat={chat}
                user={user}
                remove={
                  group && !left && user !== me ? () => update({ remove: [user] }) : undefined
                }
              />
            ))}
        </ul>
      </section>
      {group && !left && adding === undefined && (
        <button onClick={() => setAdding([])}>
          <Icon name="plus" /> Add people
        </button>
      )}
      {adding !== undefined && (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            if (adding.length > 0) update({ add: adding }, () => setAdding(undefined));
          }}
        >
          <PeopleField label="Add people" chosen={adding} known={people} change={setAdding} />
          <div class="dialog-end">
            <button type="button" onClick={() => setAdding(undefined)}>
              Cancel
            </button>
            <button class="primary" disabled={adding.length === 0}>
              Add
            </button>
          </div>
        </form>
      )}
      {group && !left && (
        <div class="dialog-end">
          {leaving ? (
            <>
              <span>Leave this group for good?</span>
              <button onClick={() => setLeaving(false)}>Stay</button>
              <button
                class="danger"
                onClick={() =>
                  attempt(chat.session.leaveGroup(room.id), () => {
                    close();
                    goTo(undefined);
                  })
                }
              >
                Leave
              </button>
            </>
          ) : (
            <button class="danger" onClick={() => setLeaving(true)}>
              Leave group
            </button>
          )}
        </div>
      )}
    </Dialog>
  );
}

function Title({ title, rename }: { title: string; rename: (title: string) => void }): JSX.Element {
  const [text, setText] = useState(title);
  useEffect(() => setText(title), [title]);
  const changed = text.trim() !== "" && text.trim() !== title;
  return (
    <form
      class="title-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (changed) rename(text.trim());
      }}
    >
      <label for="title">Name of the group</label>
      <div class="field-line">
        <input
          id="title"
          value={text}
          maxLength={200}
          dir="auto"
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button class="primary" disabled={!changed}>
          Rename
        </button>
      </div>
    </form>
  );
}

interface MemberProps {
  readonly chat: Chat;
  readonly user: string;
  readonly remove: (() => void) | undefined;
}

function Member({ chat, user, remove }: MemberProps): JSX.Element {
  const me = chat.me.value;
  const presence = chat.presences.value.get(user);
  const online = user === me || presence?.online === true;
  const state = online ? "Online" : presence === undefined ? "" : lastSeen(presence.lastSeenMs);
  return (
    <li>
      <Avatar id={user} online={online} />
      <span class="person">
        <bdi>{user === me ? `${user} (you)` : user}</bdi>
        <span class="quiet">{state}</span>
      </span>
      {remove && (
        <button class="icon-button" aria-label={`Remove ${user}`} onClick={remove}>
          <Icon name="close" />
        </button>
      )}
    </li>
  );
}
