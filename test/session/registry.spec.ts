import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import type { Publication, Push } from "../../proto/gen/parley/session/v1/session_pb.ts";
import {
  AttachmentSchema,
  PublicationSchema,
} from "../../proto/gen/parley/session/v1/session_pb.ts";
import type { GatewayLink, Notice } from "../../session/ports.ts";
import type { Gateway } from "../../session/registry.ts";
import { Registry } from "../../session/registry.ts";

class FakeLink implements GatewayLink {
  readonly told: (Push | Notice)[] = [];
  error: ConnectError | undefined;
  room = Infinity;

  tell(told: Push | Notice): boolean {
    if (this.told.length >= this.room) return false;
    this.told.push(told);
    return true;
  }

  cut(error: ConnectError): void {
    this.error = error;
  }

  get pushes(): Push[] {
    return this.told.filter((told) => "connections" in told);
  }

  notices(kind: Notice["kind"]): number[] {
    return this.told.flatMap((told) =>
      !("connections" in told) && told.kind === kind ? [told.connection] : [],
    );
  }
}

const attachment = (connection: number, userId: string, deviceId = "", again = false) =>
  create(AttachmentSchema, { connection, userId, deviceId, again });
const again = (connection: number, userId: string, deviceId = "") =>
  attachment(connection, userId, deviceId, true);

function publication(userIds: string[], origins: Partial<Publication> = {}): Publication {
  const value = { conversationId: "d:a:b", seq: 1, record: new Uint8Array([1]) };
  const { exceptOrigin = "", onlyOrigin = "" } = origins;
  const payload = { payload: { case: "record" as const, value } };
  return create(PublicationSchema, { userIds, exceptOrigin, onlyOrigin, payload });
}

const nothing = { gateways: 0, users: 0, sessions: 0, watchers: 0 };

