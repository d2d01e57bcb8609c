/** Which network a remote address belongs to, as limits count it: whoever has one IPv6 address has all 2^64 of its /64. */
import { isIPv4, isIPv6 } from "node:net";

/** Proxies may name a port behind the address, and a system a zone. */
const withPort = /^(?:\[([^\]]+)\](?::\d+)?|([\d.]+):\d+)$/;
const mapped = /^::ffff:([\da-f]{1,4}):([\da-f]{1,4})$/;

/** An IPv4 address as it is, of an IPv6 address its /64; what is neither stays as it is. */
export function networkOf(address: string): string {
  const [, inBrackets, beforePort] = withPort.exec(address) ?? [];
  const [bare = ""] = (inBrackets ?? beforePort ?? address).split("%", 1);
  if (isIPv4(bare)) return bare;
  if (!isIPv6(bare)) return address;
  // In one spelling of the many that an address has.
  const short = new URL(`http://[${bare}]`).hostname.slice(1, -1);
  const [, high, low] = mapped.exec(short) ?? [];
  if (high !== undefined && low !== undefined) return [...bytesOf(high), ...bytesOf(low)].join(".");
  const [before = "", after] = short.split("::", 2);
  const front = before === "" ? [] : before.split(":");
  const back = after === undefined || after === "" ? [] : after.split(":");
  const zeros = Array.from({ length: 8 - front.length - back.length }, () => "0");
  return `${[...front, ...zeros, ...back].slice(0, 4).join(":")}::/64`;
}

function bytesOf(group: string): [number, number] {
  const value = Number.parseInt(group, 16);
  return [value >> 8, value & 0xff];
}
