#!/usr/bin/env bash
# Builds presence into the file that is named: the code of its protocols first, by the plugins that go.mod names.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"
../../../node_modules/.bin/buf generate
go vet ./...
go test ./...
go build -o "$out" .
