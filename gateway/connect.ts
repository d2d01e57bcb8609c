/** ChatService over Connect: who calls, how much of it, and for how long. It must not know how a call is carried out. */
import { Code, ConnectError, createContextKey } from "@connectrpc/connect";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Clock } from "../mesh/clock.ts";
import {
  abortError,
  invalid,
  overloaded,
  publicError,
  retryAfterHeader,
  retryAfterMs,
  unavailable,
} from "../mesh/errors.ts";
import { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import type {
  ChatService,
  SubscribeRequest,
  SubscribeResponse,
} from "../proto/gen/parley/v1/chat_pb.ts";
import { bearerToken } from "./auth.ts";
import { networkOf } from "./network.ts";
import type { Authenticator, Caller, Calls } from "./ports.ts";
import { Places, Quota } from "./quota.ts";

export interface ChatLimits {
  /** Calls of one user. */
  readonly callsPerSecond: number;
  readonly callsBurst: number;
  /** Calls of one remote address, good and bad; many users may share one. */
  readonly remoteCallsPerSecond: number;
  readonly remoteCallsBurst: number;
  /** Long polls and streams of one user that are under way at once. */
  readonly waitsPerUserMax: number;
  /** A stream whose reader takes nothing for so long is cut. */
  readonly writeMs: number;
}

export const chatLimits: ChatLimits = {
  callsPerSecond: 200,
  callsBurst: 1_000,
  remoteCallsPerSecond: 2_000,
  remoteCallsBurst: 8_000,
  waitsPerUserMax: 32,
  writeMs: 30_000,
};

/** The other end of the request that a call came by. */
export interface Remote {
  readonly address: string;
  /** Drops the connection, for a reader that does not read. */
  hangUp(): void;
}

export const remoteKey = createContextKey<Remote>(
  { address: "unknown", hangUp: () => undefined },
  { description: "the other end of the request" },
);

export interface ChatRoutes {
  readonly service: ServiceImpl<typeof ChatService>;
  /** Ends long polls and streams with UNAVAILABLE, now and from now on; other calls go on. */
  endWaits(): void;
}

export interface ChatSurroundings {
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits?: ChatLimits;
}

/** At most what a timer can wait. */
const timerMsMax = 2_147_483_647;

/** The promise, or the reason why its call is over, whichever comes first. */
function unlessAborted<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(abortError(signal));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** Decides whether a call may be made, and by whom it is made. */
class Door {
  readonly #auth: Authenticator;
  readonly #users: Quota;
  readonly #remotes: Quota;

  constructor(auth: Authenticator, clock: Clock, limits: ChatLimits) {
    this.#auth = auth;
    this.#users = new Quota(clock, limits.callsPerSecond, limits.callsBurst);
    this.#remotes = new Quota(clock, limits.remoteCallsPerSecond, limits.remoteCallsBurst);
  }

  async admit(context: HandlerContext): Promise<{ caller: Caller; expiresMs: number }> {
    const remoteWaitMs = this.#remotes.take(networkOf(context.values.get(remoteKey).address));
    if (remoteWaitMs > 0) throw overloaded("too many calls from this address", remoteWaitMs);
    const token = bearerToken(context.requestHeader.get("authorization"));
    const { userId, expiresMs, region } = await this.#auth.verify(token);
    const userWaitMs = this.#users.take(userId);
    if (userWaitMs > 0) throw overloaded("too many calls of this user", userWaitMs);
    const deviceId = context.requestHeader.get("parley-device") ?? "";
    if (deviceId.length > 64)
      throw invalid(`the header Parley-Device has ${deviceId.length} characters; at most 64`);
    return { caller: { userId, deviceId, origin: "", region }, expiresMs };
  }
}

/** Long polls and streams that are under way: bounded for each user, and ended together. */
class Waits {
  readonly #places: Places;
  readonly #ends = new Set<(reason: ConnectError) => void>();
  #over: ConnectError | undefined;

  constructor(perUserMax: number) {
    this.#places = new Places(perUserMax);
  }

  /** `signal` fires with the call's own, or when waits are ended. `done` must be called at the end. */
  begin(userId: string, parent: AbortSignal): { signal: AbortSignal; done: () => void } {
    if (this.#over !== undefined) throw this.#over;
    const release = this.#places.take(userId);
    if (release === undefined)
      throw overloaded("too many streams and long polls of this user are open: end some first");
    const controller = new AbortController();
    const end = (reason: ConnectError): void => controller.abort(reason);
    const follow = (): void => {
      controller.abort(parent.reason);
      done();
    };
    const done = (): void => {
      release();
      this.#ends.delete(end);
      parent.removeEventListener("abort", follow);
      // What was left behind ends by it: the call's own signal may never fire.
      controller.abort();
    };
    this.#ends.add(end);
    parent.addEventListener("abort", follow, { once: true });
    if (parent.aborted) follow();
    return { signal: controller.signal, done };
  }

  endAll(reason: ConnectError): void {
    this.#over = reason;
    for (const end of this.#ends) end(reason);
  }
}

const goodbye: SubscribeResponse = {
  $typeName: "parley.v1.SubscribeResponse",
  event: {
    case: "goodbye",
    value: {
      $typeName: "parley.v1.Goodbye",
      reason: CloseReason.UNAUTHENTICATED,
      reconnectAfterMs: 0,
      url: "",
    },
  },
};

/**
 * Every call is authenticated, counted and bounded; it ends when the caller goes away or its deadline comes. Errors are ConnectErrors
 * with a code, a message and, where trying again makes sense, "retry-after-ms" in the metadata.
 */
export function chatRoutes(
  calls: Calls,
  auth: Authenticator,
  { clock, log, limits = chatLimits }: ChatSurroundings,
): ChatRoutes {
  const door = new Door(auth, clock, limits);
  const waits = new Waits(limits.waitsPerUserMax);

  function unary<I, O>(
    call: (caller: Caller, request: I, signal: AbortSignal) => Promise<O>,
  ): (request: I, context: HandlerContext) => Promise<O> {
    return async (request, context) => {
      let userId: string | undefined;
      try {
        const { caller } = await door.admit(context);
        ({ userId } = caller);
        return await unlessAborted(context.signal, call(caller, request, context.signal));
      } catch (error) {
        throw told(error, context, log, userId);
      }
    };
  }

  async function* subscribe(
    request: SubscribeRequest,
    context: HandlerContext,
  ): AsyncGenerator<SubscribeResponse, undefined> {
    let userId: string | undefined;
    try {
      const { caller, expiresMs } = await door.admit(context);
      ({ userId } = caller);
      const { signal, done } = waits.begin(caller.userId, context.signal);
      context.responseHeader.set("x-accel-buffering", "no");
      const cut = context.values.get(remoteKey).hangUp;
      try {
        const events = calls.subscribe(caller, request, signal);
        yield* timed(clock, untilExpiry(clock, events, expiresMs), limits.writeMs, cut);
        if (signal.aborted) throw abortError(signal);
      } finally {
        done();
      }
    } catch (error) {
      throw told(error, context, log, userId);
    }
    return undefined;
  }

  const service: ServiceImpl<typeof ChatService> = {
    send: unary((caller, request) => calls.send(caller, request)),
    moveCursor: unary((caller, request) => calls.moveCursor(caller, request)),
    sync: unary(async (caller, request, parent) => {
      if (request.waitMs === 0) return calls.sync(caller, request, parent);
      const { signal, done } = waits.begin(caller.userId, parent);
      return unlessAborted(signal, calls.sync(caller, request, signal)).finally(done);
    }),
    history: unary((caller, request) => calls.history(caller, request)),
    subscribe,
    listMembers: unary((caller, request) => calls.listMembers(caller, request)),
    createGroup: unary((caller, request) => calls.createGroup(caller, request)),
    updateGroup: unary((caller, request) => calls.updateGroup(caller, request)),
    watchPresence: unary((caller, request) => calls.watchPresence(caller, request)),
    setTyping: unary((caller, request) => calls.setTyping(caller, request)),
  };
  return { service, endWaits: () => waits.endAll(unavailable("the gateway is going away")) };
}

/** What the caller sees of an error; the rest goes to the log. */
function told(
  error: unknown,
  context: HandlerContext,
  log: Logger,
  userId: string | undefined,
): ConnectError {
  const expected = error instanceof ConnectError && error.code !== Code.Internal;
  if (!expected && !context.signal.aborted)
    log.error({ err: error, method: context.method.name, userId }, "a call failed");
  const seen = publicError(error);
  const waitMs = retryAfterMs(seen);
  if (waitMs > 0) seen.metadata.set(retryAfterHeader, String(Math.ceil(waitMs)));
  return seen;
}

/** The events, until the token that they are for ends: then a goodbye. */
async function* untilExpiry(
  clock: Clock,
  events: AsyncIterable<SubscribeResponse>,
  expiresMs: number,
): AsyncGenerator<SubscribeResponse, undefined> {
  const iterator = events[Symbol.asyncIterator]();
  const leftMs = Math.max(0, expiresMs - clock.now());
  let expired = false;
  let wake = (): void => undefined;
  const expire = (): void => {
    expired = true;
    wake();
  };
  const cancel = leftMs <= timerMsMax ? clock.after(leftMs, expire) : (): void => undefined;
  try {
    for (;;) {
      const next = await new Promise<IteratorResult<SubscribeResponse> | undefined>(
        (resolve, reject) => {
          wake = () => resolve(undefined);
          if (expired) wake();
          else iterator.next().then(resolve, reject);
        },
      );
      if (next === undefined) {
        yield goodbye;
        return undefined;
      }
      if (next.done === true) return undefined;
      yield next.value;
    }
  } finally {
    cancel();
    // Not awaited: it ends by its signal at the latest, and a read may be under way.
    iterator.return?.()?.catch(() => undefined);
  }
}

/** The values; a reader that does not come back for the next one within `ms` is cut. */
async function* timed<T>(
  clock: Clock,
  values: AsyncIterable<T>,
  ms: number,
  cut: () => void,
): AsyncGenerator<T, undefined> {
  for await (const value of values) {
    const cancel = clock.after(ms, cut);
    try {
      yield value;
    } finally {
      cancel();
    }
  }
  return undefined;
}
