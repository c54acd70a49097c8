/* SPDX-License-Identifier: BSD-3-Clause */
#include "cq.h"

#include "lib/spin.h"
#include "lib/util.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* While completions come without packets, polls for each look at the link, which takes as
 * long as some fifty of them; and looks in vain until no more of them are expected.
 */
#define DIRECT_POLLS 256u
#define DIRECT_LOOKS 64u

enum cq_armed { NOT_ARMED, ARMED_SOLICITED, ARMED_ANY };

/* Number n of all completions is there when turn is n + 1. */
struct cqe {
	_Alignas(CACHE_LINE) struct ibv_wc wc;
	_Atomic uint64_t turn;
	bool is_direct;
};

static_assert(sizeof(struct cqe) == CACHE_LINE, "");

struct cq {
	/* what is seldom changed, with both sides' locks */
	uint64_t mask;
	struct cqe *ring;
	cq_notify *notify; /* or NULL */
	void *notify_arg;
	/* The producers' line. */
	_Alignas(CACHE_LINE) struct spin push_lock;
	enum cq_armed armed;
	uint64_t head;
	uint64_t tail_seen;
	bool overrun;
	/* The consumers'. */
	_Alignas(CACHE_LINE) struct spin poll_lock;
	uint32_t direct_polls; /* that are left of DIRECT_POLLS * DIRECT_LOOKS */
	_Atomic uint64_t tail;
};

static struct cqe *alloc_ring(uint64_t mask)
{
	size_t size = (mask + 1) * sizeof(struct cqe);
	struct cqe *ring = aligned_alloc(CACHE_LINE, size);

	if (ring)
		memset(ring, 0, size);
	return ring;
}

int cq_create(uint32_t depth, struct cq **out)
{
	struct cq *cq;

	if (depth == 0 || depth > CQ_DEPTH_MAX)
		return -EINVAL;
	cq = aligned_alloc(CACHE_LINE, sizeof(*cq));
	if (!cq)
		return -ENOMEM;
	*cq = (struct cq){.mask = round_up_pow2(depth) - 1};
	cq->ring = alloc_ring(cq->mask);
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
	return (uint32_t)cq->mask + 1;
}

void cq_set_notify(struct cq *cq, cq_notify *notify, void *arg)
{
	cq->notify = notify;
	cq->notify_arg = arg;
}

static struct cqe *cqe_at(const struct cq *cq, uint64_t index)
{
	return &cq->ring[index & cq->mask];
}

static bool is_there(const struct cqe *cqe, uint64_t index)
{
	/* Pairs with the release in cq_add(). */
	return atomic_load_explicit(&cqe->turn, memory_order_acquire) == index + 1;
}

/* Producers. */

void cq_arm(struct cq *cq, bool solicited_only)
{
	spin_lock(&cq->push_lock);
	if (cq->notify && cq->armed != ARMED_ANY)
		cq->armed = solicited_only ? ARMED_SOLICITED : ARMED_ANY;
	spin_unlock(&cq->push_lock);
}

static bool has_room(struct cq *cq, uint32_t n)
{
	if (likely(cq->head + n - cq->tail_seen <= cq->mask + 1))
		return true;
	/* Pairs with the release in cq_poll(): the entries have been read. */
	cq->tail_seen = atomic_load_explicit(&cq->tail, memory_order_acquire);
	return cq->head + n - cq->tail_seen <= cq->mask + 1;
}

bool cq_hold(struct cq *cq, uint32_t n)
{
	spin_lock(&cq->push_lock);
	if (likely(has_room(cq, n) && !cq->armed))
		return true;
	spin_unlock(&cq->push_lock);
	return false;
}

void cq_release(struct cq *cq)
{
	spin_unlock(&cq->push_lock);
}

void cq_add(struct cq *cq, const struct ibv_wc *wc, int flags)
{
	struct cqe *cqe = cqe_at(cq, cq->head);

	cqe->wc = *wc;
	cqe->is_direct = flags & CQ_DIRECT;
	/* Pairs with the acquire in is_there(). */
	atomic_store_explicit(&cqe->turn, ++cq->head, memory_order_release);
}

