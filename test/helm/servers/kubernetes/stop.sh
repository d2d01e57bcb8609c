#!/usr/bin/env bash
# Ends the control plane of a folder, at once:   stop.sh FOLDER
set -euo pipefail
dir=$(cd "${1:?usage: stop.sh FOLDER}" && pwd)
for part in kwok scheduler controllers apiserver etcd; do
  [ -s "$dir/$part.pid" ] || continue
  pid=$(<"$dir/$part.pid")
  # Only what was started there.
  [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$dir" ] && kill -9 "$pid" 2>/dev/null || true
  rm -f "$dir/$part.pid"
done
