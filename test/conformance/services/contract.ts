/** A contract: what a process of one service must do, tried from outside. Who runs the process, and in which language it is written, it must not know. */
import type { DescService } from "@bufbuild/protobuf";
import type { ServiceName } from "../../../mesh/directory.ts";
import type { Settings } from "../../support/parley.ts";
import type { Ground } from "./ground.ts";
import { type Tested, endsWell, instanceOf, processCases } from "./process.ts";

export interface Contract {
  readonly name: ServiceName;
  /** With which the process must have been started. */
  readonly settings: Settings;
  readonly titles: readonly string[];
  /** Plays its neighbours; what is answered is ready when the process is. */
  play(ground: Ground): Promise<Played>;
}

export interface Played {
  /** Resolves when the process is ready. `url`: where clients reach it, where they do. */
  meet(address: string, url: string): Promise<void>;
  /** Rejects where the process does not keep to it. */
  run(title: string): Promise<void>;
  /** The last of its titles: `end` ends the process. */
  ends(end: () => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

export interface Play<W> {
  meet(tested: Tested, url: string): W;
  close?(): Promise<void>;
}

type Cases<W> = Readonly<Record<string, (world: W) => Promise<void>>>;

export function contract<W extends { readonly tested: Tested }>(
  name: ServiceName,
  service: DescService,
  settings: Settings,
  cases: Cases<W>,
  play: (ground: Ground) => Promise<Play<W>>,
): Contract {
  const all: Cases<W> = {
    ...Object.fromEntries(
      Object.entries(processCases).map(([title, passes]) => [
        title,
        ({ tested }: W) => passes(tested),
      ]),
    ),
    ...cases,
  };
  return {
    name,
    settings,
    titles: Object.keys(all),
    async play(ground) {
      const played = await play(ground);
      let world: W | undefined;
      return {
        async meet(address, url) {
          const tested = { ground, service, name, address };
          await instanceOf(tested);
          world = played.meet(tested, url);
        },
        async run(title) {
          const passes = all[title];
          if (world === undefined || passes === undefined) throw new Error(`no case "${title}"`);
          await passes(world);
        },
        async ends(end) {
          if (world === undefined) throw new Error("there is no process");
          await endsWell(world.tested, end);
        },
        close: async () => played.close?.(),
      };
    },
  };
}
