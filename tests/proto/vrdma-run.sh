#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# vrdma-run: the devices that it makes, the command's surroundings and end, and
# that nothing stays behind; as root and, where that is allowed, as nobody.
# Usage: vrdma-run.sh VRDMA_RUN

set -euo pipefail

RUN=$1
AS=()
FAILED=0

skip()
{
	echo "skipped: $*"
	exit 77
}

# expect WHAT WANTED GOT
expect()
{
	if [ "$2" = "$3" ]; then
		echo "ok $1"
	else
		echo "FAILED $1: wanted '$2', got '$3'"
		FAILED=$((FAILED + 1))
	fi
}

run()
{
	"${AS[@]}" "$RUN" --addr 127.0.0.1 "$@"
}

status()
{
	local rc=0

	"$@" >/dev/null 2>&1 || rc=$?
	echo "$rc"
}

host_state()
{
	mount | grep vrdma-dev || true
	ls -d /dev/infiniband /tmp/infiniband 2>/dev/null || true
}

gids()
{
	sed -n 's/.*GID\[ *[0-9]*\]:[[:space:]]*\([^,]*\),.*/\1/p' | xargs
}

devices()
{
	local own=(unshare --net --mount --map-root-user sh -c
		'ip link set lo up && exec "$@"' -)

	expect "one device" vrdma_lo "$(run ibv_devices | awk 'NR > 2 { print $1 }')"
	expect "two devices" "mine vrdma_lo" "$("${AS[@]}" "$RUN" --addr 127.0.0.1 \
		--name mine --addr ::1 ibv_devices | awk 'NR > 2 { print $1 }' | sort | xargs)"
	expect "the GID" "::ffff:127.0.0.1" \
		"$(run ibv_devinfo -v | sed -n 's/.*GID\[ *0\]:[[:space:]]*\([^,]*\),.*/\1/p')"
	expect "--list" "vrdma_lo	127.0.0.1" "$("${AS[@]}" "$RUN" --addr 127.0.0.1 --list)"
	expect "two addresses" "::1 ::ffff:127.0.0.1" \
		"$("${AS[@]}" "${own[@]}" "$RUN" --addr ::1,127.0.0.1 ibv_devinfo -v | gids)"
	expect "an interface" "::ffff:127.0.0.1 ::1" \
		"$("${AS[@]}" "${own[@]}" "$RUN" --interface lo ibv_devinfo -v | gids)"
	expect "an interface's name and --list" "mine	127.0.0.1,::1" \
		"$("${AS[@]}" "${own[@]}" "$RUN" --interface lo --name mine --list)"
}

surroundings()
{
	expect "arguments are passed" "a b" "$(run sh -c 'echo "$1"' - 'a b')"
	expect "options behind the command are the command's" --help \
		"$(run printf %s --help)"
	expect "the user" "$("${AS[@]}" id -u)" "$(run id -u)"
	expect "other devices work" ok "$(run sh -c 'echo ok >/dev/null; head -c1 /dev/zero \
		>/dev/shm/vrdma-$$ && rm /dev/shm/vrdma-$$ && echo ok')"
	expect "kept preloads" 1 "$(LD_PRELOAD=/nonexistent.so run \
		sh -c 'echo "$LD_PRELOAD"' 2>/dev/null | grep -c ':/nonexistent.so$')"
}

ends()
{
	expect "exit status" 7 "$(status run sh -c 'exit 7')"
	expect "signals" 143 "$(status run sh -c 'kill -TERM $$')"
	expect "no such command" 127 "$(status run /nonexistent/command)"
	expect "no command" 125 "$(status "${AS[@]}" "$RUN")"
	expect "not an address" 125 "$(status "${AS[@]}" "$RUN" --addr nonsense true)"
	expect "one of two is not ours" 125 \
		"$(status "${AS[@]}" "$RUN" --addr 127.0.0.1,192.0.2.99 true)"
	expect "no interface" 125 "$(status "${AS[@]}" "$RUN" --interface no true)"
	expect "not ours" 125 "$(status "${AS[@]}" "$RUN" --addr 192.0.2.99 true)"
	expect "a name with a slash" 125 \
		"$(status "${AS[@]}" "$RUN" --addr 127.0.0.1 --name ../x true)"
}

