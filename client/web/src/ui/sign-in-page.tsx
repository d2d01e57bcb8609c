/** Who are you? By name where the server makes development tokens, else by a token or through an identity provider. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Account, SignIn, SignInOffer } from "../session.ts";
import { Avatar } from "./avatar.tsx";
import { Mark } from "./icons.tsx";

interface Props {
  readonly signIn: SignIn;
  readonly entered: (account: Account) => void;
  /** What went wrong before. */
  readonly problem: string;
}

export function SignInPage({ signIn, entered, problem }: Props): JSX.Element {
  const [offer, setOffer] = useState<SignInOffer>();
  const [known, setKnown] = useState<readonly string[]>([]);
  const [error, setError] = useState(problem);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = "Sign in · Parley";
    signIn.offer().then(setOffer, (failed: unknown) => setError(reasonOf(failed)));
    signIn.known().then(setKnown, () => undefined);
  }, []);
  const enter = (way: () => Promise<Account>): void => {
    setBusy(true);
    setError("");
    way()
      .then(entered, (failed: unknown) => setError(reasonOf(failed)))
      .finally(() => setBusy(false));
  };
  return (
    <main class="sign-in">
      <div class="sign-in-card">
        <Mark />
        <h1>Welcome to Parley</h1>
        <p class="quiet">Messages that arrive, in order, on every device.</p>
        {offer?.oidc !== undefined && offer.oidc !== "" && (
          <button
            class="primary wide"
            onClick={() => {
              signIn.byProvider().catch((failed: unknown) => setError(reasonOf(failed)));
            }}
          >
            Continue with {offer.oidc}
          </button>
        )}
        {offer?.development === true && (
          <NameForm busy={busy} enter={(name) => enter(() => signIn.byName(name))} />
        )}
        {offer?.development === false && offer.oidc === "" && (
          <TokenForm busy={busy} enter={(token) => enter(() => signIn.byToken(token))} />
        )}
        <p class="error" role="alert">
          {error}
        </p>
        {offer?.development === true && known.length > 0 && (
          <section class="known">
            <h2>On this browser before</h2>
            <ul>
              {known.map((name) => (
                <li key={name}>
                  <button
                    class="plain"
                    disabled={busy}
                    onClick={() => enter(() => signIn.byName(name))}
                  >
                    <Avatar id={name} small />
                    <bdi>{name}</bdi>
                  </button>
                </li>
              ))}
            </ul>
          </section>
        )}
        {offer?.development === true && (
          <p class="hint">
            This server runs for development on your own machine: any name signs you in. Open
            another tab to be somebody else.
          </p>
        )}
      </div>
    </main>
  );
}

function NameForm({ busy, enter }: { busy: boolean; enter: (name: string) => void }): JSX.Element {
  const [name, setName] = useState("");
  const wrong = name !== "" && !/^[\w.@-]{1,128}$/u.test(name);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (name !== "" && !wrong) enter(name);
      }}
    >
      <label for="name">Your name</label>
      <input
        id="name"
        value={name}
        maxLength={128}
        autoFocus
        autoCapitalize="none"
        autoComplete="username"
        spellcheck={false}
        placeholder="alice"
        aria-describedby="name-rule"
        aria-invalid={wrong}
        onInput={(event) => setName(event.currentTarget.value)}
      />
      <p id="name-rule" class={wrong ? "error" : "hint"}>
        Letters a–z, digits and . _ @ -
      </p>
      <button class="primary wide" disabled={busy || name === "" || wrong}>
        {busy ? "Signing in…" : "Sign in"}
      </button>
    </form>
  );
}

function TokenForm({
  busy,
  enter,
}: {
  busy: boolean;
  enter: (token: string) => void;
}): JSX.Element {
  const [token, setToken] = useState("");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (token.trim() !== "") enter(token.trim());
      }}
    >
      <label for="token">Access token</label>
      <input
        id="token"
        type="password"
        value={token}
        autoFocus
        autoComplete="off"
        spellcheck={false}
        onInput={(event) => setToken(event.currentTarget.value)}
      />
      <button class="primary wide" disabled={busy || token.trim() === ""}>
        {busy ? "Signing in…" : "Sign in"}
      </button>
    </form>
  );
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
