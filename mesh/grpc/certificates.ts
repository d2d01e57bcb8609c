/** This process's certificate, its key and the authority of its mesh: read from files, and read again when those change. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { SecureContext } from "node:tls";
import type { Logger } from "pino";
import { every, systemClock, timeOf } from "../clock.ts";
import type { Cancel, Clock } from "../clock.ts";

/** The name that every certificate of a mesh has: peers are known by it, as their addresses change. */
export const meshName = "parley.mesh";

const lookEveryMs = 5_000;
const soonMs = 24 * 3_600_000;

const uses = { "1.3.6.1.5.5.7.3.1": "servers", "1.3.6.1.5.5.7.3.2": "clients" };

export interface CertificateFiles {
  /** PEM; where others stand between it and the authority, they follow it. */
  certFile: string;
  keyFile: string;
  /** PEM; more than one while authorities change. */
  caFile: string;
}

/** Peers of one mesh speak nothing older. */
export interface Pem {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
  readonly minVersion: "TLSv1.3";
}

interface Loaded {
  readonly pem: Pem;
  readonly context: SecureContext;
  readonly leaf: X509Certificate;
}

export class Certificates {
  readonly #files: CertificateFiles;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #listeners = new Set<(pem: Pem) => void>();
  readonly #stop: Cancel;
  #loaded: Loaded | undefined;
  /** What the files had when they were last looked at, good or not. */
  #seen = "";
  /** Why what the files have is not in use. */
  #fault: string | undefined;
  #told: readonly string[] = [];

  constructor(files: CertificateFiles, log: Logger, clock: Clock = systemClock) {
    this.#files = files;
    this.#clock = clock;
    this.#log = log;
    this.#look();
    this.#stop = every(clock, lookEveryMs, () => this.#look());
  }

  /** Undefined: there never was one that could be used. */
  get pem(): Pem | undefined {
    return this.#loaded?.pem;
  }

  /** Throws a sentence where there never was one that could be used. */
  get context(): SecureContext {
    if (this.#loaded === undefined) throw new Error(this.#fault);
    return this.#loaded.context;
  }

  /** Calls with each change, until the answer is called. */
  watch(changed: (pem: Pem) => void): Cancel {
    this.#listeners.add(changed);
    return () => void this.#listeners.delete(changed);
  }

  /** Why no peer takes it, a sentence each. */
  problems(): string[] {
    if (this.#loaded === undefined) return this.#fault === undefined ? [] : [this.#fault];
    const { leaf } = this.#loaded;
    const which = `the certificate in ${this.#files.certFile}`;
    const found: string[] = [];
    const nowMs = this.#clock.now();
    if (timeOf(leaf.validTo) <= nowMs) found.push(`${which} expired on ${leaf.validTo}`);
    if (timeOf(leaf.validFrom) > nowMs)
      found.push(`${which} is not valid before ${leaf.validFrom}`);
    if (leaf.checkHost(meshName) === undefined) found.push(`${which} lacks the name ${meshName}`);
    // Absent where the certificate does not say what it is for: for everything.
    const said: readonly string[] = leaf.keyUsage ?? Object.keys(uses);
    for (const [oid, whom] of Object.entries(uses)) {
      if (!said.includes(oid)) found.push(`${which} is not for ${whom}`);
    }
    return found;
  }

  /** What will be a problem unless somebody does something, a sentence each. */
  warnings(): string[] {
    if (this.#loaded === undefined) return [];
    const found = this.#fault === undefined ? [] : [`${this.#fault}; the one before stays in use`];
    const leftMs = timeOf(this.#loaded.leaf.validTo) - this.#clock.now();
    if (leftMs > 0 && leftMs <= soonMs)
      found.push(
        `the certificate in ${this.#files.certFile} expires on ${this.#loaded.leaf.validTo}`,
      );
    return found;
  }

  close(): void {
    this.#stop();
    this.#listeners.clear();
  }

  #look(): void {
    this.#load();
    const told = [...this.problems(), ...this.warnings()];
    for (const sentence of told) if (!this.#told.includes(sentence)) this.#log.warn(sentence);
    this.#told = told;
  }

  #load(): void {
    const { certFile, keyFile, caFile } = this.#files;
    try {
      const pem: Pem = {
        cert: read(certFile),
        key: read(keyFile),
        ca: read(caFile),
        minVersion: "TLSv1.3",
      };
      const seen = Object.values(pem).join("\n");
      if (seen === this.#seen) return;
      this.#seen = seen;
      this.#use(pem);
    } catch (error) {
      this.#seen = "";
      this.#fault = error instanceof Error ? error.message : String(error);
    }
  }

  #use(pem: Pem): void {
    const { certFile, keyFile, caFile } = this.#files;
    const leaf = parse(certFile, () => new X509Certificate(pem.cert));
    // Asked for by itself: without any the public authorities would be trusted.
    parse(caFile, () => new X509Certificate(pem.ca));
    const context = parse(`${certFile} with the key in ${keyFile}`, () => createSecureContext(pem));
    this.#loaded = { pem, context, leaf };
    this.#fault = undefined;
    for (const changed of this.#listeners) changed(pem);
    const { serialNumber, validTo } = leaf;
    this.#log.info({ serialNumber, validTo }, "a certificate is in use for the mesh");
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new Error(`${file} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
}

function parse<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw new Error(`${what} cannot be used: ${reasonOf(error)}`, { cause: error });
  }
}

const reasonOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);
