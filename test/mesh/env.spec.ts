import assert from "node:assert/strict";
import { EnvReader } from "../../mesh/env.ts";

function read(reader: EnvReader) {
  return {
    port: reader.int("PORT", 8_080, [0, 65_535], "where it listens"),
    host: reader.string("HOST", "127.0.0.1", "on which address"),
    secret: reader.optional("SECRET", "a secret"),
    quiet: reader.flag("QUIET", false, "says less"),
    origins: reader.list("ORIGINS", ["a", "b"], "who may come"),
    level: reader.oneOf("LEVEL", "info", ["info", "warn"], "how much is logged"),
  };
}

describe("EnvReader", () => {
  it("takes what is set, and the standard for what is not or is empty", () => {
    const reader = new EnvReader(
      { X_PORT: " 9090 ", X_HOST: "", X_QUIET: "Yes", X_ORIGINS: "c, d,", HOME: "/root" },
      "X_",
    );
    assert.deepEqual(reader.done(read(reader)), {
      port: 9_090,
      host: "127.0.0.1",
      secret: undefined,
      quiet: true,
      origins: ["c", "d"],
      level: "info",
    });
  });

  it("names everything wrong in one error, unknown names included", () => {
    const values = {
      X_PORT: "65536",
      X_QUIET: "perhaps",
      X_LEVEL: "loud",
      X_SECRT: "1",
      X_OTHER_THING: "1",
      Y_PORT: "1",
    };
    const reader = new EnvReader(values, "X_");
    const config = read(reader);
    reader.wrong("X_HOST must be there where X_QUIET is");
    assert.throws(
      () => reader.done(config),
      (error: Error) => {
        assert.deepEqual(error.message.split("\n"), [
          "the settings are wrong:",
          '  X_PORT must be a whole number from 0 to 65535, not "65536"',
          '  X_QUIET must be yes or no, not "perhaps"',
          '  X_LEVEL must be one of info, warn, not "loud"',
          "  X_HOST must be there where X_QUIET is",
          "  X_SECRT is not a setting; did you mean X_SECRET?",
          "  X_OTHER_THING is not a setting",
        ]);
        return true;
      },
    );
  });

  for (const text of ["1.5", "1e3", "0x10", "ten", "-1", "99999999999999999999"]) {
    it(`does not take ${text} for a port`, () => {
      const reader = new EnvReader({ X_PORT: text }, "X_");
      assert.throws(() => reader.done(read(reader)), /X_PORT must be a whole number/);
    });
  }

  it("freezes what it gives, deeply", () => {
    const reader = new EnvReader({}, "X_");
    const config = reader.done({ inner: read(reader) });
    assert(Object.isFrozen(config) && Object.isFrozen(config.inner));
    assert(Object.isFrozen(config.inner.origins));
  });

  it("lists what can be set, for documents and flags", () => {
    const reader = new EnvReader({}, "X_");
    reader.int("MESH_PORT", 9_090, [0, 65_535], "where gRPC listens");
    reader.flag("QUIET", false, "says less");
    assert.deepEqual(reader.settings, [
      {
        name: "X_MESH_PORT",
        doc: "where gRPC listens",
        standard: "9090",
        range: "0 to 65535",
        flag: "--mesh-port",
      },
      { name: "X_QUIET", doc: "says less", standard: "no", range: "yes or no", flag: "--quiet" },
    ]);
  });
});
