/** What the page is started with in a browser: the server that it came from, and a connection that its tabs share. */
import { BrowserSignIn } from "./browser-sign-in.ts";
import type { Surroundings } from "./session.ts";
import { SharedSession } from "./shared-session.ts";

export function browserSurroundings(): Surroundings {
  const url = location.origin;
  // Without it the page works all the same, but does not open offline.
  navigator.serviceWorker?.register("/sw.js").catch(() => undefined);
  return {
    signIn: new BrowserSignIn(url),
    openSession: (account) => new SharedSession(url, account),
  };
}
