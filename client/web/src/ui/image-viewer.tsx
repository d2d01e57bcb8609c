/** A picture as large as the window; arrows go through those of its message. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Chat } from "../model/chat.ts";
import type { Attachment } from "../session.ts";
import { Icon } from "./icons.tsx";
import { fullTimeOf } from "./times.ts";

export interface Shown {
  readonly conversationId: string;
  readonly attachments: readonly Attachment[];
  readonly at: number;
  readonly by: string;
  readonly timeMs: number;
}

interface Props {
  readonly chat: Chat;
  readonly shown: Shown;
  readonly close: () => void;
}

export function ImageViewer({ chat, shown, close }: Props): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [at, setAt] = useState(shown.at);
  const [url, setUrl] = useState<string>();
  const [actual, setActual] = useState(false);
  const { attachments, conversationId, by, timeMs } = shown;
  const attachment = attachments[at];
  useEffect(() => {
    dialog.current?.showModal();
    return () => dialog.current?.close();
  }, []);
  useEffect(() => {
    setUrl(undefined);
    setActual(false);
    if (attachment === undefined) return undefined;
    let gone = false;
    chat.media.get(conversationId, attachment.mediaId).then(
      (found) => void (gone || setUrl(found)),
      () => undefined,
    );
    return () => void (gone = true);
  }, [at]);
  const step = (by: number): void => setAt((at + by + attachments.length) % attachments.length);
  return (
    <dialog
      ref={dialog}
      class="viewer"
      aria-label={`Picture ${at + 1} of ${attachments.length}`}
      onClose={close}
      onKeyDown={(event) => {
        if (event.key === "ArrowRight") step(1);
        if (event.key === "ArrowLeft") step(-1);
      }}
    >
      <header>
        <p>
          <strong>
            <bdi>{by}</bdi>
          </strong>
          <time>{fullTimeOf(timeMs)}</time>
        </p>
        {url !== undefined && (
          <a
            class="icon-button"
            href={url}
            download={nameFor(attachment)}
            aria-label="Save the picture"
          >
            <Icon name="save" />
          </a>
        )}
        <button class="icon-button" aria-label="Close" onClick={close}>
          <Icon name="close" />
        </button>
      </header>
      <div
        class={`viewer-picture ${actual ? "actual" : ""}`}
        onClick={(event) => {
          if (event.target instanceof HTMLImageElement) setActual(!actual);
          else close();
        }}
      >
        {url === undefined ? (
          <span class="spinner" />
        ) : (
          <img src={url} alt={attachment?.fileName ?? ""} />
        )}
      </div>
      {attachments.length > 1 && (
        <footer>
          <button class="icon-button" aria-label="The picture before" onClick={() => step(-1)}>
            <Icon name="back" />
          </button>
          <span>
            {at + 1} / {attachments.length}
          </span>
          <button class="icon-button next" aria-label="The next picture" onClick={() => step(1)}>
            <Icon name="back" />
          </button>
        </footer>
      )}
    </dialog>
  );
}

function nameFor(attachment: Attachment | undefined): string {
  const kind = attachment?.mediaType.replace(/^image\//u, "") ?? "png";
  return attachment === undefined || attachment.fileName === ""
    ? `picture.${kind}`
    : attachment.fileName;
}
