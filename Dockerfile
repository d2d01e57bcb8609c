# The one image of all of Parley's processes: `docker build -t parley .`, then `docker run parley --help`.
# It needs no shell, writes below /data and /tmp only, and runs as user 1000.
FROM node:24-bookworm-slim AS build
WORKDIR /parley
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN npm run build && npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:24-bookworm-slim
ENV NODE_ENV=production
WORKDIR /parley
COPY --from=build /parley/package.json ./
COPY --from=build /parley/cli/parley.js ./cli/
COPY --from=build /parley/node_modules ./node_modules
COPY --from=build /parley/dist ./dist
RUN install -d -o 1000 -g 1000 /data
USER 1000:1000
VOLUME /data
ENTRYPOINT ["node", "--max-semi-space-size=32", "/parley/cli/parley.js"]
