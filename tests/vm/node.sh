#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Start and stop of nodes: two of them from one checkout reach each other; a
# second start changes nothing, one after a crash repairs; both work sourced,
# in a shell with any options; stop leaves the host as it was.

set -euo pipefail
TAG=tnode
# shellcheck source=tests/vm/net.sh
source "$(dirname "$0")/net.sh"

START=$SCRIPTS/start-vrdma.sh
STOP=$SCRIPTS/stop-vrdma.sh
SERVER=

start_a()
{
	in_a "$START" na 10.9.0.1/24 $ADDR_B --run-dir "$RUN" --cpus 1 "$@"
}

start_b()
{
	in_b "$START" nb 10.9.0.2/24 $ADDR_A --run-dir "$RUN" --cpus 2 "$@"
}

mike()
{
	local node=$1 cmd=$2

	shift 2
	NODENAME=$node VRDMA_RUN=$RUN "$SCRIPTS/mike-$cmd" "$@"
}

# What a node could leave behind. (Huge pages are not compared here: other
# programs change them, too.)
host_state()
{
	ls -d "$RUN" 2>/dev/null || true
	ip -n "$NS_A" -o link | awk '{ print $2 }'
	ip -n "$NS_B" -o link | awk '{ print $2 }'
	ip -n "$NS_A" route
	mount | grep -v netns | sort
	ls -d /var/run/openvswitch /etc/openvswitch/* 2>/dev/null || true
}

two_nodes_reach_each_other()
{
	start_a
	start_b
	answers "$NS_A" 10.9.0.2 || fail "no ping from a to b"
	answers "$NS_B" 10.9.0.1 || fail "no ping from b to a"
}

second_start_changes_nothing()
{
	local pid conf

	pid=$(cat "$RUN/na/ovs-vswitchd.pid")
	conf=$(ports_config)
	start_a
	[ "$pid" = "$(cat "$RUN/na/ovs-vswitchd.pid")" ] || fail "the switch was restarted"
	[ "$conf" = "$(ports_config)" ] || fail "the second start changed the ports"
}

ports_config()
{
	mike na ovs-vsctl --columns=_uuid,name,ofport,options,mtu list Interface
}

start_after_crash_repairs()
{
	kill -9 "$(cat "$RUN/na/ovs-vswitchd.pid")" "$(cat "$RUN/na/ovsdb-server.pid")"
	start_a
	answers "$NS_B" 10.9.0.1 || fail "no ping after the switch was killed"
}

guest_ports()
{
	local sock

	sock=$(mike na add-guest g1)
	[ "$sock" = "$(mike na add-guest g1)" ] || fail "adding a guest twice"
	[ "$(mike na ovs-vsctl get Interface g1 options:vhost-server-path)" = "\"$sock\"" ] ||
		fail "the guest's port is not at $sock"
	mike na del-guest g1
	mike na del-guest g1
	! mike na del-guest rdma0 2>/dev/null || fail "del-guest removed the uplink"
	! mike na ovs-vsctl list-ports br0 | grep -qx g1 || fail "the guest's port stayed"
	[ "$(mike nb add-guest)" = "$RUN/nb/dpdkvhost-nb.sock" ] || fail "the default guest"
}

telemetry_answers()
{
	mike na telemetry /ethdev/list | jq -e '. == [0]' >/dev/null || fail "telemetry"
}

other_arguments()
{
	local log=$RUN/log

	! in_b "$START" na 10.9.0.1/24 --run-dir "$RUN" --local $ADDR_B 2>"$log" ||
		fail "started in two places"
	grep -q namespace "$log" || fail "unclear: $(cat "$log")"
	! start_a --bridge br9 2>"$log" || fail "changed its bridge"
	grep -q "stop it first" "$log" || fail "unclear: $(cat "$log")"
	in_a "$START" na 10.9.1.1/24 $ADDR_B --run-dir "$RUN"
	[ "$(ip -n "$NS_A" -o -4 address show dev br0 | wc -l)" = 1 ] || fail "old address stays"
	rm "$log"
}

# The driver is started anew with other peers, and with the old ones again.
other_peers()
{
	in_a "$START" na 10.9.0.1/24 192.0.2.77 --run-dir "$RUN"
	[ "$(mike na telemetry /vrdma/peers,0 | jq -r '.[].address')" = 192.0.2.77 ] ||
		fail "the driver does not have the new peers"
	start_a
	answers "$NS_A" 10.9.0.2 || fail "no ping after the peers changed"
}

# IPv6 below, with a port and a key; IPv6 above.
ipv6_and_key()
{
	local key=$RUN/key

	(umask 077; openssl rand -hex 32 >"$key")
	in_a "$START" na 2001:db8:1::1/64 "[$ADDR6_B]:4800" --key "$key" --hello-port 4800 \
		--run-dir "$RUN"
	in_b "$START" nb 2001:db8:1::2/64 "[$ADDR6_A]:4800" --key "$key" --hello-port 4800 \
		--run-dir "$RUN"
	answers "$NS_A" 2001:db8:1::2 || fail "no ping over IPv6 with a key"
	mike na telemetry /vrdma/peers,0 | jq -e 'any(.[]; .state == "up")' >/dev/null ||
		fail "the peer is not up"
	rm "$key"
	start_a
	start_b
	answers "$NS_A" 10.9.0.2 || fail "no ping after going back to IPv4"
}

# Frames of one MTU on one side, of 64 KiB on the other; then of one MTU on both.
without_tso()
{
	"$STOP" na --run-dir "$RUN"
	start_a --no-tso
	tcp_both_ways "$NS_A" 10.9.0.2
	"$STOP" nb --run-dir "$RUN"
	start_b --no-tso
	tcp_both_ways "$NS_B" 10.9.0.1
	"$STOP" na --run-dir "$RUN"
	"$STOP" nb --run-dir "$RUN"
	start_a
	start_b
}

# tcp_both_ways NETNS ADDRESS - it works, and what one node sent the other received.
# A ping from NETNS, where the node is new, tells the other one its new MAC address.
tcp_both_ways()
{
	answers "$1" "$2" || fail "no ping without TSO"
	ip netns exec "$NS_B" timeout 60 iperf3 -s >/dev/null &
	SERVER=$!
	await in_b sh -c 'ss -Hltn "sport = :5201" | grep -q .' || fail "iperf3 does not listen"
	in_a timeout 30 iperf3 -c 10.9.0.2 -n 20M >/dev/null || fail "no TCP from a to b"
	in_a timeout 30 iperf3 -c 10.9.0.2 -n 20M -R >/dev/null || fail "no TCP from b to a"
	end_server
	same_counts na nb || fail "what a sent is not what b received"
	same_counts nb na || fail "what b sent is not what a received"
}

# await COMMAND... - until it succeeds, for ten seconds
await()
{
	local i

	for ((i = 0; i < 100; i++)); do
		! "$@" || return 0
		sleep 0.1
	done
	return 1
}

end_server()
{
	[ -z "$SERVER" ] || kill "$SERVER" 2>/dev/null || true
	SERVER=
}

# same_counts SENDER RECEIVER - within five seconds, as frames may be under way.
same_counts()
{
	local i

	for ((i = 0; i < 50; i++)); do
		[ "$(peer_count "$1" tx_frames)" != "$(peer_count "$2" rx_frames)" ] || return 0
		sleep 0.1
	done
	return 1
}

# Counted for the present connection.
peer_count()
{
	mike "$1" telemetry /vrdma/peers,0 | jq "[.[] | select(.state == \"up\") | .$2] | add"
}

# A shell that sources must keep its options and survive a failure.
sourcing()
{
	# shellcheck disable=SC2016
	in_a bash -c '
		start=$1 stop=$2 peer=$3 run=$4; set --
		before=$-$(shopt -p; set +o)
		path=$PATH
		source "$start" bad/name 10.9.0.1/24 2>/dev/null && exit 10
		source "$start" na 10.9.0.1/24 "$peer" --run-dir "$run" || exit 11
		[ "$before" = "$-$(shopt -p; set +o)" ] || exit 12
		[ "$NODENAME" = na ] && [ -S "$DB_SOCKET" ] || exit 13
		mike-ovs-vsctl show >/dev/null || exit 14
		ovs-vsctl --timeout=5 br-exists br0 || exit 15
		source "$stop" || exit 16
		[ -z "${NODENAME+set}${DB_SOCKET+set}" ] || exit 17
		[ "$PATH" = "$path" ] || exit 18
	' - "$START" "$STOP" $ADDR_B "$RUN" || fail "sourcing, step $?"
	# shellcheck disable=SC2016
	in_a bash -eu -c '
		start=$1 stop=$2 peer=$3 run=$4; set --
		source "$start" na 10.9.0.1/24 "$peer" --run-dir "$run"
		source "$stop" na --run-dir "$run"
	' - "$START" "$STOP" $ADDR_B "$RUN" || fail "sourcing under set -eu"
}

killed_node_is_cleared_away()
{
	start_a
	kill -9 "$(cat "$RUN/na/ovs-vswitchd.pid")"
	"$STOP" na --run-dir "$RUN"
	"$STOP" nb --run-dir "$RUN"
	"$STOP" nb --run-dir "$RUN" || fail "stopping twice is an error"
}

# The second waits for the first, and finds nothing left to do.
two_stops_at_once()
{
	local first

	start_a
	"$STOP" na --run-dir "$RUN" &
	first=$!
	"$STOP" na --run-dir "$RUN" || fail "one of two stops failed"
	wait $first || fail "one of two stops failed"
	gone na || fail "two stops left something behind"
}

# gone NODE - neither its directory nor a process of it is there
gone()
{
	[ ! -e "$RUN/$1" ] && ! grep -qsF -- "$RUN/$1/" /proc/[0-9]*/cmdline
}

