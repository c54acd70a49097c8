#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Makes a fresh Debian 12 ready for vRDMA and builds it: installs the packages
# of packages.txt, fetches what Debian does not ship ready-made (fetch.sh) and
# builds into build/. Does only what is not done yet.

set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/fetch.sh
source "$VRDMA_ROOT/scripts/fetch.sh"

LOG=$VRDMA_CACHE/setup.log
BOOT_BEFORE=$VRDMA_CACHE/boot-links.before
POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='written by vRDMA setup.sh for the time of an installation'
POLICY_SAVED=$POLICY.before-vrdma
POLICY_SET=

usage()
{
	cat <<-END
	Usage: sudo scripts/setup.sh

	Makes a fresh Debian 12 (amd64) ready for vRDMA and builds it:
	  1. installs the packages of scripts/packages.txt; no service is
	     started or enabled, no running one is restarted
	  2. fetches DPDK's driver headers, rdma-core's provider header and a
	     guest kernel into .cache/
	  3. builds into build/
	What is done already is not done again. Needs the network and 4 GB.
	The full log is .cache/setup.log.

	Variables:
	  MESON_OPTS   options for the first "meson setup", e.g. -Dwerror=true
	END
}

# fail TEXT... - end a step; run_step() shows the line
fail()
{
	echo "setup-fail: $*"
	exit 1
}

# failure - the one line that says why the step failed
# Reads the step's part of the log.
failure()
{
	local text line

	text=$(tail -n "+$1" "$LOG" | tail -n 2000)
	line=$(sed -n 's/^setup-fail: //p' <<<"$text" | tail -n 1)
	if [ -n "$line" ]; then
		echo "$line"
	elif grep -q -i 'no space left on device\|not enough free space\|have enough free space' <<<"$text"; then
		echo "the disk is full ($(df -h --output=target,avail "$VRDMA_CACHE" / |
			tail -n +2 | sort -u | awk '{ print $1 ": " $2 " free" }' |
			paste -sd ' '))"
	elif line=$(grep -m 1 -i 'resolving\|could not connect\|unable to connect\|network is unreachable\|connection timed out' <<<"$text"); then
		echo "no network: $(sed 's/^[EW]: *//; s/^ *//' <<<"$line")"
	elif line=$(grep '^E: ' <<<"$text" | head -n 1) && [ -n "$line" ]; then
		echo "apt: ${line#E: }"
	elif line=$(grep -m 1 -i 'error:' <<<"$text"); then
		echo "$line"
	else
		tail -n 1 <<<"$text"
	fi
}

# run_step NAME FUNCTION... - one progress line; output goes to the log
run_step()
{
	local name=$1 first rc=0

	shift
	step_begin "$name"
	printf '\n== %s (%s)\n' "$name" "$(date -Is)" >>"$LOG"
	first=$(($(wc -l <"$LOG") + 1))
	set +e
	(
		set -e
		"$@"
	) >>"$LOG" 2>&1 </dev/null
	rc=$?
	set -e
	if [ $rc != 0 ]; then
		step_end failed
		die "$name: $(failure "$first") (log: .cache/setup.log)"
	fi
	step_end
}

# check_host - end unless this is the system that we know
check_host()
{
	local id version

	# shellcheck source=/dev/null
	id=$(. /etc/os-release && echo "${ID:-}")
	# shellcheck source=/dev/null
	version=$(. /etc/os-release && echo "${VERSION_ID:-}")
	[ "$id $version" = "debian 12" ] ||
		die "this is ${id:-an unknown system} $version, not Debian 12"
	[ "$(dpkg --print-architecture)" = amd64 ] ||
		die "this is $(dpkg --print-architecture), not amd64"
}

# check_space DIR MEGABYTES - end unless DIR has that much room
check_space()
{
	local free

	free=$(df --output=avail -m "$1" | tail -n 1)
	[ "$free" -ge "$2" ] ||
		die "the disk is full: $1 has $((free)) MB free, $2 MB are needed"
}

# wanted_packages - the names in packages.txt
wanted_packages()
{
	sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$VRDMA_ROOT/scripts/packages.txt"
}

# missing_packages - those that are not installed
missing_packages()
{
	local installed

	# shellcheck disable=SC2016 # dpkg-query's format
	installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' |
		sed -n 's/^installed //p' | sort -u)
	wanted_packages | sort -u | comm -23 - <(echo "$installed")
}

# policy_deny - forbid package scripts to start, stop or restart services
# The file is the interface that Debian has for this. An admin's own file is
# kept aside; a run that was killed in between is put right by the next.
policy_deny()
{
	policy_restore
	POLICY_SET=yes
	if [ -e $POLICY ]; then
		mv $POLICY $POLICY_SAVED
	fi
	printf '#!/bin/sh\n# %s\nexit 101\n' "$POLICY_MARK" >$POLICY
	chmod 755 $POLICY
}

