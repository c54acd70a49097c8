# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
#
# net.sh - what the tests with nodes share: two network namespaces joined by a
# veth pair, a run directory of their own, checks. To be sourced by a script
# that has set TAG, a short name that keeps concurrent tests apart.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034 # for those who source this
SCRIPTS=$ROOT/scripts
RUN=/run/vrdma-$TAG-$$
NS_A=$TAG-$$-a
NS_B=$TAG-$$-b
VETH_A=v$$a
VETH_B=v$$b
# Documentation addresses (RFC 5737, RFC 3849): no real network has them.
ADDR_A=192.0.2.1
ADDR_B=192.0.2.2
ADDR6_A=2001:db8::1
ADDR6_B=2001:db8::2

skip()
{
	echo "skipped: $*"
	exit 77
}

fail()
{
	echo "FAILED: $*" >&2
	exit 1
}

# need_host - skip where no node can run
need_host()
{
	[ "$(id -u)" = 0 ] || skip "needs root"
	[ -c /dev/net/tun ] || skip "there is no /dev/net/tun"
	[ -x /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk ] ||
		skip "Open vSwitch with DPDK is not installed"
	[ -e "$ROOT/build/pmd/librte_net_vrdma.so" ] ||
		skip "the driver is not built (scripts/setup.sh)"
}

net_up()
{
	local ns

	ip netns add "$NS_A"
	ip netns add "$NS_B"
	ip link add "$VETH_A" mtu 9000 netns "$NS_A" type veth \
		peer name "$VETH_B" mtu 9000 netns "$NS_B"
	ip -n "$NS_A" address add $ADDR_A/24 dev "$VETH_A"
	ip -n "$NS_B" address add $ADDR_B/24 dev "$VETH_B"
	ip -n "$NS_A" address add $ADDR6_A/64 dev "$VETH_A" nodad
	ip -n "$NS_B" address add $ADDR6_B/64 dev "$VETH_B" nodad
	for ns in "$NS_A" "$NS_B"; do
		ip -n "$ns" link set lo up
	done
	ip -n "$NS_A" link set "$VETH_A" up
	ip -n "$NS_B" link set "$VETH_B" up
}

# net_down - stop the nodes and remove the namespaces; for the EXIT trap
net_down()
{
	local node

	for node in "$RUN"/*/; do
		[ ! -d "$node" ] || "$ROOT/scripts/stop-vrdma.sh" --run-dir "$RUN" \
			"$(basename "$node")" || true
	done
	ip netns del "$NS_A" 2>/dev/null || true
	ip netns del "$NS_B" 2>/dev/null || true
}

in_a()
{
	ip netns exec "$NS_A" "$@"
}

in_b()
{
	ip netns exec "$NS_B" "$@"
}

# answers NETNS ADDRESS - does it answer a ping within ten seconds?
answers()
{
	local i

	for ((i = 0; i < 10; i++)); do
		! ip netns exec "$1" ping -q -c 1 -W 1 "$2" >/dev/null || return 0
	done
	return 1
}
