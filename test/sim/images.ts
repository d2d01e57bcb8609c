/** Images in a wide world: uploaded, sent, and fetched in the end by everybody who may have them, and by nobody else (P1 P8). */
import type { Finding } from "../support/checker.ts";
import type { Life, Sending, SimDevice } from "./device.ts";
import type { Removals } from "./removed.ts";
import type { Workload } from "./workload.ts";
import type { World } from "./world.ts";

interface Image {
  readonly conversationId: string;
  readonly userId: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  mediaId: string;
  sending: Sending | undefined;
}

const byteCounts = [40, 3_000, 200_000];

export class Images {
  readonly #world: World;
  readonly #workload: Workload;
  readonly #all: Image[] = [];
  /** The lives of the devices that upload: of one that is over nobody hears the end. */
  readonly #underWay = new Set<{ readonly life: Life }>();

  constructor(world: World, workload: Workload) {
    this.#world = world;
    this.#workload = workload;
  }

  get over(): boolean {
    return [...this.#underWay].every(({ life }) => life.ended);
  }

  send([who, where, size]: readonly [number, number, number]): boolean {
    const { devices } = this.#world;
    const device = devices[Math.floor(who * devices.length)];
    if (device === undefined || device.life.ended) return false;
    const mine = [...this.#workload.members].filter(([, all]) => all.includes(device.userId));
    const conversationId = mine[Math.floor(where * mine.length)]?.[0];
    if (conversationId === undefined) return false;
    const count = byteCounts[Math.floor(size * byteCounts.length)] ?? 40;
    // Now and then two people have the same one; but for who may be erased.
    const isOwn = device.userId === this.#workload.erasable;
    const bytes = new Uint8Array(count).fill(isOwn ? 100 : Math.floor(size * 1_000) % 7);
    const image: Image = {
      conversationId,
      userId: device.userId,
      bytes,
      mediaId: "",
      sending: undefined,
    };
    this.#upload(device, image);
    return true;
  }

  #upload(device: SimDevice, image: Image): void {
    const { conversationId, bytes } = image;
    device.note(`uploads ${bytes.length} bytes to ${conversationId}`);
    device.does((client) => {
      const { life } = device;
      const upload = { life };
      this.#underWay.add(upload);
      client
        .uploadMedia(conversationId, bytes, "image.png")
        .then(
          (attachment) => {
            if (device.life !== life) return;
            image.mediaId = attachment.mediaId;
            const to = this.#workload.target(device, conversationId);
            image.sending = device.send(to, conversationId, [attachment]);
            this.#all.push(image);
          },
          (error: unknown) => device.note(`could not upload: ${String(error)}`),
        )
        .finally(() => this.#underWay.delete(upload));
    });
  }

  /** What comes of all fetches, each of which ends. */
  check({ erased, trimmed }: Removals): Promise<Finding[]>[] {
    const { devices } = this.#world;
    const users = new Set(devices.map(({ userId }) => userId));
    return this.#all.flatMap((image) => {
      const { conversationId, sending } = image;
      if (sending?.seq === undefined) return [];
      const members = this.#workload.members.get(conversationId) ?? [];
      const known = this.#workload.conversations.get(conversationId) ?? new Set();
      return [...users].flatMap((userId) => {
        const device = devices.find((one) => one.userId === userId && !one.life.ended);
        if (device === undefined || erased.has(userId)) return [];
        if (erased.has(image.userId)) return [refused(device, image)];
        if (trimmed.has(conversationId)) return [];
        if (members.includes(userId)) return [fetched(device, image)];
        return known.has(userId) ? [] : [refused(device, image)];
      });
    });
  }
}

async function read({ client }: SimDevice, { conversationId, mediaId }: Image): Promise<Buffer> {
  const response = await client.fetchMedia(conversationId, mediaId);
  return Buffer.from(await response.arrayBuffer());
}

async function fetched(device: SimDevice, image: Image): Promise<Finding[]> {
  const { conversationId, mediaId, bytes, sending } = image;
  const what = `${conversationId} #${sending?.seq}: ${device.name} fetches the image ${mediaId}`;
  try {
    const got = await read(device, image);
    return got.equals(bytes) ? [] : [{ promise: "P1", what: `${what} and has other bytes` }];
  } catch (error) {
    return [{ promise: "P1", what: `${what}: ${String(error)}` }];
  }
}

async function refused(device: SimDevice, image: Image): Promise<Finding[]> {
  const { conversationId, mediaId } = image;
  const what = `${device.name} got the image ${mediaId} of ${conversationId}, which is not for them`;
  try {
    await read(device, image);
    return [{ promise: "P8", what }];
  } catch {
    return [];
  }
}
