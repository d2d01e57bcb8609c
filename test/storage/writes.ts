/** Builders of what is written to storage, and a client of it over a mesh that encodes. */
import { create, toBinary } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { createClient } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { pino } from "pino";
import { ManualClock } from "../../mesh/clock.ts";
import type { Clock } from "../../mesh/clock.ts";
import { Identity } from "../../mesh/identity.ts";
import type { Surroundings } from "../../mesh/lifecycle.ts";
import { LocalMesh } from "../../mesh/local.ts";
import { PeerTable } from "../../mesh/peers.ts";
import { Pipe } from "../../mesh/pipe.ts";
import { seededRandom } from "../../mesh/random.ts";
import type {
  AppendRequest,
  AppendResponse,
  Cell,
  ConversationWrite,
  Member,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import {
  AppendRequestSchema,
  CellSchema,
  ConversationStateSchema,
  ConversationWriteSchema,
  Kind,
  MemberSchema,
  Stage,
  StorageService,
} from "../../proto/gen/parley/storage/v1/storage_pb.ts";
import { RecordSchema } from "../../proto/gen/parley/v1/record_pb.ts";
import { createStorage } from "../../storage/index.ts";
import type { StorageDeps } from "../../storage/index.ts";
import { NotedMetrics } from "../support/noted-metrics.ts";
import { within } from "../support/within.ts";

export const waitMs = 20_000;

/** What a test says about a write; the rest follows from it. */
export interface Told {
  id?: string;
  /** The first seq, and how many cells from there on. */
  from: number;
  count?: number;
  epoch?: number;
  term?: number;
  previousTerm?: number;
  sender?: string;
  text?: string;
  /** Of the record at seq 0; each later one is of a millisecond more. */
  timeMs?: number;
  kind?: Kind;
  title?: string;
  members?: Member[];
  memberCount?: number;
  /** Those of `members` if not given. */
  indexUserIds?: string[];
}

export const clientId = (seq: number): Uint8Array => new Uint8Array(16).fill(seq & 255);

export function cell(told: Told, seq: number): Cell {
  const { id = "g:1", from, term = 1, epoch = term, sender = "alice", text = `text ${seq}` } = told;
  const { timeMs = 1_000 } = told;
  const previousTerm = seq > from ? term : (told.previousTerm ?? (seq === 1 ? 0 : term));
  const record = create(RecordSchema, {
    conversationId: id,
    seq,
    senderId: sender,
    clientId: clientId(seq),
    timeMs: BigInt(timeMs + seq),
    ordinal: seq,
    body: { case: "message", value: { text } },
  });
  return create(CellSchema, {
    seq,
    epoch: BigInt(epoch),
    term: BigInt(term),
    previousTerm: BigInt(previousTerm),
    record: toBinary(RecordSchema, record),
  });
}

export function write(told: Told): ConversationWrite {
  const {
    id = "g:1",
    from,
    count = 1,
    term = 1,
    kind = Kind.GROUP,
    title = "",
    members = [],
    memberCount = members.length,
    indexUserIds = members.map(({ userId }) => userId),
  } = told;
  const headSeq = from + count - 1;
  return create(ConversationWriteSchema, {
    conversationId: id,
    cells: Array.from({ length: count }, (_, index) => cell(told, from + index)),
    state: create(ConversationStateSchema, {
      kind,
      title,
      headSeq,
      headOrdinal: headSeq,
      headTimeMs: BigInt(1_000 + headSeq),
      headTerm: BigInt(term),
      memberCount,
      leastRead: { userId: "bob", seq: Math.max(headSeq - 1, 0), secondSeq: headSeq },
    }),
    indexUserIds,
    members,
  });
}

export function member(userId: string, told: Partial<Omit<Member, "$typeName">> = {}): Member {
  return create(MemberSchema, { userId, floorSeq: 1, ...told });
}

let batches = 0n;

export function batch(incarnation: string, ...writes: ConversationWrite[]): AppendRequest {
  batches += 1n;
  return create(AppendRequestSchema, { batchId: batches, incarnation, writes });
}

/** What tests ask of a storage, wherever it runs. */
export class DeskClient {
  readonly client: Client<typeof StorageService>;

  constructor(client: Client<typeof StorageService>) {
    this.client = client;
  }

  stream(): AppendClient {
    return new AppendClient(this.client);
  }

  /** Appends one batch over a stream of its own and answers with its last stage. */
  async append(...writes: ConversationWrite[]): Promise<AppendResponse> {
    return this.appendAs("one", ...writes);
  }

  async appendAs(incarnation: string, ...writes: ConversationWrite[]): Promise<AppendResponse> {
    const stream = this.stream();
    const last = await stream.send(batch(incarnation, ...writes));
    await stream.close();
    return last;
  }

  async kept(...writes: ConversationWrite[]): Promise<void> {
    const { stage, message } = await this.append(...writes);
    assert.equal(stage, Stage.INDEXED, message);
  }

  /** The texts' seqs that a page has. */
  async page(
    page: Partial<Record<"conversationId" | "userId", string>> &
      Partial<Record<"afterSeq" | "beforeSeq" | "limit", number>>,
  ): Promise<Page> {
    const { pages } = await this.client.read({
      pages: [{ conversationId: "g:1", limit: 50, ...page }],
    });
    const [result] = pages;
    assert(result !== undefined);
    const { found, headSeq, floorSeq } = result;
    return { found, headSeq, floorSeq, seqs: result.records.map(seqOf), records: result.records };
  }

  async tail(
    conversationId = "g:1",
  ): Promise<{ headSeq: number; tail: Cell[]; members: Member[] }> {
    const members: Member[] = [];
    const tail: Cell[] = [];
    let headSeq = 0;
    for await (const response of this.client.open({ conversationId })) {
      headSeq = response.state?.headSeq ?? headSeq;
      members.push(...response.members);
      tail.push(...response.tail);
    }
    return { headSeq, tail, members };
  }
}

/** A storage service and a client of it. */
export class Desk extends DeskClient {
  readonly metrics: NotedMetrics;
  readonly #mesh: LocalMesh;
  readonly #closeService: () => Promise<void>;

  constructor(deps: StorageDeps, clock: Clock = new ManualClock()) {
    const mesh = new LocalMesh({ wire: true });
    const metrics = new NotedMetrics();
    const random = seededRandom(1);
    const surroundings: Surroundings = {
      clock,
      random,
      log: pino({ level: "silent" }),
      metrics,
      identity: new Identity(random),
      transport: (service) => mesh.transport(service),
      peers: () => new PeerTable(),
    };
    const storage = createStorage(surroundings, deps);
    mesh.serve(StorageService, storage.service);
    super(createClient(StorageService, mesh.transport(StorageService)));
    this.metrics = metrics;
    this.#mesh = mesh;
    this.#closeService = () => storage.close();
  }

  async close(): Promise<void> {
    await this.#closeService();
    await this.#mesh.close();
  }
}

export interface Page {
  found: boolean;
  headSeq: number;
  floorSeq: number;
  seqs: number[];
  records: Uint8Array[];
}

function seqOf(record: Uint8Array): number {
  // conversation_id is field 1, seq field 2: a length-delimited field, then a varint.
  let at = 2 + (record[1] ?? 0) + 1;
  let seq = 0;
  for (let shift = 0; ; shift += 7, at += 1) {
    const byte = record[at] ?? 0;
    seq |= (byte & 127) << shift;
    if (byte < 128) return seq;
  }
}

/** One stream of batches. */
export class AppendClient {
  readonly #requests = new Pipe<AppendRequest>(1_000);
  readonly #waiting = new Map<bigint, (response: AppendResponse) => void>();
  readonly stages: [bigint, Stage][] = [];
  readonly #done: Promise<void>;

  constructor(client: Client<typeof StorageService>) {
    this.#done = this.#read(client);
  }

  async #read(client: Client<typeof StorageService>): Promise<void> {
    for await (const response of client.append(this.#requests)) {
      this.stages.push([response.batchId, response.stage]);
      if (response.stage === Stage.COMMITTED) continue;
      this.#waiting.get(response.batchId)?.(response);
    }
  }

  /** Resolves with what became of it. */
  send(request: AppendRequest): Promise<AppendResponse> {
    const answered = new Promise<AppendResponse>((resolve) => {
      this.#waiting.set(request.batchId, resolve);
    });
    assert(this.#requests.offer(request), "the test sends too much at once");
    return within(waitMs, `an answer to batch ${request.batchId}`, answered);
  }

  async close(): Promise<void> {
    this.#requests.end();
    await this.#done;
  }
}
