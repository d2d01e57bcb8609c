/** What every process of a cluster must do, whatever its service: announce itself, stay announced, and say whether it serves. */
import assert from "node:assert/strict";
import { Code, createClient } from "@connectrpc/connect";
import type { DescService } from "@bufbuild/protobuf";
import { systemClock, sleep } from "../../../mesh/clock.ts";
import type { Instance, ServiceName } from "../../../mesh/directory.ts";
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../../proto/gen/grpc/health/v1/health_pb.ts";
import { asked, within } from "../../support/within.ts";
import type { Ground } from "./ground.ts";
import { leaseSeconds } from "./ground.ts";

export interface Tested {
  readonly ground: Ground;
  readonly service: DescService;
  readonly name: ServiceName;
  /** Where its gRPC listens, "host:port". */
  readonly address: string;
}

const boundMs = 20_000;

export const instanceOf = ({ ground, service, name, address }: Tested): Promise<Instance> =>
  ground.found(service, name, address);

export const processCases: Readonly<Record<string, (tested: Tested) => Promise<void>>> = {
  async "is announced below its service, under a lease, with what the others need"(tested) {
    const { ground, address } = tested;
    const { id } = await instanceOf(tested);
    const entry = ground.keyOf({ service: tested.name, id });
    assert.ok(entry !== undefined);
    assert.notEqual(entry.lease, 0n, "the key has no lease");
    const said = JSON.parse(entry.value) as Record<string, unknown>;
    assert.equal(said["address"], address);
    assert.equal(said["draining"], false);
    for (const field of ["name", "region", "url"]) assert.equal(typeof said[field], "string");
  },

  async "keeps its lease alive"(tested) {
    const { id } = await instanceOf(tested);
    await sleep(systemClock, 1_500 * leaseSeconds);
    assert.equal((await instanceOf(tested)).id, id);
  },

  async "begins another life under another id where its lease was lost"(tested) {
    const { ground, name, address } = tested;
    const before = await instanceOf(tested);
    const lease = ground.keyOf(before)?.lease ?? 0n;
    ground.etcd.endLease(lease);
    const after = await asked(boundMs, "another life", () => {
      const now = ground.instanceAt(name, address);
      return Promise.resolve(now !== undefined && now.id !== before.id ? now : undefined);
    });
    assert.notEqual(ground.keyOf(after)?.lease, lease);
    assert.equal(ground.keyOf(before), undefined);
    await instanceOf(tested);
  },

  async "says whether it serves by gRPC's health: as a whole, of its service, and of no other"(
    tested,
  ) {
    const { ground, service, address } = tested;
    await instanceOf(tested);
    const health = createClient(Health, ground.transport(address));
    for (const one of ["", service.typeName])
      assert.equal((await health.check({ service: one })).status, Serving.SERVING);
    await assert.rejects(health.check({ service: "parley.NoService" }), { code: Code.NotFound });
  },
};

/** What the process does when it is told to end, by a signal where it is one of its own: `end` resolves when it is gone. */
export const endTitle = "says that it goes away, leaves the others, and ends";

export async function endsWell(tested: Tested, end: () => Promise<void>): Promise<void> {
  const { ground, name, address } = tested;
  const { id } = await instanceOf(tested);
  let isToldDraining = false;
  const unwatch = ground.directory.instances(name).watch(() => {
    if (ground.instanceAt(name, address)?.draining === true) isToldDraining = true;
  });
  try {
    await within(boundMs, "its end", end());
    assert.equal(
      ground.keyOf({ service: name, id }),
      undefined,
      "its lease was left to end by itself",
    );
    await asked(boundMs, "it to be told that it goes away", () =>
      Promise.resolve(isToldDraining ? true : undefined),
    );
  } finally {
    unwatch();
  }
}
