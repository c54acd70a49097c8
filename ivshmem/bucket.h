/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A token bucket: at most burst events at once, and rate per second in the long run.
 * Pure.
 */
#ifndef IVSHMEM_BUCKET_H
#define IVSHMEM_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/util.h"

struct bucket {
	uint64_t filled_ns; /* when it was, or would have been, full; 0 at first */
};

/** bucket_take() - may one more event happen at @now_ns? If so it is accounted for.
 * @rate:  events per second, 1 or more
 * @burst: 1 or more
 */
static inline bool bucket_take(
	struct bucket *b, uint32_t rate, uint32_t burst, uint64_t now_ns)
{
	uint64_t cost_ns = NSEC_PER_SEC / rate;
	uint64_t full = MAX(b->filled_ns, now_ns);

	if (full - now_ns > cost_ns * (burst - 1))
		return false;
	b->filled_ns = full + cost_ns;
	return true;
}

#endif
