/** A message's text: never HTML. Only what is a web address becomes a link, one that tells the other site nothing. */
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";

type Part = { readonly text: string; readonly href: string | undefined };

const address = /https?:\/\/[^\s<>"'`\u200b-\u200f\u202a-\u202e\u2066-\u2069]+/giu;
const trailing = /[.,;:!?…)\]}»”’]+$/u;
const emojiMax = 6;

export function MessageText({ text }: { text: string }): JSX.Element {
  const parts = useMemo(() => partsOf(text), [text]);
  return (
    <div class="text" dir="auto">
      {parts.map(({ text: part, href }, at) =>
        href === undefined ? (
          part
        ) : (
          <a key={at} href={href} target="_blank" rel="noopener noreferrer nofollow ugc">
            {part}
          </a>
        ),
      )}
    </div>
  );
}

export function partsOf(text: string): readonly Part[] {
  const parts: Part[] = [];
  let from = 0;
  for (const found of text.matchAll(address)) {
    const said = trimmed(found[0]);
    const href = safeAddress(said);
    if (href === undefined) continue;
    if (found.index > from) parts.push({ text: text.slice(from, found.index), href: undefined });
    parts.push({ text: said, href });
    from = found.index + said.length;
  }
  if (from < text.length) parts.push({ text: text.slice(from), href: undefined });
  return parts;
}

/** Up to six emoji and nothing else: shown large. */
export function isEmojiOnly(text: string): boolean {
  if (text.length > emojiMax * 16 || text === "") return false;
  const rest = text.replaceAll(/\s/gu, "");
  if (!/^(?:\p{RGI_Emoji})+$/v.test(rest)) return false;
  return (
    [...new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(rest)].length <= emojiMax
  );
}

/** A closing sign belongs to the address only where it opens in it. */
function trimmed(said: string): string {
  const end = trailing.exec(said);
  if (end === null) return said;
  const bare = said.slice(0, end.index);
  return end[0].startsWith(")") && bare.includes("(") && !bare.includes(")") ? `${bare})` : bare;
}

/** Undefined where it is no address of the web, or hides another one behind a user name. */
function safeAddress(said: string): string | undefined {
  let url: URL;
  try {
    url = new URL(said);
  } catch {
    return undefined;
  }
  const web = url.protocol === "https:" || url.protocol === "http:";
  return web && url.username === "" && url.password === "" ? url.href : undefined;
}
