/** The gateway as a process of a cluster. */
import { type ServiceProcess, type Made, type Parts, command } from "../mesh/process.ts";
import type { EnvReader } from "../mesh/env.ts";
import { GatewayService } from "../proto/gen/parley/gateway/v1/gateway_pb.ts";
import { createAuthenticator } from "./auth.ts";
import { type GatewayConfig, gatewayConfig } from "./config.ts";
import { readEdge, readMedia } from "./edge-config.ts";
import { type EdgeConfig, createEdgeServer } from "./http.ts";
import { createGateway } from "./index.ts";
import { type MediaLimits, createMedia } from "./media.ts";
import { type PageConfig, createPage, pageConfig } from "./page-config.ts";
import { type TokenConfig, tokenConfig, tokenKey } from "./token-config.ts";

interface Config {
  readonly region: string;
  readonly name: string;
  readonly front: { readonly host: string; readonly port: number };
  readonly frontSetting: string;
  readonly gateway: GatewayConfig;
  readonly edge: EdgeConfig;
  readonly media: MediaLimits;
  readonly page: PageConfig;
  readonly tokens: TokenConfig;
}

function readConfig(read: EnvReader): Config {
  const gateway = gatewayConfig(read);
  const { region, gatewayId: name, host, port } = gateway;
  return {
    region,
    name,
    front: { host, port },
    frontSetting: "PARLEY_PORT",
    gateway,
    edge: readEdge(read, gateway),
    media: readMedia(read, gateway),
    page: pageConfig(read),
    tokens: tokenConfig(read, "nothing says how tokens are checked"),
  };
}

async function make(parts: Parts<Config>): Promise<Made<typeof GatewayService>> {
  const { config, surroundings, directory, problems, warnings } = parts;
  const { clock, log } = surroundings;
  const key = await tokenKey(config.tokens);
  if (key === undefined) throw new Error("nothing says how tokens are checked");
  const auth = await createAuthenticator(key, clock);
  const gateway = createGateway(surroundings, config.gateway, auth, directory.shards);
  const edge = createEdgeServer({
    calls: gateway.calls,
    auth,
    upgrade: (request, socket, head, address) => gateway.upgrade(request, socket, head, address),
    media: createMedia(surroundings, auth, config.media),
    page: await createPage(config.page, "", clock),
    health: problems,
    warnings,
    clock,
    log,
    config: config.edge,
  });
  const { publicUrl: url } = config.gateway;
  return {
    running: gateway,
    edge: {
      url,
      listen: (host, port) => edge.listen(host, port),
      close: (graceMs) => edge.close(graceMs),
    },
  };
}

export const gateway: ServiceProcess<typeof GatewayService, Config> = {
  name: "gateway",
  service: GatewayService,
  readConfig,
  make,
};

export const gatewayCommand = command(gateway);
