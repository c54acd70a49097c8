#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Devices with several addresses, between two network namespaces, with unmodified
# applications: by each entry of the GID table, on addresses that are named, on all that
# an interface has, as they come and go, and beside another process on that interface.
# Usage: gids.sh VRDMA_RUN

set -euo pipefail
TAG=tgids
# shellcheck source=tests/proto/apps-lib.sh
source "$(dirname "$0")/apps-lib.sh"

# Second addresses of each side, and one that comes and goes.
SECOND_A=198.51.100.1
SECOND_B=198.51.100.2
COMES=198.51.100.77
# 239.1.2.3 and ff0e::1, as perftest has it
GROUP=0:0:0:0:0:0:0:0:0:0:255:255:239:1:2:3
GROUP6=255:14:0:0:0:0:0:0:0:0:0:0:0:0:0:1

# expect WHAT WANTED GOT
expect()
{
	local rc=0

	[ "$2" = "$3" ] || { rc=1; echo "wanted: $2"; echo "got:    $3"; }
	report "$1" "$rc"
}

# gids FILE - the GIDs in the output of ibv_devinfo -v, in their order
gids()
{
	sed -n 's/.*GID\[ *\([0-9]*\)\]:[[:space:]]*\([^,]*\), RoCE v2.*/\1=\2/p' "$1" | xargs
}

# ping_pongs INDEX GID - by that entry; they tell the client the server's GID, which must
# be @GID
ping_pongs()
{
	local index=$1 gid=$2 test rc

	for test in rc ud; do
		pair "ibv_${test}_pingpong" -g "$index" -n 200
		rc=0
		grep -q "remote address:.*GID $gid\$" "$LOGS/client" || rc=1
		report "ibv_${test}_pingpong -g $index: the server is $gid" "$rc"
	done
}

# by_entry INDEX GID - these, and perftest
by_entry()
{
	local index=$1

	ping_pongs "$@"
	pair ib_write_bw -F -x "$index" -s 70000 -n 20
	pair ib_read_lat -F -x "$index" -s 70000 -n 20
	pair ib_send_lat -F -x "$index" -c UD -s 2000 -n 20
}

named()
{
	DEVICE[$NS_A]="--addr $ADDR_A,$ADDR6_A,$SECOND_A"
	DEVICE[$NS_B]="--addr $ADDR_B,$ADDR6_B,$SECOND_B"
	in_ns "$NS_B" ibv_devinfo -v >"$LOGS/devinfo" 2>&1
	expect "ibv_devinfo -v: the addresses that were named" \
		"0=::ffff:$ADDR_B 1=$ADDR6_B 2=::ffff:$SECOND_B" "$(gids "$LOGS/devinfo")"
	by_entry 0 "::ffff:$ADDR_A"
	by_entry 1 "$ADDR6_A"
	by_entry 2 "::ffff:$SECOND_A"
	# groups of both IP versions; the second IPv4 address is not the one that joined
	pair ib_send_lat -F -x 0 -c UD -g -M "$GROUP" -n 20 -s 64
	pair ib_send_lat -F -x 1 -c UD -g -M "$GROUP6" -n 20 -s 64
	pair ib_send_lat -F -x 2 -c UD -g -M "$GROUP" -n 20 -s 64
	DEVICE=()
}

# link_local NETNS INTERFACE - its link-local address
link_local()
{
	ip -n "$1" -6 -br addr show dev "$2" scope link | grep -o 'fe80::[0-9a-f:]*'
}

# Nothing is said: the device has all of the interface's addresses.
interface()
{
	in_ns "$NS_A" ibv_devinfo -v >"$LOGS/devinfo" 2>&1
	expect "ibv_devinfo -v: all addresses of the interface" \
		"0=::ffff:$ADDR_A 1=::ffff:$SECOND_A 2=$ADDR6_A 3=$(link_local \
			"$NS_A" "$VETH_A")" "$(gids "$LOGS/devinfo")"
	# shellcheck disable=SC2016 # the command's own variable
	expect "sysfs: RoCE v2, on the interface" "RoCE v2 $VETH_A" "$(in_ns "$NS_A" sh -c \
		'cd $SYSFS_PATH/class/infiniband/*/ports/1/gid_attrs && cat types/2 ndevs/2' |
		xargs)"
	for index in 0 2 3; do
		pair ibv_rc_pingpong -g $index -n 200
		pair ibv_ud_pingpong -g $index -n 200
	done
	# what programs choose by themselves
	pair ib_write_bw -F -s 70000 -n 20
	pair env UCX_TLS=rc_verbs,ud_verbs,self ucx_perftest -t tag_bw -n 300 -s 10000
	pair env UCX_TLS=rc_verbs,ud_verbs,self UCX_IB_GID_INDEX=2 \
		ucx_perftest -t tag_bw -n 300 -s 10000
}

