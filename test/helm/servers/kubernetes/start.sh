#!/usr/bin/env bash
# Starts a control plane of Kubernetes on a loopback address and returns when it answers; FOLDER/kubeconfig says how to reach it.
#   start.sh FOLDER ADDRESS
# Real: the API, validation, rights, rollouts, hooks, scheduling. Played: kubelets; no image is run, no probe is asked, there are no logs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:?usage: start.sh FOLDER ADDRESS}"
dir=$(cd "$1" && pwd)
address=${2:?usage: start.sh FOLDER ADDRESS}
bin=$("$here/install.sh")
etcd=$("$here/../../../cluster/servers/etcd/install.sh")
api=$address:16443
umask 077
cd "$dir"
openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -days 30 -subj /CN=test \
  -addext "subjectAltName=IP:$address,DNS:kubernetes.default.svc" 2>/dev/null
openssl genrsa -out sa.key 2048 2>/dev/null
openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
token=$(openssl rand -hex 16)
echo "$token,admin,admin,system:masters" >tokens.csv
cat >kubeconfig <<YAML
apiVersion: v1
kind: Config
clusters: [{ name: test, cluster: { server: "https://$api", certificate-authority: $dir/tls.crt } }]
users: [{ name: admin, user: { token: $token } }]
contexts: [{ name: test, context: { cluster: test, user: admin } }]
current-context: test
YAML

run() {
  local part=$1
  shift
  setsid nohup "$@" >"$part.log" 2>&1 </dev/null &
  echo $! >"$part.pid"
}
call() { curl -sS --cacert tls.crt -H "authorization: Bearer $token" -H 'content-type: application/json' "https://$api$1" "${@:2}"; }

run etcd "$etcd/etcd" --data-dir=data --listen-client-urls="http://$address:16379" --advertise-client-urls="http://$address:16379" \
  --listen-peer-urls="http://$address:16380" --initial-advertise-peer-urls="http://$address:16380" \
  --initial-cluster="default=http://$address:16380"
run apiserver "$bin/kube-apiserver" --etcd-servers="http://$address:16379" --bind-address="$address" --secure-port=16443 \
  --advertise-address="$address" --endpoint-reconciler-type=none --allow-privileged=true \
  --tls-cert-file=tls.crt --tls-private-key-file=tls.key --token-auth-file=tokens.csv --authorization-mode=RBAC \
  --service-cluster-ip-range=10.96.0.0/16 --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key \
  --service-account-issuer=https://kubernetes.default.svc
deadline=$((SECONDS + ${KUBERNETES_START_TIMEOUT:-180}))
until [ "$(call /readyz 2>/dev/null || true)" = ok ]; do
  if ! kill -0 "$(<apiserver.pid)" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
    echo "Kubernetes did not start; the end of $dir/apiserver.log:" >&2
    tail -n 20 apiserver.log >&2
    exit 1
  fi
  sleep 0.25
done
run controllers "$bin/kube-controller-manager" --kubeconfig=kubeconfig --leader-elect=false --bind-address="$address" \
  --secure-port=16257 --service-account-private-key-file=sa.key --root-ca-file=tls.crt
run scheduler "$bin/kube-scheduler" --kubeconfig=kubeconfig --leader-elect=false --bind-address="$address" --secure-port=16259
stages=()
for file in "$bin"/stages/*.yaml "$here/tests-complete.yaml"; do stages+=("--config=$file"); done
run kwok "$bin/kwok" --kubeconfig=kubeconfig --manage-all-nodes=true --node-ip="$address" --node-lease-duration-seconds=40 \
  --server-address="$address:16247" "${stages[@]}"
room='{"cpu":"32","memory":"64Gi","pods":"110"}'
for node in a b; do
  call /api/v1/nodes --fail -o /dev/null --data "{\"metadata\":{\"name\":\"node-$node\",\"annotations\":{\"kwok.x-k8s.io/node\":\"fake\"},
    \"labels\":{\"kubernetes.io/hostname\":\"node-$node\",\"kubernetes.io/os\":\"linux\",\"topology.kubernetes.io/zone\":\"$node\"}},
    \"status\":{\"allocatable\":$room,\"capacity\":$room}}"
done
