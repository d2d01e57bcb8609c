#!/usr/bin/env bash
# Fetches what the kinds are that others than Kubernetes define (cert-manager, the Gateway API, the Prometheus operator) into a cache and prints the folder.
#   install.sh [CACHE_DIR]
# They lie in those projects' Go modules. Instant when already there; safe to run concurrently.
set -euo pipefail
certificates=github.com/cert-manager/cert-manager@v1.21.2 gateways=sigs.k8s.io/gateway-api@v1.6.3
prometheus=github.com/prometheus-operator/prometheus-operator@v0.85.0
cache=${1:-${TEST_SERVERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/test-servers}}
command -v go >/dev/null || { echo "there is no go" >&2; exit 1; }
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
crds=$cache/crds-$(echo "$certificates $gateways $prometheus" | sha256sum | cut -c1-12)

if [ ! -d "$crds" ]; then
  exec 9>"$cache/crds.lock"
  flock 9
  if [ ! -d "$crds" ]; then # another process may have finished meanwhile
    tmp=$(mktemp -d "$cache/crds.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    module() { (cd "$tmp" && go mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p'; }
    cp "$(module $certificates)/deploy/crds/cert-manager.io_certificates.yaml" "$tmp"
    cp "$(module $gateways)/config/crd/standard/gateway.networking.k8s.io_httproutes.yaml" "$tmp"
    cp "$(module $prometheus)"/example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml "$tmp"
    chmod 644 "$tmp"/*
    chmod 755 "$tmp"
    mv -T "$tmp" "$crds"
  fi
fi
echo "$crds"