# policy_restore - undo policy_deny(), also one of an earlier run
policy_restore()
{
	if grep -q -s "$POLICY_MARK" $POLICY; then
		rm -f $POLICY
	fi
	if [ -e $POLICY_SAVED ]; then
		mv $POLICY_SAVED $POLICY
	fi
	POLICY_SET=
}

# boot_links - the links that make systemd or init start something at boot
boot_links()
{
	find /etc/systemd/system /etc/rc[2-5].d -type l \
		\( -path '*.wants/*' -o -name 'S*' \) 2>/dev/null | sort
}

# boot_links_undo FILE - start no more at boot than what FILE lists
# policy-rc.d has no say in this. Removed links are how an admin disables a
# service: updates of the package respect it.
boot_links_undo()
{
	local link

	boot_links | comm -13 "$1" - | while read -r link; do
		case $link in
		/etc/rc*)
			[ ! -e "$link" ] ||
				update-rc.d "$(basename "$link" | cut -c 4-)" disable
			;;
		*.service | *.socket | *.timer)
			echo "not started at boot: $(basename "$link")"
			rm -f "$link"
			;;
		esac
	done
}

# install_packages NAME... - install; nothing gets started or enabled
# What started at boot before is kept in a file until we are through, so that
# a run that was killed does not leave services enabled.
install_packages()
{
	local lock='DPkg::Lock::Timeout=600'

	export DEBIAN_FRONTEND=noninteractive
	dpkg --configure -a
	apt-get -q -o "$lock" update
	apt-get -q -y -o "$lock" -o Dpkg::Options::=--force-confdef \
		-o Dpkg::Options::=--force-confold \
		install --no-install-recommends "$@"
	boot_links_undo "$BOOT_BEFORE"
}

setup_packages()
{
	local missing name='packages: nothing to install, services off'

	missing=$(missing_packages)
	if [ -z "$missing" ] && [ ! -e "$BOOT_BEFORE" ]; then
		return
	fi
	check_space / 3000
	if [ ! -e "$BOOT_BEFORE" ]; then
		boot_links >"$BOOT_BEFORE.new"
		mv "$BOOT_BEFORE.new" "$BOOT_BEFORE"
	fi
	policy_deny
	if [ -n "$missing" ]; then
		name="packages ($(wc -w <<<"$missing") to install)"
	fi
	# shellcheck disable=SC2086 # a list of names
	run_step "$name" install_packages $missing
	rm "$BOOT_BEFORE"
	policy_restore
}

# recipe FUNCTION - a key that changes when the function does
recipe()
{
	declare -f "$1" | sha256sum | cut -c 1-16
}

# setup_fetch - make the three folders of fetch.sh
setup_fetch()
{
	local dpdk have_index=
	local -a jobs

	# shellcheck disable=SC2016 # dpkg-query's format
	dpdk=$(dpkg-query -W -f '${source:Version}' libdpdk-dev)
	jobs=(
		include/dpdk "$dpdk $(recipe fetch_dpdk)" "fetch_dpdk $dpdk"
		include/rdma-core "$(recipe fetch_rdma_core)" fetch_rdma_core
		guest/kernel "$(recipe fetch_kernel)" fetch_kernel
	)
	set -- "${jobs[@]}"
	while [ $# != 0 ]; do
		if ! fetched "$1" "$2"; then
			if [ -z "$have_index" ]; then
				check_space "$VRDMA_CACHE" 1500
				run_step "package index" fetch_index
				have_index=yes
			fi
			# shellcheck disable=SC2086 # a function and its argument
			run_step ".cache/$1" fetch_into "$1" "$2" $3
		fi
		shift 3
	done
}

setup_build()
{
	local dir=$VRDMA_ROOT/build

	if [ ! -f "$dir/build.ninja" ]; then
		# shellcheck disable=SC2086 # a list of options
		run_step "meson setup build" \
			meson setup ${MESON_OPTS:-} "$dir" "$VRDMA_ROOT"
	fi
	run_step "build" ninja -C "$dir"
}

main()
{
	case "${1:-}" in
	-h | --help)
		usage
		exit 0
		;;
	'') ;;
	*)
		usage >&2
		die "unknown argument $1"
		;;
	esac
	check_host
	need_root
	mkdir -p "$VRDMA_CACHE"
	exec 9>"$VRDMA_CACHE/setup.lock"
	if ! flock -n 9; then
		say "another set-up is running; waiting for it"
		flock 9
	fi
	# Last line of defence for an interrupted installation.
	trap '[ -z "$POLICY_SET" ] || policy_restore; give_back .cache build' EXIT
	trap 'exit 130' INT TERM HUP
	: >"$LOG"
	setup_packages
	setup_fetch
	setup_build
	say "ready"
}

main "$@"
