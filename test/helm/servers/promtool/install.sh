#!/usr/bin/env bash
# Fetches promtool from Debian's package of Prometheus into a cache, installing nothing, and prints its folder.
#   install.sh [CACHE_DIR]
# One that is on the PATH is taken as it is. Instant when already there; safe to run concurrently.
set -euo pipefail
if found=$(command -v promtool); then dirname "$found"; exit 0; fi
cache=${1:-${TEST_SERVERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/test-servers}}
command -v apt-get >/dev/null || { echo "there is no promtool and no apt-get" >&2; exit 1; }
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
bin=$cache/promtool

if [ ! -d "$bin" ]; then
  exec 9>"$cache/promtool.lock"
  flock 9
  if [ ! -d "$bin" ]; then # another process may have finished meanwhile
    tmp=$(mktemp -d "$cache/promtool.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    (cd "$tmp" && apt-get download prometheus && dpkg-deb -x ./*.deb all && mv all/usr/bin/promtool . && rm -rf all ./*.deb) >&2
    chmod 755 "$tmp"
    mv -T "$tmp" "$bin"
  fi
fi
echo "$bin"
