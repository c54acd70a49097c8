/* SPDX-License-Identifier: BSD-3-Clause */
#include "cq.h"

#include "lib/util.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct cq {
	uint32_t mask;
	struct ibv_wc *ring;
	/* The producer's line: head, and the last tail that it saw. */
	_Alignas(CACHE_LINE) _Atomic uint32_t head;
	uint32_t tail_seen;
	/* The consumer's line. */
	_Alignas(CACHE_LINE) _Atomic uint32_t tail;
	uint32_t head_seen;
};

int cq_create(uint32_t depth, struct cq **out)
{
	struct cq *cq;

	if (depth == 0 || depth > CQ_DEPTH_MAX)
		return -EINVAL;
	cq = aligned_alloc(CACHE_LINE, sizeof(*cq));
	if (!cq)
		return -ENOMEM;
	*cq = (struct cq){.mask = round_up_pow2(depth) - 1};
	cq->ring = calloc(cq->mask + 1ul, sizeof(*cq->ring));
	if (!cq->ring) {
		free(cq);
		return -ENOMEM;
	}
	*out = cq;
	return 0;
}

void cq_destroy(struct cq *cq)
{
	if (!cq)
		return;
	free(cq->ring);
	free(cq);
}

uint32_t cq_depth(const struct cq *cq)
{
	return cq->mask + 1;
}

bool cq_push(struct cq *cq, const struct ibv_wc *wc)
{
	uint32_t head = atomic_load_explicit(&cq->head, memory_order_relaxed);

	if (head - cq->tail_seen > cq->mask) {
		/* Pairs with the release in cq_poll(): the slot has been read. */
		cq->tail_seen = atomic_load_explicit(&cq->tail, memory_order_acquire);
		if (head - cq->tail_seen > cq->mask)
			return false;
	}
	cq->ring[head & cq->mask] = *wc;
	/* Pairs with the acquire in cq_poll() and cq_is_empty(). */
	atomic_store_explicit(&cq->head, head + 1, memory_order_release);
	return true;
}

int cq_poll(struct cq *cq, int n, struct ibv_wc *wc)
{
	uint32_t tail = atomic_load_explicit(&cq->tail, memory_order_relaxed);
	int got = 0;

	if (tail == cq->head_seen)
		cq->head_seen = atomic_load_explicit(&cq->head, memory_order_acquire);
	while (got < n && tail != cq->head_seen)
		wc[got++] = cq->ring[tail++ & cq->mask];
	if (got)
		atomic_store_explicit(&cq->tail, tail, memory_order_release);
	return got;
}

bool cq_is_empty(const struct cq *cq)
{
	return atomic_load_explicit(&cq->tail, memory_order_relaxed) ==
	       atomic_load_explicit(&cq->head, memory_order_acquire);
}

void cq_purge(struct cq *cq, uint32_t qpn)
{
	uint32_t tail = cq->tail, head = cq->head, kept = tail;

	for (uint32_t i = tail; i != head; i++) {
		if (cq->ring[i & cq->mask].qp_num != qpn)
			cq->ring[kept++ & cq->mask] = cq->ring[i & cq->mask];
	}
	cq->head = kept;
	cq->head_seen = kept;
	cq->tail_seen = tail;
}
