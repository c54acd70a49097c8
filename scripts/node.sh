#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# node.sh - bring one vRDMA node up or down.  The work behind start-vrdma.sh
# and stop-vrdma.sh, which are thin so that they can be sourced.
#
# A node is a private Open vSwitch with DPDK (its own database, sockets, logs
# and DPDK runtime directory, all under $VRDMA_RUN/NODENAME), a bridge in the
# present network namespace with an address, and the port rdma0, our driver.
# What was changed outside that directory is noted in its file "undo" before
# the change is made, so that "stop" can take back exactly that and no more.
#
# usage: node.sh start ... | node.sh stop ...  (start prints the name of a file
# with the node's environment; everything else goes to standard error)

# "A && B || die" is meant as it reads here: die unless both hold.
# shellcheck disable=SC2015

set -euo pipefail

HERE=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname -- "$HERE")
# shellcheck source=scripts/node-lib.sh
. "$HERE/node-lib.sh"

HUGE=/sys/kernel/mm/hugepages/hugepages-2048kB
UNIX_PATH_MAX=107

start_usage()
{
	cat <<USAGE
usage: source start-vrdma.sh NODENAME IP/PREFIX [PEER...] [option...]

Makes this machine (or network namespace) a vRDMA node: a private Open vSwitch
with DPDK, bridge, RDMA uplink port and address.  May be sourced, which also
sets the node's environment and PATH for the mike-* commands, or executed.

  NODENAME         any name; files are kept under it, so it must be unique here
  IP/PREFIX        this node's own address on the bridge
  PEER             another node's underlay: ADDR, ADDR:PORT, [ADDR6]:PORT or name

  --local ADDR     underlay address (default: what routes to the first peer)
  --device NAME    verbs device; udp: the userspace one; auto (default): a real
                   one that has the local address as a RoCEv2 GID, else udp
  --key FILE       only peers that prove this key may connect
  --hello-port N   TCP port of the hello protocol (default 4791)
  --mtu N          MTU of the virtual network (default 1500)
  --bridge NAME    name of the bridge and its interface (default br0)
  --no-tso         one frame per MTU instead of frames of up to 64 KiB
  --cpus MASK      hexadecimal mask of the CPUs that poll (default: one per NUMA node)
  --sleep US       longest sleep of an idle poll thread (default 100; 0: never)
  --hugepages N    2 MiB pages for the node (default 256, from MTU 2000 on 1024; 0: none)
  --run-dir DIR    where nodes keep their state (default /run/vrdma)
  -h, --help
USAGE
}

stop_usage()
{
	cat <<USAGE
usage: source stop-vrdma.sh [NODENAME] [--run-dir DIR]

Takes down what start-vrdma.sh NODENAME made.  NODENAME defaults to the node
whose environment is set.  May be sourced, which also removes that environment.
USAGE
}

# ---- arguments -------------------------------------------------------------

bad()
{
	node_die "$* (--help tells more)"
}

