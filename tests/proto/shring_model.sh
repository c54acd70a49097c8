#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Checks the model of the shared rings with spin: all interleavings, by itself, with a
# writer that falls silent, with a side that dies at any moment and with a reader that
# gives up. Then the same with each of the mistakes that the model knows: spin must find
# every one, or the model proves nothing.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
failed=0

if ! command -v spin >/dev/null; then
	echo "spin is not installed"
	exit 77
fi

# verify DEFINE... - 0: no error over the whole state space, 1: an error
verify()
{
	rm -f pan* ./*.trail
	spin "$@" -a "$here/shring.pml" >spin.log 2>&1 || { cat spin.log; exit 1; }
	gcc -O2 -DSAFETY -DMEMLIM=2048 -DCOLLAPSE -w -o pan pan.c
	./pan -m100000 >pan.log 2>&1
	if grep -q 'Search not completed\|max search depth too small' pan.log &&
	   grep -q 'errors: 0' pan.log; then
		cat pan.log
		echo "the search was not complete"
		exit 1
	fi
	grep -q 'errors: 0' pan.log
}

for what in -DTOTAL=6 -DIDLE "-DTOTAL=4 -DDEATH" -DGIVE_UP "-DTOTAL=3 -DDEATH -DGIVE_UP"; do
	read -ra args <<<"$what"
	if verify "${args[@]}"; then
		echo "ok: model $what: $(grep -o '[0-9.e+]* states, stored' pan.log)"
	else
		cat pan.log
		echo "FAILED: model $what"
		failed=1
	fi
done

for fault in 1 2 3 4 5 6 7 8 9 10; do
	args=("-DFAULT=$fault")
	case $fault in
	7) args+=(-DIDLE) ;;
	9) args+=(-DDEATH) ;;
	esac
	if verify "${args[@]}"; then
		echo "FAILED: mistake $fault was not found"
		failed=1
	else
		echo "ok: mistake $fault: $(grep -m1 -o 'assertion violated.*\|invalid end state' pan.log)"
	fi
done
exit $failed
