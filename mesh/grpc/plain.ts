/** Unencrypted connections to a server: one that lets itself be connected to and then says nothing is given up, which the library never does. */
import { CallCredentials, ChannelCredentials } from "@grpc/grpc-js";
import type { experimental } from "@grpc/grpc-js";
import type { Clock } from "../clock.ts";
import { handshakeMs } from "./limits.ts";

export function plainChannel(clock: Clock): ChannelCredentials {
  return new PlainChannel(clock);
}

class PlainChannel extends ChannelCredentials {
  readonly #clock: Clock;

  constructor(clock: Clock) {
    super();
    this.#clock = clock;
  }

  override _isSecure(): boolean {
    return false;
  }

  override _equals(other: ChannelCredentials): boolean {
    return other === this;
  }

  override _createSecureConnector(
    _target: unknown,
    _options: unknown,
    callCredentials: CallCredentials = CallCredentials.createEmpty(),
  ): experimental.SecureConnector {
    return {
      connect: (socket) => {
        const cancel = this.#clock.after(handshakeMs, () => {
          if (socket.bytesRead === 0) socket.destroy();
        });
        socket.once("close", cancel);
        return Promise.resolve({ socket, secure: false });
      },
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => callCredentials,
      destroy: () => undefined,
    };
  }
}
