/** What a cluster keeps, asked of it by devices that begin anew: every log is whole up to its head, and goes on. */
import assert from "node:assert/strict";
import type { ParleyClient, SendTarget } from "../../client/index.ts";
import { createNodeClient } from "../../client/node.ts";
import type { Sending } from "../support/load.ts";
import { tokenFor } from "../support/parley.ts";
import { within } from "../support/within.ts";

const waitMs = 120_000;

/** Of one user of each conversation that was written to. */
export const usersOf = (sendings: readonly Sending[]): Map<string, string> =>
  new Map(sendings.map(({ conversationId, userId }) => [conversationId, userId]));

export async function deviceOf(url: string, userId: string): Promise<ParleyClient> {
  const client = createNodeClient({ url, token: await tokenFor(userId) });
  client.connect();
  await within(waitMs, "a sync", client.ready());
  return client;
}

/** How a user addresses a conversation. */
export const targetOf = (id: string, userId: string): SendTarget =>
  id.startsWith("d:")
    ? { user: id.split(":").find((part, at) => at > 0 && part !== userId) ?? "" }
    : { conversation: id };

/** The texts of each conversation, after which one more was sent into it. */
export async function wholeLogs(
  url: string,
  users: ReadonlyMap<string, string>,
): Promise<Map<string, readonly string[]>> {
  const logs = new Map<string, readonly string[]>();
  for (const [id, userId] of users) {
    const client = await deviceOf(url, userId);
    // That a device is there may have its owner take over what was written behind the head that was kept: the head rises.
    const head = client.conversation(id)?.headSeq ?? Infinity;
    const history = await historyOf(client, id);
    isWhole(history);
    assert.ok(history.length >= head, `${id}: ${history.length} records up to the head ${head}`);
    const { sent } = client.send(targetOf(id, userId), "after");
    const { seq } = await within(waitMs, `a send into ${id}`, sent);
    const longer = await historyOf(client, id);
    isWhole(longer);
    assert.deepEqual(longer.slice(0, history.length), history);
    assert.deepEqual(longer.at(-1), { seq, text: "after" });
    const texts = longer.map(({ text }) => text);
    eachOnce(id, texts);
    logs.set(id, texts.slice(0, -1));
    await client.close();
  }
  return logs;
}

function isWhole(history: readonly { seq: number }[]): void {
  assert.deepEqual(
    history.map(({ seq }) => seq),
    history.map((_, at) => at + 1),
  );
}

/** P2, of what was not acked, too: what was taken over is no second copy of what was there. */
function eachOnce(id: string, texts: readonly string[]): void {
  const messages = texts.filter((text) => text !== "" && text !== "after");
  const twice = messages.filter((text, at) => messages.indexOf(text) !== at);
  assert.deepEqual(twice, [], `more than once in ${id}`);
}

/** Those of the messages that are not there once. */
export function missing(
  sendings: readonly Sending[],
  logs: ReadonlyMap<string, readonly string[]>,
): string[] {
  return sendings
    .filter(
      ({ conversationId, text }) =>
        logs.get(conversationId)?.filter((one) => one === text).length !== 1,
    )
    .map(({ conversationId, text }) => `${text} of ${conversationId}`);
}

async function historyOf(
  client: ParleyClient,
  id: string,
): Promise<{ seq: number; text: string }[]> {
  const all: { seq: number; text: string }[] = [];
  for (;;) {
    const afterSeq = all.at(-1)?.seq ?? 0;
    const page = { afterSeq, beforeSeq: afterSeq + 201, limit: 200 };
    const { records } = await client.history(id, page);
    if (records.length === 0) return all;
    for (const { seq, body } of records)
      all.push({ seq, text: body.case === "message" ? body.value.text : "" });
  }
}
