/** Services of ours with a fault each, that a contract must find. */
import {
  type DescMessage,
  type DescService,
  type MessageShape,
  create,
  isMessage,
} from "@bufbuild/protobuf";
import type { ServiceImpl, Transport } from "@connectrpc/connect";
import { delivery } from "../../../delivery/main.ts";
import { gateway } from "../../../gateway/main.ts";
import { type Directory, type ServiceName, serviceNames } from "../../../mesh/directory.ts";
import type { Running, Surroundings } from "../../../mesh/lifecycle.ts";
import { PeerTable } from "../../../mesh/peers.ts";
import { Pipe } from "../../../mesh/pipe.ts";
import { type Command, type ServiceProcess, command } from "../../../mesh/process.ts";
import type { OwnConfig } from "../../../mesh/process-config.ts";
import { presence } from "../../../presence/main.ts";
import { DeliveryService } from "../../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import {
  PresenceService,
  WatchResponseSchema,
} from "../../../proto/gen/parley/presence/v1/presence_pb.ts";
import { AttachResponseSchema } from "../../../proto/gen/parley/session/v1/session_pb.ts";
import { Availability } from "../../../proto/gen/parley/v1/record_pb.ts";
import { session } from "../../../session/main.ts";
import type { Settings } from "../../support/parley.ts";
import { newClientId } from "../../support/town.ts";
import { storage } from "./own.ts";

export interface Fault {
  readonly service: ServiceName;
  readonly what: string;
  readonly command: Command;
  readonly settings?: Settings;
  readonly directory?: (directory: Directory) => Directory;
  /** The case that it breaks, by the beginning of its title. */
  readonly breaks: string;
}

type Spec<S extends DescService, C extends OwnConfig> = ServiceProcess<S, C>;

/** With some handlers in the places of its own. */
function handling<S extends DescService, C extends OwnConfig>(
  spec: Spec<S, C>,
  change: (service: ServiceImpl<S>) => Partial<ServiceImpl<S>>,
): Command {
  return command({
    ...spec,
    async make(parts) {
      const made = await spec.make(parts);
      const { running } = made;
      const spoilt: Running<S> = {
        service: { ...running.service, ...change(running.service) },
        start: () => running.start(),
        problems: () => running.problems(),
        close: () => running.close(),
      };
      return { ...made, running: spoilt };
    },
  });
}

/** Among neighbours that it sees otherwise than they are. */
function among<S extends DescService, C extends OwnConfig>(
  spec: Spec<S, C>,
  change: (around: Surroundings) => Partial<Surroundings>,
): Command {
  const make: typeof spec.make = ({ surroundings, ...parts }) =>
    spec.make({ ...parts, surroundings: { ...surroundings, ...change(surroundings) } });
  return command({ ...spec, make });
}

/** Without the others of that service. */
const alone =
  (service: DescService) =>
  ({ peers }: Surroundings): Partial<Surroundings> => ({
    peers: (of) => (of === service ? new PeerTable() : peers(of)),
  });

