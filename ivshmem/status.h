/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Counters in the text of server_status().
 */
#ifndef IVSHMEM_STATUS_H
#define IVSHMEM_STATUS_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A uint64_t in some struct. */
struct status_counter {
	const char *name;
	size_t offset;
};

#define STATUS_COUNTER(type, name)          \
	{                                   \
#name, offsetof(type, name) \
	}

/** status_counters() - print @n counters of @stats as " NAME=VALUE" */
static inline void status_counters(
	FILE *to, const struct status_counter *counters, size_t n, const void *stats)
{
	for (size_t i = 0; i < n; i++)
		fprintf(to, " %s=%" PRIu64, counters[i].name,
			*(const uint64_t *)((const char *)stats + counters[i].offset));
}

#endif
