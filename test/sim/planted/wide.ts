/** Faults planted in a wide world: in what operators ask for, in images, and in the limits that floods meet. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { MediaStore } from "../../../storage/index.ts";
import { DeliveryService } from "../../../proto/gen/parley/delivery/v1/delivery_pb.ts";
import { over, type Patch } from "../patch.ts";

/** Of what an erased user wrote nothing is taken away. */
export const recordsStay: Patch = {
  store: (store) => over(store, { rewrite: () => Promise.resolve() }),
};

/** What is erased is gone, and devices that have it are not told. */
export const erasuresUntold: Patch = {
  service(implementation, served) {
    if (served.typeName !== DeliveryService.typeName) return implementation;
    // It is this service's: see above.
    const own = implementation as ServiceImpl<typeof DeliveryService>;
    return over<ServiceImpl<typeof DeliveryService>>(own, {
      eraseMember: (request, context) => own.eraseMember({ ...request, erased: [] }, context),
    });
  },
};

/** The media of all storage processes, changed. */
const media = (change: (kept: MediaStore) => Partial<MediaStore>): Patch => ({
  world({ media: all }) {
    if (all === undefined) return;
    const of = all.of.bind(all);
    all.of = (host) => {
      const kept = of(host);
      return over<MediaStore>(kept, change(kept));
    };
  },
});

/** What an erased user uploaded is kept, and shown. */
export const imagesStay: Patch = {
  ...media(() => ({ remove: () => Promise.resolve() })),
  store: (store) => over(store, { removeUpload: () => Promise.resolve() }),
};

/** An image is answered for and not kept. */
export const imagesForgotten = media((kept) => ({
  async put(chunks) {
    const answer = await kept.put(chunks);
    await kept.remove(answer.mediaId);
    return answer;
  },
}));

/** Calls are not counted. */
export const callsUnlimited: Patch = {
  world(world) {
    world.limits = { ...world.limits, callsBurst: 100_000 };
  },
};

/** Of a conversation one record more is removed than is due. */
export const trimmedTooFar: Patch = {
  store: (store) => over(store, { trim: (id, first, floor) => store.trim(id, first, floor + 1) }),
};
