#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Unmodified verbs applications from Debian on userspace devices, between two
# network namespaces: both ends must end well and within their time.
# Usage: apps.sh VRDMA_RUN [-a]
# With -a perftest goes through all sizes, for each of which it spends about half
# a second to measure the CPU's frequency.

set -euo pipefail
TAG=tapps
# shellcheck source=tests/proto/apps-lib.sh
source "$(dirname "$0")/apps-lib.sh"

SIZES=(-s 70000)
QPERF_TESTS=(rc_lat rc_rdma_write_bw rc_fetch_add_mr uc_bw ud_lat)
if [ "${2:-}" = -a ]; then
	SIZES=(-a)
	QPERF_TESTS=({rc,uc,ud}_{lat,bw,bi_bw} rc_rdma_read_{lat,bw}
		{rc,uc}_rdma_write_{lat,bw,poll_lat} rc_compare_swap_mr rc_fetch_add_mr
		ver_rc_compare_swap ver_rc_fetch_add)
fi

# mpi COMMAND... - one process in each namespace. mpirun starts its helper on the
# other "host" through what it believes to be ssh.
mpi()
{
	local rc=0

	rm -f "$LOGS"/*
	cat >"$LOGS/agent" <<-END
	#!/bin/bash
	while [ "\${1#-}" != "\$1" ]; do shift; done
	shift # the host
	exec ip netns exec "$NS_B" "$VRDMA_RUN" sh -c "\$*"
	END
	chmod +x "$LOGS/agent"
	in_ns "$NS_A" mpirun --allow-run-as-root --mca plm_rsh_agent "$LOGS/agent" \
		--mca oob_tcp_if_include "$ADDR_A/24" --mca pml ucx \
		-x UCX_TLS=rc_verbs,ud_verbs,self -np 2 --host "$ADDR_A:1,$ADDR_B:1" \
		"$@" >"$LOGS/mpirun" 2>&1 || rc=$?
	report "mpirun $*" "$rc"
}

# qperf TEST... - it knows peers by LID, and measures each for a second at least
qperf()
{
	local rc=0

	rm -f "$LOGS"/*
	start "$NS_A" "$LOGS/server" qperf
	if listening "$SERVER"; then
		in_ns "$NS_B" qperf -t 1 "$ADDR_A" "$@" >"$LOGS/client" 2>&1 || rc=$?
		in_ns "$NS_B" qperf "$ADDR_A" quit >>"$LOGS/client" 2>&1 || rc=$?
	else
		rc=1
	fi
	wait "$SERVER" || rc=$?
	SERVER=
	report "qperf $*" "$rc"
}

devinfo()
{
	local rc=0 line

	in_ns "$NS_B" ibv_devinfo -v >"$LOGS/devinfo" 2>&1 || rc=$?
	for line in "vrdma_$VETH_B" PORT_ACTIVE "::ffff:$ADDR_B, RoCE v2"; do
		grep -qF "$line" "$LOGS/devinfo" || rc=1
	done
	report "ibv_devinfo -v" "$rc"
}

# The interface goes down and up, its address goes and comes: the port's state follows,
# and events tell.
port_state()
{
	local rc=0 log=$LOGS/asyncwatch

	start "$NS_B" "$log" stdbuf -oL ibv_asyncwatch
	wait_for 'event FD' "$log" "$SERVER" || rc=1
	ip -n "$NS_B" link set "$VETH_B" down
	wait_for IBV_EVENT_PORT_ERR "$log" "$SERVER" || rc=1
	ip -n "$NS_B" link set "$VETH_B" up
	wait_for IBV_EVENT_PORT_ACTIVE "$log" "$SERVER" || rc=1
	ip -n "$NS_B" addr del "$ADDR_B/24" dev "$VETH_B"
	wait_for IBV_EVENT_GID_CHANGE "$log" "$SERVER" || rc=1
	ip -n "$NS_B" addr add "$ADDR_B/24" dev "$VETH_B"
	kill "$SERVER" 2>/dev/null || true
	wait "$SERVER" || true
	SERVER=

	ip -n "$NS_B" link set "$VETH_B" down
	in_ns "$NS_B" --addr "$ADDR_B" ibv_devinfo >"$LOGS/devinfo" 2>&1 || rc=$?
	grep -qF PORT_DOWN "$LOGS/devinfo" || rc=1
	ip -n "$NS_B" link set "$VETH_B" up
	links_up
	report "ibv_asyncwatch and ibv_devinfo: the interface and its address" "$rc"
}

# ports - devices that are hosts of their own, between each other and with one that is on
# its host's address; two processes on one interface
ports()
{
	local port_a="--port $VETH_A --addr 192.0.2.11/24"
	local port_b="--port $VETH_B --addr 192.0.2.12/24 --mac 02:00:00:00:00:12"

	DEVICE[$NS_A]=$port_a
	DEVICE[$NS_B]=$port_b
	pair ibv_rc_pingpong -g 0 -n 200 -c
	pair ibv_rc_pingpong -g 0 -n 200 -c -e
	pair ibv_ud_pingpong -g 0 -n 200
	pair ib_write_bw -F -x 0 "${SIZES[@]}" -n 20
	pair ib_read_lat -F -x 0 "${SIZES[@]}" -n 20
	DEVICE[$NS_A]=
	pair ib_send_bw -F -x 0 -s 70000 -n 20 -b
	DEVICE[$NS_A]="--port $VETH_A --addr 2001:db8::11/64"
	DEVICE[$NS_B]="--port $VETH_B --addr 2001:db8::12/64"
	pair ibv_rc_pingpong -g 0 -n 200 -c
	pair ib_write_bw -F -x 0 "${SIZES[@]}" -n 20
	pair ib_send_lat -F -x 0 -c UD -g -n 20 -s 64 # to a multicast group
	DEVICE=([$NS_A]=$port_a [$NS_B]=$port_b)
	meet "$NS_A" "--port $VETH_A --addr 192.0.2.13/24" \
		"ibv_rc_pingpong between two ports of one interface" \
		ibv_rc_pingpong -g 0 -n 200 -c
	DEVICE=()
}

main()
{
	local test

	apps_up
	devinfo
	port_state
	for test in rc srq; do
		pair "ibv_${test}_pingpong" -g 0 -n 200 -c
		pair "ibv_${test}_pingpong" -g 0 -n 200 -c -e
	done
	for test in uc ud; do
		pair "ibv_${test}_pingpong" -g 0 -n 200
		pair "ibv_${test}_pingpong" -g 0 -n 200 -e
	done
	pair ibv_rc_pingpong -g 0 -n 200 -c -N # posts with ibv_wr_*
	# -F: a CPU whose frequency moves is no error
	for test in send write read; do
		pair "ib_${test}_lat" -F -x 0 "${SIZES[@]}" -n 20
		pair "ib_${test}_bw" -F -x 0 "${SIZES[@]}" -n 20
	done
	for test in CMP_AND_SWAP FETCH_AND_ADD; do
		pair ib_atomic_lat -F -x 0 -A "$test" -n 20
		pair ib_atomic_bw -F -x 0 -A "$test" -n 20
	done
	# UC loses what a busy receiver's socket has no room for, and ib_send_bw
	# waits for every message: so no burst that fills the socket.
	pair ib_send_bw -F -x 0 -c UC -s 2000 -n 20
	pair ib_write_bw -F -x 0 -c UC "${SIZES[@]}" -n 20
	pair ib_send_lat -F -x 0 -c UD -s 2000 -n 20
	pair ib_send_bw -F -x 0 -c UD -s 2000 -n 20
	pair ib_send_lat -F -x 0 -s 2000 -n 20 -e
	pair ib_send_bw -F -x 0 -s 70000 -n 20 -b -e
	pair ib_write_bw -F -x 0 -q 16 -s 4096 -n 100

	for test in tag_lat tag_bw ucp_get ucp_put_bw; do
		pair env UCX_TLS=rc_verbs,ud_verbs,self ucx_perftest -t "$test" -n 300 -s 10000
	done
	pair env UCX_TLS=ud_verbs,self ucx_perftest -t tag_lat -n 300 -s 10000
	pair env UCX_TLS=rc_verbs,ud_verbs,self ucx_perftest -t ucp_fadd -n 300 -s 8
	qperf "${QPERF_TESTS[@]}"
	mpi NPopenmpi -u 256 -n 5 -o /dev/null

	ports
	apps_end
}

main
