/** What the reader prefers in this browser. Nothing here is a secret. */
import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

interface Prefs {
  readonly theme: Theme;
  /** Notifications may say what a message says. */
  readonly showContent: boolean;
  /** The reader does not want to be asked about notifications. */
  readonly notAsked: boolean;
}

const key = "parley.prefs";
const standard: Prefs = { theme: "system", showContent: false, notAsked: false };

export const prefs = signal<Prefs>(read());

export function prefer(change: Partial<Prefs>): void {
  prefs.value = { ...prefs.value, ...change };
  try {
    localStorage.setItem(key, JSON.stringify(prefs.value));
  } catch {
    // A browser that keeps nothing: it holds for this page.
  }
}

/** Keeps the page's theme, and that of all tabs, as preferred. */
export function followTheme(): void {
  effect(() => {
    const { theme } = prefs.value;
    if (theme === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
  });
  addEventListener("storage", (event) => {
    if (event.key === key) prefs.value = read();
  });
}

function read(): Prefs {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(key) ?? "{}");
    if (typeof kept !== "object" || kept === null) return standard;
    const theme = "theme" in kept ? kept.theme : undefined;
    return {
      theme: theme === "light" || theme === "dark" ? theme : "system",
      showContent: "showContent" in kept && kept.showContent === true,
      notAsked: "notAsked" in kept && kept.notAsked === true,
    };
  } catch {
    return standard;
  }
}
