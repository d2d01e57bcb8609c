/** A real API server of Kubernetes on this machine, whose kubelets are played: no container runs there. */
import { execFile, execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { promisify } from "node:util";
import { newFolder } from "../support/parley.ts";
import { root } from "../support/tree.ts";

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
    return this.#call("GET", path);
  }

  async make(path: string, object: object): Promise<void> {
    await this.#call("POST", path, object);
  }

  stop(): void {
    process.off("exit", this.#abandon);
    this.#abandon();
  }

  readonly #abandon = (): void => {
    execFileSync(script("stop"), [this.#folder]);
    rmSync(this.#folder, { recursive: true, force: true });
  };

  #call(method: string, path: string, body?: object): Promise<unknown> {
    const [token = ""] = readFileSync(join(this.#folder, "tokens.csv"), "utf8").split(",");
    const ca = readFileSync(join(this.#folder, "tls.crt"));
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const options = { host: this.#address, port: 16_443, path, method, ca, headers, agent: false };
    return new Promise((resolve, reject) => {
      const call = request({ ...options, timeout: 10_000 }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (part: string) => (text += part));
        response.on("end", () => {
          const { statusCode = 0 } = response;
          if (statusCode === 404) return resolve(undefined);
          if (statusCode >= 300) return reject(new Error(`${method} ${path}: ${text}`));
          resolve(JSON.parse(text));
        });
      });
      call.on("timeout", () => call.destroy(new Error(`${path} is not answered`)));
      call.on("error", reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}
