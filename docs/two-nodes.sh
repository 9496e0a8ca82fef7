#!/usr/bin/env bash
# The commands of docs/cluster.md on three machines made of network namespaces: a head, a worker, a laptop. As root:
#   python tests/network_cluster.py --bare --nodes 3 bash docs/two-nodes.sh /shared/folder
# Every command is printed with the machine it is typed on. The namespaces and all processes in them end with it.
set -uo pipefail
shared="${1:?a folder that all machines see}"
here="$(cd "$(dirname "$0")/.." && pwd)"
head=10.77.0.10
export PYTHONPATH="$here" RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$shared/token"
python="${PYTHON:-python3}"
bin="$(mktemp -d)"
trap 'rm -rf "$bin"' EXIT
printf '#!/bin/sh\nexec %s -m pipeline.cli "$@"\n' "$python" >"$bin/headlight"
printf '#!/bin/sh\nexec %s -m ray.scripts.scripts "$@"\n' "$python" >"$bin/ray"
printf '#!/bin/sh\nexec %s "$@"\n' "$python" >"$bin/python"
chmod +x "$bin"/*
export PATH="$bin:$PATH"
names=(head worker worker2 laptop)

on() { # on NUMBER COMMAND...: type a command on a machine; $hide is a folder that it does not see
  local number="$1" hidden="${hide:+mount -t tmpfs none $hide && }"
  shift
  printf '\n%s$ %s\n' "${names[$number]}" "$*"
  (cd "$bin" && ip netns exec "$NETNS-$number" unshare --uts --mount \
    sh -c "${hidden}hostname ${names[$number]} && exec \"\$@\"" sh "$@" 2>&1)
  local code=$?
  [ "$code" -eq 0 ] || echo "(exit code $code)"
}

small=(experiment=demo dataset.limit=12)
mkdir -p "$shared"
(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$shared/token")

on 0 ray start --head --node-ip-address=$head --port=6379 --num-cpus=0 --dashboard-host=$head --temp-dir="$shared/ray0"
on 1 ray start --address=$head:6379 --node-ip-address=10.77.0.11 --num-cpus=1 --temp-dir="$shared/ray1"
on 0 headlight doctor --cluster $head:6379
on 0 headlight run "${small[@]}" cluster.address=$head:6379 paths.root="$shared/headlight"
on 0 headlight run "${small[@]}" cluster.address=$head:6379 paths.root="$shared/headlight" cluster.workers=2 cluster.wait=5s
on 3 headlight submit --address http://$head:8265 "${small[@]}"
on 3 headlight submit --address http://$head:8265 "${small[@]}" paths.root="$shared/headlight"
on 3 headlight submit --address http://$head:8265 --no-wait "${small[@]}" paths.root="$shared/headlight" model.dtype=float64 \
  | tee "$bin/sent"
job="$(tail -1 "$bin/sent")"
on 3 timeout -s INT 25 headlight submit --address http://$head:8265 --follow "$job"
on 3 headlight submit --address http://$head:8265 --stop "$job"
hide="$shared/headlight" on 2 ray start --address=$head:6379 --node-ip-address=10.77.0.12 --num-cpus=1 \
  --temp-dir="$shared/ray2"
on 0 headlight run "${small[@]}" cluster.address=$head:6379 paths.root="$shared/headlight" cluster.workers=2
RAY_AUTH_TOKEN_PATH=/dev/null on 3 headlight submit --address http://$head:8265 --follow demo-000000
