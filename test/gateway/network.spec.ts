/** Of which network an address is, in all the spellings that one has. */
import assert from "node:assert/strict";
import { networkOf } from "../../gateway/network.ts";
import { Connections } from "../../gateway/connections.ts";
import { FakeRecipient } from "./recipient.ts";

describe("the network of an address", () => {
  for (const [network, addresses] of Object.entries({
    "10.1.2.3": ["10.1.2.3", "10.1.2.3:5000", "::ffff:10.1.2.3", "::FFFF:0a01:203"],
    "2001:db8:0:1::/64": [
      "2001:db8:0:1::",
      "2001:db8:0:1:ffff:ffff:ffff:ffff",
      "2001:0DB8:0000:0001:0000:0000:0000:0001",
      "[2001:db8:0:1::7]:443",
      "[2001:db8:0:1::7]",
      "2001:db8::1:0:0:10.1.2.3",
    ],
    "2001:db8:0:2::/64": ["2001:db8:0:2::1"],
    "0:0:0:0::/64": ["::1", "::"],
    "fe80:0:0:0::/64": ["fe80::1%eth0", "fe80::2"],
    unknown: ["unknown"],
    "": [""],
  }))
    it(`is ${network === "" ? "none" : network} of ${addresses.join(", ")}`, () => {
      for (const address of addresses) assert.equal(networkOf(address), network, address);
    });

  it("is what places of strangers are counted by", () => {
    const connections = new Connections(10, 10, 2);
    for (const at of [1, 2]) connections.add(new FakeRecipient(at, "", `2001:db8::${at}`));
    assert.equal(connections.crowded("2001:db8::99"), true);
    assert.equal(connections.crowded("2001:db8:0:1::1"), false);
  });
});
