/** The state of the connection, where it is not simply live. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Chat } from "../model/chat.ts";

/** A cut that heals sooner is not worth a word. */
const quietMs = 700;

export function ConnectionBar({
  chat,
  leave,
}: {
  chat: Chat;
  leave: () => Promise<void>;
}): JSX.Element {
  const state = chat.connection.value;
  const live = state.t === "live";
  const [quiet, setQuiet] = useState(true);
  useEffect(() => {
    setQuiet(true);
    const timer = setTimeout(() => setQuiet(false), quietMs);
    return () => clearTimeout(timer);
  }, [live]);
  const shown = !live && (!quiet || state.t === "stopped");
  return (
    <div class="connection" role="status" data-state={state.t}>
      {shown && (
        <div class="connection-inner">
          <span class="pulse" aria-hidden="true" />
          <span>
            {state.t === "stopped"
              ? stoppedText(state.reason, state.signedOut)
              : "Connecting… What you write waits."}
          </span>
          {state.t === "stopped" && state.signedOut && (
            <button class="link" onClick={() => void leave()}>
              Sign in
            </button>
          )}
          {(state.t === "waiting" || (state.t === "stopped" && !state.signedOut)) && (
            <button class="link" onClick={() => chat.session.reconnect()}>
              Try now
            </button>
          )}
        </div>
      )}
    </div>
  );
}

function stoppedText(reason: string, signedOut: boolean): string {
  return signedOut ? "You were signed out. Sign in again to go on." : `Disconnected: ${reason}`;
}
