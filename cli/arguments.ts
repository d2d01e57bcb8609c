/** What arguments of commands may be; commander names the argument that is not. */
import { InvalidArgumentError } from "commander";

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value < 2 ** 32) return value;
  throw new InvalidArgumentError("It must be a whole number.");
}

/** Of a server, without the slash at the end. */
export function serverUrl(text: string): string {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol))
    return text.replace(/\/+$/, "");
  throw new InvalidArgumentError('It must be like "http://127.0.0.1:8080".');
}
