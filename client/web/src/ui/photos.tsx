/** The pictures of a message: their place is kept from the start, a blurred preview stands there until they are loaded. */
import type { CSSProperties, JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Chat } from "../model/chat.ts";
import type { Attachment } from "../session.ts";

interface Props {
  readonly chat: Chat;
  readonly conversationId: string;
  readonly attachments: readonly Attachment[];
  readonly view: (at: number) => void;
}

const shownMax = 4;

export function Photos({ chat, conversationId, attachments, view }: Props): JSX.Element {
  const shown = attachments.slice(0, shownMax);
  const more = attachments.length - shown.length;
  return (
    <div class={`photos count-${shown.length}`}>
      {shown.map((attachment, at) => (
        <button
          key={attachment.mediaId}
          class="photo"
          style={shown.length === 1 ? frameOf(attachment) : undefined}
          aria-label={`Open the picture ${attachment.fileName}`.trim()}
          onClick={() => view(at)}
        >
          <Photo chat={chat} conversationId={conversationId} attachment={attachment} />
          {more > 0 && at === shownMax - 1 && <span class="photos-more">+{more}</span>}
        </button>
      ))}
    </div>
  );
}

interface PhotoProps {
  readonly chat: Chat;
  readonly conversationId: string;
  readonly attachment: Attachment;
}

export function Photo({ chat, conversationId, attachment }: PhotoProps): JSX.Element {
  const [url, setUrl] = useState<string>();
  const [failed, setFailed] = useState(false);
  const preview = useThumbnail(attachment);
  useEffect(() => {
    let gone = false;
    chat.media.get(conversationId, attachment.mediaId).then(
      (found) => void (gone || setUrl(found)),
      () => void (gone || setFailed(true)),
    );
    return () => void (gone = true);
  }, [attachment.mediaId]);
  return (
    <>
      {url === undefined && preview !== undefined && <img class="blurred" src={preview} alt="" />}
      {url !== undefined && <img src={url} alt={attachment.fileName} draggable={false} />}
      {failed && <span class="photo-failed">The picture cannot be loaded now</span>}
    </>
  );
}

function useThumbnail(attachment: Attachment): string | undefined {
  const url = useMemo(() => {
    const { thumbnail } = attachment;
    if (thumbnail.length === 0) return undefined;
    return URL.createObjectURL(new Blob([new Uint8Array(thumbnail)]));
  }, [attachment.mediaId]);
  useEffect(() => () => void (url !== undefined && URL.revokeObjectURL(url)), [url]);
  return url;
}

/** As large as fits, in its own proportions. */
function frameOf({ width, height }: Attachment): CSSProperties {
  const [w, h] = width > 0 && height > 0 ? [width, height] : [4, 3];
  const ratio = Math.min(3, Math.max(0.6, w / h));
  const px = Math.round(Math.min(320, Math.max(160, w), 360 * ratio));
  return { aspectRatio: String(ratio), width: `${px}px`, maxWidth: "100%" };
}