# in_range NUMBER MIN MAX
in_range()
{
	[[ $1 =~ ^[0-9]{1,9}$ ]] && [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

# is_addr ADDR - is it a well-formed IPv4 or IPv6 address?  "ip route get" exits
# with 1 when it cannot parse one and with 2 when there is no route.
is_addr()
{
	[[ $1 =~ ^[0-9]+(\.[0-9]+){3}$ || $1 =~ ^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$ ]] || return 1
	local rc=0
	ip route get "$1" >/dev/null 2>&1 || rc=$?
	[ "$rc" -ne 1 ]
}

# peer_devarg PEER - print "ADDR", "ADDR:PORT" or "[ADDR6]:PORT" with names
# looked up, or fail.
peer_devarg()
{
	local host=$1 port='' addr

	if is_addr "$1"; then
		printf '%s\n' "$1"
		return
	elif [[ $1 =~ ^\[([^]]+)\](:([0-9]+))?$ ]]; then
		host=${BASH_REMATCH[1]} port=${BASH_REMATCH[3]}
	elif [[ $1 =~ ^([^:]+):([0-9]+)$ ]]; then
		host=${BASH_REMATCH[1]} port=${BASH_REMATCH[2]}
	fi
	[ -z "$port" ] || in_range "$port" 1 65535 || return 1
	if is_addr "$host"; then
		addr=$host
	else
		[[ $host =~ ^[A-Za-z][A-Za-z0-9.-]*$ ]] || return 1
		addr=$(getent ahosts "$host" | awk 'NR == 1 { print $1 }') && [ -n "$addr" ] ||
			return 1
	fi
	if [[ -n $port && $addr == *:* ]]; then
		addr="[$addr]"
	fi
	printf '%s\n' "$addr${port:+:$port}"
}

# Address by which the other nodes know this one, when the user did not say.
guess_local()
{
	local to=${1:-192.0.2.1}

	to=${to#\[}
	case $to in
	*]*) to=${to%%]*} ;;
	*.*:*) to=${to%%:*} ;;
	esac
	ip -o route get "$to" 2>/dev/null | sed -n 's/.* src \([^ ]*\).*/\1/p'
}

take_name()
{
	[[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$ ]] ||
		bad "'$1' is no node name: letters, digits, '.', '_' and '-', at most 31"
	node_names "$1"
	[ "${#VRDMA_TELEMETRY}" -le $UNIX_PATH_MAX ] && [ "${#DPDKVHOST}" -le $UNIX_PATH_MAX ] ||
		bad "the run directory's name is too long for the sockets in it: $OVS_RUNDIR"
}

