/** Who has got one message, and who has read it. */
import type { JSX } from "preact";
import type { Chat } from "../model/chat.ts";
import type { Room } from "../model/room.ts";
import type { Entry } from "../session.ts";
import { Avatar } from "./avatar.tsx";
import { Dialog } from "./dialog.tsx";
import { textOf } from "./quote.tsx";
import { fullTimeOf } from "./times.ts";

interface Props {
  readonly chat: Chat;
  readonly room: Room;
  readonly entry: Entry;
  readonly close: () => void;
}

export function MessageInfo({ chat, room, entry, close }: Props): JSX.Element {
  const others = [...(room.members.value?.values() ?? [])].filter(
    ({ userId }) => userId !== entry.senderId,
  );
  const read = others.filter(({ readSeq }) => readSeq >= entry.seq);
  const got = others.filter(
    (member) => member.readSeq < entry.seq && member.deliveredSeq >= entry.seq,
  );
  const waiting = others.filter(({ deliveredSeq }) => deliveredSeq < entry.seq);
  const me = chat.me.value;
  const names = (members: typeof others): string[] =>
    members.map(({ userId }) => userId).toSorted((a, b) => a.localeCompare(b));
  return (
    <Dialog title="Who got it" close={close}>
      <blockquote class="info-quote" dir="auto">
        {textOf(entry)}
        <footer>
          <bdi>{entry.senderId === me ? "You" : entry.senderId}</bdi>, {fullTimeOf(entry.timeMs)}
        </footer>
      </blockquote>
      <People title="Read by" users={names(read)} me={me} />
      <People title="Delivered to" users={names(got)} me={me} />
      <People title="Not yet delivered to" users={names(waiting)} me={me} />
    </Dialog>
  );
}

function People({
  title,
  users,
  me,
}: {
  title: string;
  users: string[];
  me: string;
}): JSX.Element | null {
  if (users.length === 0) return null;
  return (
    <section class="people">
      <h3>
        {title} <span class="quiet">{users.length}</span>
      </h3>
      <ul>
        {users.map((user) => (
          <li key={user}>
            <Avatar id={user} small />
            <bdi>{user === me ? "You" : user}</bdi>
          </li>
        ))}
      </ul>
    </section>
  );
}