describe("session registry", () => {
  let registry: Registry;
  let links: [FakeLink, FakeLink];
  let gateways: [Gateway, Gateway];
  let edges: string[];

  beforeEach(() => {
    registry = new Registry({ userSessionsMax: 4 });
    links = [new FakeLink(), new FakeLink()];
    gateways = [registry.open("g1", "b1", links[0]), registry.open("g2", "b1", links[1])];
    edges = [];
    registry.watch({ changed: (id) => edges.push(`${id} ${registry.isOnline(id)}`) });
  });

  it("makes one push for each gateway of all devices and users, of one payload", () => {
    registry.attach(gateways[0], attachment(1, "ann", "phone"));
    registry.attach(gateways[0], attachment(2, "ann", "laptop"));
    registry.attach(gateways[1], attachment(1, "ann", "tablet"));
    registry.attach(gateways[0], attachment(3, "bob", "phone"));
    registry.attach(gateways[0], attachment(4, "eve", "phone"));
    const sent = publication(["ann", "bob", "nobody"]);
    registry.route(sent);
    assert.deepEqual(
      links.map((link) =>
        link.pushes.map(({ connections }) => [...connections].sort((a, b) => a - b)),
      ),
      [[[1, 2, 3]], [[1]]],
    );
    for (const link of links) assert.equal(link.pushes[0]?.payload, sent.payload);
  });

  it("leaves out the origin's connection and no other", () => {
    registry.attach(gateways[0], attachment(1, "ann", "phone"));
    registry.attach(gateways[1], attachment(1, "ann", "laptop"));
    registry.route(publication(["ann"], { exceptOrigin: "g1/1" }));
    registry.route(publication(["ann"], { exceptOrigin: "g3/1" }));
    assert.deepEqual(
      links.map((link) => link.pushes.map(({ connections }) => connections)),
      [[[1]], [[1], [1]]],
    );
  });

  it("pushes to one connection alone, and only where it is the user's (P8)", () => {
    registry.attach(gateways[0], attachment(1, "ann", "phone"));
    registry.attach(gateways[0], attachment(2, "ann", "laptop"));
    registry.route(publication(["ann"], { onlyOrigin: "g1/2" }));
    registry.route(publication(["bob"], { onlyOrigin: "g1/2" }));
    registry.route(publication(["ann"], { onlyOrigin: "g1/9" }));
    assert.deepEqual(
      links[0].pushes.map(({ connections }) => connections),
      [[2]],
    );
  });

  it("replaces a device's older connection wherever it is, and one without an id never", () => {
    registry.attach(gateways[0], attachment(1, "ann", "phone"));
    registry.attach(gateways[1], attachment(7, "ann", "phone"));
    registry.attach(gateways[0], attachment(2, "ann", ""));
    registry.attach(gateways[0], attachment(3, "ann", ""));
    registry.attach(gateways[0], attachment(4, "bob", "phone"));
    assert.deepEqual(links[0].notices("replaced"), [1]);
    assert.deepEqual(links[1].notices("replaced"), []);
    registry.route(publication(["ann"]));
    assert.deepEqual(
      links.map((link) =>
        link.pushes.map(({ connections }) => [...connections].sort((a, b) => a - b)),
      ),
      [[[2, 3]], [[7]]],
    );
    assert.deepEqual(edges, ["ann true", "bob true"], "a replacement is no coming and going");
  });

  it("replaces none for a connection that is announced again, and that one for one that is new", () => {
    registry.attach(gateways[0], again(1, "ann", "phone"));
    registry.attach(gateways[1], again(7, "ann", "phone"));
    assert.deepEqual(registry.sessionsOf("ann").length, 2, "two of which nobody knows the younger");
    registry.attach(gateways[1], attachment(8, "ann", "phone"));
    assert.deepEqual(links[0].notices("replaced"), [1]);
    assert.deepEqual(links[1].notices("replaced"), [7]);
    assert.deepEqual(links[1].notices("attached"), [7, 8]);
    registry.attach(gateways[0], again(2, "ann", "phone"));
    registry.attach(gateways[0], again(3, "ann", "laptop"));
    registry.attach(gateways[0], again(4, "ann", ""));
    assert.deepEqual(links[0].notices("replaced"), [1, 2]);
    assert.deepEqual(links[0].notices("attached"), [1, 3, 4]);
    // Said twice on one stream it is what it was.
    registry.attach(gateways[1], again(8, "ann", "phone"));
    assert.deepEqual(links[1].notices("replaced"), [7]);
    assert.deepEqual(
      registry.sessionsOf("ann").map(({ origin }) => origin),
      ["g2/8", "g1/3", "g1/4"],
    );
    assert.deepEqual(edges, ["ann true"]);
  });

  it("takes one that is announced again as older than any other where a user has too many (P9)", () => {
    for (const connection of [1, 2, 3]) registry.attach(gateways[0], attachment(connection, "ann"));
    registry.attach(gateways[1], again(4, "ann"));
    registry.attach(gateways[1], again(5, "ann"));
    assert.deepEqual(links[1].notices("replaced"), [5]);
    registry.attach(gateways[0], attachment(6, "ann"));
    assert.deepEqual(links[1].notices("replaced"), [5, 4]);
    assert.deepEqual(links[0].notices("replaced"), []);
  });

  it("ends the gateways whose leases ended, and no other", () => {
    registry.attach(gateways[0], attachment(1, "ann", "phone"));
    const link = new FakeLink();
    registry.attach(registry.open("g3", "b3", link), attachment(1, "bob", "phone"));
    registry.endLives(new Set(["b3", "b4"]));
    assert.equal(link.error?.code, Code.Aborted);
    assert.match(link.error.rawMessage, /lease ended: attach again/);
    assert.equal(links[0].error, undefined);
    assert.deepEqual(edges, ["ann true", "bob true", "bob false"]);
  });

  it("holds a bounded number of connections of a user: the oldest goes (P9)", () => {
    for (let connection = 1; connection <= 6; connection += 1)
      registry.attach(gateways[0], attachment(connection, "ann", `device ${connection}`));
    assert.deepEqual(links[0].notices("replaced"), [1, 2]);
    assert.equal(registry.sessionsOf("ann").length, 4);
  });

  it("tells the first coming and the last going only", () => {
    registry.attach(gateways[0], attachment(1, "ann", "phone"));
    registry.attach(gateways[1], attachment(1, "ann", "laptop"));
    registry.detach(gateways[0], 1);
    registry.detach(gateways[0], 1);
    assert.deepEqual(edges, ["ann true"]);
    registry.detach(gateways[1], 1);
    assert.deepEqual(edges, ["ann true", "ann false"]);
  });

  it("ends a gateway's connections with its stream, and the stream when the gateway comes again", () => {
    registry.attach(gateways[0], attachment(1, "ann", "phone"));
    registry.attach(gateways[1], attachment(1, "bob", "phone"));
    registry.end(gateways[1]);
    assert.deepEqual(edges.slice(2), ["bob false"]);
    const link = new FakeLink();
    const again = registry.open("g1", "b2", link);
    assert.equal(links[0].error?.code, Code.Aborted);
    assert.equal(registry.isOnline("ann"), false);
    registry.attach(again, attachment(1, "ann", "phone"));
    // What the old stream still says or how it ends has no effect on the new one.
    registry.attach(gateways[0], attachment(2, "ann", "laptop"));
    registry.detach(gateways[0], 1);
    registry.route(publication(["ann"]));
    registry.end(gateways[0]);
    assert.deepEqual(
      link.pushes.map(({ connections }) => connections),
      [[1]],
    );
    assert.equal(links[0].pushes.length, 0);
  });

  it("cuts a gateway that does not keep up, and no other (P9)", () => {
    registry.attach(gateways[0], attachment(1, "ann", "phone"));
    registry.attach(gateways[1], attachment(1, "bob", "phone"));
    links[0].room = 2;
    registry.route(publication(["ann", "bob"]));
    assert.ok(registry.isOnline("ann"));
    registry.route(publication(["ann", "bob"]));
    assert.equal(links[0].error?.code, Code.ResourceExhausted);
    assert.equal(links[1].pushes.length, 2);
    assert.equal(registry.isOnline("ann"), false);
    assert.equal(registry.isOnline("bob"), true);
  });

  it("keeps nothing of connections that ended (P9)", () => {
    for (let connection = 0; connection < 10_000; connection += 1) {
      const gateway = gateways[connection % 2 === 0 ? 0 : 1];
      registry.attach(
        gateway,
        attachment(connection, `user ${connection % 3_000}`, `${connection}`),
      );
    }
    assert.deepEqual(registry.size, { gateways: 2, users: 3_000, sessions: 10_000, watchers: 1 });
    for (let connection = 0; connection < 10_000; connection += 2)
      registry.detach(gateways[0], connection);
    assert.equal(registry.size.sessions, 5_000);
    registry.end(gateways[1]);
    assert.deepEqual(registry.size, { ...nothing, gateways: 1, watchers: 1 });
  });

  it("refuses an attachment of nobody and a gateway without a name", () => {
    assert.throws(() => registry.attach(gateways[0], attachment(1, "")), {
      code: Code.InvalidArgument,
    });
    assert.throws(() => registry.open("", "b1", new FakeLink()), { code: Code.InvalidArgument });
    assert.throws(() => registry.open("g9", "", new FakeLink()), { code: Code.InvalidArgument });
  });

  it("routes as a plain table of connections would, whatever comes in whatever order", () => {
    const step = fc.record({
      what: fc.constantFrom("attach", "attach", "attach", "detach", "end"),
      gateway: fc.constantFrom("g1", "g2"),
      connection: fc.integer({ min: 1, max: 6 }),
      userId: fc.constantFrom("ann", "bob"),
      deviceId: fc.constantFrom("", "phone", "laptop"),
      isAgain: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const tested = new Registry({ userSessionsMax: 100 });
        const open = new Map<string, { gateway: Gateway; link: FakeLink }>();
        const openOne = (id: string) => {
          const link = new FakeLink();
          const opened = { gateway: tested.open(id, "b", link), link };
          open.set(id, opened);
          return opened;
        };
        const table = new Map<string, { userId: string; deviceId: string; isAgain: boolean }>();
        for (const { what, gateway: id, connection, userId, deviceId, isAgain } of steps) {
          const { gateway } = open.get(id) ?? openOne(id);
          const place = `${id}/${connection}`;
          if (what === "attach") {
            const known = table.get(place);
            if (known?.userId !== userId || known.deviceId !== deviceId) {
              table.delete(place);
              const others = [...table].filter(
                ([, session]) =>
                  deviceId !== "" && session.userId === userId && session.deviceId === deviceId,
              );
              if (!isAgain) for (const [other] of others) table.delete(other);
              if (!isAgain || others.every(([, session]) => session.isAgain))
                table.set(place, { userId, deviceId, isAgain });
            }
            tested.attach(gateway, attachment(connection, userId, deviceId, isAgain));
          } else if (what === "detach") {
            table.delete(place);
            tested.detach(gateway, connection);
          } else {
            for (const other of table.keys()) if (other.startsWith(`${id}/`)) table.delete(other);
            tested.end(gateway);
            open.delete(id);
          }
        }
        for (const userId of ["ann", "bob"]) {
          const expected = [...table].filter(([, session]) => session.userId === userId);
          for (const { link } of open.values()) link.told.length = 0;
          tested.route(publication([userId]));
          const reached = [...open].flatMap(([id, { link }]) =>
            link.pushes.flatMap(({ connections }) => connections.map((one) => `${id}/${one}`)),
          );
          assert.deepEqual(reached.sort(), expected.map(([place]) => place).sort());
          assert.equal(tested.isOnline(userId), expected.length > 0);
        }
        assert.equal(tested.size.sessions, table.size);
      }),
    );
  });
});
