#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# kernel-rdma-guest.sh N PEER - runs in a guest, as machine N of kernel-rdma.sh: makes the
# kernel's RoCE device, a node on it, and talks TCP to the other machine's bridge.

set -euo pipefail
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
PATH=$ROOT/scripts:$PATH
NETPIPE=(NPtcp -p 0 -n 5 -l 1 -u 65536 -o /dev/null)

# crc32_generic: rdma_rxe asks for it by a name that only the root's own modules have.
for module in tun crc32_generic rdma_rxe ib_uverbs; do
	modprobe -d "$ROOT/.cache/guest/kernel" $module
done
rdma link add rxe0 type rxe netdev eth0
start-vrdma.sh "m$1" "10.8.0.$1/24" "192.0.2.$2" --device rxe0 --hugepages 0 --sleep 1000
export NODENAME=m$1
mike-telemetry /vrdma/device,0 | jq -e '.name == "rxe0" and .kind == "hardware"' >/dev/null

for ((i = 0; i < 120; i++)); do
	! ping -q -c 1 -W 1 "10.8.0.$2" >/dev/null || break
done
if [ "$1" = 2 ]; then
	"${NETPIPE[@]}"
	sleep 10		# the other machine counts
	exit
fi
for ((i = 0; i < 30; i++)); do
	! "${NETPIPE[@]}" -h "10.8.0.$2" || break
	sleep 1
done
mike-telemetry /ethdev/xstats,0 | jq -c 'with_entries(select(.value != 0))'
mike-telemetry /ethdev/xstats,0 | jq -e '.tx_messages > 100 and .rx_messages > 100' >/dev/null
