#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Every header of ours compiles alone.
# Usage: headers.sh SOURCE_ROOT CC...

set -euo pipefail

root=$1
shift
cc=("$@")
read -ra dpdk < <(pkg-config --cflags libdpdk)
flags=(-std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wno-unused-parameter -Werror
	-fsyntax-only -I"$root" -isystem "$root/.cache/include/rdma-core"
	-isystem "$root/.cache/include/dpdk" "${dpdk[@]/#-I/-isystem}"
	-DALLOW_INTERNAL_API -DALLOW_EXPERIMENTAL_API)
n=0
failed=0

cd "$root"
while read -r header; do
	n=$((n + 1))
	if ! echo "#include \"$header\"" | "${cc[@]}" "${flags[@]}" -x c -; then
		echo "$header does not compile alone"
		failed=$((failed + 1))
	fi
done < <(find lib rdma pmd ivshmem include tests -name '*.h' 2>/dev/null | sort)

echo "$n headers, $failed failed"
[ "$n" -gt 0 ] && [ "$failed" = 0 ]
