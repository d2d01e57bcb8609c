/** What an operator is told of a port that cannot be listened on. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { listen } from "../../mesh/grpc/door.ts";
import { listening } from "../../mesh/listening.ts";

describe("an address that cannot be listened on", () => {
  it("is told apart from a port that is taken", async () => {
    // An address of documentation, which no machine has.
    await assert.rejects(
      listening("PARLEY_PORT", listen(createServer(), "192.0.2.1", 0)),
      /EADDRNOTAVAIL.*no address of this machine\. Choose one with PARLEY_HOST$/,
    );
  });

  it("is told apart from a port that this user may not have", async () => {
    const error = Object.assign(new Error("listen EACCES"), { code: "EACCES" });
    await assert.rejects(
      listening("PARLEY_MESH_PORT", Promise.reject(error)),
      /EACCES.*from 1024 on with PARLEY_MESH_PORT$/,
    );
  });
});
