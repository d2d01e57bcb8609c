/** A Connect client of ChatService for one-shot commands. */
import { type Client, type Interceptor, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { type IdentityOptions, tokens } from "./identity.ts";
import { ChatService } from "../proto/gen/parley/v1/chat_pb.ts";

export function chatClient(options: IdentityOptions): Client<typeof ChatService> {
  const token = tokens(options);
  const identify: Interceptor = (next) => async (request) => {
    request.header.set("Authorization", `Bearer ${await token()}`);
    request.header.set("Parley-Device", options.device ?? "cli");
    return next(request);
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
