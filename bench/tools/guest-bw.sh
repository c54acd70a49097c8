#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# guest-bw.sh rxe|vrdma BYTES COUNT VRDMA_RUN - runs in a guest: perftest's ib_write_bw with
# itself, on the kernel's software RoCE device or on ours; prints "Gb/s NUMBER"
#
# Both ends of rxe are one device, whose packets go to itself by its shortest way. Ours are
# two devices, of two processes, and packets through the loopback interface.

set -euo pipefail
WAY=$1
TEST=(ib_write_bw -F --report_gbits -x 1 -s "$2" -n "$3")

load()
{
	modprobe -a -d "$(cd "$(dirname "$0")/../.." && pwd)/.cache/guest/kernel" "$@"
}

load veth
ip link set lo up
ip link add under0 mtu 9000 type veth peer name under1 mtu 9000
ip address add 10.8.0.1/24 dev under0
ip address add 10.8.0.2/24 dev under0
ip link set under0 up
ip link set under1 up
if [ "$WAY" = rxe ]; then
	load crc32_generic rdma_rxe ib_uverbs	# rxe takes RoCE's port on all addresses
	rdma link add rxe0 type rxe netdev under0
	SERVER=(-d rxe0)
	CLIENT=(-d rxe0 10.8.0.1)
	RUN_SERVER=() RUN_CLIENT=()
else
	TEST[4]=0		# a device of ours has one GID
	RUN_SERVER=("$4" --addr 10.8.0.1 --name vrdma0)
	RUN_CLIENT=("$4" --addr 10.8.0.2 --name vrdma0)
	SERVER=(-d vrdma0)
	CLIENT=(-d vrdma0 10.8.0.1)
fi
"${RUN_SERVER[@]}" "${TEST[@]}" "${SERVER[@]}" >/dev/null &
until grep -qs ":4853 0*:0000 0A" /proc/net/tcp /proc/net/tcp6; do
	kill -0 $!		# it has failed otherwise
	sleep 0.1
done
"${RUN_CLIENT[@]}" "${TEST[@]}" "${CLIENT[@]}" |
	awk '$1 ~ /^[0-9]+$/ { print "Gb/s", $4 }'
wait
