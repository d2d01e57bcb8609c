/** A process that holds a lease in etcd: says what becomes of it, a word a line, and ends by itself when its input does. */
import { systemClock } from "../../mesh/clock.ts";
import { openEtcdDirectory } from "../../mesh/etcd/directory.ts";
import { createLog } from "../../mesh/log.ts";
import { systemRandom } from "../../mesh/random.ts";
import { instance } from "../conformance/directory.ts";

const [prefix = "", ...endpoints] = process.argv.slice(2);
const directory = await openEtcdDirectory(
  { endpoints, prefix, shards: 8, leaseSeconds: 2 },
  { clock: systemClock, random: systemRandom, log: createLog({ level: "silent" }) },
);
const membership = await directory.join(instance({ id: "holder" }), () => {
  console.log(membership.held ? "lost while it is held" : "lost");
});
console.log("joined");
process.stdin.resume().on("end", () => {
  void directory.close().then(() => console.log("closed"));
});
