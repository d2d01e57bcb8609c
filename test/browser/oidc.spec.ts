/** Signing in where the server does not sign tokens itself: at an OpenID provider, with tokens that are renewed and are in no address. */
import assert from "node:assert/strict";
import { host, openGround } from "./ground.ts";
import { openProvider, type Provider } from "./provider.ts";

describe("signing in at an OpenID provider", () => {
  let provider: Provider | undefined;
  const ground = openGround("fixture", async () => {
    // So short that the page has to renew it with its first use.
    provider = await openProvider(host, "olivia", 30);
    const { issuer, clientId } = provider;
    return {
      PARLEY_JWKS_URL: `${issuer}/keys`,
      PARLEY_OIDC_ISSUER: issuer,
      PARLEY_OIDC_CLIENT_ID: clientId,
    };
  });
  after(() => provider?.close());

  it("comes back with a token that is in no address and outlives no tab", async () => {
    const context = await ground.context();
    const page = await context.newPage();
    const addresses: string[] = [];
    page.on("request", (request) => addresses.push(request.url()));
    page.on("framenavigated", (frame) => addresses.push(frame.url()));
    await page.goto(ground.url);
    await page.locator("body[data-ready]").waitFor({ state: "attached" });
    assert.deepEqual(await page.evaluate(() => parley.signIn.offer()), {
      development: false,
      oidc: new URL(provider?.issuer ?? "").host,
    });
    await page.evaluate(() => void parley.signIn.byProvider());
    await page.waitForURL((url) => url.searchParams.has("state"));
    await page.locator("body[data-ready]").waitFor({ state: "attached" });
    await page.evaluate(() => parley.face?.until(({ synced }) => synced));
    assert.equal(page.url(), `${ground.url}/`);
    const kept = await page.evaluate(() => ({
      local: JSON.stringify(localStorage),
      token: JSON.parse(sessionStorage.getItem("parley.grant") ?? "{}").token as string,
    }));
    assert.match(kept.token, /^eyJ/);
    assert.ok(!kept.local.includes(kept.token));
    assert.ok(addresses.length > 0 && addresses.every((address) => !address.includes("eyJ")));
    assert.ok((provider?.refreshed() ?? 0) > 0, "a token at its end was not renewed");
    const other = await context.newPage();
    await other.goto(ground.url);
    await other.locator("body[data-ready]").waitFor({ state: "attached" });
    assert.equal(await other.evaluate(() => parley.signIn.current()), undefined);
  });

  it("takes no code that this tab did not ask for", async () => {
    const page = await (await ground.context()).newPage();
    ground.expect(/sign in once more/);
    await page.goto(`${ground.url}/?code=stolen&state=made-up`);
    await page.waitForURL((url) => url.search === "");
    assert.equal(await page.evaluate(() => sessionStorage.getItem("parley.grant")), null);
  });
});
