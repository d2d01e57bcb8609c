/** Begins a conversation: with one person a direct one, with more a group. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Chat } from "../model/chat.ts";
import { directId } from "../model/room.ts";
import { Dialog } from "./dialog.tsx";
import { PeopleField } from "./people-field.tsx";
import { goTo } from "./route.ts";
import { reasonOf } from "./sign-in-page.tsx";

export function NewDialog({ chat, close }: { chat: Chat; close: () => void }): JSX.Element {
  const [people, setPeople] = useState<readonly string[]>([]);
  const [typed, setTyped] = useState("");
  const [title, setTitle] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const me = chat.me.value;
  const known = chat.sorted.value.flatMap(({ peerId }) => (peerId === undefined ? [] : [peerId]));
  const named = typed === "" || people.includes(typed) ? people : [...people, typed];
  const group = named.length > 1 || title !== "";
  const [asGroup, setAsGroup] = useState(false);
  const isGroup = group || asGroup;
  const begin = async (): Promise<void> => {
    const others = named.filter((user) => user !== me);
    if (!isGroup) {
      goTo(directId(me, named[0] ?? me));
      close();
      return;
    }
    setBusy(true);
    try {
      const view = await chat.session.createGroup(title.trim(), others);
      goTo(view.id);
      close();
    } catch (failed) {
      setError(reasonOf(failed));
      setBusy(false);
    }
  };
  const able = isGroup ? title.trim() !== "" : named.length === 1;
  return (
    <Dialog title="New conversation" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (able && !busy) void begin();
        }}
      >
        <PeopleField
          label="With whom?"
          chosen={people}
          known={known}
          change={setPeople}
          typing={setTyped}
        />
        {isGroup ? (
          <>
            <label for="group-title">Name of the group</label>
            <input
              id="group-title"
              value={title}
              maxLength={200}
              dir="auto"
              placeholder="Weekend trip"
              onInput={(event) => setTitle(event.currentTarget.value)}
            />
          </>
        ) : (
          <button type="button" class="link" onClick={() => setAsGroup(true)}>
            Make it a group
          </button>
        )}
        <p class="error" role="alert">
          {error}
        </p>
        <div class="dialog-end">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button class="primary" disabled={!able || busy}>
            {isGroup ? "Create group" : "Start"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
