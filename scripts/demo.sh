#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The main job on one machine: two nodes in network namespaces, joined by a veth
# pair, each brought up by start-vrdma.sh, with one guest each. The guests ping
# each other and run NetPIPE over TCP; then the nodes' counters show that RoCE
# verbs carried all of it.

set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

NAME=demo
NATIVE=
DEVICE=udp
KEEP=
PIDS=()

usage()
{
	cat <<-END
	Usage: sudo scripts/demo.sh [option...]

	Sets up and builds (scripts/setup.sh), starts two vRDMA nodes as network
	namespaces on this machine and a guest on each, and lets the guests talk
	TCP: ping, then NetPIPE from 1 B to 1 MiB. Prints a table and the proof that
	RoCE verbs carried it; writes both to build/demo/result.json.

	  --native       no guests: the nodes' own network stacks talk
	  --device NAME  a real verbs device (ibv_devices lists them) instead of
	                 the userspace one; NAME,NAME: one for each node
	  --keep         leave the nodes running
	  --stop         end what --keep left running
	  --name NAME    another name for namespaces and files, so that demos can run
	                 side by side; the results are then in build/demo-NAME/
	END
}

parse_args()
{
	while [ $# != 0 ]; do
		case $1 in
		-h | --help) usage; exit 0 ;;
		--native) NATIVE=yes ;;
		--keep) KEEP=yes ;;
		--stop) KEEP=stop ;;
		--device | --name)
			[ $# -ge 2 ] || die "$1 needs a value"
			case $1 in
			--device) DEVICE=$2 ;;
			--name) NAME=$2 ;;
			esac
			shift
			;;
		*) usage >&2; die "unknown argument $1" ;;
		esac
		shift
	done
	[[ $NAME =~ ^[A-Za-z0-9-]{1,20}$ ]] || die "--name: '$NAME' is no name"
	[[ $DEVICE =~ ^[A-Za-z0-9._-]+(,[A-Za-z0-9._-]+)?$ ]] ||
		die "--device: '$DEVICE' is no device name"
	RUN=/run/vrdma-$NAME
	OUT=$VRDMA_ROOT/build/demo
	[ "$NAME" = demo ] || OUT+=-$NAME
}

ns_of()
{
	echo "vrdma-$NAME-$1"
}

# on NODE COMMAND... - run it in the node's namespace
on()
{
	local node=$1

	shift
	ip netns exec "$(ns_of "$node")" "$@"
}

# quietly COMMAND... - show the output only if it fails
quietly()
{
	local out

	if ! out=$("$@" 2>&1); then
		printf '\n%s\n' "$out" >&2
		return 1
	fi
}

# clean - take down all that a demo of this name made, now or in an earlier run
# Return: 0, or 1 if a node could not be stopped; its files stay
clean()
{
	local node pid left=

	for pid in "${PIDS[@]}"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	PIDS=()
	for node in a b; do
		if ! quietly "$VRDMA_ROOT/scripts/stop-vrdma.sh" "$node" --run-dir "$RUN"; then
			left+=" $node"
		elif [ -e "/run/netns/$(ns_of $node)" ]; then
			ip netns delete "$(ns_of $node)"
		fi
	done
	if [ -n "$left" ]; then
		warn "could not stop:$left; $RUN stays"
		return 1
	fi
	# Only sockets and logs of guests are left in it.
	rm -rf "$RUN"
}

# take_lock - one demo of a name at a time. The file goes with the demo that holds it,
# so what was opened may be a file that is gone: then it is no lock.
take_lock()
{
	while :; do
		exec 7>"$RUN.lock"
		flock -n 7 || die "a demo of this name is running (--name gives another)"
		[ ! /proc/self/fd/7 -ef "$RUN.lock" ] || return 0
	done
}

at_exit()
{
	local rc=$?

	trap '' INT TERM HUP
	set +e
	[ -z "$STEP_NAME" ] || step_end failed
	if [ $rc = 0 ] && [ "$KEEP" = yes ]; then
		look_around
	else
		clean || rc=1
	fi
	rm -f "$RUN.lock"
	if [ $rc != 0 ]; then
		say "failed; logs are in ${OUT#"$VRDMA_ROOT"/}/"
	fi
	exit $rc
}

