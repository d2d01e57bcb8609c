/** What people are told who give a command something wrong, or no server to talk to. */
import assert from "node:assert/strict";
import { serverUrl, wholeNumber } from "../../cli/arguments.ts";
import { chatClient } from "../../cli/chat-client.ts";
import { userOf } from "../../cli/identity.ts";
import { overMesh } from "../../cli/mesh.ts";
import { createClient } from "@connectrpc/connect";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";

/** Nobody listens there. */
const nowhere = "127.73.0.2:1";

describe("an argument of a command", () => {
  it("that is no number is refused, not sent", () => {
    assert.deepEqual(["0", "200"].map(wholeNumber), [0, 200]);
    for (const text of ["", "x", "-1", "1.5", "4294967296"])
      assert.throws(() => wholeNumber(text), /must be a whole number/);
  });

  it("that is no server's address is refused", () => {
    assert.equal(serverUrl("https://chat.example.org/"), "https://chat.example.org");
    for (const text of ["", "foo", "localhost:8080", "ws://localhost"])
      assert.throws(() => serverUrl(text), /must be like "http:/);
  });

  it("that is no token is told to be none", () => {
    for (const token of ["xx", "a.b.c", "a.e30.c"])
      assert.throws(() => userOf(token), /it must be a JWT with a sub/);
  });
});

describe("a command without a server", () => {
  it("says where it looked and what to do", async () => {
    const client = chatClient({ url: `http://${nowhere}`, token: "a.b.c", data: "./data" });
    await assert.rejects(
      client.sync({}),
      /no server answers at http:\/\/127\.73\.0\.2:1 .*ECONNREFUSED.*--url/,
    );
  });

  it("of operators does so, too", async () => {
    await assert.rejects(
      overMesh({ mesh: nowhere }, "any storage process", (transport) =>
        createClient(GatewayService, transport).listProcesses({}),
      ),
      /^Error: 127\.73\.0\.2:1: .*the gRPC port of any storage process.*--mesh names another/,
    );
  });
});
