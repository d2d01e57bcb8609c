/** What the reader can choose, and the way out. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Chat } from "../model/chat.ts";
import { askPermission, permission } from "../model/notices.ts";
import { prefer, prefs, type Theme } from "../model/prefs.ts";
import { Avatar } from "./avatar.tsx";
import { Dialog } from "./dialog.tsx";

const themes: readonly { readonly value: Theme; readonly name: string }[] = [
  { value: "system", name: "As the system" },
  { value: "light", name: "Light" },
  { value: "dark", name: "Dark" },
];

interface Props {
  readonly chat: Chat;
  readonly close: () => void;
  readonly leave: () => Promise<void>;
}

export function SettingsDialog({ chat, close, leave }: Props): JSX.Element {
  const [leaving, setLeaving] = useState(false);
  const me = chat.me.value;
  const unsent = chat.pending.value.size;
  return (
    <Dialog title="Settings" close={close}>
      <div class="profile">
        <Avatar id={me} />
        <div>
          <strong>
            <bdi>{me}</bdi>
          </strong>
          <p class="quiet">Signed in in this tab. Another tab can be somebody else.</p>
        </div>
      </div>
      <fieldset>
        <legend>Colours</legend>
        <div class="segments">
          {themes.map(({ value, name }) => (
            <label key={value}>
              <input
                type="radio"
                name="theme"
                checked={prefs.value.theme === value}
                onChange={() => prefer({ theme: value })}
              />
              <span>{name}</span>
            </label>
          ))}
        </div>
      </fieldset>
      <fieldset>
        <legend>Notifications</legend>
        <NotificationState />
        <label class="check">
          <input
            type="checkbox"
            checked={prefs.value.showContent}
            onChange={(event) => prefer({ showContent: event.currentTarget.checked })}
          />
          <span>Show what messages say in notifications</span>
        </label>
      </fieldset>
      <div class="dialog-end">
        <button
          class="danger"
          disabled={leaving}
          onClick={() => {
            setLeaving(true);
            void leave();
          }}
        >
          {unsent > 0 ? `Sign out (${unsent} unsent)` : "Sign out"}
        </button>
      </div>
    </Dialog>
  );
}

function NotificationState(): JSX.Element {
  switch (permission.value) {
    case "granted":
      return <p class="quiet">On: you hear of new messages while this page is hidden.</p>;
    case "denied":
      return <p class="quiet">Off: allow them in the browser’s settings for this site.</p>;
    case "unsupported":
      return <p class="quiet">This browser has none.</p>;
    case "default":
      return (
        <button type="button" onClick={() => void askPermission()}>
          Turn on notifications
        </button>
      );
  }
}
