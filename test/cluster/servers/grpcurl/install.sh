#!/usr/bin/env bash
# Builds grpcurl from its Go module into a cache and prints the directory that it is in.
#   install.sh [CACHE_DIR]
# Instant when already built; safe to run concurrently.
set -euo pipefail
version=v1.9.3
cache=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/test-servers}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
bin=$cache/grpcurl-$version

if [ ! -d "$bin" ]; then
  command -v go >/dev/null || { echo "there is no go" >&2; exit 1; }
  exec 9>"$cache/grpcurl.lock"
  flock 9
  if [ ! -d "$bin" ]; then # another process may have finished meanwhile
    tmp=$(mktemp -d "$cache/grpcurl.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    CGO_ENABLED=0 GOBIN=$tmp go install -trimpath -ldflags='-s -w' \
      "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version" >&2
    chmod 755 "$tmp"
    mv -T "$tmp" "$bin"
  fi
fi
echo "$bin"
