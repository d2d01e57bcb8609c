/** What logs say at their most talkative: ids that lead on, and never what people write, nor a token. */
import assert from "node:assert/strict";
import { parleyConfig, startParley } from "../../embedded/index.ts";
import { createLog } from "../../mesh/log.ts";
import { ConnectDevice, type Device, SocketDevice } from "../support/device.ts";
import { postCall, upload } from "../support/http.ts";
import { newFolder, testSettings, tokenFor } from "../support/parley.ts";
import { picture } from "../support/pictures.ts";
import { directId, newClientId, textInto, textTo } from "../support/town.ts";
import { TraceReceiver } from "../support/trace-receiver.ts";

const written = "Schweinebraten";
const direct = directId("alice", "bob");

interface Line {
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** All that people can write, in calls that go well and in calls that do not. */
async function writeAll(alice: Device, bob: Device, url: string): Promise<void> {
  const refused = async (call: Promise<unknown>): Promise<void> => {
    await assert.rejects(call);
  };
  await alice.send(textTo("bob", written));
  await bob.inbox.record(direct, 1);
  const made = { clientId: newClientId(), title: written, memberIds: ["bob"] };
  const group = (await alice.createGroup(made)).conversation?.conversationId ?? "";
  await alice.send(textInto(group, written));
  await alice.updateGroup({
    conversationId: group,
    clientId: newClientId(),
    title: `${written} 2`,
  });
  const image = await picture("png");
  const { text } = await upload(url, "alice", direct, image);
  const { mediaId } = JSON.parse(text) as { mediaId: string };
  const attachments = [{ mediaId, fileName: `${written}.png` }];
  await alice.send({ ...textTo("bob", written), content: { text: written, attachments } });
  await bob.history({ conversationId: direct });

  await refused(alice.send(textTo("bob", written.repeat(2_000))));
  await refused(alice.send(textInto(directId("carol", "dave"), written)));
  await refused(alice.send({ ...textTo("bob", written), clientId: new Uint8Array(3) }));
  const nowhere = [{ mediaId: "0".repeat(64), fileName: written }];
  await refused(
    alice.send({ ...textTo("bob", ""), content: { text: written, attachments: nowhere } }),
  );
  await upload(url, "alice", direct, new Uint8Array(Buffer.from(written)));
  const token = await tokenFor("alice");
  await postCall(url, token, "Send", `{"content": {"text": "${written}", `);
  await postCall(url, token, "Send", { content: { text: [written] } });
  await postCall(url, token, "Send", new Uint8Array(Buffer.from(`\x0a\xff${written}`)));
  await postCall(url, `${token.slice(0, -3)}xyz`, "Send", { content: { text: written } });
}

it("logs have ids, and neither what people write nor tokens", async function () {
  this.timeout(60_000);
  const folder = await newFolder();
  const receiver = await TraceReceiver.open();
  const lines: Line[] = [];
  const to = { write: (line: string) => void lines.push(JSON.parse(line) as Line) };
  const settings = { PARLEY_OTLP_URL: receiver.url, PARLEY_TRACE_RATIO: "1" };
  const parley = await startParley(parleyConfig(testSettings(folder.path, settings)), {
    log: createLog({ level: "trace", to }),
  });
  const tokens = [await tokenFor("alice"), await tokenFor("bob")] as const;
  try {
    const url = `http://127.0.0.1:${parley.port}`;
    const [token, other] = tokens;
    const bob = await SocketDevice.open({ url, token: other, deviceId: "phone" });
    const phone = await SocketDevice.open({ url, token, deviceId: "phone" });
    await writeAll(phone, bob, url);
    await phone.socket.cut();
    const laptop = await ConnectDevice.open({ url, token, deviceId: "laptop" });
    await laptop.send(textTo("bob", written));
    await Promise.all([bob.close(), laptop.close()]);
  } finally {
    await parley.close();
    await receiver.close();
    await folder.remove();
  }
  const all = lines.map((line) => JSON.stringify(line)).join("\n");
  assert.doesNotMatch(all, new RegExp(`${written}|${tokens.join("|")}`));
  assert.doesNotMatch(receiver.text, new RegExp(written));
  const followed = lines.filter(({ msg }) => msg === "a message is followed");
  assert.ok(followed.length >= 5, all);
  for (const { traceId, userId, conversationId } of followed)
    assert.match(
      `${String(traceId)} ${String(userId)} ${String(conversationId)}`,
      /^[0-9a-f]{32} alice [dg]:/,
    );
  const first = receiver.spans.find(({ name }) => name === "gateway send");
  assert.ok(followed.some(({ traceId }) => traceId === first?.traceId));
  for (const msg of ["a device is here", "a device is gone"]) {
    const line = lines.find((one) => one.msg === msg && one["userId"] === "alice");
    assert.ok(typeof line?.["connection"] === "number" && line["deviceId"] === "phone", all);
  }
  assert.ok(lines.some(({ msg, mediaId }) => msg === "an image was kept" && mediaId !== ""));
});
