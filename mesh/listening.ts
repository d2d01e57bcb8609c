/** What to do where a port cannot be listened on. */

/** `setting` is the port's, "PARLEY_PORT"; the address has one of the same name, "PARLEY_HOST". */
export async function listening<T>(setting: string, started: Promise<T>): Promise<T> {
  try {
    return await started;
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    throw new Error(`${message}: ${remedy(code, setting)}`, { cause });
  }
}

function remedy(code: unknown, port: string): string {
  switch (code) {
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `it is no address of this machine. Choose one with ${port.replace(/PORT$/, "HOST")}`;
    case "EACCES":
      return `this user may not listen there. Choose a port from 1024 on with ${port}`;
    default:
      return `is another Parley running? Choose another port with ${port}`;
  }
}
