/** What every storage must do: the suite of all stores, through the service, each case under names of its own. */
import { createClient } from "@connectrpc/connect";
import { StorageService } from "../../../proto/gen/parley/storage/v1/storage_pb.ts";
import { DeskClient } from "../../storage/writes.ts";
import { erasureCases } from "../erasure.ts";
import { retentionCases } from "./storage-retention.ts";
import { deskCases } from "../store.ts";
import { collected } from "./collected.ts";
import { fresh } from "./fresh.ts";
import type { Tested } from "./process.ts";
import { renamedTransport } from "./renamed.ts";

export interface StoragePlace {
  readonly tested: Tested;
}

let place: StoragePlace | undefined;

let desk: DeskClient | undefined;

/** Each case has one where nothing is yet. */
function openDesk(): void {
  if (place === undefined) throw new Error("no case of this suite is under way");
  const { ground, address } = place.tested;
  const [suffix] = fresh("");
  const transport = renamedTransport(ground.transport(address), suffix);
  desk = new DeskClient(createClient(StorageService, transport));
}

function present(): DeskClient {
  if (desk === undefined) throw new Error("no case of this suite is under way");
  return desk;
}

const cases = collected(() => {
  beforeEach(openDesk);
  // A storage of a cluster does not read before it writes, and none has to.
  deskCases(present, { reads: false, manyMembers: 5_000 });
  describe("erasure", () => erasureCases(present));
  describe("retention", () => retentionCases(present));
});

export const storageCases = Object.fromEntries(
  cases.map(({ title, run }) => [
    title,
    async (at: StoragePlace): Promise<void> => {
      place = at;
      await run();
    },
  ]),
);
