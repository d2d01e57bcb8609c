/** Images for tests: good ones, and ones that are not what they seem. */
import { crc32, deflateSync } from "node:zlib";
import sharp from "sharp";

export async function picture(
  type: "png" | "jpeg" | "webp",
  { width = 32, height = 20, red = 200 } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const background = { r: red, g: 120, b: 40 };
  const image = sharp({ create: { width, height, channels: 3, background } });
  return new Uint8Array(await image.toFormat(type).toBuffer());
}

function chunk(name: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(name, "latin1"), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const check = Buffer.alloc(4);
  check.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, check]);
}

/** A PNG of a few kilobytes that would be gigabytes of pixels. */
export function bomb(side = 60_000): Uint8Array<ArrayBuffer> {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const pixels = deflateSync(Buffer.alloc(4 * 1_024 * 1_024));
  const parts = [chunk("IHDR", header), chunk("IDAT", pixels), chunk("IEND", Buffer.alloc(0))];
  return new Uint8Array(Buffer.concat([signature, ...parts]));
}
