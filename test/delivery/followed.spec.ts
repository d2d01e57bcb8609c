/** A message that is followed, on its way through delivery. */
import assert from "node:assert/strict";
import { LocalMesh } from "../../mesh/local.ts";
import { World, until } from "./world.ts";

const direct = "d:alice:bob";

it("a trace goes on to storage and session with the message that is followed, and with no other", async () => {
  const world = new World(new LocalMesh({ wire: true }));
  try {
    await world.start();
    const trace = new Uint8Array(24).fill(7);
    const sent = (operationId: number, more: { trace?: Uint8Array }) => {
      const value = { clientId: new Uint8Array(16).fill(operationId), content: Buffer.from("x") };
      const operation = { case: "send" as const, value };
      const [userId, conversationId] = ["alice", direct];
      world.submit({ operationId, userId, conversationId, origin: "g1/1", operation, ...more });
      return world.sentSeq(operationId);
    };
    await sent(1, { trace });
    await sent(2, {});
    assert.deepEqual(
      world.appends.map(({ traces }) => traces.map((one) => Buffer.from(one).toString("hex"))),
      [["07".repeat(24)], []],
    );
    await until(() => world.publications.length === 2);
    const [first, second] = world.publications;
    assert.deepEqual(first?.trace && Buffer.from(first.trace).toString("hex"), "07".repeat(24));
    assert.equal(second?.trace, undefined);
  } finally {
    await world.close();
  }
});
