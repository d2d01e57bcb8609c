/** Keeps the page itself, so that it opens while there is no network: newest first, the kept one where nothing answers. No data of anybody. */
const cacheName = "parley-page";

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(fetch("/", { cache: "no-cache" }).then(keep));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== self.location.origin) return;
  if (request.mode === "navigate" && pathname === "/") event.respondWith(page(event));
  else if (pathname.startsWith("/assets/") || pathname === "/icon.svg")
    event.respondWith(kept(request));
});

async function page(event) {
  try {
    const response = await fetch(event.request);
    if (response.ok) event.waitUntil(keep(response.clone()));
    return response;
  } catch (error) {
    const known = await caches.match("/", { ignoreVary: true });
    if (known !== undefined) return known;
    throw error;
  }
}

/** Names have a hash in them: what is kept is right. */
async function kept(request) {
  return (await caches.match(request, { ignoreVary: true })) ?? fetch(request);
}

/** Takes a page with all that it names, in place of the one before. */
async function keep(response) {
  if (!response.ok) return;
  const cache = await caches.open(cacheName);
  const text = await response.clone().text();
  const before = await cache.match("/", { ignoreVary: true });
  if (before !== undefined && (await before.text()) === text) return;
  const named = [...text.matchAll(/(?:src|href)="\.?\/?([\w./-]+)"/g)].map(
    ([, path]) => `/${path}`,
  );
  await cache.addAll(named);
  await cache.put("/", response);
  const wanted = new Set(["/", ...named]);
  for (const request of await cache.keys())
    if (!wanted.has(new URL(request.url).pathname)) await cache.delete(request);
}
