/** Builds the page. No inline script or style comes out of it, so that the strictest content security policy holds. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export const webConfig = defineConfig({
  root: here("."),
  base: "./",
  // virtua is written for React; Preact's compat layer is all that it needs of it.
  resolve: { alias: { react: "preact/compat", "react-dom": "preact/compat" } },
  build: {
    outDir: here("../../dist/web"),
    emptyOutDir: true,
    target: "es2024",
    // Inlined files would be data: URLs, which the policy allows for pictures only.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});

export { webConfig as default };
