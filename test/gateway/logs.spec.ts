/** What a gateway and a delivery process log of their own faults: whose call it was, and nothing that libraries put into errors. */
import assert from "node:assert/strict";
import { Code, ConnectError } from "@connectrpc/connect";
import { createLog } from "../../mesh/log.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { Conversation } from "../../delivery/conversation.ts";
import { World as DeliveryWorld } from "../delivery/world.ts";
import { World } from "./world.ts";

type Line = Readonly<Record<string, unknown>>;

function noted() {
  const lines: Line[] = [];
  const to = { write: (line: string) => void lines.push(JSON.parse(line) as Line) };
  return { lines, log: createLog({ level: "trace", to }) };
}

describe("the log of a fault", () => {
  it("at a gateway has the connection and the user", async () => {
    const { lines, log } = noted();
    const world = await new World({}, false, log).open();
    try {
      const device = await world.device("alice");
      const planted = new ConnectError("planted", Code.Internal);
      world.storage.fault = Object.assign(planted, { params: ["Schweinebraten"] });
      device.send({ requestId: 3, frame: { case: "sync", value: {} } });
      await device.failure(3);
      const line = lines.find(({ msg }) => msg === "a call failed");
      assert.equal(typeof line?.["connection"], "number");
      assert.equal(line?.["userId"], "alice");
      assert.doesNotMatch(JSON.stringify(lines), /Schweinebraten/);
    } finally {
      await world.close();
    }
  });

  it("at delivery has the conversation, its shard, and the trace where the message is followed", async () => {
    const { lines, log } = noted();
    const world = new DeliveryWorld(new LocalMesh({ wire: true }), { log });
    const { append } = Conversation.prototype;
    try {
      await world.start();
      Conversation.prototype.append = () => {
        throw Object.assign(new TypeError("planted"), { record: "Schweinebraten" });
      };
      const value = { clientId: new Uint8Array(16), content: Buffer.from("x") };
      const operation = { case: "send" as const, value };
      const asked = { userId: "alice", conversationId: "d:alice:bob", origin: "g/1", operation };
      world.submit({ operationId: 1, ...asked, trace: new Uint8Array(24).fill(7) });
      assert.equal((await world.outcome(1)).case, "refused");
      const line = lines.find(({ msg }) => msg === "an operation failed");
      const { conversationId, shard, traceId } = line ?? {};
      assert.deepEqual([conversationId, shard, traceId], ["d:alice:bob", 0, "07".repeat(16)]);
      assert.doesNotMatch(JSON.stringify(lines), /Schweinebraten/);
    } finally {
      Conversation.prototype.append = append;
      await world.close();
    }
  });
});
