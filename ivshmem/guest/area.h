/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which parts of a region's memory are given out. Pure: what is free is known here, not
 * in the memory, which others write.
 */
#ifndef IVSHMEM_GUEST_AREA_H
#define IVSHMEM_GUEST_AREA_H

#include <stdint.h>

#define AREA_PAGE 4096u

/* A part that is free: between these, parts that are given out. In order of place. */
struct area_hole {
	struct area_hole *next;
	uint64_t offset;
	uint64_t size;
};

struct areas {
	struct area_hole *holes;
	uint64_t free; /* bytes */
};

/** areas_init() - all of @size bytes but the first page is free; 0 or -ENOMEM */
int areas_init(struct areas *a, uint64_t size);
void areas_free(struct areas *a);

/** areas_take() - a part of @size bytes, a page's multiple or made one
 * Return: 0, -ENOSPC, -ENOMEM
 */
int areas_take(struct areas *a, uint64_t size, uint64_t *offset);

/** areas_give() - back what areas_take() gave, whole; it cannot fail: without memory for
 * the account of it, the part stays taken
 */
void areas_give(struct areas *a, uint64_t offset, uint64_t size);

#endif