take_run_dir()
{
	[[ $1 == /* ]] || bad "--run-dir needs an absolute path, not '$1'"
	VRDMA_RUN=${1%/}
}

check_cidr()
{
	local len max=32

	[[ $1 == */* ]] && is_addr "${1%/*}" || bad "'$1' is no IP/PREFIX, as in 10.0.0.1/16"
	len=${1##*/}
	[[ $1 != *:* ]] || max=128
	in_range "$len" 1 $max || bad "'$len' is no prefix length for ${1%/*}"
}

parse_start()
{
	local words=() peer

	LOCAL='' DEVICE=auto KEY='' HELLO_PORT='' MTU=1500 BRIDGE=br0 TSO=true
	CPUS='' SLEEP=100 PAGES='' PEERS=()
	while [ $# -gt 0 ]; do
		case $1 in
		-h | --help) start_usage >&2; exit 0 ;;
		--no-tso) TSO=false; shift; continue ;;
		--local | --device | --key | --hello-port | --mtu | --bridge | --cpus | --sleep | \
		--hugepages | --run-dir)
			[ $# -ge 2 ] || bad "$1 needs a value" ;;
		-*) bad "unknown option $1" ;;
		*) words+=("$1"); shift; continue ;;
		esac
		case $1 in
		--local) LOCAL=$2 ;;
		--device) DEVICE=$2 ;;
		--key) KEY=$2 ;;
		--hello-port) HELLO_PORT=$2 ;;
		--mtu) MTU=$2 ;;
		--bridge) BRIDGE=$2 ;;
		--cpus) CPUS=${2#0x} ;;
		--sleep) SLEEP=$2 ;;
		--hugepages) PAGES=$2 ;;
		--run-dir) take_run_dir "$2" ;;
		esac
		shift 2
	done
	[ ${#words[@]} -ge 2 ] || bad "NODENAME and IP/PREFIX are needed"
	take_name "${words[0]}"
	IP_ADDR=${words[1]}
	for peer in "${words[@]:2}"; do
		PEERS+=("$(peer_devarg "$peer")") || bad "'$peer' is no peer address"
	done
	check_start
}

check_start()
{
	check_cidr "$IP_ADDR"
	[ -z "$LOCAL" ] || is_addr "$LOCAL" || bad "--local: '$LOCAL' is no address"
	LOCAL=${LOCAL:-$(guess_local "${PEERS[0]:-}")}
	[ -n "$LOCAL" ] || bad "no route leads to ${PEERS[0]:-other nodes}: give --local ADDR"
	[[ $DEVICE =~ ^[A-Za-z0-9._-]+$ ]] || bad "--device: '$DEVICE' is no device name"
	[ -z "$KEY" ] || [ -r "$KEY" ] || bad "--key: cannot read '$KEY'"
	[[ $KEY != *,* ]] || bad "--key: the file name must not contain a comma"
	[ -z "$HELLO_PORT" ] || in_range "$HELLO_PORT" 1 65535 ||
		bad "--hello-port: '$HELLO_PORT' is no port"
	in_range "$MTU" 576 9600 ||
		bad "--mtu: '$MTU' is not between 576 and 9600"
	[[ $BRIDGE =~ ^[A-Za-z0-9._-]{1,15}$ ]] || bad "--bridge: '$BRIDGE' is no interface name"
	[ -z "$CPUS" ] || [[ $CPUS =~ ^[0-9a-fA-F]+$ ]] || bad "--cpus: '$CPUS' is no hexadecimal mask"
	in_range "$SLEEP" 0 10000 || bad "--sleep: '$SLEEP' is not between 0 and 10000"
	# Open vSwitch makes at least 16384 buffers of the MTU's size for each port.
	[ -n "$PAGES" ] || PAGES=$((MTU < 2000 ? 256 : 1024))
	in_range "$PAGES" 0 1000000 || bad "--hugepages: '$PAGES' is no number of pages"
}

# ---- what the machine must have --------------------------------------------

find_vswitchd()
{
	local v

	for v in "$OVS_VSWITCHD_DEBIAN" "$(command -v ovs-vswitchd || true)"; do
		[ -x "$v" ] && "$v" --version | grep -q '^DPDK' || continue
		VSWITCHD=$v
		return
	done
	node_die "no Open vSwitch with DPDK here (Debian's package is openvswitch-switch-dpdk)"
}

find_schema()
{
	local s

	for s in /usr/share/openvswitch /usr/local/share/openvswitch; do
		SCHEMA=$s/vswitch.ovsschema
		[ ! -r "$SCHEMA" ] || return 0
	done
	node_die "cannot find Open vSwitch's vswitch.ovsschema"
}

# EAL opens the plugin by its path and refuses one that others could replace.
find_driver()
{
	DRIVER=$ROOT/build/pmd/librte_net_vrdma.so
	[ -r "$DRIVER" ] || node_die "the driver is not built: $DRIVER (run scripts/setup.sh)"
	DRIVER=$(readlink -f "$DRIVER")
	[[ $DRIVER != *[[:space:]\"\'\\]* ]] ||
		node_die "DPDK takes no driver from a path with a blank or a quote: $DRIVER"
	local dir=$DRIVER
	while [ "$dir" != / ]; do
		dir=$(dirname "$dir")
		[ $((0$(stat -c %a "$dir") & 2)) -eq 0 ] ||
			node_die "DPDK loads no driver from below $dir, which everyone may write to"
	done
}

check_machine()
{
	[ "$(id -u)" -eq 0 ] || node_die "must be root"
	[ -c /dev/net/tun ] || node_die "there is no /dev/net/tun"
	command -v ovsdb-server >/dev/null || node_die "Open vSwitch is not installed"
	find_vswitchd
	find_schema
	find_driver
}

# The userspace datapath makes two interfaces in the namespace, the bridge's and
# one that is always called ovs-netdev.  They outlive a killed daemon, with their
# addresses, and its successor goes on using them; so note that they are ours.
claim_interfaces()
{
	local i ns

	! grep -qs '^interface' "$OVS_RUNDIR/undo" || return 0
	ns=$(readlink /proc/self/ns/net)
	for i in "$BRIDGE" ovs-netdev; do
		[ ! -e "/sys/class/net/$i" ] ||
			node_die "interface $i exists and is not ours; is another userspace Open vSwitch running here?"
	done
	printf "interface %s $ns\n" "$BRIDGE" ovs-netdev >>"$OVS_RUNDIR/undo"
}

# drop_interface NAME NETNS - remove what a killed daemon left behind.  The database
# server still lives in the right namespace.
drop_interface()
{
	local run=() pid

	if pid=$(node_pid "$OVS_SERVER_PID"); then
		run=(nsenter -t "$pid" -n)
	elif [ "$2" != "$(readlink /proc/self/ns/net)" ]; then
		node_say "leaves interface $1 in another network namespace ($2)"
		return
	fi
	! "${run[@]}" ip link show dev "$1" >/dev/null 2>&1 ||
		"${run[@]}" ip link delete dev "$1"
}

# ---- huge pages ------------------------------------------------------------

# The host's lock: nodes that start at once must not both count on the same free
# pages, so it is held from the count until DPDK has the pages.
host_lock()
{
	exec 8<"$VRDMA_RUN"
	flock 8
}

host_unlock()
{
	exec 8<&-
}

# huge_add N - raise the host's pool by N pages (or lower it), print by how
# many it really changed.
huge_add()
{
	local before after

	before=$(cat $HUGE/nr_hugepages)
	after=$((before + $1))
	[ $after -ge 0 ] || after=0
	echo $after >$HUGE/nr_hugepages 2>/dev/null || true
	after=$(cat $HUGE/nr_hugepages)
	echo $((after - before))
}

# huge_take - see to it that PAGES pages are free.  What others have reserved is
# still counted as free by the kernel until they touch it.
huge_take()
{
	local had free want got

	had=$(cat $HUGE/nr_hugepages)
	free=$(($(cat $HUGE/free_hugepages) - $(cat $HUGE/resv_hugepages)))
	want=$((PAGES - free))
	[ $want -gt 0 ] || return 0
	# Noted first: the kernel may take long over it, and we be killed meanwhile.
	echo "asked $want $had" >>"$OVS_RUNDIR/undo"
	got=$(huge_add $want)
	sed -i "s/^asked .*/hugepages $got/" "$OVS_RUNDIR/undo"
	[ "$got" -lt $want ] || return 0
	huge_return
	node_say "only $got of $want huge pages to be had; using ordinary memory"
	return 1
}

# huge_return - give back the pages that are ours by the file "undo".  Of a start that
# was killed while it asked, these are what the pool has grown by.
huge_return()
{
	local what n had grown

	[ -r "$OVS_RUNDIR/undo" ] || return 0
	while read -r what n had; do
		case $what in
		hugepages) ;;
		asked) grown=$(($(cat $HUGE/nr_hugepages) - had))
			n=$((grown < n ? grown : n)) ;;
		*) continue ;;
		esac
		[ "$n" -le 0 ] || huge_add -"$n" >/dev/null
	done <"$OVS_RUNDIR/undo"
	sed -i -e '/^hugepages /d' -e '/^asked /d' "$OVS_RUNDIR/undo"
}

# Set EAL_MEMORY: huge pages if the host has them.  A daemon that is started again
# keeps what was chosen the first time.
choose_memory()
{
	if [ -r "$OVS_RUNDIR/memory" ]; then
		EAL_MEMORY=$(cat "$OVS_RUNDIR/memory")
	elif [ "$PAGES" -gt 0 ] && [ -w $HUGE/nr_hugepages ] && huge_take; then
		EAL_MEMORY="-m $((PAGES * 2))"
	else
		choose_ordinary_memory
	fi
}

# Without --legacy-mem Open vSwitch adds --in-memory, which EAL refuses together
# with --no-huge.
choose_ordinary_memory()
{
	EAL_MEMORY="--no-huge --legacy-mem -m $((PAGES > 0 ? PAGES * 2 : 512))"
}

# Take back what the file "undo" says.
undo_all()
{
	local what arg ns

	[ -r "$OVS_RUNDIR/undo" ] || return 0
	huge_return
	while read -r what arg ns; do
		[ "$what" != interface ] || drop_interface "$arg" "$ns"
	done <"$OVS_RUNDIR/undo"
}

# ---- Open vSwitch ----------------------------------------------------------

# ovs_daemon NAME PROGRAM PIDFILE LOG [ARG...] - start a daemon of this node.  Its
# control socket is called after NAME, where ovs-appctl looks for it; DPDK puts
# its own files below RUNTIME_DIRECTORY, the userspace device below XDG_RUNTIME_DIR.
# It must not keep our locks.
ovs_daemon()
(
	local name=$1 program=$2 pidfile=$3 log=$4

	shift 4
	export OVS_RUNDIR OVS_DBDIR OVS_LOGDIR OVS_SYSCONFDIR RUNTIME_DIRECTORY=$OVS_RUNDIR
	export XDG_RUNTIME_DIR=$OVS_RUNDIR
	cd /
	exec -a "$name" "$program" --pidfile="$pidfile" -vconsole:off --log-file="$log" \
		--detach "$@" </dev/null >/dev/null 8>&- 9>&-
)

start_ovsdb()
{
	! node_pid "$OVS_SERVER_PID" >/dev/null || return 0
	[ -e "$OVS_DATABASE" ] || ovsdb-tool create "$OVS_DATABASE" "$SCHEMA"
	ovs_daemon ovsdb-server "$(command -v ovsdb-server)" "$OVS_SERVER_PID" \
		"$OVS_SERVER_LOG" --remote="punix:$DB_SOCKET" "$OVS_DATABASE"
	node_vsctl --no-wait init
	node_say "database started"
}

# Settings that Open vSwitch reads only once, when DPDK starts; the bridge's name
# is kept with them because its interface cannot be renamed either.
ovs_settings()
{
	printf '%s\n' "other_config:dpdk-init=true" \
		"other_config:userspace-tso-enable=$TSO" \
		"other_config:per-port-memory=true" \
		"external_ids:vrdma-bridge=$BRIDGE" \
		"other_config:dpdk-extra=\"-d $DRIVER --file-prefix=$NODENAME --no-pci --iova-mode=va $EAL_MEMORY\""
}

# Other programs want huge pages, too, and may take ours in the moment between the
# count and the daemon's start; ordinary memory is slower but always works.
start_vswitchd()
{
	host_lock
	choose_memory
	if node_pid "$OVS_DAEMON_PID" >/dev/null; then
		[ "$(ovs_settings)" = "$(cat "$OVS_RUNDIR/settings")" ] ||
			node_die "runs with another driver, bridge or --no-tso: stop it first"
		host_unlock
		return 0
	fi
	claim_interfaces
	if ! run_vswitchd; then
		[[ $EAL_MEMORY != --no-huge* ]] || node_die "Open vSwitch does not start"
		node_say "does not start with huge pages; trying ordinary memory"
		huge_return
		choose_ordinary_memory
		run_vswitchd || node_die "Open vSwitch does not start"
	fi
	host_unlock
	node_say "Open vSwitch started ($EAL_MEMORY)"
}

run_vswitchd()
{
	local settings

	mapfile -t settings < <(ovs_settings)
	node_vsctl --no-wait set Open_vSwitch . "${settings[@]}" || return
	ovs_settings >"$OVS_RUNDIR/settings"
	echo "$EAL_MEMORY" >"$OVS_RUNDIR/memory"
	ovs_daemon ovs-vswitchd "$VSWITCHD" "$OVS_DAEMON_PID" "$OVS_DAEMON_LOG" \
		"unix:$DB_SOCKET"
}

set_poll_threads()
{
	node_vsctl set Open_vSwitch . "other_config:pmd-maxsleep=$SLEEP"
	if [ -n "$CPUS" ]; then
		node_vsctl set Open_vSwitch . "other_config:pmd-cpu-mask=0x$CPUS"
	else
		node_vsctl remove Open_vSwitch . other_config pmd-cpu-mask
	fi
}

rdma_devargs()
{
	local args="net_vrdma0,device=$DEVICE,local=$LOCAL,node=$NODENAME" peer

	for peer in "${PEERS[@]}"; do
		args+=",peer=$peer"
	done
	[ -z "$KEY" ] || args+=",key=$(readlink -f "$KEY")"
	[ -z "$HELLO_PORT" ] || args+=",hello_port=$HELLO_PORT"
	printf '%s\n' "$args"
}

# port_ok PORT - fail, with Open vSwitch's reason, if it could not be opened.
port_ok()
{
	local why

	why=$(node_vsctl get Interface "$1" error)
	[ "$why" != '[]' ] || return 0
	node_say "port $1: $why"
	return 1
}

# bridge_mac - the same for the same node, so that a node that restarts is found by
# those who know it.  02: is for addresses that no manufacturer gave out.
bridge_mac()
{
	printf '%s' "$NODENAME" | sha256sum | sed -E 's/^(..)(..)(..)(..)(..).*/02:\1:\2:\3:\4:\5/'
}

start_bridge()
{
	node_vsctl --may-exist add-br "$BRIDGE" -- \
		set bridge "$BRIDGE" datapath_type=netdev \
		"other-config:hwaddr=\"$(bridge_mac)\"" -- \
		set Interface "$BRIDGE" "mtu_request=$MTU"
}

# Other peers or another device mean another driver instance. Open vSwitch goes on
# using the present one, by its name, until the port is gone.
start_uplink()
{
	local want have

	want=$(rdma_devargs)
	have=$(node_vsctl --if-exists get Interface rdma0 options:dpdk-devargs | tr -d '"')
	if [ -n "$have" ] && [ "$have" != "$want" ]; then
		node_say "rdma0 changes from $have"
		node_vsctl del-port "$BRIDGE" rdma0
	fi
	node_vsctl --may-exist add-port "$BRIDGE" rdma0 -- set Interface rdma0 type=dpdk \
		"options:dpdk-devargs=\"$want\"" "mtu_request=$MTU"
	port_ok rdma0 || return 1
	node_say "uplink rdma0: $want"
}

start_address()
{
	ip link set "$BRIDGE" up
	ip address show dev "$BRIDGE" | grep -qwF -- "$IP_ADDR" && return 0
	ip address flush dev "$BRIDGE" scope global
	ip address add "$IP_ADDR" dev "$BRIDGE"
}

same_namespace()
{
	local pid

	pid=$(node_pid "$OVS_DAEMON_PID") || return 0
	[ "$(readlink "/proc/$pid/ns/net")" = "$(readlink /proc/self/ns/net)" ]
}

write_env()
{
	local v

	for v in $NODE_EXPORTS; do
		printf 'export %s=%q\n' "$v" "${!v}"
	done >"$OVS_RUNDIR/env"
}

# ---- start and stop --------------------------------------------------------

# lock_node - the directory is the lock.
# Return: 0, or 1 when it is gone: removed by a stop that we waited for
lock_node()
{
	{ exec 9<"$OVS_RUNDIR"; } 2>/dev/null || return 1
	flock -w 60 9 || node_die "another start or stop of this node is going on"
	[ /proc/self/fd/9 -ef "$OVS_RUNDIR" ]
}

# make_run_dirs - and mark the common one as ours, so that the last node to
# stop removes it.
make_run_dirs()
{
	if [ ! -d "$VRDMA_RUN" ]; then
		mkdir -p "$VRDMA_RUN"
		touch "$VRDMA_RUN/.ours"
	fi
	mkdir -p "$OVS_RUNDIR"
}

remove_run_dirs()
{
	rm -rf "$OVS_RUNDIR"
	if [ "$(ls -A "$VRDMA_RUN")" = .ours ]; then
		rm -r "$VRDMA_RUN"
	fi
}

# show_reason - the driver's own words if it has any, else the log's last complaints
show_reason()
{
	local reason

	[ -r "$OVS_DAEMON_LOG" ] || return 0
	reason=$(grep -F '|dpdk|ERR|vrdma' "$OVS_DAEMON_LOG" | tail -n 1 | cut -d '|' -f 5-)
	[ -n "$reason" ] || reason=$(grep -E '\|(WARN|ERR|EMER)\|' "$OVS_DAEMON_LOG" | tail -n 5)
	[ -z "$reason" ] || printf '%s\n' "$reason" >&2
}

# A start that fails takes back what it made, but leaves a node alone that was
# there before.
start_failed()
{
	local rc=$?

	[ $rc -ne 0 ] || return 0
	# Nothing that fails from here on may keep the rest from being taken down.
	set +e
	trap '' INT TERM
	show_reason
	if [ "$FRESH" = yes ]; then
		take_down
	fi
	node_say "start failed"
	exit $rc
}

do_start()
{
	parse_start "$@"
	check_machine
	make_run_dirs
	until lock_node; do
		make_run_dirs
	done
	FRESH=yes
	[ ! -r "$OVS_RUNDIR/env" ] || FRESH=no
	same_namespace || node_die "runs in another network namespace"
	trap start_failed EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	start_ovsdb
	start_vswitchd
	set_poll_threads
	start_bridge
	start_uplink
	start_address
	write_env
	trap - EXIT
	node_say "up: $IP_ADDR on $BRIDGE"
	printf '%s\n' "$OVS_RUNDIR/env"
}

# stop_daemon PIDFILE CTL [ARG...] - ask, then insist.
stop_daemon()
{
	local pidfile=$1 name=$2 pid i

	shift 2
	pid=$(node_pid "$pidfile") || return 0
	ovs-appctl --timeout=10 -t "$OVS_RUNDIR/$name.$pid.ctl" exit "$@" >/dev/null 2>&1 ||
		kill "$pid" 2>/dev/null || true
	# The pid file goes first, the interfaces with the process.
	for ((i = 0; i < 100; i++)); do
		[ -d "/proc/$pid" ] || return 0
		sleep 0.1
	done
	node_say "$name does not end; killing it"
	kill -9 "$pid" 2>/dev/null || true
}

take_down()
{
	stop_daemon "$OVS_DAEMON_PID" ovs-vswitchd --cleanup
	host_lock
	undo_all
	stop_daemon "$OVS_SERVER_PID" ovsdb-server
	remove_run_dirs
	host_unlock
}

do_stop()
{
	local name=''

	while [ $# -gt 0 ]; do
		case $1 in
		-h | --help) stop_usage >&2; exit 0 ;;
		--run-dir) [ $# -ge 2 ] || bad "$1 needs a value"; take_run_dir "$2"; shift 2 ;;
		-*) bad "unknown option $1" ;;
		*) [ -z "$name" ] || bad "one NODENAME only"; name=$1; shift ;;
		esac
	done
	name=${name:-${NODENAME:-}}
	[ -n "$name" ] || bad "which node? NODENAME is needed"
	take_name "$name"
	[ "$(id -u)" -eq 0 ] || [ ! -d "$OVS_RUNDIR" ] || node_die "must be root"
	until lock_node; do
		[ -d "$OVS_RUNDIR" ] || { node_say "is not running"; return 0; }
	done
	take_down
	node_say "down"
}

case ${1:-} in
start) shift; do_start "$@" ;;
stop) shift; do_stop "$@" ;;
*) node_die "usage: node.sh start|stop ... (use start-vrdma.sh and stop-vrdma.sh)" ;;
esac
