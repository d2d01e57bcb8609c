/** A real API server of Kubernetes on this machine, whose kubelets are played: no container runs there. */
import { execFile, execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { promisify } from "node:util";
import { newFolder } from "../support/parley.ts";
import { root } from "../support/tree.ts";
import { asked } from "../support/within.ts";

const run = promisify(execFile);
const script = (name: string): string => join(root, "test/helm/servers/kubernetes", `${name}.sh`);
const startMs = 4 * 60_000;

export class Kubernetes {
  readonly #folder: string;
  readonly #address: string;

  private constructor(folder: string, address: string) {
    this.#folder = folder;
    this.#address = address;
  }

  /** It answers when it resolves. */
  static async start(address: string): Promise<Kubernetes> {
    const { path } = await newFolder();
    const kubernetes = new Kubernetes(path, address);
    process.once("exit", kubernetes.#abandon);
    try {
      await run(script("start"), [path, address], { timeout: startMs });
      return kubernetes;
    } catch (error) {
      kubernetes.stop();
      throw error;
    }
  }

  /** What programs are told of where it is. */
  get env(): Readonly<Record<string, string>> {
    return { KUBECONFIG: join(this.#folder, "kubeconfig") };
  }

  /** An object, or a list of them; undefined: there is none. */
  get(path: string): Promise<unknown> {
    return this.#does("GET", path);
  }

  async make(path: string, object: object): Promise<unknown> {
    return this.#does("POST", path, object);
  }

  /** Of what that is to the API server: a group's path, and the kind in the plural. */
  static pathOf(apiVersion: string, kind: string, namespace: string): string {
    const group = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const name = kind.toLowerCase();
    const plural = name.endsWith("y")
      ? `${name.slice(0, -1)}ies`
      : name + (name.endsWith("s") ? "es" : "s");
    return `${group}/namespaces/${namespace}/${plural}`;
  }

  stop(): void {
    process.off("exit", this.#abandon);
    this.#abandon();
  }

  readonly #abandon = (): void => {
    execFileSync(script("stop"), [this.#folder]);
    rmSync(this.#folder, { recursive: true, force: true });
  };

  /** Again where the server says that it is not ready for that yet. */
  async #does(method: string, path: string, body?: object): Promise<unknown> {
    const { status, text } = await asked(startMs, path, async () => {
      const answer = await this.#call(method, path, body);
      return answer.status === 429 ? undefined : answer;
    });
    if (status === 404) return undefined;
    if (status >= 300) throw new Error(`${method} ${path}: ${text}`);
    return JSON.parse(text) as unknown;
  }

  #call(method: string, path: string, body?: object): Promise<{ status: number; text: string }> {
    const [token = ""] = readFileSync(join(this.#folder, "tokens.csv"), "utf8").split(",");
    const ca = readFileSync(join(this.#folder, "tls.crt"));
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const options = { host: this.#address, port: 16_443, path, method, ca, headers, agent: false };
    return new Promise((resolve, reject) => {
      const call = request({ ...options, timeout: 10_000 }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (part: string) => (text += part));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      });
      call.on("timeout", () => call.destroy(new Error(`${path} is not answered`)));
      call.on("error", reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}
