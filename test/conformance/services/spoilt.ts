/** Ways to spoil a service of ours: some of its handlers are others, or it sees its neighbours otherwise than they are. */
import {
  type DescMessage,
  type DescService,
  type MessageShape,
  create,
  isMessage,
} from "@bufbuild/protobuf";
import type { ServiceImpl, Transport } from "@connectrpc/connect";
import type { Running, Surroundings } from "../../../mesh/lifecycle.ts";
import { PeerTable } from "../../../mesh/peers.ts";
import { Pipe } from "../../../mesh/pipe.ts";
import { type Command, type ServiceProcess, command } from "../../../mesh/process.ts";
import type { OwnConfig } from "../../../mesh/process-config.ts";

type Spec<S extends DescService, C extends OwnConfig> = ServiceProcess<S, C>;

/** With some handlers in the places of its own. */
export function handling<S extends DescService, C extends OwnConfig>(
  spec: Spec<S, C>,
  change: (service: ServiceImpl<S>) => Partial<ServiceImpl<S>>,
): Command {
  return command({
    ...spec,
    async make(parts) {
      const made = await spec.make(parts);
      const { running } = made;
      const whole = boundOf(spec.service, running.service);
      const { pins } = running;
      const spoilt: Running<S> = {
        ...(pins === undefined ? {} : { pins }),
        service: { ...whole, ...change(whole) },
        start: () => running.start(),
        problems: () => running.problems(),
        close: () => running.close(),
      };
      return { ...made, running: spoilt };
    },
  });
}

/** Handlers that are methods of an object, each by itself. */
function boundOf<S extends DescService>(description: S, service: ServiceImpl<S>): ServiceImpl<S> {
  const methods = description.methods.flatMap(({ localName }): [string, unknown][] => {
    const method: unknown = Reflect.get(service, localName);
    return typeof method === "function" ? [[localName, method.bind(service)]] : [];
  });
  // Every method is there; types cannot say so of an object that is made of a service's description.
  return Object.fromEntries(methods) as unknown as ServiceImpl<S>;
}

/** Among neighbours that it sees otherwise than they are. */
export function among<S extends DescService, C extends OwnConfig>(
  spec: Spec<S, C>,
  change: (around: Surroundings) => Partial<Surroundings>,
): Command {
  const make: typeof spec.make = ({ surroundings, ...parts }) =>
    spec.make({ ...parts, surroundings: { ...surroundings, ...change(surroundings) } });
  return command({ ...spec, make });
}

/** Without the others of that service. */
export const alone =
  (service: DescService) =>
  ({ peers }: Surroundings): Partial<Surroundings> => ({
    peers: (of) => (of === service ? new PeerTable() : peers(of)),
  });

/** What others tell it by streams is changed on the way. */
export function told<D extends DescMessage>(
  type: D,
  change: (message: MessageShape<D>) => void,
): (transport: Transport) => Transport {
  return (transport) => ({
    unary: (...asked) => transport.unary(...asked),
    async stream(method, ...asked) {
      const answer = await transport.stream(method, ...asked);
      const message = each(answer.message, (one) => {
        if (isMessage(one, type)) change(one);
      });
      return { ...answer, message };
    },
  });
}

/** Calls of that method go nowhere, and are answered well. */
export const swallowing =
  (name: string) =>
  (transport: Transport): Transport => ({
    unary(method, ...asked) {
      if (method.name !== name) return transport.unary(method, ...asked);
      const [header, message] = [new Headers(), create(method.output)];
      const answer = { stream: false as const, service: method.parent, method, message };
      return Promise.resolve({ ...answer, header, trailer: header });
    },
    stream: (...asked) => transport.stream(...asked),
  });

/** All ways to others go through this. */
export const through =
  (change: (transport: Transport) => Transport) =>
  ({ transport, peers }: Surroundings): Partial<Surroundings> => ({
    transport: (service) => change(transport(service)),
    peers: (service) => {
      const there = peers(service);
      return {
        get present() {
          return there.present.map((peer) => ({ ...peer, transport: change(peer.transport) }));
        },
        watch: (changed) => there.watch(changed),
      };
    },
  });

export async function* each<T>(
  all: AsyncIterable<T>,
  look: (one: T) => void,
): AsyncGenerator<T, void> {
  for await (const one of all) {
    look(one);
    yield one;
  }
}

/** Whoever reads it may go away: what it comes from is not told. */
export function outliving<T extends object>(all: AsyncIterable<T>): AsyncIterable<T> {
  const pipe = new Pipe<T>(10_000);
  const pump = async (): Promise<void> => {
    for await (const one of all) pipe.offer(one);
  };
  pump().catch(() => undefined);
  return pipe;
}

export async function* unending<T>(all: AsyncIterable<T>): AsyncGenerator<T, void> {
  try {
    yield* all;
  } catch {
    // Its end, however it comes, is what is not noticed.
  }
  await new Promise<never>(() => undefined);
}

/** Reads all, and says none of it. */
// oxlint-disable-next-line require-yield
export async function* nothing<T>(all: AsyncIterable<T>): AsyncGenerator<T, void> {
  for await (const _ of all);
}
