/** A field that gathers people: names become chips, those who are known are offered. */
import type { JSX, TargetedKeyboardEvent } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import { Avatar } from "./avatar.tsx";
import { Icon } from "./icons.tsx";

interface Props {
  readonly label: string;
  readonly chosen: readonly string[];
  readonly known: readonly string[];
  readonly change: (chosen: readonly string[]) => void;
  /** A name that is being typed, where it is one. */
  readonly typing?: (name: string) => void;
}

const pattern = /^[\w.@-]{1,128}$/u;
const offeredMax = 6;

export function PeopleField({ label, chosen, known, change, typing }: Props): JSX.Element {
  const [text, setText] = useState("");
  const [wrong, setWrong] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const id = useId();
  const typed = text.trim();
  const offered = known
    .filter((user) => !chosen.includes(user) && user.toLowerCase().includes(typed.toLowerCase()))
    .slice(0, offeredMax);
  const write = (next: string): void => {
    setText(next);
    typing?.(pattern.test(next.trim()) ? next.trim() : "");
  };
  const add = (user: string): boolean => {
    if (user === "") return true;
    if (!pattern.test(user)) {
      setWrong(true);
      return false;
    }
    if (!chosen.includes(user)) change([...chosen, user]);
    write("");
    setWrong(false);
    return true;
  };
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLInputElement>): void => {
    if ((event.key === "Enter" || event.key === "," || event.key === " ") && typed !== "") {
      event.preventDefault();
      add(typed);
    } else if (event.key === "Backspace" && text === "" && chosen.length > 0) {
      change(chosen.slice(0, -1));
    }
  };
  return (
    <div class="people-field">
      <label for={id}>{label}</label>
      <div class="chips" onClick={() => field.current?.focus()}>
        {chosen.map((user) => (
          <span key={user} class="chip">
            <bdi>{user}</bdi>
            <button
              type="button"
              aria-label={`Take out ${user}`}
              onClick={() => change(chosen.filter((other) => other !== user))}
            >
              <Icon name="close" />
            </button>
          </span>
        ))}
        <input
          ref={field}
          id={id}
          value={text}
          autoFocus
          autoComplete="off"
          autoCapitalize="none"
          spellcheck={false}
          placeholder={chosen.length === 0 ? "Name" : ""}
          aria-invalid={wrong}
          aria-describedby={`${id}-rule`}
          onInput={(event) => {
            write(event.currentTarget.value);
            setWrong(false);
          }}
          onKeyDown={onKeyDown}
          onBlur={() => add(typed)}
        />
      </div>
      <p id={`${id}-rule`} class={wrong ? "error" : "hint"}>
        {wrong ? "Letters a–z, digits and . _ @ - only" : "Enter after each name"}
      </p>
      {offered.length > 0 && (
        <ul class="offered">
          {offered.map((user) => (
            <li key={user}>
              <button
                type="button"
                class="plain"
                onMouseDown={(event) => event.preventDefault()}
                onClick={() => add(user)}
              >
                <Avatar id={user} small />
                <bdi>{user}</bdi>
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
