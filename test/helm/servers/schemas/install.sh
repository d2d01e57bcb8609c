#!/usr/bin/env bash
# Puts kubernetes-validate, which has Kubernetes' schemas in it, into a cache and prints the folder to run it from.
#   install.sh [CACHE_DIR]
# Versions are pinned by requirements.txt. Instant when already there; safe to run concurrently.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${1:-${TEST_SERVERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/test-servers}}
command -v python3 >/dev/null || { echo "there is no python3" >&2; exit 1; }
python3 -m pip --version >/dev/null 2>&1 || { echo "python3 has no pip" >&2; exit 1; }
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
key=$({ cat "$here/requirements.txt"; python3 --version; } | sha256sum | cut -c1-12)
lib=$cache/kubernetes-schemas-$key

if [ ! -d "$lib" ]; then
  exec 9>"$cache/kubernetes-schemas.lock"
  flock 9
  if [ ! -d "$lib" ]; then # another process may have finished meanwhile
    tmp=$(mktemp -d "$cache/kubernetes-schemas.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary :all: \
      --target "$tmp" --requirement "$here/requirements.txt" >&2
    chmod 755 "$tmp"
    mv -T "$tmp" "$lib"
  fi
fi
echo "$lib"
