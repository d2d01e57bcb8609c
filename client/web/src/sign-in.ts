/** Signs in with a token, kept for this tab only. */
import { decodeJwt } from "./token.ts";
import type { Account, SignIn } from "./session.ts";

const key = "parley.token";

export const tokenSignIn: SignIn = {
  offer: () => Promise.resolve({ development: false, oidc: "" }),
  current: () => {
    const token = sessionStorage.getItem(key);
    return Promise.resolve(token === null ? undefined : accountOf(token));
  },
  known: () => Promise.resolve([]),
  byName: () => Promise.reject(new Error("this server takes tokens only")),
  byToken: (token) => {
    const account = accountOf(token);
    sessionStorage.setItem(key, token);
    return Promise.resolve(account);
  },
  byProvider: () => Promise.reject(new Error("this server takes tokens only")),
  signOut: () => {
    sessionStorage.removeItem(key);
    return Promise.resolve();
  },
};

function accountOf(token: string): Account {
  return { userId: decodeJwt(token).sub, token: () => Promise.resolve(token) };
}
