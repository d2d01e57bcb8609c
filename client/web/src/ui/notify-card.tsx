/** Offers notifications once the reader talks to somebody: then they mean something. */
import type { JSX } from "preact";
import type { Chat } from "../model/chat.ts";
import { askPermission, permission } from "../model/notices.ts";
import { prefer, prefs } from "../model/prefs.ts";
import { Icon } from "./icons.tsx";

export function NotifyCard({ chat }: { chat: Chat }): JSX.Element | null {
  const me = chat.me.value;
  const wrote = [...chat.previews.value.values()].some(({ senderId }) => senderId === me);
  if (permission.value !== "default" || prefs.value.notAsked || !wrote) return null;
  return (
    <section class="notify" aria-label="Notifications">
      <Icon name="bell" />
      <p>Hear of answers while this page is in the background?</p>
      <div>
        <button class="link" onClick={() => void askPermission()}>
          Turn on
        </button>
        <button class="link quiet" onClick={() => prefer({ notAsked: true })}>
          Not now
        </button>
      </div>
    </section>
  );
}
