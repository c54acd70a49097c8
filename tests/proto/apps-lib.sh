# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
#
# apps-lib.sh - unmodified verbs applications between two network namespaces (net.sh), for
# tests that count what went well. To be sourced by a script that has set TAG and has
# vrdma-run as its first argument.

# shellcheck source=tests/vm/net.sh
source "$(dirname "${BASH_SOURCE[0]}")/../vm/net.sh"

VRDMA_RUN=$1
LOGS=$(mktemp -d)
# vrdma-run's options in each namespace
declare -A DEVICE=()
SERVER=
FAILED=0
N=0

cleanup()
{
	[ -z "$SERVER" ] || kill "$SERVER" 2>/dev/null || true
	ip netns delete "$NS_A" 2>/dev/null || true
	ip netns delete "$NS_B" 2>/dev/null || true
	rm -rf "$LOGS"
}

in_ns()
{
	local ns=$1

	shift
	# shellcheck disable=SC2086 # options
	timeout -k 5 120 ip netns exec "$ns" "$VRDMA_RUN" ${DEVICE[$ns]:-} "$@"
}

# start NETNS LOG COMMAND... - in the background, as $SERVER, which can be killed
start()
{
	local ns=$1 log=$2

	shift 2
	# shellcheck disable=SC2086 # options
	timeout -k 5 120 ip netns exec "$ns" "$VRDMA_RUN" ${DEVICE[$ns]:-} "$@" \
		>"$log" 2>&1 &
	SERVER=$!
}

# listening PID - the server whose process is PID waits for its client
listening()
{
	while kill -0 "$1" 2>/dev/null; do
		[ -z "$(ip netns exec "$NS_A" ss -Htln)" ] || return 0
		sleep 0.02
	done
	return 1
}

report()
{
	local what=$1 rc=$2

	N=$((N + 1))
	if [ "$rc" = 0 ]; then
		echo "ok $what"
		return
	fi
	echo "FAILED $what (status $rc)"
	tail -n 15 "$LOGS"/*
	FAILED=$((FAILED + 1))
}

# meet NS DEVICE WHAT COMMAND... - the same command in namespace A as server, and
# in NS on DEVICE as client; reported as WHAT
meet()
{
	local ns=$1 device=$2 what=$3 rc=0 rc_server=0

	shift 3
	rm -f "$LOGS"/*
	start "$NS_A" "$LOGS/server" "$@"
	DEVICE[$ns]=$device
	if listening "$SERVER"; then
		in_ns "$ns" "$@" "$ADDR_A" >"$LOGS/client" 2>&1 || rc=$?
	fi
	wait "$SERVER" || rc_server=$?
	SERVER=
	[ "$rc" != 0 ] || rc=$rc_server
	report "$what" "$rc"
}

# pair COMMAND... - the same command in both namespaces, the second as client
pair()
{
	local device=${DEVICE[$NS_B]:-}

	meet "$NS_B" "$device" "$*${device:+ ($device)}" "$@"
}

# links_up - wait until both interfaces run
links_up()
{
	local ns

	for ns in "$NS_A" "$NS_B"; do
		until ip -n "$ns" -br link show type veth | grep -q ' UP '; do
			sleep 0.02
		done
	done
}

# wait_for PATTERN FILE PID - until the file has it, or the process is gone
wait_for()
{
	until grep -q "$1" "$2"; do
		kill -0 "$3" 2>/dev/null || return 1
		sleep 0.02
	done
}

# apps_up - what a test begins with
apps_up()
{
	[ "$(id -u)" = 0 ] || skip "needs root for network namespaces"
	trap cleanup EXIT
	net_up
	links_up
}

# apps_end - and what it ends with: whether all went well
apps_end()
{
	echo "$N runs, $FAILED failed"
	[ "$FAILED" = 0 ]
}