# ---- the network -------------------------------------------------------------

# addr NODE NETWORK - addresses: under (veth), bridge, guest
addr()
{
	local host=1

	[ "$1" = a ] || host=2
	case $2 in
	under) echo "192.0.2.$host" ;;
	bridge) echo "10.0.0.$host" ;;
	guest) echo "10.0.1.$host" ;;
	esac
}

# device_of NODE
device_of()
{
	case $1 in
	a) echo "${DEVICE%,*}" ;;
	b) echo "${DEVICE#*,}" ;;
	esac
}

# netdev_of DEVICE - the network interface of a verbs device's first port
netdev_of()
{
	[ -d "/sys/class/infiniband/$1" ] || die "there is no device $1"
	cat "/sys/class/infiniband/$1/ports/1/gid_attrs/ndevs/0" 2>/dev/null ||
		die "$1 has no Ethernet interface"
}

# A real device is shared by both nodes and stays where it is; each gets an interface
# of its own on top of it, whose address the device offers as a GID.
make_links()
{
	local node netdev

	if [ "$DEVICE" = udp ]; then
		ip link add under0 mtu 9000 netns "$(ns_of a)" type veth \
			peer name under0 mtu 9000 netns "$(ns_of b)"
		return
	fi
	for node in a b; do
		netdev=$(netdev_of "$(device_of $node)")
		ip link add link "$netdev" name under0 netns "$(ns_of $node)" \
			type macvlan mode bridge
	done
}

make_network()
{
	local node

	for node in a b; do
		ip netns add "$(ns_of $node)"
		ip -n "$(ns_of $node)" link set lo up
	done
	make_links
	for node in a b; do
		ip -n "$(ns_of $node)" address add "$(addr $node under)/24" dev under0
		ip -n "$(ns_of $node)" link set under0 up
	done
}

# start_node NODE PEER - one poll thread each, on CPUs of their own
start_node()
{
	local cpus=1

	[ "$1" = a ] || [ "$(nproc)" = 1 ] || cpus=2
	# Its daemons must not inherit our lock.
	on "$1" "$VRDMA_ROOT/scripts/start-vrdma.sh" "$1" "$(addr "$1" bridge)/16" \
		"$(addr "$2" under)" --device "$(device_of "$1")" --cpus $cpus --run-dir "$RUN" 7>&-
}

ping_once()
{
	on a ping -q -c 1 -W 1 "$(addr b bridge)" >/dev/null
}

# ---- the work ------------------------------------------------------------------

# Both ends must get the same flags. Fixed repeats, as emulated guests would
# take minutes for NetPIPE's own idea of enough.
netpipe()
{
	echo "NPtcp -p 0 -n $1 -l 1 -u 1048576 -o /dev/null"
}

# await_both WHAT - both ends, started b first, must end well. The client is the
# first to know when something is wrong.
await_both()
{
	local rc=0

	wait "${PIDS[1]}" || rc=$?
	[ $rc = 0 ] || { tail -n 5 "$OUT/a.log" >&2; die "$1 a ended with status $rc"; }
	wait "${PIDS[0]}" || rc=$?
	[ $rc = 0 ] || { tail -n 5 "$OUT/b.log" >&2; die "$1 b ended with status $rc"; }
	PIDS=()
}

native_netpipe()
{
	local cmd

	cmd=$(netpipe 200)
	# shellcheck disable=SC2086 # a command line
	ip netns exec "$(ns_of b)" timeout 120 $cmd >"$OUT/b.log" 2>&1 &
	PIDS+=($!)
	wait_until 10 listens b 5002 || die "NetPIPE does not listen on node b"
	# shellcheck disable=SC2086
	ip netns exec "$(ns_of a)" timeout 120 $cmd -h "$(addr b bridge)" >"$OUT/a.log" 2>&1 &
	PIDS+=($!)
	await_both "NetPIPE on node"
}

