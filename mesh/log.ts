/** The structured log: a line of JSON for each event, with ids, never with what people write. */
import { pino } from "pino";
import type { DestinationStream, Logger } from "pino";

export const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];

const secret = ["token", "authorization", "secret", "password", "cookie"];

export interface LogOptions {
  level?: LogLevel;
  /** Fields of every line. */
  base?: Record<string, string>;
  /** Standard output, if not given. */
  to?: DestinationStream;
}

function plainError(error: unknown): object {
  if (!(error instanceof Error)) return { message: String(error) };
  const { type, message, stack } = pino.stdSerializers.err(error);
  const code: unknown = Reflect.get(error, "code");
  return typeof code === "string" || typeof code === "number"
    ? { type, message, stack, code }
    : { type, message, stack };
}

export function createLog({ level = "info", base = {}, to }: LogOptions = {}): Logger {
  const options = {
    level,
    base,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    // Libraries put into an error what they were given, such as a statement's values: of it only this is told.
    serializers: { err: plainError },
    // A secret that is logged by mistake is still none the wiser's: as a field, or as one of a field's fields.
    redact: {
      paths: secret.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]),
      censor: "[redacted]",
    },
  };
  return to === undefined ? pino(options) : pino(options, to);
}
