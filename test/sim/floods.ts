/** A user who sends far more than anybody may: they must be told, and nobody else must notice (P9). */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { decodeServerBatch, encodeClientBatch } from "../../client/frames.ts";
import { ChatService, CloseReason } from "../../proto/gen/parley/v1/chat_pb.ts";
import { type ClientFrame, ClientFrameSchema } from "../../proto/gen/parley/v1/frame_pb.ts";
import type { Finding } from "../support/checker.ts";
import { tokenOf } from "./edge.ts";
import type { Host } from "./host.ts";
import { fetchOver } from "./http.ts";
import { SimWebSocket } from "./sockets.ts";
import type { World } from "./world.ts";

/** Who floods: nobody has talked with them. */
const flooderId = "mal";
/** More than the bursts that edge.ts and wide.ts allow: a gateway counts the calls that come to it. */
const callsAGateway = 180;
const frames = 600;
const batch = 100;

/** One flood, and what its sender heard. */
interface Flood {
  readonly name: string;
  answered: number;
  /** Refused as too much, or sent away for it. */
  told: boolean;
  /** Something else ended it. */
  broke: boolean;
}

export class Floods {
  readonly #world: World;
  readonly #all: Flood[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  get count(): number {
    return this.#all.length;
  }

  begin([how, whom]: readonly [number, number, number]): boolean {
    const world = this.#world;
    const victims = [...new Set(world.devices.map(({ userId }) => userId))];
    const victim = victims[Math.floor(whom * victims.length)];
    if (victim === undefined) return false;
    const number = this.#all.length + 1;
    const name = `flood ${number} of ${how < 0.5 ? "calls" : "frames"} at ${victim}`;
    const flood: Flood = { name, answered: 0, told: false, broke: false };
    this.#all.push(flood);
    world.timeline.note(`${name} begins`);
    const host = world.host(`${flooderId}.${number}`);
    host.hears(() => {
      if (how < 0.5) this.#calls(flood, host, victim);
      else this.#frames(flood, host, victim);
    });
    return true;
  }

  #net(host: Host) {
    const world = this.#world;
    return {
      network: world.network,
      host,
      readMs: () => 0,
      edge: () => world.anyGateway(host),
    };
  }

  #calls(flood: Flood, host: Host, victim: string): void {
    const baseUrl = "http://gateway";
    const fetch = fetchOver(this.#net(host));
    const transport = createConnectTransport({ baseUrl, useBinaryFormat: true, fetch });
    const chat = createClient(ChatService, transport);
    const headers = { authorization: `Bearer ${tokenOf(flooderId, "")}` };
    const calls = callsAGateway * this.#world.options.processes.gateway;
    for (let n = 0; n < calls; n += 1) {
      const request = { ...sendTo(host.name, victim, n), clientId: host.random.bytes(16) };
      chat.send(request, { headers }).then(
        () => (flood.answered += 1),
        (error: unknown) => {
          if (ConnectError.from(error).code === Code.ResourceExhausted) flood.told = true;
          else flood.broke = true;
        },
      );
    }
  }

  #frames(flood: Flood, host: Host, victim: string): void {
    const socket = new SimWebSocket(this.#net(host), "ws://gateway/ws");
    const send = (all: ClientFrame[]): void => {
      if (!flood.told && !flood.broke) socket.send(encodeClientBatch(all));
    };
    socket.addEventListener("open", () => {
      const value = { token: tokenOf(flooderId, ""), deviceId: "fast" };
      send([create(ClientFrameSchema, { frame: { case: "hello", value } })]);
      for (let n = 0; n < frames; n += batch)
        send(Array.from({ length: batch }, (_, at) => sendFrame(host, victim, n + at)));
    });
    socket.addEventListener("message", ({ data }) => {
      if (!(data instanceof ArrayBuffer)) return;
      for (const { frame } of decodeServerBatch(new Uint8Array(data))) {
        if (frame.case === "send") flood.answered += 1;
        if (frame.case === "failure" && frame.value.code === Code.ResourceExhausted)
          flood.told = true;
        if (frame.case === "goodbye" && frame.value.reason === CloseReason.RATE) flood.told = true;
      }
    });
    socket.addEventListener("close", ({ code }) => {
      if (code === 4_000 + CloseReason.RATE) flood.told = true;
      else flood.broke = true;
    });
  }

  /** Who was let do all of it was not told. */
  check(): Finding[] {
    return this.#all.flatMap(({ name, answered, told, broke }) => {
      if (told || broke) return [];
      const what = `${name}: ${answered} were answered, and nothing said that it is too much`;
      return [{ promise: "P9" as const, what }];
    });
  }
}

const sendTo = (flood: string, victim: string, n: number) => ({
  to: { case: "userId" as const, value: victim },
  content: { text: `${flood} ${n}` },
});

function sendFrame(host: Host, victim: string, n: number): ClientFrame {
  const value = { ...sendTo(host.name, victim, n), clientId: host.random.bytes(16) };
  return create(ClientFrameSchema, { requestId: n + 1, frame: { case: "send", value } });
}