/* Of what is added now. */
static bool takes_event(struct cq *cq, const struct ibv_wc *wc, int flags)
{
	if (likely(!cq->armed))
		return false;
	if (cq->armed == ARMED_SOLICITED && !(flags & CQ_SOLICITED) &&
		wc->status == IBV_WC_SUCCESS)
		return false;
	cq->armed = NOT_ARMED;
	return true;
}

static void tell_overrun(struct cq *cq)
{
	if (cq->overrun || !cq->notify)
		return;
	cq->overrun = true;
	cq->notify(cq->notify_arg, CQ_OVERRUN);
}

bool cq_push(struct cq *cq, const struct ibv_wc *wc, int flags)
{
	bool room, tell = false;

	spin_lock(&cq->push_lock);
	room = has_room(cq, 1);
	if (room) {
		cq_add(cq, wc, flags);
		tell = takes_event(cq, wc, flags);
	}
	spin_unlock(&cq->push_lock);
	if (unlikely(tell))
		cq->notify(cq->notify_arg, CQ_COMPLETION);
	if (unlikely(!room))
		tell_overrun(cq);
	return room;
}

/* Consumers. */

void cq_lock(struct cq *cq)
{
	spin_lock(&cq->poll_lock);
}

void cq_unlock(struct cq *cq)
{
	spin_unlock(&cq->poll_lock);
}

int cq_poll(struct cq *cq, int n, struct ibv_wc *wc)
{
	uint64_t tail = atomic_load_explicit(&cq->tail, memory_order_relaxed);
	const struct cqe *cqe;
	int got = 0;

	while (got < n && is_there(cqe = cqe_at(cq, tail), tail)) {
		wc[got++] = cqe->wc;
		if (cqe->is_direct)
			cq->direct_polls = DIRECT_POLLS * DIRECT_LOOKS;
		tail++;
	}
	if (got)
		atomic_store_explicit(&cq->tail, tail, memory_order_release);
	return got;
}

bool cq_expects_direct(struct cq *cq)
{
	return cq->direct_polls && --cq->direct_polls % DIRECT_POLLS;
}

bool cq_is_empty(const struct cq *cq)
{
	uint64_t tail = atomic_load_explicit(&cq->tail, memory_order_relaxed);

	return !is_there(cqe_at(cq, tail), tail);
}

/* Both. */

static void put(struct cqe *cqe, uint64_t index, const struct cqe *from)
{
	cqe->wc = from->wc;
	cqe->is_direct = from->is_direct;
	atomic_store_explicit(&cqe->turn, index + 1, memory_order_relaxed);
}

/* Under push_lock. Return: 0 or -EINVAL */
static int move_to(struct cq *cq, struct cqe *ring, uint64_t mask)
{
	uint64_t tail = cq->tail;

	if (cq->head - tail > mask + 1)
		return -EINVAL;
	for (uint64_t i = tail; i != cq->head; i++)
		put(&ring[i & mask], i, cqe_at(cq, i));
	cq->ring = ring;
	cq->mask = mask;
	return 0;
}

int cq_resize(struct cq *cq, uint32_t depth)
{
	struct cqe *ring, *old = cq->ring;
	uint64_t mask;
	int rc;

	if (depth == 0 || depth > CQ_DEPTH_MAX)
		return -EINVAL;
	mask = round_up_pow2(depth) - 1;
	ring = alloc_ring(mask);
	if (!ring)
		return -ENOMEM;
	spin_lock(&cq->push_lock);
	rc = move_to(cq, ring, mask);
	spin_unlock(&cq->push_lock);
	free(rc ? ring : old);
	return rc;
}

void cq_purge(struct cq *cq, uint32_t qpn)
{
	uint64_t kept;

	spin_lock(&cq->push_lock);
	kept = cq->tail;
	for (uint64_t i = kept; i != cq->head; i++) {
		struct cqe *cqe = cqe_at(cq, i);

		if (cqe->wc.qp_num != qpn) {
			put(cqe_at(cq, kept), kept, cqe);
			kept++;
		}
	}
	for (uint64_t i = kept; i != cq->head; i++)
		atomic_store_explicit(&cqe_at(cq, i)->turn, 0, memory_order_relaxed);
	cq->head = kept;
	spin_unlock(&cq->push_lock);
}
