/** A Connect client of ChatService for one-shot commands, and what it says where no server answers. */
import {
  type Client,
  Code,
  ConnectError,
  type Interceptor,
  createClient,
} from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { type IdentityOptions, tokens } from "./identity.ts";
import { ChatService } from "../proto/gen/parley/v1/chat_pb.ts";

export function chatClient(options: IdentityOptions): Client<typeof ChatService> {
  const token = tokens(options);
  const identify: Interceptor = (next) => async (request) => {
    request.header.set("Authorization", `Bearer ${await token()}`);
    request.header.set("Parley-Device", options.device ?? "cli");
    try {
      return await next(request);
    } catch (error) {
      throw explained(options.url, error);
    }
  };
  return createClient(
    ChatService,
    createConnectTransport({
      baseUrl: options.url,
      httpVersion: "1.1",
      interceptors: [identify],
      defaultTimeoutMs: 30_000,
    }),
  );
}

/** An error with a cause came from no server's answer. */
function explained(url: string, error: unknown): unknown {
  if (!(error instanceof ConnectError) || error.cause === undefined) return error;
  if (error.code !== Code.Unavailable) return error;
  const message = `no server answers at ${url} (${error.rawMessage}): start one, or say where it is with --url`;
  return new ConnectError(message, Code.Unavailable, undefined, undefined, error.cause);
}
