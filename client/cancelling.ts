/** A fetch whose response ends when its signal aborts, whatever the platform does: Node 20 forgets the signal once its garbage was collected. */

type Fetch = typeof globalThis.fetch;

/** The same fetch; aborting also cancels a response's body that is still being read. */
export function cancelling(fetch: Fetch): Fetch {
  return async (input, init) => {
    const response = await fetch(input, init);
    const signal = init?.signal;
    if (!signal || response.body === null) return response;
    const reader = response.body.getReader();
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        const abort = (): void => {
          controller.error(signal.reason);
          reader.cancel(signal.reason).catch(() => undefined);
        };
        if (signal.aborted) abort();
        else signal.addEventListener("abort", abort, { once: true });
      },
      async pull(controller) {
        const { done, value } = await reader.read();
        if (signal.aborted) return;
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    });
    const { status, statusText, headers } = response;
    return new Response(body, { status, statusText, headers });
  };
}
