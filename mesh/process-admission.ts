/** Whether a process and the others of its cluster let one another in: a share of users and conversations falls to whoever is announced, so nobody is whom no other would talk to. */
import type { ChannelCredentials } from "@grpc/grpc-js";
import type { Clock } from "./clock.ts";
import { type Directory, type Instance, serviceNames } from "./directory.ts";
import { type Verdict, probe } from "./grpc/probe.ts";
import type { Random } from "./random.ts";

export interface AdmissionParts {
  readonly directory: Directory;
  readonly clock: Clock;
  readonly random: Random;
  /** How it connects to others; unencrypted if not given. */
  readonly credentials?: ChannelCredentials;
  /** Why nobody would take its certificate, a sentence each. */
  readonly faults: () => string[];
}

export type Answer =
  | { readonly t: "let in" | "nobody" | "silent" }
  /** A sentence that says what to do. */
  | { readonly t: "refused"; readonly reason: string };

const refused = (reason: string): Answer => ({ t: "refused", reason });

/** That many of the others are asked, by chance. */
const askedMax = 8;

export class Admission {
  readonly #parts: AdmissionParts;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  /**
   * What the others say to the process at that address: one that lets it in is enough. Nobody is there for the first of a cluster, and may
   * be for whoever comes after a crash of all, while old leases last. "silent": those that are there have not said anything yet.
   */
  async ask(address: string, signal: AbortSignal): Promise<Answer> {
    const [fault] = this.#parts.faults();
    if (fault !== undefined)
      return refused(`it is not announced, as no other process would let it in: ${fault}`);
    const refusals: string[] = [];
    let isSilent = false;
    const stop = new AbortController();
    const isLetIn = async (other: Instance): Promise<boolean> => {
      const verdict = await this.#ask(other, AbortSignal.any([signal, stop.signal]));
      if (verdict.t === "silent") isSilent = true;
      if (verdict.t === "refused")
        refusals.push(`${other.service} at ${other.address}: ${verdict.reason}`);
      return verdict.t === "let in";
    };
    const isIn = await anyOf(this.#others(address).map(isLetIn));
    stop.abort();
    if (isIn) return { t: "let in" };
    const [refusal] = refusals;
    if (refusal === undefined) return { t: isSilent ? "silent" : "nobody" };
    return refused(
      `it is not announced, as no other process lets it in, like the ${refusal}; ` +
        "PARLEY_TLS_CERT_FILE, PARLEY_TLS_KEY_FILE and PARLEY_TLS_CA_FILE must be of the same authority for all processes, or set for none",
    );
  }

  #ask(other: Instance, signal: AbortSignal): Promise<Verdict> {
    return probe(other.address, this.#parts, signal);
  }

  /** Not those of its own address: what it was before its present life. */
  #others(address: string): Instance[] {
    const { directory, random } = this.#parts;
    return serviceNames
      .flatMap((service) => directory.instances(service).present)
      .filter((one) => one.address !== address)
      .map((one) => ({ one, place: random.unit() }))
      .toSorted((left, right) => left.place - right.place)
      .slice(0, askedMax)
      .map(({ one }) => one);
  }
}

/** Resolves with the first that is true, or when all are known. */
async function anyOf(answers: readonly Promise<boolean>[]): Promise<boolean> {
  const found = answers.map(async (answer) => {
    if (!(await answer)) throw new Error("no");
  });
  return Promise.any(found).then(
    () => true,
    () => false,
  );
}
