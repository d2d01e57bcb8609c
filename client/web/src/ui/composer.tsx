/** Where messages are written: text that grows with what it holds, pictures picked, pasted or dropped, an answer to something. */
import type { JSX, TargetedKeyboardEvent } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { Chat } from "../model/chat.ts";
import type { Draft, Picture } from "../model/draft.ts";
import type { Room } from "../model/room.ts";
import { Icon } from "./icons.tsx";
import { textOf } from "./quote.tsx";

interface Props {
  readonly chat: Chat;
  readonly room: Room;
  readonly draft: Draft;
}

/** On a phone's keyboard Enter begins a line; there the button sends. */
const coarse = matchMedia("(pointer: coarse)");

export function Composer({ chat, room, draft }: Props): JSX.Element {
  const field = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const text = draft.text.value;
  useLayoutEffect(() => {
    const { current: box } = field;
    if (box === null) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }, [text]);
  useEffect(() => {
    if (!coarse.matches) field.current?.focus();
  }, []);
  const send = async (): Promise<void> => {
    if (!draft.ready.peek()) return;
    const replyToSeq = room.replyTo.peek()?.seq ?? 0;
    const message = { ...draft.take(), replyToSeq };
    room.replyTo.value = undefined;
    room.dividerSeq.value = 0;
    try {
      await chat.session.send(chat.target(room.id), message);
      await room.jumpToNewest();
    } catch (error) {
      draft.text.value = message.text;
      draft.complaint.value = error instanceof Error ? error.message : String(error);
    }
  };
  const write = (next: string): void => {
    draft.text.value = next;
    if (next !== "" && room.view.peek() !== undefined) chat.session.setTyping(room.id);
  };
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLTextAreaElement>): void => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !coarse.matches) {
      event.preventDefault();
      void send();
    } else if (event.key === "Escape") room.replyTo.value = undefined;
    else if (event.key === "ArrowUp" && text === "") {
      event.preventDefault();
      const log = document.querySelector<HTMLElement>(".scroller");
      log?.focus();
      log?.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp", bubbles: true }));
    }
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <ReplyBar room={room} me={chat.me.value} />
      {draft.pictures.value.length > 0 && (
        <ul class="pictures" aria-label="Pictures to send">
          {draft.pictures.value.map((picture) => (
            <PictureCard key={picture.id} draft={draft} picture={picture} />
          ))}
        </ul>
      )}
      <p class="error" role="alert">
        {draft.complaint.value}
      </p>
      <div class="composer-line">
        <button
          type="button"
          class="icon-button"
          aria-label="Add pictures"
          onClick={() => picker.current?.click()}
        >
          <Icon name="attach" />
        </button>
        <input
          ref={picker}
          class="picker"
          type="file"
          accept="image/png,image/jpeg,image/gif,image/webp,image/avif"
          multiple
          hidden
          tabIndex={-1}
          aria-hidden="true"
          onChange={(event) => {
            draft.add(event.currentTarget.files ?? []);
            event.currentTarget.value = "";
            field.current?.focus();
          }}
        />
        <textarea
          id="composer"
          ref={field}
          rows={1}
          dir="auto"
          value={text}
          placeholder="Message"
          aria-label="Message"
          enterkeyhint={coarse.matches ? "enter" : "send"}
          onInput={(event) => write(event.currentTarget.value)}
          onKeyDown={onKeyDown}
          onPaste={(event) => {
            const files = [...(event.clipboardData?.files ?? [])];
            if (files.length === 0) return;
            event.preventDefault();
            draft.add(files);
          }}
        />
        <button class="send" aria-label="Send" disabled={!draft.ready.value}>
          <Icon name="send" />
        </button>
      </div>
    </form>
  );
}

function ReplyBar({ room, me }: { room: Room; me: string }): JSX.Element | null {
  const entry = room.replyTo.value;
  if (entry === undefined) return null;
  return (
    <div class="reply-bar">
      <Icon name="reply" />
      <p>
        <strong>
          Answer to <bdi>{entry.senderId === me ? "yourself" : entry.senderId}</bdi>
        </strong>
        <span dir="auto">{textOf(entry)}</span>
      </p>
      <button
        type="button"
        class="icon-button"
        aria-label="Do not answer this message"
        onClick={() => {
          room.replyTo.value = undefined;
        }}
      >
        <Icon name="close" />
      </button>
    </div>
  );
}

function PictureCard({ draft, picture }: { draft: Draft; picture: Picture }): JSX.Element {
  const { id, url, state, part, error, file } = picture;
  const percent = Math.round(part * 100);
  return (
    <li class={`picture ${state}`}>
      <img src={url} alt={file.name} />
      {state === "uploading" && (
        <progress value={part} max={1} aria-label={`${file.name}: ${percent}%`}>
          {percent}%
        </progress>
      )}
      {state === "failed" && (
        <button
          type="button"
          class="picture-retry"
          title={error}
          aria-label={`Try ${file.name} again: ${error}`}
          onClick={() => draft.retry(id)}
        >
          <Icon name="retry" />
        </button>
      )}
      <button
        type="button"
        class="picture-remove"
        aria-label={state === "uploading" ? `Cancel ${file.name}` : `Take out ${file.name}`}
        onClick={() => draft.remove(id)}
      >
        <Icon name="close" />
      </button>
    </li>
  );
}
