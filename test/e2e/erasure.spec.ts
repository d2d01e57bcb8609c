/** The erasure of a user, as an operator asks for it while people talk: what the others see, and that the user is gone for good. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { CloseReason } from "../../proto/gen/parley/v1/chat_pb.ts";
import { GatewayService } from "../../proto/gen/parley/gateway/v1/gateway_pb.ts";
import type { Record as ChatRecord } from "../../proto/gen/parley/v1/record_pb.ts";
import {
  StorageService,
  type ErasureReceipt,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { chatClient, type Device } from "../support/device.ts";
import { download, upload } from "../support/http.ts";
import { modes, tokenFor } from "../support/parley.ts";
import { picture } from "../support/pictures.ts";
import {
  Town,
  directId,
  newClientId,
  syncAll,
  textInto,
  textTo,
  wholeLog,
} from "../support/town.ts";

const said = ({ senderId, erased, body }: ChatRecord): string => {
  const text = body.case === "message" ? body.value.text : `<${String(body.case)}>`;
  return `${erased ? "erased " : ""}${senderId}: ${text}`;
};

/** The first seqs of the ranges of each record that tells of erased ones. */
const toldErased = (records: readonly ChatRecord[]): number[][] =>
  records.flatMap(({ body }) =>
    body.case === "erasure" ? [body.value.ranges.map(({ firstSeq }) => firstSeq)] : [],
  );

for (const [mode, start] of modes.entries()) {
  describe(`erasure of a user, ${mode}`, () => {
    let town: Town;
    before(async () => {
      town = await Town.start(start);
    });
    afterEach(() => town.leave());
    after(() => town.close());

    async function erase(userId: string, answers = Infinity): Promise<ErasureReceipt | undefined> {
      const [gateway] = town.operators(GatewayService);
      assert(gateway !== undefined);
      let last: ErasureReceipt | undefined;
      for await (const { receipt } of gateway.eraseUser({ userId })) {
        last = receipt;
        answers -= 1;
        if (answers === 0) break;
      }
      return last;
    }

    const group = async (by: Pick<Device, "createGroup">, memberIds: string[]): Promise<string> => {
      const made = await by.createGroup({ clientId: newClientId(), title: "friends", memberIds });
      return made.conversation?.conversationId ?? "";
    };

    it("takes away what they said and who they were; the rest stays, in its order (P3), and all are told (P6)", async () => {
      const [alice, bob] = await Promise.all([town.onSocket("alice"), town.onSocket("bob")]);
      await alice.send(textTo("bob", "secret one"));
      await bob.send(textTo("alice", "hi"));
      await alice.send(textTo("bob", "secret two"));
      const direct = directId("alice", "bob");
      const friends = await group(alice, ["bob", "cleo"]);
      await alice.send(textInto(friends, "secret three"));
      await bob.send(textInto(friends, "hello"));
      const shown = await upload(town.url, "alice", friends, await picture("png"));
      const { mediaId } = JSON.parse(shown.text) as { mediaId: string };
      await alice.send({ ...textInto(friends, ""), content: { attachments: [{ mediaId }] } });
      const { token } = await syncAll(bob);
      const receipt = await erase("alice");
      assert(receipt !== undefined && receipt.finishedMs > 0n);
      const { conversations, messages, changes, media } = receipt;
      assert.deepEqual([conversations, messages, changes, media], [2, 4n, 2n, 1n]);

      // Who was there is told, and who comes later finds it.
      const told = await bob.inbox.until("both", ({ records }) => {
        const all = toldErased(records);
        return all.length === 2 ? all : undefined;
      });
      assert.deepEqual(told, [
        [1, 3],
        [1, 4],
      ]);
      const later = await syncAll(bob, { token: new Uint8Array(token) });
      assert.equal(later.conversations.flatMap(({ records }) => toldErased(records)).length, 2);
      const [one, two] = [await wholeLog(bob, direct), await wholeLog(bob, friends)];
      assert.deepEqual(one.map(said), ["erased : ", "bob: hi", "erased : ", ": <erasure>"]);
      assert.deepEqual(two.map(said), [
        "erased : <membership>",
        "erased : ",
        "bob: hello",
        "erased : ",
        "erased : <membership>",
        ": <erasure>",
      ]);
      assert.deepEqual(
        two.map(({ seq }) => seq),
        [1, 2, 3, 4, 5, 6],
      );
      assert.equal((await download(town.url, "bob", friends, mediaId)).status, 404);
      const { members } = await bob.listMembers({ conversationId: friends });
      assert.deepEqual(
        members.map(({ userId }) => userId),
        ["bob", "cleo"],
      );

      // The others go on; nobody writes to whom nobody reads.
      await bob.send(textInto(friends, "and now?"));
      await bob.moveCursor({ conversationId: direct, readSeq: 4 });
      await assert.rejects(bob.send(textTo("alice", "?")), { code: Code.PermissionDenied });
      const add = { conversationId: friends, clientId: newClientId(), addMemberIds: ["alice"] };
      await assert.rejects(bob.updateGroup(add), { code: Code.PermissionDenied });
      await assert.rejects(group(bob, ["alice"]), { code: Code.PermissionDenied });
    });

    it("ends the user's connections, and lets nothing of theirs in any more", async () => {
      const anna = await town.onSocket("anna");
      await anna.send(textTo("ben", "secret"));
      const under = Array.from({ length: 20 }, (_, at) =>
        anna.send(textTo("ben", `secret ${at}`)).catch(() => undefined),
      );
      await erase("anna");
      const { reason } = await anna.socket.closed;
      await Promise.all(under);
      assert.notEqual(reason, "");
      const ben = await town.onSocket("ben");
      const log = await wholeLog(ben, directId("anna", "ben"));
      assert.deepEqual(
        log.filter(({ senderId }) => senderId === "anna"),
        [],
      );
      const back = await town.socket();
      await back.hello({ token: await tokenFor("anna"), deviceId: "phone" });
      assert.equal((await back.closed).code, 4_000 + CloseReason.UNAUTHENTICATED);
      const client = chatClient(town.url, await tokenFor("anna"), "phone");
      const mayNot = (error: { code?: Code }): boolean =>
        [Code.PermissionDenied, Code.NotFound].includes(error.code ?? Code.Unknown);
      await assert.rejects(client.send(textTo("ben", "once more")), mayNot);
      await assert.rejects(client.send(textTo("zoe", "a new one")), mayNot);
      await assert.rejects(group(client, ["ben"]), mayNot);
      await assert.rejects(client.sync({}), { code: Code.Unauthenticated });
      assert.deepEqual(await wholeLog(ben, directId("anna", "ben")), log);
    });

    it("goes on where it broke off, and answers with the receipt when it is done", async () => {
      const zed = await town.onConnect("zed");
      for (const other of ["ann", "ben", "cleo"]) await zed.send(textTo(other, "secret"));
      assert.equal((await erase("zed", 2))?.finishedMs, 0n);
      await town.restart();
      const receipt = await erase("zed");
      // Whoever is ended between erasing and counting, in a cluster, counts less.
      assert(receipt !== undefined && receipt.finishedMs > 0n);
      assert([2n, 3n].includes(receipt.messages) && receipt.conversations <= 3);
      assert.deepEqual(await erase("zed"), receipt);
      const [storage] = town.operators(StorageService);
      assert.deepEqual((await storage?.listIndex({ userId: "zed" }))?.erased, true);
    });
  });
}
