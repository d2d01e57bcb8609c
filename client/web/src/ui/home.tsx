/** The page of who is signed in: the conversations, and the one that is open. */
import { effect, useSignalEffect } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Chat } from "../model/chat.ts";
import { notifyOf } from "../model/notices.ts";
import { RoomPane } from "./room-pane.tsx";
import { goTo, openId } from "./route.ts";
import { SettingsDialog } from "./settings-dialog.tsx";
import { NewDialog } from "./new-dialog.tsx";
import { Sidebar } from "./sidebar.tsx";

interface Props {
  readonly chat: Chat;
  readonly leave: () => Promise<void>;
}

export type OpenDialog = "none" | "new" | "settings";

export function Home({ chat, leave }: Props): JSX.Element {
  const [dialog, setDialog] = useState<OpenDialog>("none");
  useEffect(() => notifyOf(chat, goTo), [chat]);
  useEffect(() => effect(() => chat.open(chat.loaded.value ? openId.value : undefined)), [chat]);
  useSignalEffect(() => {
    const { value: unread } = chat.unread;
    document.title = unread > 0 ? `(${unread}) Parley` : "Parley";
  });
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "k") return;
      event.preventDefault();
      document.getElementById("find")?.focus();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const room = chat.room.value;
  const close = (): void => setDialog("none");
  return (
    <div class={`home ${room === undefined ? "listing" : "reading"}`}>
      <Sidebar chat={chat} show={setDialog} leave={leave} />
      {room === undefined ? (
        <main class="nothing-open">
          <div>
            <h2>Pick a conversation</h2>
            <p class="quiet">Or begin a new one. Nothing you write here gets lost.</p>
            <button class="primary" onClick={() => setDialog("new")}>
              New conversation
            </button>
          </div>
        </main>
      ) : (
        <RoomPane key={room.id} chat={chat} room={room} />
      )}
      {dialog === "new" && <NewDialog chat={chat} close={close} />}
      {dialog === "settings" && <SettingsDialog chat={chat} close={close} leave={leave} />}
    </div>
  );
}
