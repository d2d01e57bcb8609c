/** Bounds on waits: what does not come fails its test by name, instead of by the runner's clock. */

/** The promise, or an error that says what did not come. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks again and again, a little later each time, until the answer is not undefined: for what tells nobody that it changed. */
export async function asked<T>(
  ms: number,
  what: string,
  ask: () => Promise<T | undefined>,
): Promise<T> {
  const untilMs = performance.now() + ms;
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, 100)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > untilMs) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise<void>((go) => setTimeout(go, pauseMs));
  }
}
