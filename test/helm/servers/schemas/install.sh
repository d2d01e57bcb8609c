#!/usr/bin/env bash
# Puts the schemas of one version of Kubernetes, which the package kubernetes-validate has in it, into a cache and prints the folder.
#   install.sh [CACHE_DIR]
# The package's version is pinned by requirements.txt. Instant when already there; safe to run concurrently.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${1:-${TEST_SERVERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/test-servers}}
command -v python3 >/dev/null || { echo "there is no python3" >&2; exit 1; }
python3 -m pip --version >/dev/null 2>&1 || { echo "python3 has no pip" >&2; exit 1; }
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
version=v1.37.0
lib=$cache/kubernetes-schemas-$version

if [ ! -d "$lib" ]; then
  exec 9>"$cache/kubernetes-schemas.lock"
  flock 9
  if [ ! -d "$lib" ]; then # another process may have finished meanwhile
    tmp=$(mktemp -d "$cache/kubernetes-schemas.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary :all: \
      --target "$tmp/package" --requirement "$here/requirements.txt" >&2
    mv "$tmp/package/kubernetes_validate/kubernetes-json-schema/$version-local-strict" "$tmp/schemas"
    # They name themselves and each other by addresses of a server's; here they are files.
    sed -i -e 's|"\$id":|"$comment":|' -e 's|"/api/_definitions.json|"_definitions.json|' "$tmp"/schemas/*.json
    mv -T "$tmp/schemas" "$lib"
  fi
fi
echo "$lib"
