/** Which web pages may talk to the edge: those of the same host, and those that are allowed by name. */

export interface OriginPolicy {
  /** `host` is the request's Host header. No origin means that it is not a browser that asks: fine. */
  allows(origin: string | undefined, host: string | undefined): boolean;
}

function parsed(url: string): URL | undefined {
  return URL.canParse(url) ? new URL(url) : undefined;
}

/** Whether both name the same host and port; TLS may end before us, so the scheme is the page's. */
function sameHost(origin: URL, host: string): boolean {
  return parsed(`${origin.protocol}//${host}`)?.host === origin.host;
}

/** `allowed`: origins such as "https://chat.example", or "*" for any. Throws an Error that names a wrong one. */
export function createOriginPolicy(allowed: readonly string[]): OriginPolicy {
  const origins = new Set<string>();
  for (const one of allowed) {
    const url = one === "*" ? undefined : parsed(one);
    const right = url !== undefined && /^https?:$/.test(url.protocol) && url.pathname === "/";
    if (one !== "*" && !right)
      throw new Error(`the allowed origin "${one}" is no origin such as https://chat.example`);
    origins.add(url === undefined ? "*" : url.origin);
  }
  return {
    allows(origin, host) {
      if (origin === undefined || origins.has("*")) return true;
      const url = parsed(origin);
      if (url === undefined) return false;
      return origins.has(url.origin) || (host !== undefined && sameHost(url, host));
    },
  };
}
