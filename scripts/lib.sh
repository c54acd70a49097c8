# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the scripts share: progress lines, clear ends, small checks. To be
# sourced. Progress goes to stderr, so that a script's stdout is its result.

VRDMA_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for those who source this
VRDMA_CACHE=$VRDMA_ROOT/.cache

# prog_name - the script's own name, for messages
prog_name()
{
	basename "$0" .sh
}

# say TEXT... - one progress line
say()
{
	printf '%s: %s\n' "$(prog_name)" "$*" >&2
}

# warn TEXT... - something is wrong, but we go on
warn()
{
	say "warning: $*"
}

# die TEXT... - end with one line that names what is missing
die()
{
	say "error: $*"
	exit 1
}

# need_root - end unless root
need_root()
{
	[ "$(id -u)" = 0 ] || die "must run as root (use sudo)"
}

# need_cmd NAME... - end unless the commands are there
need_cmd()
{
	local cmd

	for cmd; do
		command -v "$cmd" >/dev/null ||
			die "$cmd is missing (run scripts/setup.sh)"
	done
}

# A step is one progress line: its name while it runs on a terminal, its name
# and duration when it is done.
STEP_NAME=
STEP_START=0

# step_begin NAME - from here on the work is NAME
step_begin()
{
	STEP_NAME=$1
	STEP_START=$SECONDS
	if [ -t 2 ]; then
		printf '%s ...' "$STEP_NAME" >&2
	fi
}

# step_end [RESULT] - the work is done; RESULT is "ok" unless given
step_end()
{
	local lead=

	if [ -t 2 ]; then
		lead=$'\r\033[K'
	fi
	printf '%s%-52s %-6s %4d s\n' "$lead" "$STEP_NAME" "${1:-ok}" \
		$((SECONDS - STEP_START)) >&2
	STEP_NAME=
}

# wait_until SECONDS COMMAND... - poll until COMMAND succeeds
# Return: 0, or 1 when the time is over
wait_until()
{
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

# give_back DIR... - what we made as root belongs to the checkout's owner
# DIR is relative to the checkout.
give_back()
{
	local dir

	[ "$(stat -c %u "$VRDMA_ROOT")" != 0 ] || return 0
	for dir; do
		find "$VRDMA_ROOT/$dir/" -user root \
			-exec chown -h --reference="$VRDMA_ROOT" {} + 2>/dev/null || true
	done
}
