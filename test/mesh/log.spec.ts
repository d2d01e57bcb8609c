import assert from "node:assert/strict";
import { createLog } from "../../mesh/log.ts";

describe("createLog", () => {
  function lines(level: "info" | "warn") {
    const written: Record<string, unknown>[] = [];
    const to = { write: (line: string) => void written.push(JSON.parse(line)) };
    return { written, log: createLog({ level, base: { service: "gateway" }, to }) };
  }

  it("writes a line of JSON with level and time", () => {
    const { written, log } = lines("info");
    log.info({ connection: 3 }, "a connection began");
    log.debug("not written");
    const { time, ...rest } = written[0] ?? {};
    assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.deepEqual(rest, {
      level: "info",
      service: "gateway",
      connection: 3,
      msg: "a connection began",
    });
    assert.equal(written.length, 1);
  });

  it("hides secrets that are logged by mistake", () => {
    const { written, log } = lines("info");
    log.info({ token: "abc", hello: { token: "abc" }, req: { headers: { authorization: "abc" } } });
    assert(!JSON.stringify(written).includes("abc"));
  });
});
