#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A run of one libFuzzer target: all of its committed corpus, then new inputs,
# for VRDMA_FUZZ_SECONDS (10), or for VRDMA_FUZZ_RUNS executions. New inputs go
# to VRDMA_FUZZ_CORPUS, for the next run to begin with, or to a folder that is
# thrown away. An input that crashes is kept in the build folder and shown.
# See docs/fuzzing.md.
# Usage: run.sh TARGET CORPUS

set -euo pipefail

target=$1
corpus=$2
name=$(basename "$target")
keep=$(dirname "$target")/$name.crashes
new=${VRDMA_FUZZ_CORPUS:-}
if [ -z "$new" ]; then
	new=$(mktemp -d)
	trap 'rm -rf "$new"' EXIT
fi
limit=-max_total_time=${VRDMA_FUZZ_SECONDS:-10}
if [ -n "${VRDMA_FUZZ_RUNS:-}" ]; then
	limit=-runs=$VRDMA_FUZZ_RUNS
fi
# Freed memory is kept from being used again for the length of one input, which
# is what matters; more costs page faults.
export ASAN_OPTIONS=quarantine_size_mb=1:${ASAN_OPTIONS:-}

if [ -z "$(ls "$corpus")" ]; then
	echo "$corpus holds no input"
	exit 1
fi
mkdir -p "$keep" "$new"
rc=0
"$target" "$limit" -timeout=10 -entropic=0 -rss_limit_mb=2048 \
	-print_final_stats=1 -artifact_prefix="$keep/" "$new" "$corpus" || rc=$?
if [ $rc != 0 ]; then
	echo "inputs that failed: $keep"
fi
exit $rc
