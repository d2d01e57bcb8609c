/** Takes the cases of a suite that was written for mocha, to be run one by one by whoever wants them. */

interface Case {
  readonly title: string;
  run(): Promise<void>;
}

/** Of mocha's context only what suites here use. */
const context = { timeout: (_ms: number) => undefined };
type Step = (this: typeof context) => unknown;

/** `define` says what it has to say to `describe`, `it`, `beforeEach` and `afterEach`. */
export function collected(define: () => void): Case[] {
  const cases: Case[] = [];
  let before: readonly Step[] = [];
  let after: readonly Step[] = [];
  const taken = {
    describe(_title: string, body: () => void) {
      const outer = [before, after] as const;
      body();
      [before, after] = outer;
    },
    it(title: string, body?: Step) {
      if (body === undefined) return;
      const steps = [...before, body];
      const ends = after;
      const run = async (): Promise<void> => {
        try {
          for (const step of steps) await step.call(context);
        } finally {
          for (const end of ends) await end.call(context);
        }
      };
      cases.push({ title, run });
    },
    beforeEach: (step: Step) => void (before = [...before, step]),
    afterEach: (step: Step) => void (after = [step, ...after]),
  };
  const { describe, it, beforeEach, afterEach } = globalThis;
  Object.assign(globalThis, taken);
  try {
    define();
  } finally {
    Object.assign(globalThis, { describe, it, beforeEach, afterEach });
  }
  return cases;
}
