/** What V8 is told wherever Parley is started, as the first line of cli/parley.js says it. It imports nothing: tests read it before their runner has set up all. */
export const nodeFlags = ["--max-semi-space-size=32"];
