#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Nodes on a real verbs device, that is, one with a kernel driver: two guests are the two
# machines, each with the kernel's own RoCE device (rdma_rxe) on its network port, and
# each becomes a node by start-vrdma.sh --device. NetPIPE between the nodes' bridges.
#
# The host only joins the guests' ports by a bridge; kernel-rdma-guest.sh is what runs in
# the guests.

set -euo pipefail
TAG=tkrdma
# shellcheck source=tests/vm/net.sh
source "$(dirname "$0")/net.sh"

OUT=$(mktemp -d)
PIDS=()

# guest N PEER - the N-th machine
guest()
{
	local sock

	sock=$(NODENAME=sw VRDMA_RUN=$RUN "$SCRIPTS/mike-add-guest" "m$1")
	"$ROOT/guest/launch" --name "$TAG-$$-$1" --vhost-user "$sock" --ip "192.0.2.$1/24" \
		--mtu 9000 --memory 2048 --cpus 2 --timeout 400 --run-dir "$OUT" \
		-- bash "$ROOT/tests/vm/kernel-rdma-guest.sh" "$1" "$2" >"$OUT/$1.log" 2>&1 &
	PIDS+=($!)
}

at_exit()
{
	local rc=$? pid

	for pid in "${PIDS[@]}"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" || true
	done
	[ $rc = 0 ] || tail -n 30 "$OUT"/*.log || true
	net_down
	rm -rf "$OUT"
}

need_host
command -v rdma >/dev/null || skip "iproute2's rdma is missing"
trap at_exit EXIT
trap 'exit 143' TERM INT
net_up
in_a "$SCRIPTS/start-vrdma.sh" sw 10.9.0.9/24 --local $ADDR_A --device udp --mtu 9000 --run-dir "$RUN"
guest 1 2
guest 2 1
for pid in "${PIDS[@]}"; do
	wait "$pid" || fail "a machine failed"
done
PIDS=()
cat "$OUT/1.log"
grep -q '65536 bytes' "$OUT/1.log" || fail "NetPIPE did not get to 64 KiB"
echo passed