/** What others tell it by streams is changed on the way. */
function told<D extends DescMessage>(
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
const swallowing =
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
const through =
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

async function* each<T>(all: AsyncIterable<T>, look: (one: T) => void): AsyncGenerator<T, void> {
  for await (const one of all) {
    look(one);
    yield one;
  }
}

/** Whoever reads it may go away: what it comes from is not told. */
function outliving<T extends object>(all: AsyncIterable<T>): AsyncIterable<T> {
  const pipe = new Pipe<T>(10_000);
  const pump = async (): Promise<void> => {
    for await (const one of all) pipe.offer(one);
  };
  pump().catch(() => undefined);
  return pipe;
}

async function* unending<T>(all: AsyncIterable<T>): AsyncGenerator<T, void> {
  try {
    yield* all;
  } catch {
    // Its end, however it comes, is what is not noticed.
  }
  await new Promise<never>(() => undefined);
}

const presenceFaults: readonly Omit<Fault, "service">[] = [
  {
    what: "tells nobody that somebody went offline",
    command: handling(presence, ({ watch }) => ({
      async *watch(requests, context) {
        for await (const response of watch(requests, context)) {
          const whole = create(WatchResponseSchema, response);
          whole.changes = whole.changes.filter(
            ({ presence: one }) => one?.availability !== Availability.OFFLINE,
          );
          yield whole;
        }
      },
    })),
    breaks: "answers a set with how things are",
  },
  {
    what: "gives no grace",
    command: command(presence),
    settings: { PARLEY_PRESENCE_GRACE_MS: "0" },
    breaks: "tells nothing of a user who is back within the grace",
  },
  {
    what: "lets everybody watch everybody",
    command: handling(presence, ({ watch }) => ({
      watch: (requests, context) =>
        watch(
          each(requests, ({ sets }) => {
            for (const set of sets) set.userId = "somebody";
          }),
          context,
        ),
    })),
    breaks: "shows only people who share a conversation",
  },
  {
    what: "does not keep when users were last seen",
    command: among(presence, through(swallowing("PutLastSeen"))),
    breaks: "keeps when users were last seen",
  },
  {
    what: "takes every user for its own",
    command: among(presence, alone(PresenceService)),
    breaks: "shares users with another instance",
  },
  {
    what: "does not notice that its lease was lost",
    command: command(presence),
    directory: (directory) => ({
      shards: directory.shards,
      join: (instance) => directory.join(instance, () => undefined),
      instances: (service) => directory.instances(service),
      problems: () => directory.problems(),
      close: () => directory.close(),
    }),
    breaks: "begins another life",
  },
];

const sessionFaults: readonly Omit<Fault, "service">[] = [
  {
    what: "keeps connections whose gateway's stream has ended",
    command: handling(session, ({ attach }) => ({
      attach: (requests, context) => outliving(attach(unending(requests), context)),
    })),
    breaks: "ends the connections of a gateway however its stream ends",
  },
  {
    what: "pushes to the origin, too",
    command: handling(session, ({ publish }) => ({
      publish: (requests, context) =>
        publish(
          each(requests, ({ publications }) => {
            for (const one of publications) one.exceptOrigin = "";
          }),
          context,
        ),
    })),
    breaks: "leaves the origin out",
  },
  {
    what: "tells each presence of everybody",
    command: handling(session, ({ watchOnline }) => ({
      watchOnline: (request, context) => watchOnline({ ...request, presenceIds: [] }, context),
    })),
    breaks: "tells each instance of presence of its own users only",
  },
  {
    what: "does not tell devices to sync that came between a commit and its index",
    command: handling(session, ({ publish }) => ({
      publish: (requests, context) =>
        publish(
          each(requests, (request) => (request.indexedCommits = [])),
          context,
        ),
    })),
    breaks: "tells devices to sync that attached between",
  },
];

const deliveryFaults: readonly Omit<Fault, "service">[] = [
  {
    what: "takes a send that comes again for a new one",
    command: handling(delivery, ({ exchange }) => ({
      exchange: (requests, context) =>
        exchange(
          each(requests, ({ operations }) => {
            for (const { operation } of operations)
              if (operation.case === "send") operation.value.clientId = newClientId();
          }),
          context,
        ),
    })),
    breaks: "answers a send that comes again",
  },
  {
    what: "tells nobody of a message",
    command: among(
      delivery,
      through((transport) => ({
        unary: (...asked) => transport.unary(...asked),
        stream(method, signal, timeoutMs, header, input, values) {
          const mute = method.name === "Publish" ? nothing(input) : input;
          return transport.stream(method, signal, timeoutMs, header, mute, values);
        },
      })),
    ),
    breaks: "gives seqs in the order of the sends",
  },
  {
    what: "keeps its shards to itself",
    command: among(delivery, alone(DeliveryService)),
    breaks: "hands shards over to another",
  },
  {
    what: "takes over without revoking who was there before",
    command: among(delivery, through(swallowing("Revoke"))),
    breaks: "hands shards over to another",
  },
];

/** Reads all, and says none of it. */
// oxlint-disable-next-line require-yield
async function* nothing<T>(all: AsyncIterable<T>): AsyncGenerator<T, void> {
  for await (const _ of all);
}

const storageFaults: readonly Omit<Fault, "service">[] = [
  {
    what: "reads to everybody whatever they ask for",
    command: handling(storage, ({ read }) => ({
      read: (request, context) =>
        read(
          { ...request, pages: request.pages.map((page) => ({ ...page, userId: "" })) },
          context,
        ),
    })),
    breaks: "shows each user what is theirs",
  },
  {
    what: "revokes nothing",
    command: handling(storage, () => ({ revoke: () => ({}) })),
    breaks: "commits nothing of an incarnation after its revocation",
  },
  {
    what: "keeps the last of the last-seen times, not the latest",
    command: handling(storage, () => {
      const kept = new Map<string, bigint>();
      return {
        putLastSeen({ seen }) {
          for (const { userId, timeMs } of seen) kept.set(userId, timeMs);
          return {};
        },
        getLastSeen: ({ userIds }) => ({
          seen: userIds.map((userId) => ({ userId, timeMs: kept.get(userId) ?? 0n })),
        }),
      };
    }),
    breaks: "keeps the highest time of each user",
  },
];

const gatewayFaults: readonly Omit<Fault, "service">[] = [
  {
    what: "passes no push on",
    command: among(gateway, through(told(AttachResponseSchema, (one) => (one.pushes = [])))),
    breaks: "over WebSocket: passes messages on",
  },
  {
    what: "passes on that somebody came, not that they went",
    command: among(
      gateway,
      through(
        told(WatchResponseSchema, (one) => {
          for (const { presence: of } of one.changes)
            if (of !== undefined) of.availability = Availability.ONLINE;
        }),
      ),
    ),
    breaks: "over Connect: attaches connections at session",
  },
];

const all: Readonly<Record<ServiceName, readonly Omit<Fault, "service">[]>> = {
  gateway: gatewayFaults,
  session: sessionFaults,
  delivery: deliveryFaults,
  presence: presenceFaults,
  storage: storageFaults,
};

export const faults: readonly Fault[] = serviceNames.flatMap((service) =>
  all[service].map((fault) => ({ ...fault, service })),
);