# Packet ports, on an interface of a network namespace that is its user's own
ports()
{
	local own=(unshare --net --mount --map-root-user sh -c
		'ip link add v0 type veth peer name v1 && ip link set v0 up &&
		 ip link set v1 up && exec "$@"' -)
	local port=(--port v0 --addr 10.9.0.5/24)
	local addressed=("${own[@]}" sh -c
		'ip link set lo up && ip link set v0 down &&
		 ip link set v0 addrgenmode none && ip link set v0 up &&
		 ip addr add 10.9.0.1/24 dev v0 && ip addr add fd09::1/64 dev v0 &&
		 ip addr add 10.9.0.2/24 dev v0 && exec "$@"' -)

	expect "addresses of two interfaces" 125 "$(status "${AS[@]}" "${addressed[@]}" \
		"$RUN" --addr 10.9.0.1,127.0.0.1 true)"
	expect "by default, all addresses" "vrdma_v0	10.9.0.1,10.9.0.2,fd09::1" \
		"$("${AS[@]}" "${addressed[@]}" "$RUN" --list)"
	expect "a port's two GIDs" "::ffff:10.9.0.5 fd09::5" \
		"$("${AS[@]}" "${own[@]}" "$RUN" --port v0 --addr 10.9.0.5/24,fd09::5/64 \
		--gateway 10.9.0.1,fd09::1 ibv_devinfo -v | gids)"
	expect "a port" "vrdma_v0	10.9.0.5/24" \
		"$("${AS[@]}" "${own[@]}" "$RUN" "${port[@]}" --list)"
	expect "a port's GID" "::ffff:10.9.0.5" \
		"$("${AS[@]}" "${own[@]}" "$RUN" "${port[@]}" --mac 02:00:00:00:00:05 \
		--gateway 10.9.0.1 ibv_devinfo -v |
		sed -n 's/.*GID\[ *0\]:[[:space:]]*\([^,]*\),.*/\1/p')"
	expect "not an interface" 125 "$(status "${AS[@]}" "$RUN" --port no --addr 10.9.0.5/24 true)"
	expect "not Ethernet" 125 "$(status "${AS[@]}" "$RUN" --port lo --addr 10.9.0.5/24 true)"
	expect "--port alone" 125 "$(status "${AS[@]}" "$RUN" --port lo true)"
	for args in "--addr 10.9.0.5" "--addr 10.9.0.5/24,fd09::5" "--addr 10.9.0.5/24 --mac 01:00:00:00:00:05" \
		"--addr 10.9.0.5/24 --gateway 10.8.0.1"; do
		# shellcheck disable=SC2086 # options
		expect "--port v0 $args" 125 \
			"$(status "${AS[@]}" "${own[@]}" "$RUN" --port v0 $args true)"
	done
}

# Root of the machine may all; a user without a network namespace is told what lacks.
no_privilege()
{
	local said dir=$1

	said=$(unshare --net sh -c 'ip link add v0 type veth peer name v1 &&
		exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"' - \
		"$dir/$(basename "$RUN")" --port v0 --addr 10.9.0.5/24 true 2>&1) || true
	expect "without CAP_NET_RAW" "vrdma-run: --port: Operation not permitted" \
		"$(echo "$said" | head -n 1)"
}

# The plug-in must be readable for nobody, who can't enter a developer's home.
as_nobody()
{
	DIR=$(mktemp -d)
	trap 'rm -rf "$DIR"' EXIT
	cp "$(dirname "$RUN")"/*.so "$RUN" "$DIR"
	chmod 755 "$DIR"
	RUN=$DIR/$(basename "$RUN")
	AS=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	if [ "$(status "${AS[@]}" unshare -Um true)" != 0 ]; then
		echo "not run: as nobody (no user namespaces here)"
		return
	fi
	devices
	surroundings
	ends
	ports
	no_privilege "$DIR"
}

main()
{
	local before

	[ "$(id -u)" = 0 ] || skip "needs root"
	before=$(host_state)
	devices
	surroundings
	ends
	ports
	expect "nothing stays" "$before" "$(host_state)"
	as_nobody
	[ "$FAILED" = 0 ]
}

main
