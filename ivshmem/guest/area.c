/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * First fit over a list of holes. There are no more of them than parts given out, plus
 * one, and the number of those is limited (uplinks.h).
 */
#include "ivshmem/guest/area.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static uint64_t whole_pages(uint64_t size)
{
	return (size + AREA_PAGE - 1) / AREA_PAGE * AREA_PAGE;
}

static struct area_hole *hole_new(uint64_t offset, uint64_t size, struct area_hole *next)
{
	struct area_hole *h = malloc(sizeof(*h));

	if (h)
		*h = (struct area_hole){next, offset, size};
	return h;
}

int areas_init(struct areas *a, uint64_t size)
{
	a->holes = NULL;
	a->free = 0;
	if (size <= AREA_PAGE)
		return 0;
	a->holes = hole_new(AREA_PAGE, size - AREA_PAGE, NULL);
	if (!a->holes)
		return -ENOMEM;
	a->free = size - AREA_PAGE;
	return 0;
}

void areas_free(struct areas *a)
{
	struct area_hole *h;

	while ((h = a->holes)) {
		a->holes = h->next;
		free(h);
	}
	a->free = 0;
}

int areas_take(struct areas *a, uint64_t size, uint64_t *offset)
{
	struct area_hole **link, *h;

	if (!size || size > a->free)
		return -ENOSPC;
	size = whole_pages(size);
	for (link = &a->holes; (h = *link) && h->size < size; link = &h->next)
		;
	if (!h)
		return -ENOSPC;
	*offset = h->offset;
	h->offset += size;
	h->size -= size;
	a->free -= size;
	if (!h->size) {
		*link = h->next;
		free(h);
	}
	return 0;
}

void areas_give(struct areas *a, uint64_t offset, uint64_t size)
{
	struct area_hole **link = &a->holes, *before = NULL, *after;

	size = whole_pages(size);
	while ((after = *link) && after->offset < offset) {
		before = after;
		link = &after->next;
	}
	assert(!before || before->offset + before->size <= offset);
	assert(!after || offset + size <= after->offset);
	if (before && before->offset + before->size == offset) {
		before->size += size;
	} else {
		before = hole_new(offset, size, after);
		if (!before)
			return;
		*link = before;
	}
	a->free += size;
	if (after && before->offset + before->size == after->offset) {
		before->size += after->size;
		before->next = after->next;
		free(after);
	}
}
