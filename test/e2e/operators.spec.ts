/** What operators have: gRPC with reflection and health on the mesh port, health over HTTP. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import {
  type ExplainMessageRequest,
  type ExplainMessageResponse,
  Fate,
  GatewayService,
  MessageState,
  SendNameSchema,
} from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { modes } from "../support/parley.ts";
import { Town, textTo } from "../support/town.ts";
import { root } from "../support/tree.ts";

type Message = ExplainMessageRequest["message"];

const run = promisify(execFile);
const buf = join(root, "node_modules", ".bin", "buf");

/** A call of every service that changes nothing, and what its answer says. */
const calls: Readonly<Record<string, [method: string, request: object, answer: RegExp]>> = {
  "parley.gateway.v1.GatewayService": ["ListConnections", {}, /"userId":\s*"alice"/],
  "parley.session.v1.SessionService": [
    "ListSessions",
    { userId: "alice" },
    /"deviceId":\s*"phone"/,
  ],
  "parley.delivery.v1.DeliveryService": [
    "CreateGroup",
    {
      userId: "alice",
      request: { clientId: "c2l4dGVlbiBieXRlcyAhIQ==", title: "friends", memberIds: ["bob"] },
    },
    /"title":\s*"friends"/,
  ],
  "parley.presence.v1.PresenceService": [
    "GetPresences",
    { userIds: ["alice"] },
    /AVAILABILITY_ONLINE/,
  ],
  "parley.storage.v1.StorageService": ["ListIndex", { userId: "alice" }, /"d:alice:bob"/],
};

for (const [mode, start] of modes.entries()) {
  describe(`operators, ${mode}`, () => {
    let town: Town;
    before(async () => {
      town = await Town.start(start);
    });
    after(() => town.close());

    const curl = async (...args: string[]): Promise<string> => {
      const all = ["curl", "--protocol", "grpc", "--http2-prior-knowledge", ...args];
      return (await run(buf, all, { cwd: root, timeout: 15_000 })).stdout;
    };

    /** What the processes of a service answer, those that cannot do it left out. */
    const answers = async (service: string, method: string, request: object): Promise<string> => {
      const data = ["--data", JSON.stringify(request)];
      const said = await Promise.allSettled(
        town.meshUrls(service).map((url) => curl(...data, `${url}/${method}`)),
      );
      return said
        .map((one) => (one.status === "fulfilled" ? one.value : String(one.reason)))
        .join();
    };

    it("list the five services, describe them and call each, by reflection alone", async function () {
      this.timeout(120_000);
      const alice = await town.onSocket("alice");
      await alice.send(textTo("bob", "hello"));
      for (const [service, [method, request, answer]] of Object.entries(calls)) {
        for (const url of town.meshUrls(service)) {
          const services = (await curl("--list-services", url)).trim().split("\n");
          for (const one of [service, "grpc.health.v1.Health"])
            assert.ok(services.includes(one), `${one} is not in ${services.join(", ")}`);
          const methods = await curl("--list-methods", url);
          assert.ok(methods.includes(`${service}/${method}`), methods);
        }
        assert.match(await answers(service, `${service}/${method}`, request), answer, service);
        for (const whole of [{}, { service }])
          assert.match(
            await answers(service, "grpc.health.v1.Health/Check", whole),
            /"status":\s*"SERVING"/,
          );
      }
      await town.leave();
    });

    it("are told by any gateway why a message was not delivered, whom it is pushed to and who owns it", async () => {
      const [alice, bob] = [await town.onSocket("alice"), await town.onSocket("bob")];
      const request = textTo("bob", "why?");
      const { conversationId, seq } = await alice.send(request);
      for (const gateway of town.operators(GatewayService)) {
        const explained = async (message: Message): Promise<ExplainMessageResponse> =>
          gateway.explainMessage({ conversationId, message, userId: "bob" });
        const fate = async (): Promise<Fate | undefined> => {
          const { members } = await explained({ case: "seq", value: seq });
          return members[0]?.fate;
        };
        const { clientId } = request;
        const send = create(SendNameSchema, { senderId: "alice", clientId });
        const { state, record, shard, owner, members, unanswered } = await explained({
          case: "send",
          value: send,
        });
        assert.deepEqual(unanswered, []);
        assert.deepEqual([state, record?.seq], [MessageState.SENT, seq]);
        assert.deepEqual(record?.body.value?.$typeName, "parley.v1.Content");
        assert.doesNotMatch(JSON.stringify(record?.body), /why/);
        assert.equal(shard?.ownerPresent, true);
        assert.ok(owner?.taking === true && owner.committedSeq >= seq);
        const [member] = members;
        assert.deepEqual(
          [member?.fate, member?.sessions.length, member?.connections.length],
          [Fate.UNACKED, 1, 1],
          member?.explanation,
        );
        assert.equal(member?.connections[0]?.unacked?.toSeq, seq);
        const absent = await explained({ case: "seq", value: 999 });
        assert.equal(absent.state, MessageState.ABSENT);
        await assert.rejects(
          gateway.explainMessage({ conversationId: "d:a:b", message: { case: "seq", value: 1 } }),
          { code: Code.NotFound },
        );
        assert.equal(await fate(), Fate.UNACKED);
      }
      await bob.moveCursor({ conversationId, deliveredSeq: seq });
      const asks = town.operators(GatewayService).map(async (gateway) => {
        const message = { case: "seq" as const, value: seq };
        const { members } = await gateway.explainMessage({ conversationId, message });
        return members.map(({ userId, fate }) => [userId, fate]).sort();
      });
      for (const fates of await Promise.all(asks))
        assert.deepEqual(fates, [
          ["alice", Fate.READ],
          ["bob", Fate.DELIVERED],
        ]);
      await town.leave();
    });

    it("read a log without what was said, and with it where they ask; nothing of it at the port of clients", async () => {
      const alice = await town.onSocket("alice");
      const { conversationId, seq } = await alice.send(textTo("carol", "a secret"));
      for (const gateway of town.operators(GatewayService)) {
        for (const content of [false, true]) {
          const { records, headSeq } = await gateway.readLog({ conversationId, content });
          assert.deepEqual([headSeq, records.map(({ senderId }) => senderId)], [seq, ["alice"]]);
          assert.equal(/a secret/.test(JSON.stringify(records[0]?.body)), content);
        }
        await assert.rejects(gateway.readLog({ conversationId: "d:a:b" }), { code: Code.NotFound });
        const which = { case: "conversationId", value: conversationId } as const;
        await assert.rejects(gateway.moveShard({ which, toProcessId: "nobody" }), {
          code: Code.NotFound,
        });
        const { processes } = await gateway.listProcesses({});
        assert.equal(new Set(processes.map(({ service }) => service)).size, 5);
      }
      for (const method of ["ReadLog", "ExplainMessage", "MoveShard", "ListConnections"]) {
        const body = JSON.stringify({ conversationId });
        const headers = { "content-type": "application/json" };
        const path = `${town.url}/parley.gateway.v1.GatewayService/${method}`;
        assert.equal((await fetch(path, { method: "POST", headers, body })).status, 404, method);
      }
      await town.leave();
    });

    it("see by HTTP that it lives and that it is ready", async () => {
      for (const [path, said] of [
        ["/healthz", "ok\n"],
        ["/readyz", "ready\n"],
      ] as const) {
        const response = await fetch(town.url + path);
        assert.deepEqual([response.status, await response.text()], [200, said]);
      }
      assert.equal((await fetch(`${town.url}/nothing`)).status, 404);
    });
  });
}