# An address comes and goes under a device that has all but one, which another process
# uses meanwhile.
changes()
{
	local rc=0 log=$LOGS/asyncwatch watch

	rm -f "$LOGS"/*
	DEVICE[$NS_B]="--addr $ADDR_B"
	start "$NS_B" "$LOGS/server" ibv_rc_pingpong -g 0 -n 300 -c -e
	DEVICE=()
	until [ -n "$(ip netns exec "$NS_B" ss -Htln)" ]; do
		kill -0 "$SERVER" || break
		sleep 0.02
	done
	timeout -k 5 120 ip netns exec "$NS_B" "$VRDMA_RUN" stdbuf -oL ibv_asyncwatch \
		>"$log" 2>&1 &
	watch=$!
	wait_for 'event FD' "$log" "$watch" || rc=1
	grep -q "$ADDR_B is no GID of this device: another process" "$log" || rc=1
	in_ns "$NS_A" ibv_rc_pingpong -g 0 -n 300 -c -e "$ADDR_B" >"$LOGS/client" 2>&1 &
	ip -n "$NS_B" addr add "$COMES/24" dev "$VETH_B"
	wait_for GID_CHANGE "$log" "$watch" || rc=1
	ip -n "$NS_B" addr del "$COMES/24" dev "$VETH_B"
	until [ "$(grep -c GID_CHANGE "$log")" -ge 2 ]; do
		kill -0 "$watch" || { rc=1; break; }
		sleep 0.02
	done
	wait "$!" || rc=1
	wait "$SERVER" || rc=1
	kill "$watch" 2>/dev/null || true
	wait "$watch" 2>/dev/null || true
	SERVER=
	report "an address comes and goes while another process uses one" "$rc"
}

# Each process of an interface has an address of its own; both at once.
two_processes()
{
	local rc=0 first

	rm -f "$LOGS"/*
	DEVICE[$NS_A]="--addr $ADDR_A"
	start "$NS_A" "$LOGS/first" ibv_rc_pingpong -g 0 -n 300 -c -e -p 18001
	first=$SERVER
	DEVICE[$NS_A]="--addr $SECOND_A,$ADDR6_A"
	start "$NS_A" "$LOGS/second" ibv_rc_pingpong -g 1 -n 300 -c -e -p 18002
	until [ "$(ip netns exec "$NS_A" ss -Htln | wc -l)" = 2 ]; do
		if ! kill -0 "$first" || ! kill -0 "$SERVER"; then
			break
		fi
		sleep 0.02
	done
	DEVICE[$NS_B]="--addr $SECOND_B,$ADDR6_B"
	in_ns "$NS_B" ibv_rc_pingpong -g 1 -n 300 -c -e -p 18002 "$ADDR_A" \
		>"$LOGS/second-client" 2>&1 &
	DEVICE[$NS_B]="--addr $ADDR_B"
	in_ns "$NS_B" ibv_rc_pingpong -g 0 -n 300 -c -e -p 18001 "$ADDR_A" \
		>"$LOGS/first-client" 2>&1 || rc=1
	wait "$!" || rc=1
	wait "$SERVER" || rc=1
	wait "$first" || rc=1
	SERVER=
	DEVICE=()
	report "two processes on one interface, both with addresses of their own" "$rc"
}

# Hosts of their own, with addresses of both IP versions
ports()
{
	DEVICE[$NS_A]="--port $VETH_A --addr 192.0.2.11/24,2001:db8::11/64,192.0.2.21/24"
	DEVICE[$NS_B]="--port $VETH_B --addr 192.0.2.12/24,2001:db8::12/64,192.0.2.22/24"
	ping_pongs 0 ::ffff:192.0.2.11
	ping_pongs 1 2001:db8::11
	ping_pongs 2 ::ffff:192.0.2.21
	pair ib_send_lat -F -x 1 -c UD -g -n 20 -s 64
	# one MAC for all
	DEVICE[$NS_B]="--port $VETH_B --addr 192.0.2.12/24,2001:db8::12/64 --mac 02:00:00:00:00:12"
	pair ibv_rc_pingpong -g 0 -n 200 -c
	pair ibv_rc_pingpong -g 1 -n 200 -c
	DEVICE=()
}

main()
{
	apps_up
	ip -n "$NS_A" addr add "$SECOND_A/24" dev "$VETH_A"
	ip -n "$NS_B" addr add "$SECOND_B/24" dev "$VETH_B"
	# a link-local address is examined first
	until ! ip -n "$NS_A" -6 addr show tentative | grep -q inet6 &&
		! ip -n "$NS_B" -6 addr show tentative | grep -q inet6; do
		sleep 0.1
	done
	named
	interface
	changes
	two_processes
	ports
	apps_end
}

main
