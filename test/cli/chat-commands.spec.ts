import assert from "node:assert/strict";
import { commandHelp, parseCommand } from "../../cli/chat-commands.ts";

describe("what a submitted line asks for", () => {
  it("is a message unless it begins with one slash", () => {
    assert.deepEqual(parseCommand("hello"), { t: "send", text: "hello" });
    assert.deepEqual(parseCommand(" /help"), { t: "send", text: " /help" });
    assert.deepEqual(parseCommand("//etc/hosts"), { t: "send", text: "/etc/hosts" });
  });

  it("is a command with its words", () => {
    assert.deepEqual(parseCommand("/with bob"), { t: "with", user: "bob" });
    assert.deepEqual(parseCommand("/open 3"), { t: "open", id: "3" });
    assert.deepEqual(parseCommand('/group "Weekend trip" bob carol'), {
      t: "group",
      title: "Weekend trip",
      users: ["bob", "carol"],
    });
    assert.deepEqual(parseCommand("/rename Weekend  trip"), {
      t: "rename",
      title: "Weekend  trip",
    });
    assert.deepEqual(parseCommand('/rename "A trip"'), { t: "rename", title: "A trip" });
    assert.deepEqual(parseCommand("/quit "), { t: "quit" });
  });

  it("takes a file as terminals write it when it is dropped on them", () => {
    for (const written of ["my cat.png", "my\\ cat.png", "'my cat.png'", '"my cat.png"']) {
      assert.deepEqual(parseCommand(`/image ${written}`), { t: "image", file: "my cat.png" });
    }
  });

  it("says how a wrong one is used", () => {
    for (const [line, use] of [
      ["/with", "/with USER"],
      ["/with bob carol", "/with USER"],
      ["/group Trip", "/group TITLE USER…"],
      ["/leave now", "/leave"],
      ["/image", "/image FILE"],
      ["/nope", "there is no /nope"],
    ] as const) {
      const command = parseCommand(line);
      assert.ok(command.t === "wrong" && command.why.includes(use), JSON.stringify(command));
    }
  });

  it("is in the help, as are the ticks", () => {
    const help = commandHelp.join("\n");
    for (const name of [
      "with",
      "group",
      "add",
      "remove",
      "leave",
      "rename",
      "members",
      "open",
      "list",
      "image",
      "more",
      "help",
      "quit",
    ]) {
      assert.ok(help.includes(`/${name}`), name);
    }
    assert.match(help, /✓ sent.*✓✓ delivered.*✓✓ read/);
  });
});
