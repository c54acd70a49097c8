#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Open vSwitch is killed (-9) and started again under a guest's TCP traffic, on the
# sender's node, then on the receiver's, then on both at once: the one connection
# between the guests goes on, and every byte of it is right.

set -euo pipefail
TAG=trest
# shellcheck source=tests/vm/net.sh
source "$(dirname "$0")/net.sh"

OUT=$(mktemp -d)
PIDS=()

start_node()
{
	case $1 in
	na) in_a "$SCRIPTS/start-vrdma.sh" na 10.9.0.1/24 $ADDR_B --run-dir "$RUN" --cpus 1 ;;
	nb) in_b "$SCRIPTS/start-vrdma.sh" nb 10.9.0.2/24 $ADDR_A --run-dir "$RUN" --cpus 2 ;;
	esac
}

# guest NODE ADDRESS ARG... - a guest that runs stream.py ARG...
guest()
{
	local node=$1 address=$2 sock

	shift 2
	sock=$(NODENAME=$node VRDMA_RUN=$RUN "$SCRIPTS/mike-add-guest" "g-$node")
	"$ROOT/guest/launch" --name "$TAG-$$-$node" --vhost-user "$sock" \
		--ip "$address/24" --mtu 1500 --timeout 600 --run-dir "$OUT" \
		-- /usr/bin/python3 "$ROOT/tests/vm/stream.py" "$@" >"$OUT/$node.log" 2>&1 &
	PIDS+=($!)
}

received()
{
	tail -n 1 "$OUT/nb.log" | grep -x '[0-9]*' || echo 0
}

# await_progress WHEN - more than what may still have been in buffers must arrive
await_progress()
{
	local want i pid

	want=$(($(received) + 16))
	for ((i = 0; i < 1200; i++)); do
		[ "$(received)" -lt $want ] || { echo "$1: $(received) MiB"; return; }
		for pid in "${PIDS[@]}"; do
			[ -d "/proc/$pid" ] || fail "$1: a guest ended: $(tail -n 3 "$OUT"/n?.log)"
		done
		sleep 0.1
	done
	fail "$1: no progress beyond $(received) MiB"
}

kill_switch()
{
	kill -9 "$(cat "$RUN/$1/ovs-vswitchd.pid")"
}

at_exit()
{
	local rc=$? pid

	for pid in "${PIDS[@]}"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" || true
	done
	[ $rc = 0 ] || tail -n 20 "$RUN"/*/ovs-vswitchd.log "$OUT"/*.log || true
	net_down
	rm -rf "$OUT"
}

need_host
trap at_exit EXIT
trap 'exit 143' TERM INT
net_up
start_node na
start_node nb
guest nb 10.9.1.2 serve
guest na 10.9.1.1 send 10.9.1.2
await_progress "start"
kill_switch na
start_node na
await_progress "after the sender's switch was killed"
kill_switch nb
start_node nb
await_progress "after the receiver's switch was killed"
kill_switch na
kill_switch nb
start_node na
start_node nb
await_progress "after both were killed"
echo passed