listens()
{
	on "$1" ss -Hltn "sport = :$2" | grep -q .
}

# guest NODE JOB - start a guest in the background, its job a shell command line
guest()
{
	local sock

	sock=$(NODENAME=$1 VRDMA_RUN=$RUN "$VRDMA_ROOT/scripts/mike-add-guest" "guest-$1")
	"$VRDMA_ROOT/guest/launch" --name "$NAME-$1" --vhost-user "$sock" \
		--ip "$(addr "$1" guest)/24" --mtu 1500 --timeout 300 \
		--run-dir "$RUN/guests" --ready-file "$RUN/ready-$1" \
		-- sh -c "$2" >"$OUT/$1.log" 2>&1 &
	PIDS+=($!)
}

start_guests()
{
	local to cmd

	to=$(addr b guest)
	cmd=$(netpipe 40)
	guest b "$cmd"
	# The other guest may still boot and NetPIPE does not wait for it.
	guest a "for i in \$(seq 60); do ping -c 1 -W 1 $to >/dev/null && break; done
		ping -c 5 -i 0.2 $to || exit
		for i in \$(seq 20); do $cmd -h $to && exit; sleep 1; done; exit 1"
}

# both_run - do the guests' jobs run? Ends the demo if one has died.
both_run()
{
	local pid

	for pid in "${PIDS[@]}"; do
		[ -d "/proc/$pid" ] || die "a guest ended early: $(tail -n 2 "$OUT"/[ab].log)"
	done
	[ -e "$RUN/ready-a" ] && [ -e "$RUN/ready-b" ]
}


# ---- the end ---------------------------------------------------------------------

guest_fact()
{
	if [ -n "$NATIVE" ]; then
		case $1 in
		accelerator) echo native ;;
		kernel) uname -r ;;
		esac
	else
		jq -r ".$1" "$RUN/guests/$NAME-a/guest.json"
	fi
}

look_around()
{
	cat <<-END

	The nodes keep running. Look around with, for example:

	  sudo ip netns exec $(ns_of a) bash        # a shell on node a; then:
	  . $RUN/a/env; PATH=$VRDMA_ROOT/scripts:\$PATH
	  mike-ovs-vsctl show
	  mike-telemetry /vrdma/peers,0
	  ping $(addr b bridge)
	  $VRDMA_ROOT/guest/launch --name try --shell \\
	      --vhost-user \$(mike-add-guest try) --ip 10.0.1.9/24

	End it with: sudo scripts/demo.sh --stop$([ "$NAME" = demo ] || echo " --name $NAME")
	END
}

run_demo()
{
	step_begin "two nodes' network"
	make_network
	step_end
	step_begin "node a (Open vSwitch with DPDK, driver, bridge)"
	quietly start_node a b
	step_end
	step_begin "node b"
	quietly start_node b a
	step_end
	step_begin "the nodes reach each other"
	wait_until 20 ping_once || die "node b does not answer node a's ping"
	step_end
	if [ -n "$NATIVE" ]; then
		step_begin "NetPIPE between the nodes, 1 B to 1 MiB"
		native_netpipe
	else
		step_begin "two guests boot"
		start_guests
		wait_until 150 both_run || die "the guests did not boot"
		step_end
		step_begin "ping and NetPIPE between the guests, 1 B to 1 MiB"
		await_both guest
	fi
	step_end
	"$VRDMA_ROOT/scripts/demo_report.py" --run-dir "$RUN" --nodes a b \
		--netpipe "$OUT/a.log" --accelerator "$(guest_fact accelerator)" \
		--kernel "$(guest_fact kernel)" --output "$OUT/result.json"
}

main()
{
	parse_args "$@"
	need_root
	take_lock
	trap at_exit EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	if [ "$KEEP" = stop ]; then
		exit 0
	fi
	"$VRDMA_ROOT/scripts/setup.sh" 7>&-
	need_cmd NPtcp ping jq ss
	mkdir -p "$OUT"
	rm -f "$OUT"/*
	clean
	run_demo
}

main "$@"
