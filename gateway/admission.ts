/** From a Hello to a device that is told everything: token, number of connections, session, Welcome, what the device lacks. */
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { sleep } from "../mesh/clock.ts";
import type { Clock } from "../mesh/clock.ts";
import { publicError, retryAfterMs } from "../mesh/errors.ts";
import type { Random } from "../mesh/random.ts";
import { CloseReason } from "../proto/gen/parley/v1/chat_pb.ts";
import { HelloSchema } from "../proto/gen/parley/v1/frame_pb.ts";
import type { Hello } from "../proto/gen/parley/v1/frame_pb.ts";
import type { GatewayConfig } from "./config.ts";
import { comeBackMs } from "./connection.ts";
import type { Connection } from "./connection.ts";
import type { Connections } from "./connections.ts";
import type { Elsewhere } from "./elsewhere.ts";
import { frameKinds } from "./frames.ts";
import type { FrameWriter, InFrame } from "./frames.ts";
import type { Authenticator, Identity } from "./ports.ts";
import { encodeSyncPage } from "./reads.ts";
import type { Reads } from "./reads.ts";
import type { SessionLinks } from "./session-links.ts";
import type { Admitting, Live } from "./state.ts";
import { decodeToken } from "./sync.ts";
import { ProtocolError } from "./wire.ts";

const deviceIdMax = 64;
const recordsMax = 50;
const syncTries = 3;
const syncAgainMs = 1_000;
/** Who is sent to another region's gateway goes there within so long. */
export const goOnMs = 1_000;
const nothing = new Uint8Array(0);

export interface AdmissionParts {
  readonly config: GatewayConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly writer: FrameWriter;
  readonly auth: Authenticator;
  readonly gatewayId: string;
  readonly connections: Connections;
  readonly elsewhere: Elsewhere;
  readonly session: SessionLinks;
  readonly reads: Reads;
}

function readHello(frame: InFrame): Hello {
  if (frame.kind !== frameKinds.hello) throw new ProtocolError("the first frame must be a Hello");
  const hello = decodeHello(frame);
  const { length } = hello.deviceId;
  if (length === 0 || length > deviceIdMax) {
    throw new ProtocolError(`device_id has ${length} characters: give it 1 to ${deviceIdMax}`);
  }
  return hello;
}

function decodeHello(frame: InFrame): Hello {
  try {
    return fromBinary(HelloSchema, frame.bytes.subarray(frame.start, frame.end));
  } catch (error) {
    throw new ProtocolError(
      `a Hello cannot be read: ${error instanceof Error ? error.message : "?"}`,
    );
  }
}

export class Admission {
  readonly #parts: AdmissionParts;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  /** The first frame. Throws a ProtocolError where it is no Hello. */
  greeted(connection: Connection, headerToken: string, frame: InFrame): void {
    const hello = readHello(frame);
    // A token that no gateway gave out lacks everything.
    const syncToken = decodeToken(hello.syncToken) === undefined ? nothing : hello.syncToken;
    const records = Math.min(hello.recordsPerConversation, recordsMax);
    const admitting = connection.admit(frame.requestId, syncToken, records);
    const token = hello.token === "" ? headerToken : hello.token;
    void this.#identify(connection, admitting, token, hello.deviceId);
  }

  async #identify(
    connection: Connection,
    admitting: Admitting,
    token: string,
    deviceId: string,
  ): Promise<void> {
    try {
      const identity = await this.#parts.auth.verify(token);
      if (connection.state === admitting) this.#join(connection, admitting, identity, deviceId);
    } catch (error) {
      this.#refuse(connection, admitting, error);
    }
  }

  #refuse(connection: Connection, admitting: Admitting, error: unknown): void {
    if (connection.state !== admitting) return;
    const shown = publicError(error);
    const afterMs = retryAfterMs(ConnectError.from(error));
    const { writer } = this.#parts;
    connection.queueChunk(writer.failure(admitting.helloId, shown.code, shown.rawMessage, afterMs));
    if (shown.code === Code.Unauthenticated) {
      connection.end(CloseReason.UNAUTHENTICATED, shown.rawMessage, 0);
    } else {
      connection.end(CloseReason.DRAINING, shown.rawMessage, Math.max(afterMs, this.#soon()));
    }
  }

  #join(
    connection: Connection,
    admitting: Admitting,
    { userId, expiresMs, region }: Identity,
    deviceId: string,
  ): void {
    const { config, connections, elsewhere, random, session, writer } = this.#parts;
    const url = elsewhere.homeOf(region);
    if (url !== "") {
      const afterMs = Math.ceil(random.unit() * goOnMs);
      connection.end(CloseReason.ELSEWHERE, "the user belongs to another region", afterMs, url);
      return;
    }
    connection.name(userId, deviceId);
    admitting.expiresMs = expiresMs;
    if (!connections.join(connection)) {
      const text = `more than ${config.connectionsPerUserMax} connections: close some first`;
      connection.queueChunk(
        writer.failure(admitting.helloId, Code.ResourceExhausted, text, comeBackMs),
      );
      connection.end(CloseReason.RATE, text, comeBackMs + this.#soon());
      return;
    }
    session.attach(connection);
  }

  /** Session knows it: what is committed from now on is pushed to it, so now it may be synced. */
  admitted(connection: Connection, admitting: Admitting): void {
    const { config, gatewayId, writer } = this.#parts;
    const { userId, deviceId, number } = connection;
    const welcome = writer.other(admitting.helloId, {
      case: "welcome",
      value: {
        $typeName: "parley.v1.Welcome",
        userId,
        gatewayId,
        heartbeatMs: config.heartbeatMs,
        maxFrameBytes: config.maxFrameBytes,
        framesPerSecond: config.ratePerSecond,
        bytesPerSecond: config.bytesPerSecond,
      },
    });
    const caller = { userId, deviceId, origin: `${gatewayId}/${number}` };
    connection.welcome(caller, admitting, welcome);
    this.#parts.log.debug({ connection: number, userId, deviceId }, "a device is here");
    const { state } = connection;
    if (state.t === "live") void this.#sync(connection, state, admitting);
  }

  async #sync(connection: Connection, live: Live, admitting: Admitting): Promise<void> {
    const { clock, log } = this.#parts;
    for (let tries = 1; connection.state === live; tries += 1) {
      try {
        await this.#syncPages(connection, live, admitting);
        connection.synced();
        return;
      } catch (error) {
        if (ConnectError.from(error).code === Code.Unauthenticated) {
          connection.end(CloseReason.UNAUTHENTICATED, publicError(error).rawMessage, 0);
          return;
        }
        const { number, userId, deviceId } = connection;
        const ids = { connection: number, userId, deviceId };
        log.warn({ err: error, ...ids }, "a device could not be synced");
        if (tries === syncTries) break;
        await sleep(clock, syncAgainMs);
      }
    }
    connection.end(CloseReason.DRAINING, "the device cannot be synced just now", this.#soon());
  }

  async #syncPages(connection: Connection, live: Live, admitting: Admitting): Promise<void> {
    const { reads, writer } = this.#parts;
    const { syncToken, recordsPerConversation } = admitting;
    const pages = reads.sync(live.caller.userId, syncToken, recordsPerConversation);
    for await (const page of pages) {
      await connection.written(writer.encoded(0, frameKinds.sync, encodeSyncPage(page)));
      if (connection.state !== live) return;
    }
  }

  #soon(): number {
    return Math.ceil(this.#parts.random.unit() * comeBackMs);
  }
}
