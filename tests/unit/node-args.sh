#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Wrong arguments of the node scripts are refused by name and change nothing.

set -euo pipefail
SCRIPTS=$(cd "$(dirname "$0")/../../scripts" && pwd)
RUN=$(mktemp -u -d)
status=0

# refuse WORD SCRIPT ARG... - the script must fail and say WORD
refuse()
{
	local word=$1 out

	shift
	if out=$(unset NODENAME; "$SCRIPTS/$1" "${@:2}" 2>&1); then
		echo "accepted: $*"
		status=1
	elif ! grep -qF -- "$word" <<<"$out"; then
		echo "$*: does not mention '$word': $out"
		status=1
	fi
}

refuse NODENAME start-vrdma.sh
refuse NODENAME start-vrdma.sh n1
refuse "'../n1'" start-vrdma.sh ../n1 10.0.0.1/16
refuse "'a b'" start-vrdma.sh 'a b' 10.0.0.1/16
refuse "'10.0.0.1'" start-vrdma.sh n1 10.0.0.1
refuse "'10.0.0.300/16'" start-vrdma.sh n1 10.0.0.300/16
refuse "'33'" start-vrdma.sh n1 10.0.0.1/33
refuse "'x'" start-vrdma.sh n1 fd00::1/x
refuse "'192.0.2.1:0'" start-vrdma.sh n1 10.0.0.1/16 192.0.2.1:0
refuse "'192.0.2.1:99999'" start-vrdma.sh n1 10.0.0.1/16 192.0.2.1:99999
refuse "'[fd00::1'" start-vrdma.sh n1 10.0.0.1/16 '[fd00::1'
refuse "'no such'" start-vrdma.sh n1 10.0.0.1/16 'no such'
refuse --local start-vrdma.sh n1 10.0.0.1/16 --local
refuse "'here'" start-vrdma.sh n1 10.0.0.1/16 --local here
refuse "'a,b'" start-vrdma.sh n1 10.0.0.1/16 --local 127.0.0.1 --device a,b
refuse --key start-vrdma.sh n1 10.0.0.1/16 --local 127.0.0.1 --key /no/such/file
refuse --hello-port start-vrdma.sh n1 10.0.0.1/16 --local 127.0.0.1 --hello-port 0
refuse --mtu start-vrdma.sh n1 10.0.0.1/16 --local 127.0.0.1 --mtu 70000
refuse --bridge start-vrdma.sh n1 10.0.0.1/16 --local 127.0.0.1 --bridge bridge-name-too-long
refuse --cpus start-vrdma.sh n1 10.0.0.1/16 --local 127.0.0.1 --cpus xyz
refuse --sleep start-vrdma.sh n1 10.0.0.1/16 --local 127.0.0.1 --sleep 1s
refuse --hugepages start-vrdma.sh n1 10.0.0.1/16 --local 127.0.0.1 --hugepages -1
refuse --run-dir start-vrdma.sh --run-dir run n1 10.0.0.1/16
refuse "too long" start-vrdma.sh n1 10.0.0.1/16 --local 127.0.0.1 \
	--run-dir "/run/$(printf '%0100d' 0)"
refuse --frobnicate start-vrdma.sh n1 10.0.0.1/16 --frobnicate
refuse NODENAME stop-vrdma.sh
refuse "'a/b'" stop-vrdma.sh a/b
refuse --frobnicate stop-vrdma.sh --frobnicate
refuse NODENAME mike-ovs-vsctl show
refuse NODENAME mike-add-guest g1
refuse NODENAME mike-telemetry

for script in start-vrdma.sh stop-vrdma.sh; do
	"$SCRIPTS/$script" --help 2>&1 | grep -q "^usage" || { echo "$script --help"; status=1; }
done
"$SCRIPTS/stop-vrdma.sh" n1 --run-dir "$RUN" 2>/dev/null || { echo "stop of nothing"; status=1; }
[ ! -e "$RUN" ] || { echo "made $RUN"; status=1; }
exit $status
