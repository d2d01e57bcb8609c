/** A round picture of a user or group, made of its name. */
import type { JSX } from "preact";

const hues = 8;

interface Props {
  readonly id: string;
  readonly name?: string;
  readonly small?: boolean;
  readonly group?: boolean;
  readonly online?: boolean | undefined;
}

export function Avatar({
  id,
  name = id,
  small = false,
  group = false,
  online,
}: Props): JSX.Element {
  const classes = ["avatar", `hue-${hueOf(id)}`, small ? "small" : "", group ? "group" : ""];
  return (
    <span class={classes.join(" ")} aria-hidden="true">
      {initials(name)}
      {online === true && <span class="dot" />}
    </span>
  );
}

export function hueOf(id: string): number {
  let sum = 7;
  for (const character of id) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 65_521;
  return sum % hues;
}

function initials(name: string): string {
  const words = name.split(/[\s._@-]+/u).filter((word) => word !== "");
  const firsts = words.slice(0, 2).map((word) => firstCharacter(word));
  return (words.length > 1 ? firsts.join("") : firstCharacter(name)).toLocaleUpperCase();
}

/** As people count characters: an emoji or a letter with its marks is one. */
function firstCharacter(text: string): string {
  const [first] = new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(text);
  return first?.segment ?? "?";
}
