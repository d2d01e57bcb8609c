/** After the last test the process must end by itself; what keeps it alive is a leak, named and made a failure. */
import type { RootHookObject } from "mocha";

const graceMs = 10_000;

export const mochaHooks: RootHookObject = {
  afterAll() {
    const timer = setTimeout(() => {
      const leaks = process.getActiveResourcesInfo().join(", ");
      console.error(`the tests are done, but the process lives on: ${leaks}`);
      // mocha sets its own code when the process exits; this listener comes after it.
      process.on("exit", () => {
        process.exitCode = 1;
      });
      process.exit();
    }, graceMs);
    timer.unref();
  },
};
