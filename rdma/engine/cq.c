/* SPDX-License-Identifier: BSD-3-Clause */
#include "cq.h"

#include "lib/util.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

enum cq_armed { NOT_ARMED, ARMED_SOLICITED, ARMED_ANY };

struct cq {
	uint32_t mask;
	struct ibv_wc *ring;
	/* the producer's, seldom used */
	cq_notify *notify; /* or NULL */
	void *notify_arg;
	bool overrun;
	/* The producer's line: head, and the last tail that it saw. */
	_Alignas(CACHE_LINE) _Atomic uint32_t head;
	uint32_t tail_seen;
	enum cq_armed armed;
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

void cq_set_notify(struct cq *cq, cq_notify *notify, void *arg)
{
	cq->notify = notify;
	cq->notify_arg = arg;
}

void cq_arm(struct cq *cq, bool solicited_only)
{
	if (cq->notify && cq->armed != ARMED_ANY)
		cq->armed = solicited_only ? ARMED_SOLICITED : ARMED_ANY;
}

static void tell_overrun(struct cq *cq)
{
	if (cq->overrun || !cq->notify)
		return;
	cq->overrun = true;
	cq->notify(cq->notify_arg, CQ_OVERRUN);
}

static void tell_completion(struct cq *cq, bool solicited)
{
	if (cq->armed == ARMED_SOLICITED && !solicited)
		return;
	cq->armed = NOT_ARMED;
	cq->notify(cq->notify_arg, CQ_COMPLETION);
}

bool cq_push(struct cq *cq, const struct ibv_wc *wc, bool solicited)
{
	uint32_t head = atomic_load_explicit(&cq->head, memory_order_relaxed);

	if (head - cq->tail_seen > cq->mask) {
		/* Pairs with the release in cq_poll(): the slot has been read. */
		cq->tail_seen = atomic_load_explicit(&cq->tail, memory_order_acquire);
		if (head - cq->tail_seen > cq->mask) {
			tell_overrun(cq);
			return false;
		}
	}
	cq->ring[head & cq->mask] = *wc;
	/* Pairs with the acquire in cq_poll() and cq_is_empty(). */
	atomic_store_explicit(&cq->head, head + 1, memory_order_release);
	if (unlikely(cq->armed))
		tell_completion(cq, solicited || wc->status != IBV_WC_SUCCESS);
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

int cq_resize(struct cq *cq, uint32_t depth)
{
	uint32_t tail = cq->tail, held = cq->head - tail, mask;
	struct ibv_wc *ring;

	if (depth == 0 || depth > CQ_DEPTH_MAX || depth < held)
		return -EINVAL;
	mask = round_up_pow2(depth) - 1;
	ring = calloc(mask + 1ul, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	for (uint32_t i = tail; i != tail + held; i++)
		ring[i & mask] = cq->ring[i & cq->mask];
	free(cq->ring);
	cq->ring = ring;
	cq->mask = mask;
	return 0;
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
