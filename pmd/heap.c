/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See heap.h.
 */
#include "pmd/heap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_memory.h>

#include "lib/log.h"

#define MODULE "heap"

static const struct heap_table *table_now(const struct heap *heap)
{
	return atomic_load_explicit(&heap->table, memory_order_relaxed);
}

static struct heap_table *table_alloc(uint32_t n)
{
	return calloc(1, sizeof(struct heap_table) + n * sizeof(struct heap_region));
}

/* retired_free() - free what no burst can see any more, or all */
static void retired_free(struct heap *heap, bool all)
{
	struct heap_table **link = &heap->retired, *table;

	while ((table = *link) != NULL) {
		if (!all &&
			!rte_rcu_qsbr_check(heap->qsbr, table->retired_token, false)) {
			link = &table->retired_next;
			continue;
		}
		*link = table->retired_next;
		if (table->retired_mr)
			ibv_dereg_mr(table->retired_mr);
		free(table);
	}
}

/* table_replace() - @lost: a region of the old table that @next lacks, or NULL */
static void table_replace(struct heap *heap, struct heap_table *next, struct ibv_mr *lost)
{
	struct heap_table *old;

	/* Pairs with the acquire in heap_table(). */
	old = atomic_exchange_explicit(&heap->table, next, memory_order_acq_rel);
	old->retired_mr = lost;
	old->retired_token = rte_rcu_qsbr_start(heap->qsbr);
	old->retired_next = heap->retired;
	heap->retired = old;
	retired_free(heap, false);
}

/* region_add() - register [start, end), which overlaps no region */
static void region_add(struct heap *heap, uintptr_t start, uintptr_t end)
{
	const struct heap_table *table = table_now(heap);
	struct heap_table *next = table_alloc(table->n + 1);
	struct ibv_mr *mr = NULL;
	uint32_t at = 0;

	if (next)
		mr = ibv_reg_mr(heap->pd, (void *)start, end - start, 0);
	if (!mr) {
		/* Its frames are copied, which is slower and no error. */
		log_write(LOG_LEVEL_WARN, MODULE,
			"%zu bytes at %p cannot be registered: %s", (size_t)(end - start),
			(void *)start, strerror(errno));
		heap->n_failed++;
		free(next);
		return;
	}
	while (at < table->n && table->region[at].start < start)
		at++;
	next->n = table->n + 1;
	memcpy(next->region, table->region, at * sizeof(next->region[0]));
	next->region[at] = (struct heap_region){start, end, mr->lkey, mr};
	memcpy(next->region + at + 1, table->region + at,
		(table->n - at) * sizeof(next->region[0]));
	table_replace(heap, next, NULL);
}

static bool in_use(const struct heap_table *table, const struct ibv_mr *mr)
{
	for (uint32_t i = 0; i < table->n; i++)
		if (table->region[i].mr == mr)
			return true;
	return false;
}

/* region_cut() - take [start, end) out of region @at, which it overlaps. What is left
 * keeps the registration, as messages in flight name its key.
 */
static void region_cut(struct heap *heap, uint32_t at, uintptr_t start, uintptr_t end)
{
	const struct heap_table *table = table_now(heap);
	struct heap_table *next = table_alloc(table->n + 1);
	struct heap_region region = table->region[at];

	if (!next) {
		/* No frame lies in memory that is gone, so nobody asks for it. */
		log_write(LOG_LEVEL_ERR, MODULE,
			"out of memory: a region stays registered");
		return;
	}
	memcpy(next->region, table->region, at * sizeof(next->region[0]));
	next->n = at;
	if (region.start < start)
		next->region[next->n++] =
			(struct heap_region){region.start, start, region.lkey, region.mr};
	if (region.end > end)
		next->region[next->n++] =
			(struct heap_region){end, region.end, region.lkey, region.mr};
	memcpy(next->region + next->n, table->region + at + 1,
		(table->n - at - 1) * sizeof(next->region[0]));
	next->n += table->n - at - 1;
	table_replace(heap, next, in_use(next, region.mr) ? NULL : region.mr);
}

static void range_free(struct heap *heap, uintptr_t start, uintptr_t end)
{
	for (uint32_t i = table_now(heap)->n; i-- > 0;) {
		const struct heap_region *region = &table_now(heap)->region[i];

		if (region->end > start && region->start < end)
			region_cut(heap, i, start, end);
	}
}

/* range_add() - register [start, end) but for what is registered already: the walk at
 * the start and the first events may tell of the same memory
 */
static void range_add(struct heap *heap, uintptr_t start, uintptr_t end)
{
	const struct heap_table *table = table_now(heap);
	uint32_t hint = 0;

	while (start < end) {
		const struct heap_region *region = heap_find(table, start, &hint);
		uintptr_t stop = end;

		if (region) {
			start = region->end;
			continue;
		}
		for (uint32_t i = 0; i < table->n; i++)
			if (table->region[i].start > start &&
				table->region[i].start < stop)
				stop = table->region[i].start;
		region_add(heap, start, stop);
		table = table_now(heap);
		if (heap_find(table, start, &hint) == NULL)
			return; /* could not be registered */
	}
}

static void on_event(enum rte_mem_event event, const void *addr, size_t size, void *arg)
{
	struct heap *heap = arg;

	pthread_mutex_lock(&heap->lock);
	if (event == RTE_MEM_EVENT_ALLOC)
		range_add(heap, (uintptr_t)addr, (uintptr_t)addr + size);
	else
		range_free(heap, (uintptr_t)addr, (uintptr_t)addr + size);
	pthread_mutex_unlock(&heap->lock);
}

static int on_segment(const struct rte_memseg_list *list,
	const struct rte_memseg *segment, size_t size, void *arg)
{
	on_event(RTE_MEM_EVENT_ALLOC, segment->addr, size, arg);
	return 0;
}

int heap_init(struct heap *heap, struct ibv_pd *pd, struct rte_rcu_qsbr *qsbr)
{
	struct heap_table *table = table_alloc(0);
	int ret;

	memset(heap, 0, sizeof(*heap));
	if (!table)
		return -ENOMEM;
	pthread_mutex_init(&heap->lock, NULL);
	heap->pd = pd;
	heap->qsbr = qsbr;
	/* DPDK knows a callback by name and argument; a name is enough that it takes. */
	snprintf(heap->name, sizeof(heap->name), "vrdma %p", (void *)heap);
	atomic_store(&heap->table, table);
	/* First the callback, then the walk: nothing is missed. Without huge pages the
	 * memory is fixed and there are no events (ENOTSUP).
	 */
	if (rte_mem_event_callback_register(heap->name, on_event, heap) &&
		rte_errno != ENOTSUP) {
		ret = -rte_errno;
		pthread_mutex_destroy(&heap->lock);
		free(table);
		memset(heap, 0, sizeof(*heap));
		return ret;
	}
	rte_memseg_contig_walk(on_segment, heap);
	return 0;
}

void heap_destroy(struct heap *heap)
{
	struct heap_table *table = atomic_load(&heap->table);

	if (!table)
		return;
	rte_mem_event_callback_unregister(heap->name, heap);
	retired_free(heap, true);
	for (uint32_t i = 0; i < table->n; i++) {
		struct ibv_mr *mr = table->region[i].mr;

		table->region[i].mr = NULL;
		if (!in_use(table, mr))
			ibv_dereg_mr(mr);
	}
	free(table);
	pthread_mutex_destroy(&heap->lock);
}
