#!/usr/bin/env bash
# Cassandra's own nodetool, for a node whose JMX listens on loopback:   nodetool.sh JMX_PORT COMMAND…
# (start.sh with CASSANDRA_JVM_OPTS=-Dcassandra.jmx.local.port=JMX_PORT)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lib=$("$here/install.sh" ${TEST_SERVERS_CACHE:+"$TEST_SERVERS_CACHE"})
home=$(mktemp -d)                # it keeps a history there
trap 'rm -rf "$home"' EXIT
"${JAVA_HOME:+$JAVA_HOME/bin/}java" -Xmx128M -XX:TieredStopAtLevel=1 -Duser.home="$home" \
  --add-exports java.base/sun.nio.ch=ALL-UNNAMED --add-exports java.base/jdk.internal.ref=ALL-UNNAMED \
  --add-opens java.base/java.io=ALL-UNNAMED --add-opens java.base/sun.nio.ch=ALL-UNNAMED \
  -Dlogback.configurationFile="file://$here/logback.xml" \
  -cp "$lib/*" org.apache.cassandra.tools.NodeTool -h 127.0.0.1 -p "${1:?usage: nodetool.sh JMX_PORT COMMAND…}" "${@:2}"
