/** Which conversation is open, in the address: the browser's back button works, and each has its link. */
import { signal } from "@preact/signals";

export const openId = signal(idOf(location.hash));

addEventListener("hashchange", () => {
  openId.value = idOf(location.hash);
});

export function hrefOf(conversationId: string): string {
  return `#/${encodeURIComponent(conversationId)}`;
}

export function goTo(conversationId: string | undefined): void {
  location.hash = conversationId === undefined ? "#/" : hrefOf(conversationId);
}

function idOf(hash: string): string | undefined {
  try {
    const id = decodeURIComponent(hash.replace(/^#\//u, ""));
    return /^[dg]:./u.test(id) ? id : undefined;
  } catch {
    return undefined;
  }
}
