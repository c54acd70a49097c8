/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DPDK's memory, registered with the device as it comes and goes, so that frames can be
 * sent from where they lie.
 *
 * The regions are in a sorted table that never changes: every change makes a new one.
 * A sender finds it by heap_table() within a burst, in which it is online in @qsbr; what
 * is replaced is freed once no burst can see it any more.
 *
 * A registration ends when all of its memory is gone. So a message in flight never loses
 * its key: the memory of its frame is there until it is done.
 *
 * Locking: heap.lock, taken inside DPDK's memory lock (the event callback holds that), so
 * nothing may be allocated from DPDK while heap.lock is held. Nothing waits for a grace
 * period here: memory may be freed by a sender in the middle of its burst.
 */
#ifndef PMD_HEAP_H
#define PMD_HEAP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <infiniband/verbs.h>

#include <rte_rcu_qsbr.h>

struct heap_region {
	uintptr_t start;
	uintptr_t end; /* first byte behind it */
	uint32_t lkey;
	struct ibv_mr *mr;
};

struct heap_table {
	struct heap_table *retired_next;
	uint64_t retired_token;	   /* of qsbr */
	struct ibv_mr *retired_mr; /* of a region that the next table lacks, or NULL */
	uint32_t n;
	struct heap_region region[];
};

struct heap {
	_Atomic(struct heap_table *) table;
	struct ibv_pd *pd;
	struct rte_rcu_qsbr *qsbr;
	pthread_mutex_t lock; /* for all below and for replacing the table */
	struct heap_table *retired;
	uint64_t n_failed; /* regions that could not be registered */
	char name[32];	   /* of the callback */
};

/** heap_init() - register all memory that there is, and follow what comes and goes
 * Return: 0 or a negative errno; then *@heap is all zero
 */
int heap_init(struct heap *heap, struct ibv_pd *pd, struct rte_rcu_qsbr *qsbr);
/** heap_destroy() - one that is all zero is fine */
void heap_destroy(struct heap *heap);

static inline const struct heap_table *heap_table(struct heap *heap)
{
	/* Pairs with the release in table_replace(). */
	return atomic_load_explicit(&heap->table, memory_order_acquire);
}

/** heap_find() - the region that @addr lies in, or NULL
 * @hint: index where the last one was found; updated
 */
static inline const struct heap_region *heap_find(
	const struct heap_table *table, uintptr_t addr, uint32_t *hint)
{
	uint32_t low = 0, high = table->n;

	if (*hint < table->n &&
		addr - table->region[*hint].start <
			table->region[*hint].end - table->region[*hint].start)
		return &table->region[*hint];
	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (addr >= table->region[mid].end)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == table->n || addr < table->region[low].start)
		return NULL;
	*hint = low;
	return &table->region[low];
}

#endif
