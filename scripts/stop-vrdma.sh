#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# stop-vrdma.sh - take down what start-vrdma.sh made (see --help).
#
# Sourced or executed, like its counterpart; when sourced it also removes the
# node's environment and the mike-* commands from the sourcing shell.

_vrdma_stop()
{
	local here var

	here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd) || return
	"$here/node.sh" stop "$@" || return
	# Another node's environment stays.
	[ ! -d "${OVS_RUNDIR:-/}" ] || return 0
	# shellcheck disable=SC1091
	for var in $(. "$here/node-lib.sh"; echo "$NODE_EXPORTS"); do
		unset "$var"
	done
	PATH=:$PATH:
	PATH=${PATH//":$here:"/:}
	PATH=${PATH#:}
	PATH=${PATH%:}
}

if _vrdma_stop "$@"; then
	unset -f _vrdma_stop
else
	unset -f _vrdma_stop
	# shellcheck disable=SC2317
	return 1 2>/dev/null || exit 1
fi
