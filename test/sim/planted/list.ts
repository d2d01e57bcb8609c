/** Every planted fault, with the harm that it takes to show and how many seeds it may take. */
import type { Patch } from "../patch.ts";
import {
  type Harm,
  ofDevices,
  ofErasures,
  ofFloods,
  ofImages,
  ofOwners,
  ofRetention,
  ofTakeovers,
  ofTheStore,
} from "./harm.ts";
import * as services from "./services.ts";
import * as store from "./store.ts";
import * as wide from "./wide.ts";

export interface Planted {
  /** What is wrong, in a few words. */
  readonly what: string;
  readonly patch: Patch;
  readonly harm: Harm;
  /** One of the seeds 1, 2, 3 … up to this breaks a promise. */
  readonly within: number;
}

const fault = (what: string, patch: Patch, harm: Harm, within: number): Planted => ({
  what,
  patch,
  harm,
  within,
});

/** Of takeovers. */
const within = 60;

export const planted: readonly Planted[] = [
  fault("the revocation is not read after the writes", store.noCheck, ofOwners, 60),
  fault("the revocation is read before the writes", store.checkBefore, ofOwners, 250),
  fault("a shard is claimed from whoever has it", services.claimedBlindly, ofOwners, 100),
  fault("the owner before is not revoked", services.ownersForgotten, ofOwners, 60),
  fault("the owner before is revoked after the new one has read", store.revokedLate, ofOwners, 200),
  fault("the index is raised before the check", store.indexEarly, ofOwners, 60),
  fault("a record is committed before one that it follows", store.outOfOrder, ofOwners, 60),
  fault("a write of unknown outcome is given up", store.placeUsedAgain, ofOwners, 60),
  fault("a message is pushed before it is committed", store.pushedEarly, ofOwners, 60),
  fault("a message is acked before it is committed", store.ackedBeforeCommit, ofOwners, 60),
  fault("the index is raised after the ack", store.indexedAfterAck, ofOwners, 160),
  fault(
    "the link to the record before is not looked at",
    store.linksNotChecked,
    ofTakeovers,
    within,
  ),
  fault("holes are adopted", services.holesAdopted, ofTakeovers, within),
  fault("adopted records are not written again", store.noSeal, ofTakeovers, 150),
  fault(
    "adopted records are written again under their old epoch",
    store.sealUnderOldEpoch,
    ofTakeovers,
    300,
  ),
  fault(
    "the revocation is not read after adopted records are written",
    store.noCheckAfterSeal,
    ofTakeovers,
    200,
  ),
  fault("all epochs are equal", services.equalEpochs, ofTakeovers, within),
  fault("records are timed by a clock", store.clockTimestamps, ofTakeovers, within),
  fault("writes are answered by one replica", store.writesOfOne, ofTakeovers, within),
  fault("what arrives last wins", store.lastArrivalWins, ofTakeovers, within),
  fault("reads are answered by one replica", store.readsOfOne, ofTheStore, 12),
  fault("cursors are timed by clocks that differ", store.cursorsByClock, ofTheStore, 12),
  fault("late retries are looked for in memory alone", services.retriesByMemory, ofTakeovers, 12),
  fault("membership is not checked", store.membersNotChecked, ofDevices, 12),
  fault("nobody is told that somebody went offline", services.neverOffline, ofDevices, 12),
  fault(
    "a session outlives its connection and its gateway",
    services.sessionsOutlive,
    ofDevices,
    12,
  ),
  fault("a stream drops a batch and says nothing", services.batchesDropped, ofDevices, 12),
  fault("cursors that are told go back", services.cursorsBack, ofDevices, 12),
  fault("a device's frames overtake one another", services.framesSwapped, ofDevices, 12),
  fault("what an erased user wrote stays", wide.recordsStay, ofErasures, 6),
  fault("devices are not told what is erased", wide.erasuresUntold, ofErasures, 6),
  fault("what an erased user uploaded stays", wide.imagesStay, ofErasures, 12),
  fault("an image is forgotten", wide.imagesForgotten, ofImages, 6),
  fault("calls are not counted", wide.callsUnlimited, ofFloods, 6),
  fault("a record more than is due is removed", wide.trimmedTooFar, ofRetention, 6),
];
