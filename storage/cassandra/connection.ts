/** The way to Cassandra: connections, bounded requests, and what an error means. It must not know what is asked. */
import { auth, Client, errors, policies, types } from "cassandra-driver";
import { Code, ConnectError } from "@connectrpc/connect";
import { checkServerIdentity } from "node:tls";
import type { ConnectionOptions } from "node:tls";
import type { Logger } from "pino";
import { ClientTls, type ClientTlsFiles } from "../../mesh/client-tls.ts";
import { type Clock, sleep } from "../../mesh/clock.ts";
import { overloaded, unavailable } from "../../mesh/errors.ts";
import type { Metrics } from "../../mesh/metrics.ts";
import type { Random } from "../../mesh/random.ts";
import type { CassandraConfig } from "../config.ts";
import type { Asked, Nodes, Page, Row, Statement } from "./nodes.ts";

export interface Outside {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly metrics?: Metrics;
}

export interface Query extends Statement {
  /** What it changes is in this partition, of whatever table. */
  readonly partition: string;
}

const leastBackoffMs = 50;
const mostBackoffMs = 2_000;
/** A read that fails is tried again for so long. */
const readForMs = 8_000;
const saidEveryMs = 10_000;
/** Requests that wait for their turn, of each that may be under way. */
const waitingFactor = 16;

export function newClient(config: CassandraConfig, log: Logger): Client {
  const { contactPoints, datacenter, username, password } = config;
  return new Client({
    contactPoints: [...contactPoints],
    localDataCenter: datacenter,
    ...(username === undefined
      ? {}
      : { authProvider: new auth.PlainTextAuthProvider(username, password ?? "") }),
    ...(config.tls === undefined
      ? {}
      : { sslOptions: tlsOptions(config.tls, config.tlsName, log) }),
    pooling: {
      coreConnectionsPerHost: { "0": 2, "1": 1, "2": 1 },
      maxRequestsPerConnection: 2_048,
      heartBeatInterval: 5_000,
    },
    socketOptions: { connectTimeout: 5_000, readTimeout: 5_000 },
    encoding: { useBigIntAsLong: true, useUndefinedAsUnset: true },
    queryOptions: {
      consistency: types.consistencies.localQuorum,
      prepare: true,
      isIdempotent: true,
      fetchSize: 5_000,
    },
    policies: {
      loadBalancing: new policies.loadBalancing.TokenAwarePolicy(
        new policies.loadBalancing.DCAwareRoundRobinPolicy(datacenter),
      ),
      // The driver's own goes up to ten minutes, which is how long nobody would notice that a node is back.
      reconnection: new policies.reconnection.ExponentialReconnectionPolicy(200, 3_000, false),
      // Trying again is decided here: a write until its outcome is known, a read for a while.
      retry: new policies.retry.FallthroughRetryPolicy(),
    },
  });
}

/** The driver takes what is in it anew for each connection, and trusts everybody unless told otherwise. */
function tlsOptions(
  files: ClientTlsFiles,
  name: string | undefined,
  log: Logger,
): ConnectionOptions {
  const tls = new ClientTls(files, log);
  return {
    get secureContext() {
      return tls.context;
    },
    rejectUnauthorized: true,
    checkServerIdentity: (host, certificate) => checkServerIdentity(name ?? host, certificate),
  };
}

/** Connects, for as long as it takes. Ends the client of a try that failed. */
export async function connected(
  config: CassandraConfig,
  outside: Outside,
  signal?: AbortSignal,
): Promise<Client> {
  return patiently(outside, signal, async () => {
    const client = newClient(config, outside.log);
    try {
      await client.connect();
      return client;
    } catch (error) {
      await client.shutdown().catch(() => undefined);
      const wrong = wrongSetting(error);
      if (wrong === undefined) throw error;
      throw new ConnectError(
        `PARLEY_CASSANDRA_DATACENTER or another setting of Cassandra is wrong: ${wrong.message}`,
        Code.FailedPrecondition,
      );
    }
  });
}

/** Until Cassandra gives an answer, whatever it is; says now and then that it waits. */
export async function patiently<T>(
  { clock, random, log }: Outside,
  signal: AbortSignal | undefined,
  ask: () => Promise<T>,
): Promise<T> {
  let saidMs = -Infinity;
  for (let tries = 1; ; tries += 1) {
    signal?.throwIfAborted();
    try {
      return await ask();
    } catch (error) {
      if (isWrong(error) || error instanceof ConnectError) throw error;
      if (clock.monotonic() - saidMs >= saidEveryMs) {
        saidMs = clock.monotonic();
        log.warn({ reason: messageOf(error) }, "waiting for Cassandra");
      }
    }
    await sleep(clock, backoffMs(tries, random), signal);
  }
}

function backoffMs(tries: number, random: Random): number {
  const ms = Math.min(leastBackoffMs * 2 ** Math.min(tries - 1, 10), mostBackoffMs);
  return Math.ceil(ms * (0.5 + random.unit() / 2));
}

const { protocolError, syntaxError, invalid, configError, alreadyExists } =
  types.responseErrorCodes;
