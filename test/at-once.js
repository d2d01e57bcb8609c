/** Runs scripts of package.json at once, and says what each said when all have ended: `node test/at-once.js types lint`. Ends with 1 where one failed. */
import { spawn } from "node:child_process";

const npm = process.platform === "win32" ? "npm.cmd" : "npm";

/** @param {string} script @returns {Promise<{ code: number | null, said: string }>} */
const run = (script) =>
  new Promise((resolve) => {
    const child = spawn(npm, ["run", "--silent", script], { shell: process.platform === "win32" });
    let said = "";
    const hear = (/** @type {Buffer} */ bytes) => void (said += bytes.toString());
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("error", (error) => resolve({ code: 1, said: String(error) }));
    child.on("close", (code) => resolve({ code, said }));
  });

const scripts = process.argv.slice(2);
const ended = await Promise.all(scripts.map(run));
for (const [at, { code, said }] of ended.entries()) {
  console.log(`${scripts[at]}: ${code === 0 ? "fine" : `ended with ${code}`}\n${said.trimEnd()}`);
}
process.exitCode = ended.every(({ code }) => code === 0) ? 0 : 1;
