/** The gateway's public names: clients' edge to the other services. */
import type { Surroundings } from "../mesh/lifecycle.ts";
import type { ShardMap } from "../mesh/shards.ts";
import type { GatewayConfig } from "./config.ts";
import type { Authenticator } from "./ports.ts";
import { ChatGateway } from "./service.ts";
import type { Gateway } from "./service.ts";

export { createAuthenticator, signDevelopmentToken } from "./auth.ts";
export type { AuthConfig } from "./auth.ts";
export { gatewayConfig } from "./config.ts";
export type { GatewayConfig } from "./config.ts";
export { readEdge, readMedia } from "./edge-config.ts";
export { createEdgeServer, edgeConfig } from "./http.ts";
export type { EdgeConfig, EdgeServer } from "./http.ts";
export type { ImageReader } from "./image.ts";
export { createMedia, mediaLimits } from "./media.ts";
export type { MediaLimits } from "./media.ts";
export { createPage, pageConfig } from "./page-config.ts";
export type { PageConfig } from "./page-config.ts";
export type { PageHandler } from "./page.ts";
export type { Authenticator, Caller, Calls, Identity } from "./ports.ts";
export type { Gateway } from "./service.ts";
export { tokenConfig, tokenKey } from "./token-config.ts";
export type { TokenConfig } from "./token-config.ts";

export function createGateway(
  surroundings: Surroundings,
  config: GatewayConfig,
  auth: Authenticator,
  shards: ShardMap,
): Gateway {
  return new ChatGateway(surroundings, config, auth, shards);
}
