#!/usr/bin/env bash
# Builds Helm from its Go module into a cache and prints the folder that it is in.
#   install.sh [CACHE_DIR]
# Versions are pinned by go.mod and go.sum. Instant when already built; safe to run concurrently.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${1:-${TEST_SERVERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/test-servers}}
command -v go >/dev/null || { echo "there is no go" >&2; exit 1; }
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
bin=$cache/helm-$(cat "$here"/go.{mod,sum} | sha256sum | cut -c1-12)

if [ ! -d "$bin" ]; then
  exec 9>"$cache/helm.lock"
  flock 9
  if [ ! -d "$bin" ]; then # another process may have finished meanwhile
    tmp=$(mktemp -d "$cache/helm.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    (cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$tmp/helm" helm.sh/helm/v4/cmd/helm) >&2
    chmod 755 "$tmp"
    mv -T "$tmp" "$bin"
  fi
fi
echo "$bin"
