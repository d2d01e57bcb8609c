/** The page as a browser gets it: under which policy, and what the policy keeps out. */
import assert from "node:assert/strict";
import { openGround } from "./ground.ts";

describe("the page in a browser", () => {
  const ground = openGround();

  it("loads without a fault", async () => {
    const page = await (await ground.context()).newPage();
    const response = await page.goto(ground.url);
    assert.equal(response?.status(), 200);
    assert.notEqual(await page.title(), "");
  });

  it("runs no inline script, and shows no image from elsewhere", async () => {
    const page = await (await ground.context()).newPage();
    await page.goto(ground.url);
    ground.expect(/Content Security Policy/);
    const refused = await page.evaluate(async () => {
      const violated: string[] = [];
      const both = new Promise<void>((resolve) => {
        document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
          violated.push(effectiveDirective);
          if (violated.length === 2) resolve();
        });
      });
      const script = document.createElement("script");
      script.textContent = "globalThis.ran = true";
      const image = document.createElement("img");
      image.src = "http://127.0.0.1:1/x.png";
      document.body.append(script, image);
      await both;
      return { violated: violated.toSorted(), ran: "ran" in globalThis };
    });
    assert.deepEqual(refused, { violated: ["img-src", "script-src-elem"], ran: false });
  });
});
