/** What is being written in one conversation: text and pictures on their way up. It waits while another conversation is open. */
import { computed, signal } from "@preact/signals";
import type { Attachment, Session } from "../session.ts";
import type { MediaCache } from "./media-cache.ts";

export const picturesMax = 10;
export const pictureBytesMax = 10 * 1024 * 1024;
const pictureTypes = /^image\/(?:png|jpeg|gif|webp|avif)$/u;

export interface Picture {
  readonly id: number;
  readonly file: File;
  readonly url: string;
  readonly state: "uploading" | "done" | "failed";
  /** 0 to 1. */
  readonly part: number;
  readonly error: string;
  readonly attachment: Attachment | undefined;
}

let lastId = 0;

export class Draft {
  readonly text = signal("");
  readonly pictures = signal<readonly Picture[]>([]);
  readonly complaint = signal("");
  readonly ready = computed(() => {
    const { value: pictures } = this.pictures;
    const something = this.text.value.trim() !== "" || pictures.length > 0;
    return something && pictures.every(({ state }) => state === "done");
  });
  readonly #session: Session;
  readonly #media: MediaCache;
  readonly #conversationId: string;
  readonly #aborts = new Map<number, AbortController>();

  constructor(session: Session, media: MediaCache, conversationId: string) {
    this.#session = session;
    this.#media = media;
    this.#conversationId = conversationId;
  }

  add(files: Iterable<File>): void {
    this.complaint.value = "";
    for (const file of files) {
      const wrong = this.#wrong(file);
      if (wrong !== "") {
        this.complaint.value = wrong;
        continue;
      }
      lastId += 1;
      const picture: Picture = {
        id: lastId,
        file,
        url: URL.createObjectURL(file),
        state: "uploading",
        part: 0,
        error: "",
        attachment: undefined,
      };
      this.pictures.value = [...this.pictures.value, picture];
      void this.#upload(picture.id, file);
    }
  }

  retry(id: number): void {
    const picture = this.pictures.peek().find((other) => other.id === id);
    if (picture?.state === "failed") void this.#upload(id, picture.file);
  }

  /** Cancels it where it is on its way. */
  remove(id: number): void {
    this.#aborts.get(id)?.abort();
    const picture = this.pictures.peek().find((other) => other.id === id);
    if (picture !== undefined) URL.revokeObjectURL(picture.url);
    this.pictures.value = this.pictures.peek().filter((other) => other.id !== id);
  }

  /** What goes out; the draft is empty then. */
  take(): { text: string; attachments: Attachment[] } {
    const attachments: Attachment[] = [];
    for (const { attachment, file, url } of this.pictures.peek()) {
      URL.revokeObjectURL(url);
      if (attachment === undefined) continue;
      this.#media.put(this.#conversationId, attachment.mediaId, file);
      attachments.push(attachment);
    }
    const text = this.text.peek().trim();
    this.text.value = "";
    this.pictures.value = [];
    this.complaint.value = "";
    return { text, attachments };
  }

  #wrong(file: File): string {
    if (this.pictures.peek().length >= picturesMax)
      return `A message takes ${picturesMax} pictures at most.`;
    if (!pictureTypes.test(file.type)) return `“${file.name}” is no picture that can be sent.`;
    if (file.size > pictureBytesMax) return `“${file.name}” is larger than 10 MB.`;
    return "";
  }

  async #upload(id: number, file: File): Promise<void> {
    const abort = new AbortController();
    this.#aborts.set(id, abort);
    this.#change(id, { state: "uploading", part: 0, error: "" });
    const watch = {
      progress: (part: number) => this.#change(id, { part }),
      signal: abort.signal,
    };
    try {
      const attachment = await this.#session.upload(this.#conversationId, file, file.name, watch);
      this.#change(id, { state: "done", part: 1, attachment });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#change(id, { state: "failed", error: why });
    } finally {
      this.#aborts.delete(id);
    }
  }

  #change(id: number, change: Partial<Picture>): void {
    this.pictures.value = this.pictures
      .peek()
      .map((picture) => (picture.id === id ? { ...picture, ...change } : picture));
  }
}
