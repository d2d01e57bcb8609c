/** The whole page: who is signed in, or the way to sign in. */
import { useEffect, useState } from "preact/hooks";
import type { JSX } from "preact";
import { Chat } from "../model/chat.ts";
import type { Account, Surroundings } from "../session.ts";
import { Home } from "./home.tsx";
import { SignInPage } from "./sign-in-page.tsx";

type Who =
  | { readonly t: "asking" }
  | { readonly t: "nobody" }
  | { readonly t: "someone"; readonly account: Account; readonly chat: Chat };

export function App({ surroundings }: { surroundings: Surroundings }): JSX.Element | null {
  const [who, setWho] = useState<Who>({ t: "asking" });
  const enter = (account: Account): void =>
    setWho({ t: "someone", account, chat: new Chat(surroundings.openSession(account)) });
  useEffect(() => {
    surroundings.signIn.current().then(
      (account) => (account === undefined ? setWho({ t: "nobody" }) : enter(account)),
      () => setWho({ t: "nobody" }),
    );
  }, []);
  if (who.t === "asking") return null;
  if (who.t === "nobody") return <SignInPage signIn={surroundings.signIn} entered={enter} />;
  const leave = async (): Promise<void> => {
    await who.chat.close();
    await surroundings.signIn.signOut(who.account);
    history.replaceState(undefined, "", location.pathname);
    setWho({ t: "nobody" });
  };
  return <Home chat={who.chat} leave={leave} />;
}