# An interface of somebody else's by the name of ours is left alone, and the start
# that it fails takes back what it made.
foreign_bridge()
{
	local said

	ip -n "$NS_A" link add br0 type bridge
	! said=$(start_a 2>&1) || fail "took over a foreign br0"
	[[ $said == *"not ours"*"start failed"* ]] || fail "unclear: $said"
	gone na || fail "a failed start left something behind"
	ip -n "$NS_A" link show br0 >/dev/null || fail "removed a foreign br0"
	ip -n "$NS_A" link delete br0
}

# Open vSwitch reads the driver's path as one of many words.
blank_in_path()
{
	local dir="$OUT/a checkout" said

	mkdir -p "$dir/build/pmd"
	cp -r "$SCRIPTS" "$dir/"
	cp "$ROOT/build/pmd/librte_net_vrdma.so" "$dir/build/pmd/"
	! said=$(in_a "$dir/scripts/start-vrdma.sh" na 10.9.0.1/24 $ADDR_B --run-dir "$RUN" 2>&1) ||
		fail "started from a path with a blank"
	[[ $said == *blank* ]] || fail "unclear: $said"
	gone na || fail "a refused start left something behind"
}

# Somebody takes all free pages while the switch is down: it comes up on ordinary memory.
huge_pages_taken()
{
	local said thief

	start_a
	if grep -q -- --no-huge "$RUN/na/settings"; then
		echo "there are no huge pages"
	else
		kill -9 "$(cat "$RUN/na/ovs-vswitchd.pid")"
		/usr/bin/python3 "$ROOT/tests/vm/hugepage_thief.py" >"$OUT/thief" &
		thief=$!
		await [ -s "$OUT/thief" ] || fail "nobody takes huge pages"
		said=$(start_a 2>&1) || fail "does not start without huge pages: $said"
		kill $thief
		[[ $said == *"trying ordinary memory"* ]] || fail "does not say so: $said"
		! grep -q '^hugepages' "$RUN/na/undo" || fail "keeps the pages that it does not use"
	fi
	"$STOP" na --run-dir "$RUN"
}

without_huge_pages()
{
	start_a --hugepages 0
	grep -q -- --no-huge "$RUN/na/settings" || fail "uses huge pages"
	"$STOP" na --run-dir "$RUN"
}

need_host
OUT=$(mktemp -d)
trap 'end_server; net_down; rm -rf "$OUT"' EXIT
net_up
before=$(host_state)
for step in two_nodes_reach_each_other second_start_changes_nothing \
	start_after_crash_repairs guest_ports telemetry_answers other_arguments other_peers \
	ipv6_and_key without_tso sourcing \
	killed_node_is_cleared_away two_stops_at_once foreign_bridge blank_in_path \
	huge_pages_taken without_huge_pages; do
	echo "-- $step"
	$step
done
after=$(host_state)
[ "$before" = "$after" ] || fail "left behind: $(diff <(echo "$before") <(echo "$after"))"
echo passed
