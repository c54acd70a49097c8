/* SPDX-License-Identifier: BSD-3-Clause */
#include "rq.h"

#include "lib/spin.h"
#include "lib/util.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct rq {
	/* What nobody changes. */
	_Alignas(CACHE_LINE) uint8_t *ring;
	uint32_t pd;
	uint32_t mask;
	uint32_t max_sge;
	uint32_t stride;
	rq_notify *notify; /* or NULL */
	void *notify_arg;
	/* The producers'. */
	_Alignas(CACHE_LINE) struct spin lock;
	_Atomic uint32_t head;
	uint32_t tail_seen;
	/* The consumer's. */
	_Alignas(CACHE_LINE) _Atomic uint32_t tail;
	uint32_t head_seen;
	uint32_t limit;
};

int rq_create(uint32_t pd, uint32_t depth, uint32_t max_sge, struct rq **out)
{
	struct rq *rq;

	if (depth == 0 || depth > RQ_DEPTH_MAX || max_sge > RQ_SGE_MAX)
		return -EINVAL;
	rq = aligned_alloc(CACHE_LINE, sizeof(*rq));
	if (!rq)
		return -ENOMEM;
	*rq = (struct rq){.pd = pd, .mask = round_up_pow2(depth) - 1, .max_sge = max_sge};
	rq->stride = (uint32_t)(sizeof(struct rq_wqe) + max_sge * sizeof(struct ibv_sge));
	rq->ring = calloc(rq->mask + 1ul, rq->stride);
	if (!rq->ring) {
		free(rq);
		return -ENOMEM;
	}
	*out = rq;
	return 0;
}

void rq_destroy(struct rq *rq)
{
	if (!rq)
		return;
	free(rq->ring);
	free(rq);
}

uint32_t rq_depth(const struct rq *rq)
{
	return rq->mask + 1;
}

uint32_t rq_max_sge(const struct rq *rq)
{
	return rq->max_sge;
}

uint32_t rq_pd(const struct rq *rq)
{
	return rq->pd;
}

void rq_set_notify(struct rq *rq, rq_notify *notify, void *arg)
{
	rq->notify = notify;
	rq->notify_arg = arg;
}

static void check_limit(struct rq *rq)
{
	if (rq->head - rq->tail >= rq->limit)
		return;
	rq->limit = 0;
	if (rq->notify)
		rq->notify(rq->notify_arg);
}

void rq_set_limit(struct rq *rq, uint32_t limit)
{
	rq->limit = limit;
	check_limit(rq);
}

uint32_t rq_limit(const struct rq *rq)
{
	return rq->limit;
}

static struct rq_wqe *wqe_at(const struct rq *rq, uint32_t index)
{
	return (struct rq_wqe *)(rq->ring + (size_t)(index & rq->mask) * rq->stride);
}

void rq_lock(struct rq *rq)
{
	spin_lock(&rq->lock);
}

void rq_unlock(struct rq *rq)
{
	spin_unlock(&rq->lock);
}

int rq_post(struct rq *rq, const struct ibv_recv_wr *wr)
{
	uint32_t head = atomic_load_explicit(&rq->head, memory_order_relaxed);
	struct rq_wqe *wqe;

	if (wr->num_sge < 0 || (uint32_t)wr->num_sge > rq->max_sge)
		return -EINVAL;
	if (head - rq->tail_seen > rq->mask) {
		/* Pairs with the release in rq_pop(): the slot is free to be written. */
		rq->tail_seen = atomic_load_explicit(&rq->tail, memory_order_acquire);
		if (head - rq->tail_seen > rq->mask)
			return -ENOMEM;
	}
	wqe = wqe_at(rq, head);
	wqe->wr_id = wr->wr_id;
	wqe->n_sge = (uint32_t)wr->num_sge;
	if (wqe->n_sge)
		memcpy(wqe->sge, wr->sg_list, wqe->n_sge * sizeof(*wqe->sge));
	/* Pairs with the acquire in rq_peek(). */
	atomic_store_explicit(&rq->head, head + 1, memory_order_release);
	/* The consumer has the next one's line still. */
	__builtin_prefetch(wqe_at(rq, head + 1), 1);
	return 0;
}

const struct rq_wqe *rq_peek(struct rq *rq)
{
	uint32_t tail = atomic_load_explicit(&rq->tail, memory_order_relaxed);

	if (tail == rq->head_seen) {
		/* Pairs with the release in rq_post(). */
		rq->head_seen = atomic_load_explicit(&rq->head, memory_order_acquire);
		if (tail == rq->head_seen)
			return NULL;
	}
	return wqe_at(rq, tail);
}

void rq_pop(struct rq *rq)
{
	uint32_t tail = atomic_load_explicit(&rq->tail, memory_order_relaxed);

	atomic_store_explicit(&rq->tail, tail + 1, memory_order_release);
	/* And the producer that. */
	if (tail + 1 != rq->head_seen)
		__builtin_prefetch(wqe_at(rq, tail + 1));
	if (unlikely(rq->limit))
		check_limit(rq);
}
