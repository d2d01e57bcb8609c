import assert from "node:assert/strict";
import { cancelling } from "../../client/cancelling.ts";

/** A response whose body says `a` and then nothing, and does not know of any signal: as Node's after a garbage collection. */
function stuck(): { fetch: typeof globalThis.fetch; cancelled: () => boolean } {
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(Buffer.from("a")),
    cancel: () => void (cancelled = true),
  });
  return { fetch: () => Promise.resolve(new Response(body)), cancelled: () => cancelled };
}

describe("a fetch that cancels", () => {
  it("ends a body that is being read, on both sides, when its signal aborts", async () => {
    const { fetch, cancelled } = stuck();
    const abort = new AbortController();
    const response = await cancelling(fetch)("http://127.0.0.1/", { signal: abort.signal });
    const reader = response.body?.getReader();
    assert.equal(Buffer.from((await reader?.read())?.value ?? []).toString(), "a");
    const next = reader?.read();
    abort.abort(new Error("enough"));
    await assert.rejects(async () => next, /enough/);
    assert.equal(cancelled(), true);
  });

  it("passes a whole body on", async () => {
    const fetch = cancelling(() => Promise.resolve(new Response("hello", { status: 201 })));
    const response = await fetch("http://127.0.0.1/", { signal: new AbortController().signal });
    assert.deepEqual([response.status, await response.text()], [201, "hello"]);
  });
});
