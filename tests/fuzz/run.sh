#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A short run of one libFuzzer target: all of its committed corpus, then new
# inputs for VRDMA_FUZZ_SECONDS (10). New inputs go to a folder that is thrown
# away; an input that crashes is kept in the build folder and shown.
# Usage: run.sh TARGET CORPUS

set -euo pipefail

target=$1
corpus=$2
name=$(basename "$target")
keep=$(dirname "$target")/$name.crashes
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

if [ -z "$(ls "$corpus")" ]; then
	echo "$corpus holds no input"
	exit 1
fi
mkdir -p "$keep"
rc=0
"$target" -max_total_time="${VRDMA_FUZZ_SECONDS:-10}" -timeout=10 \
	-rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$keep/" \
	"$new" "$corpus" || rc=$?
if [ $rc != 0 ]; then
	echo "inputs that failed: $keep"
fi
exit $rc
