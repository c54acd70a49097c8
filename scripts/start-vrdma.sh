#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# start-vrdma.sh - make this machine a vRDMA node (see --help).
#
# Sourced or executed.  The work is done by a child process, node.sh, so that
# a sourcing shell keeps its options and survives any failure; all that happens
# here is to take over the node's environment and put the mike-* commands on
# the PATH.

_vrdma_start()
{
	local here env

	here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd) || return
	env=$("$here/node.sh" start "$@") || return
	[ -n "$env" ] || return 0	# --help
	if [ "$_vrdma_sourced" = no ]; then
		echo "vrdma: to use the mike-* commands: . $env; PATH=$here:\$PATH"
		return 0
	fi
	# shellcheck disable=SC1090
	. "$env" || return
	case :$PATH: in
	*":$here:"*) ;;
	*) export PATH=$here:$PATH ;;
	esac
}

_vrdma_sourced=yes
[ "${BASH_SOURCE[0]}" != "$0" ] || _vrdma_sourced=no
if _vrdma_start "$@"; then
	unset -f _vrdma_start
	unset _vrdma_sourced
else
	unset -f _vrdma_start
	unset _vrdma_sourced
	# shellcheck disable=SC2317
	return 1 2>/dev/null || exit 1
fi
