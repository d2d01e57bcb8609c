#!/usr/bin/env bash
# Builds etcd and etcdctl from their Go modules into a cache and prints their directory.
#   install.sh [CACHE_DIR]
# Versions are pinned by go.mod and go.sum. Instant when already built; safe to run concurrently.
# (`go install …@version` refuses etcd's modules, which carry replace directives.)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/test-servers}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
bin=$cache/etcd-$(cat "$here"/go.{mod,sum} | sha256sum | cut -c1-12)

if [ ! -d "$bin" ]; then
  exec 9>"$cache/etcd.lock"
  flock 9
  if [ ! -d "$bin" ]; then                       # another process may have finished meanwhile
    tmp=$(mktemp -d "$cache/etcd.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    for tool in etcd:server etcdctl:etcdctl; do
      (cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' \
        -o "$tmp/${tool%:*}" "go.etcd.io/etcd/${tool#*:}/v3") >&2
    done
    chmod 755 "$tmp"
    mv -T "$tmp" "$bin"
  fi
fi
echo "$bin"
