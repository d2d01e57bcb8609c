/** Services of ours with a fault each, that a contract must find. */
import { create } from "@bufbuild/protobuf";
import { delivery } from "../../../delivery/main.ts";
import { gateway } from "../../../gateway/main.ts";
import { type Directory, type ServiceName, serviceNames } from "../../../mesh/directory.ts";
import { type Command, command } from "../../../mesh/process.ts";
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
import {
  alone,
  among,
  each,
  handling,
  nothing,
  outliving,
  swallowing,
  through,
  told,
  unending,
} from "./spoilt.ts";

export interface Fault {
  readonly service: ServiceName;
  readonly what: string;
  readonly command: Command;
  readonly settings?: Settings;
  readonly directory?: (directory: Directory) => Directory;
  /** The case that it breaks, by the beginning of its title. */
  readonly breaks: string;
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
  {
    what: "claims no shard that it is told to claim",
    command: handling(delivery, () => ({ pinShard: () => ({}) })),
    breaks: "keeps shards that it was told to claim",
  },
  {
    what: "holds all that is asked for",
    command: handling(delivery, ({ inspectConversation }) => ({
      inspectConversation: async (request, context) => ({
        ...(await inspectConversation(request, context)),
        loaded: true,
      }),
    })),
    breaks: "tells what it holds of a conversation",
  },
  {
    what: "takes what erased users write",
    command: handling(delivery, () => ({ eraseMember: () => ({ headSeq: 3 }) })),
    breaks: "takes nothing more of who is erased",
  },
  {
    what: "lets who is erased into groups",
    command: among(delivery, through(swallowing("FilterErased"))),
    breaks: "has who is erased leave a group",
  },
];

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
  {
    what: "keeps what a retention says is to go",
    command: handling(storage, () => ({ sweepRetention: () => ({}) })),
    breaks: "removes what is older than is kept",
  },
  {
    what: "erases nothing",
    command: handling(storage, () => ({ eraseRecords: () => ({}) })),
    breaks: "leaves what is left of records at their seqs",
  },
  {
    what: "knows of nobody's uploads",
    command: handling(storage, () => ({ listUploads: () => ({ uploads: [] }) })),
    breaks: "removes what the user uploaded",
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
  {
    what: "moves no shard",
    command: among(gateway, through(swallowing("PinShard"))),
    breaks: "tells whose a shard is",
  },
  {
    what: "shows operators what was said, asked or not",
    command: handling(gateway, ({ readLog }) => ({
      readLog: (request, context) => readLog({ ...request, content: true }, context),
    })),
    breaks: "reads a log without what was said",
  },
  {
    what: "says that all is erased once it is asked for",
    command: handling(gateway, () => ({
      async *eraseUser() {
        const receipt = { finishedMs: 1n, conversations: 1, messages: 1n };
        yield await Promise.resolve({ conversationsLeft: 1, receipt });
      },
    })),
    breaks: "erases a user",
  },
  {
    what: "asks nobody where a user is",
    command: handling(gateway, () => ({ getUser: () => ({}) })),
    breaks: "tells where a user is",
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
