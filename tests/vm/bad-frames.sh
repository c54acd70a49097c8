#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A guest sends runts, oversize and malformed GSO frames through virtio-net, Open vSwitch
# and the driver to another node: both switches live on, TCP and ping work as before, and
# every frame is accounted for. bad_frames.py is what the guest runs.

set -euo pipefail
TAG=tbad
# shellcheck source=tests/vm/net.sh
source "$(dirname "$0")/net.sh"

OUT=$(mktemp -d)

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

at_exit()
{
	local rc=$?

	[ $rc = 0 ] || tail -n 20 "$RUN"/*/ovs-vswitchd.log "$OUT"/log || true
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
mac=$(in_b cat /sys/class/net/br0/address)
sock=$(NODENAME=na VRDMA_RUN=$RUN "$SCRIPTS/mike-add-guest" bad)
# The guest's MTU is larger than the network's, so that its kernel sends oversize frames.
"$ROOT/guest/launch" --name "$TAG-$$" --vhost-user "$sock" --ip 10.9.1.1/16 --mtu 9000 \
	--timeout 300 --run-dir "$OUT" -- sh -c "
	until ping -q -c 1 -W 1 10.9.0.2; do :; done
	python3 $ROOT/tests/vm/bad_frames.py eth0 $mac && ping -q -c 3 10.9.0.2" \
	>"$OUT/log" 2>&1 || fail "the guest's job failed"
tail -n 6 "$OUT/log"
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
