/** Every planted fault, with the harm that it takes to show and the seed that is the first to show it. */
import type { Patch } from "../patch.ts";
import { type Harm, ofDevices, ofOwners, ofTheStore } from "./harm.ts";
import * as services from "./services.ts";
import * as store from "./store.ts";

export interface Planted {
  /** What is wrong, in a few words. */
  readonly what: string;
  readonly patch: Patch;
  readonly harm: Harm;
  /** The first of 1, 2, 3 … that breaks a promise. */
  readonly seed: number;
}

const fault = (what: string, patch: Patch, harm: Harm, seed: number): Planted => ({
  what,
  patch,
  harm,
  seed,
});

export const planted: readonly Planted[] = [
  fault("the revocation is not read after the writes", store.noCheck, ofOwners, 3),
  fault("the owner before is not revoked", services.ownersForgotten, ofOwners, 3),
  fault("reads are answered by one replica", store.readsOfOne, ofTheStore, 1),
  fault("late retries are looked for in memory alone", services.retriesByMemory, ofDevices, 4),
  fault("membership is not checked", store.membersNotChecked, ofDevices, 1),
  fault("nobody is told that somebody went offline", services.neverOffline, ofDevices, 1),
  fault(
    "a session outlives its connection and its gateway",
    services.sessionsOutlive,
    ofDevices,
    1,
  ),
  fault("a stream drops a batch and says nothing", services.batchesDropped, ofDevices, 1),
  fault("cursors that are told go back", services.cursorsBack, ofDevices, 3),
  fault("a device's frames overtake one another", services.framesSwapped, ofDevices, 1),
];
