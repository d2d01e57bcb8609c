/** The whole page: who is signed in, or the way to sign in. */
import { useEffect, useState } from "preact/hooks";
import type { JSX } from "preact";
import { Chat } from "../model/chat.ts";
import type { Account, Surroundings } from "../session.ts";
import { Home } from "./home.tsx";
import { reasonOf, SignInPage } from "./sign-in-page.tsx";

type Who =
  | { readonly t: "asking" }
  | { readonly t: "nobody"; readonly error: string }
  | { readonly t: "someone"; readonly account: Account; readonly chat: Chat };

export function App({ surroundings }: { surroundings: Surroundings }): JSX.Element | null {
  const [who, setWho] = useState<Who>({ t: "asking" });
  const enter = (account: Account): void =>
    setWho({ t: "someone", account, chat: new Chat(surroundings.openSession(account)) });
  useEffect(() => {
    surroundings.signIn.current().then(
      (account) => (account === undefined ? setWho({ t: "nobody", error: "" }) : enter(account)),
      (failed: unknown) => setWho({ t: "nobody", error: reasonOf(failed) }),
    );
  }, []);
  if (who.t === "asking") return null;
  if (who.t === "nobody")
    return <SignInPage signIn={surroundings.signIn} entered={enter} problem={who.error} />;
  const leave = async (): Promise<void> => {
    await who.chat.close();
    await surroundings.signIn.signOut(who.account);
    history.replaceState(undefined, "", location.pathname);
    setWho({ t: "nobody", error: "" });
  };
  return <Home chat={who.chat} leave={leave} />;
}
