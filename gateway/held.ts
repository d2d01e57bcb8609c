/** Pushes that came while a device is told what it lacked. Pure. */
import type { SharedPush } from "./pushes.ts";

const pushesMax = 1_024;

export class HeldPushes {
  readonly #bytesMax: number;
  #pushes: SharedPush[] = [];
  #bytes = 0;
  #overflowed = false;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Where there are too many, none is kept: the device has to sync once more. */
  hold(push: SharedPush): void {
    if (this.#overflowed) return;
    this.#bytes += push.bytes;
    if (this.#bytes <= this.#bytesMax && this.#pushes.length < pushesMax) {
      this.#pushes.push(push);
      return;
    }
    this.#overflowed = true;
    this.#pushes = [];
  }

  get overflowed(): boolean {
    return this.#overflowed;
  }

  /** In their order. */
  get pushes(): readonly SharedPush[] {
    return this.#pushes;
  }
}
