/** An authority for tests: makes certificates for the services of a mesh, good ones and bad ones, and writes them as PEM files. */
import "./reflect.ts";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import type { Extension, X509Certificate } from "@peculiar/x509";
import { randomBytes, webcrypto } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import type { CertificateFiles } from "../../mesh/grpc/certificates.ts";
import { meshName } from "../../mesh/grpc/certificates.ts";

type CryptoKeyPair = webcrypto.CryptoKeyPair;

cryptoProvider.set(webcrypto);

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const hourMs = 3_600_000;

export interface Service {
  /** The names and addresses it goes by. */
  names?: readonly string[];
  /** From when to when it is valid, in milliseconds from now. */
  fromMs?: number;
  untilMs?: number;
  uses?: readonly ("server" | "client")[];
}

export class TestCa {
  readonly #name: string;
  readonly #keys: CryptoKeyPair;
  readonly #certificate: X509Certificate;

  private constructor(name: string, keys: CryptoKeyPair, certificate: X509Certificate) {
    this.#name = name;
    this.#keys = keys;
    this.#certificate = certificate;
  }

  static async create(name = "Test CA"): Promise<TestCa> {
    const keys = await newKeys();
    const certificate = await X509CertificateGenerator.createSelfSigned({
      serialNumber: serial(),
      name: `CN=${name}`,
      notBefore: new Date(Date.now() - hourMs),
      notAfter: new Date(Date.now() + 24 * 365 * hourMs),
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    return new TestCa(name, keys, certificate);
  }

  get pem(): string {
    return this.#certificate.toString("pem");
  }

  /** A certificate of a service and its key, as PEM. */
  async issue({
    names = [meshName],
    fromMs = -hourMs,
    untilMs = 24 * 30 * hourMs,
    uses = ["server", "client"],
  }: Service = {}): Promise<{ cert: string; key: string }> {
    const keys = await newKeys();
    const extensions: Extension[] = [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension(
        uses.map((use) =>
          use === "server" ? ExtendedKeyUsage.serverAuth : ExtendedKeyUsage.clientAuth,
        ),
      ),
      new SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isIP(value) === 0 ? "dns" : "ip", value })),
      ),
      await AuthorityKeyIdentifierExtension.create(this.#keys.publicKey),
    ];
    const certificate = await X509CertificateGenerator.create({
      serialNumber: serial(),
      subject: "CN=parley",
      issuer: `CN=${this.#name}`,
      notBefore: new Date(Date.now() + fromMs),
      notAfter: new Date(Date.now() + untilMs),
      signingAlgorithm: algorithm,
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      extensions,
    });
    const key = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
    return { cert: certificate.toString("pem"), key: PemConverter.encode(key, "PRIVATE KEY") };
  }

  /** Writes a service's files into a folder, over those that are there. */
  async write(
    folder: string,
    service: Service = {},
    trusted: TestCa | readonly TestCa[] = this,
  ): Promise<CertificateFiles> {
    const { cert, key } = await this.issue(service);
    const files = {
      certFile: join(folder, "mesh.crt"),
      keyFile: join(folder, "mesh.key"),
      caFile: join(folder, "ca.crt"),
    };
    const authorities = trusted instanceof TestCa ? [trusted] : trusted;
    await writeFile(files.caFile, authorities.map(({ pem }) => pem).join("\n"));
    await writeFile(files.keyFile, key, { mode: 0o600 });
    // Last: until then it does not match, so whoever uses it has read the others.
    await writeFile(files.certFile, cert);
    return files;
  }
}

const newKeys = (): Promise<CryptoKeyPair> =>
  webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);

const serial = (): string => `01${randomBytes(15).toString("hex")}`;
