#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A guest sends runts, oversize and malformed GSO frames through virtio-net, Open vSwitch
# and the driver to a guest on another node: both switches live on, ping works as before,
# and every frame is accounted for. bad_frames.py is what the guest runs.

set -euo pipefail
TAG=tbad
# shellcheck source=tests/vm/net.sh
source "$(dirname "$0")/net.sh"

OUT=$(mktemp -d)
MAC=52:54:00:00:0b:ad
OTHER=

stats()
{
	NODENAME=$1 VRDMA_RUN=$RUN "$SCRIPTS/mike-telemetry" /ethdev/xstats,0
}

# in_balance NODE - docs/counters.md section 1
in_balance()
{
	stats "$1" | jq -e '
		def drops(p): [to_entries[] | select(.key | startswith(p)) | .value] | add;
		.tx_frames_in + .tx_replicas == .tx_frames + drops("tx_drop_") and
		.rx_frames_in + .rx_segments == .rx_frames + drops("rx_drop_")' >/dev/null
}

all_accounted_for()
{
	in_balance na && in_balance nb &&
		[ "$(stats na | jq .tx_frames)" = "$(stats nb | jq .rx_frames_in)" ] &&
		[ "$(stats nb | jq .tx_frames)" = "$(stats na | jq .rx_frames_in)" ]
}

# settle - frames may be under way
settle()
{
	local i

	for ((i = 0; i < 100; i++)); do
		! all_accounted_for || return 0
		sleep 0.1
	done
	stats na
	stats nb
	fail "frames are not accounted for"
}

pids()
{
	cat "$RUN/na/ovs-vswitchd.pid" "$RUN/nb/ovs-vswitchd.pid"
}

# guest NODE NAME ADDRESS ARG... - the MTU is larger than the network's, so that the
# guest's kernel sends oversize frames
guest()
{
	local node=$1 name=$2 address=$3 sock

	shift 3
	sock=$(NODENAME=$node VRDMA_RUN=$RUN "$SCRIPTS/mike-add-guest" "$name")
	"$ROOT/guest/launch" --name "$TAG-$$-$name" --vhost-user "$sock" --ip "$address/16" \
		--mtu 9000 --timeout 300 --run-dir "$OUT" "$@"
}

at_exit()
{
	local rc=$?

	if [ -n "$OTHER" ]; then
		kill "$OTHER" 2>/dev/null || true
		wait "$OTHER" || true
	fi
	[ $rc = 0 ] || tail -n 20 "$RUN"/*/ovs-vswitchd.log "$OUT"/*log || true
	net_down
	rm -rf "$OUT"
}

need_host
trap at_exit EXIT
trap 'exit 143' TERM INT
net_up
in_a "$SCRIPTS/start-vrdma.sh" na 10.9.0.1/16 $ADDR_B --run-dir "$RUN" --cpus 1
in_b "$SCRIPTS/start-vrdma.sh" nb 10.9.0.2/16 $ADDR_A --run-dir "$RUN" --cpus 2
answers "$NS_A" 10.9.0.2 || fail "no ping before"
before=$(pids)
frames=$(stats nb | jq .rx_frames_in)
guest nb other 10.9.1.2 --mac $MAC -- sleep 300 >"$OUT/other.log" 2>&1 &
OTHER=$!
guest na bad 10.9.1.1 -- sh -c "
	for i in \$(seq 60); do ping -q -c 1 -W 1 10.9.1.2 && break; done
	python3 '$ROOT/tests/vm/bad_frames.py' eth0 $MAC &&
	ping -q -c 3 -w 20 10.9.0.2 && ping -q -c 3 -w 20 10.9.1.2" \
	>"$OUT/log" 2>&1 || fail "the guest's job failed"
tail -n 11 "$OUT/log"
[ "$before" = "$(pids)" ] || fail "a switch was restarted"
for pid in $before; do
	[ -d "/proc/$pid" ] || fail "a switch has died"
done
settle
got=$(($(stats nb | jq .rx_frames_in) - frames))
[ $got -gt 500 ] || fail "only $got frames came to the other node: this tests nothing"
answers "$NS_A" 10.9.0.2 || fail "no ping after"
echo "passed: $got frames came through"
stats na | jq -c 'with_entries(select((.key | contains("drop")) and .value != 0))'