const wrongCodes = new Set<number>([
  ...[protocolError, syntaxError, invalid, configError, alreadyExists],
]);

/** What no node can mend: what the driver was told of them is not so. */
function wrongSetting(error: unknown): Error | undefined {
  if (error instanceof errors.ArgumentError) return error;
  if (!(error instanceof errors.NoHostAvailableError)) return undefined;
  const inner: unknown[] = Object.values(error.innerErrors ?? {});
  return inner.find((one) => one instanceof errors.ArgumentError);
}

/** Whether trying again gives the same answer, as long as we are the same: a name or a statement is wrong. Who may log in can change. */
export function isWrong(error: unknown): boolean {
  if (error instanceof errors.ArgumentError || error instanceof TypeError) return true;
  return error instanceof errors.ResponseError && wrongCodes.has(error.code);
}

export function messageOf(error: unknown): string {
  if (error instanceof errors.NoHostAvailableError) {
    const inner = Object.entries(error.innerErrors ?? {}).map(
      ([host, one]: [string, unknown]) =>
        `${host}: ${one instanceof Error ? one.message : String(one)}`,
    );
    return inner.length > 0 ? `no node answers (${inner.join("; ")})` : error.message;
  }
  return error instanceof Error ? error.message : String(error);
}

export class Connection {
  readonly #nodes: Nodes;
  readonly #config: Pick<CassandraConfig, "inFlightMax" | "replication">;
  readonly #outside: Outside;
  #underWay = 0;
  readonly #waiting: (() => void)[] = [];
  #head = 0;
  /** Why the last request had no answer. */
  #failure: string | undefined;

  constructor(
    nodes: Nodes,
    config: Pick<CassandraConfig, "inFlightMax" | "replication">,
    outside: Outside,
  ) {
    this.#nodes = nodes;
    this.#config = config;
    this.#outside = outside;
  }

  /** Why it cannot serve now, as far as is known. */
  get problem(): string | undefined {
    if (this.#failure !== undefined) return `Cassandra does not answer: ${this.#failure}`;
    const quorum = Math.floor(this.#config.replication / 2) + 1;
    const { up } = this.#nodes;
    if (up >= quorum) return undefined;
    return `of Cassandra's nodes ${up} can be reached, and a quorum takes ${quorum}`;
  }

  async close(): Promise<void> {
    await this.#nodes.shutdown();
  }

  /** Throws where so much waits already that more would only wait longer. */
  admit(): void {
    if (this.#waiting.length - this.#head > waitingFactor * this.#config.inFlightMax)
      throw overloaded("too many requests to Cassandra wait for their turn");
  }

  /** Reads; tried again for a while. */
  async read(query: string, params: readonly unknown[], asked: Asked = {}): Promise<Page> {
    this.admit();
    const { clock } = this.#outside;
    const untilMs = clock.monotonic() + readForMs;
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#once(() => this.#nodes.execute({ query, params }, asked));
      } catch (error) {
        if (isWrong(error) || clock.monotonic() > untilMs) throw translated(error);
        await this.backOff(tries);
      }
    }
  }

  /** All rows, page by page. */
  async rows(query: string, params: readonly unknown[]): Promise<Row[]> {
    const all: Row[] = [];
    let pageState: string | undefined;
    do {
      const page = await this.read(query, params, pageState === undefined ? {} : { pageState });
      all.push(...page.rows);
      pageState = page.pageState ?? undefined;
    } while (pageState !== undefined);
    return all;
  }

  /** One try of a write: one statement, or several as one request. */
  async writeOnce(queries: readonly Query[], consistency: types.consistencies): Promise<void> {
    const [first] = queries;
    if (first === undefined) return;
    await this.#once<unknown>(() =>
      queries.length === 1
        ? this.#nodes.execute(first, { consistency })
        : this.#nodes.batch(queries, consistency),
    );
  }

  backOff(tries: number, signal?: AbortSignal): Promise<void> {
    const { clock, random } = this.#outside;
    return sleep(clock, backoffMs(tries, random), signal);
  }

  async #once<T>(ask: () => Promise<T>): Promise<T> {
    if (this.#underWay >= this.#config.inFlightMax)
      await new Promise<void>((resolve) => void this.#waiting.push(resolve));
    this.#underWay += 1;
    try {
      const answer = await ask();
      this.#failure = undefined;
      return answer;
    } catch (error) {
      this.#nodes.look();
      if (!isWrong(error)) this.#failure = messageOf(error);
      throw error;
    } finally {
      this.#underWay -= 1;
      this.#next();
    }
  }

  #next(): void {
    const next = this.#waiting[this.#head];
    if (next === undefined) return;
    this.#head += 1;
    if (this.#head * 2 > this.#waiting.length) {
      this.#waiting.splice(0, this.#head);
      this.#head = 0;
    }
    next();
  }
}

export function translated(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  if (isWrong(error))
    return new ConnectError(
      "Cassandra refuses a request",
      Code.Internal,
      undefined,
      undefined,
      error,
    );
  return unavailable(`Cassandra does not answer: ${messageOf(error)}`, 1_000, error);
}
