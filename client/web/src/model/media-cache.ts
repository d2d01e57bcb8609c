/** Pictures of messages as object URLs: each is fetched once, the ones not used for long are let go. */
import type { Session } from "../session.ts";

const keptMax = 80;

export class MediaCache {
  readonly #session: Session;
  readonly #urls = new Map<string, Promise<string>>();

  constructor(session: Session) {
    this.#session = session;
  }

  get(conversationId: string, mediaId: string): Promise<string> {
    const key = `${conversationId}/${mediaId}`;
    const known = this.#urls.get(key);
    const url = known ?? this.#session.media(conversationId, mediaId).then(URL.createObjectURL);
    this.#keep(key, url);
    url.catch(() => this.#urls.delete(key));
    return url;
  }

  /** What this tab sent itself. */
  put(conversationId: string, mediaId: string, file: Blob): void {
    const key = `${conversationId}/${mediaId}`;
    if (!this.#urls.has(key)) this.#keep(key, Promise.resolve(URL.createObjectURL(file)));
  }

  #keep(key: string, url: Promise<string>): void {
    this.#urls.delete(key);
    this.#urls.set(key, url);
    if (this.#urls.size <= keptMax) return;
    const [oldest] = this.#urls;
    if (oldest === undefined) return;
    this.#urls.delete(oldest[0]);
    oldest[1].then(URL.revokeObjectURL, () => undefined);
  }
}
