/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages within one device without the engine's lock.
 *
 * A lane is one direction of a pair of queue pairs that are connected to each other. With
 * the engine's lock it is opened when a message has just gone by a copy (direct.c) and
 * nothing of that direction is left to be done. While it is open, small messages are
 * copied under the lane's own lock, which nobody but the sender's threads takes: what two
 * cores share per message is then what they have to tell each other, the data, the
 * completion and the posted buffer.
 *
 * Why that is safe. A message reads and writes
 *   - the sender's requester, the receiver's responder and the consumer's end of its
 *     receive queue (not a shared one),
 *   - both queue pairs' states and attributes,
 *   - the table of keys, and with it the memory that regions grant,
 *   - completion queues, which have locks of their own.
 * While a lane is open, its lock protects these; who holds the engine's lock must close
 * it before changing any but the last:
 *   - engine_input_to(), qp_fail() and the functions of qp.h close both lanes of their
 *     queue pair, before all else; posting and qp_output(), which touch the requester
 *     alone, only that from it. (An open lane's responder has nothing to send.) These are
 *     all ways to a queue pair: while its lane is open nothing is in flight, so its timer
 *     is not set;
 *   - engine_mrs(), local_op.c and message.c, before a key changes, and engine_set_gid(),
 *     after which a pair may no longer be connected: all lanes.
 * To close is to take the lane's lock, so it waits for the message that is under way, and
 * who comes later finds the lane closed. So when ibv_dereg_mr(), ibv_modify_qp() or
 * ibv_destroy_qp() returns, no copy goes on that began under what was before.
 *
 * What is not simple is not done here, but goes the old way: qp_post_lane() then
 * refuses, and nothing has happened. Closing is no loss, the next message opens the lane
 * again.
 */
#include "direct.h"

#include "lib/spin.h"
#include "lib/util.h"

#include <errno.h>
#include <stdlib.h>

/* What is longer may take its time, and others should not wait turning round. */
#define LANE_MSG_MAX (64u << 10)
#define N_OPCODES    (IBV_WR_ATOMIC_FETCH_AND_ADD + 1)

struct lane {
	struct spin lock;
	bool is_open; /* written under both locks */
	struct qp *to;
	uint64_t n_messages[N_OPCODES]; /* that engine_stats lack */
	/* under the engine's lock */
	struct lane *in; /* of the peer, open to this queue pair; or NULL */
	struct engine *engine;
	LIST_ENTRY(lane) entry; /* of those that are open */
};

int lane_create(struct qp *qp)
{
	struct lane *l;

	if (qp->lane)
		return 0;
	l = aligned_alloc(CACHE_LINE, (sizeof(*l) + CACHE_LINE - 1) & -CACHE_LINE);
	if (!l)
		return -ENOMEM;
	*l = (struct lane){.engine = qp->engine};
	/* Pairs with the acquire in qp_post_lane(), whose caller has no lock. */
	atomic_store_explicit(&qp->lane, l, memory_order_release);
	return 0;
}

void lane_destroy(struct qp *qp)
{
	free(qp->lane);
}

static void close_lane(struct lane *l)
{
	spin_lock(&l->lock);
	l->is_open = false;
	spin_unlock(&l->lock);
	l->to->lane->in = NULL;
	LIST_REMOVE(l, entry);
	for (uint8_t i = 0; i < N_OPCODES; i++) {
		requester_count_messages(&l->engine->stats, i, l->n_messages[i]);
		direct_count(&l->engine->stats, i, l->n_messages[i]);
		l->n_messages[i] = 0;
	}
}

void lanes_close_all(struct engine *e)
{
	while (!LIST_EMPTY(&e->lanes))
		close_lane(LIST_FIRST(&e->lanes));
}

void lane_close(struct qp *qp)
{
	if (qp->lane && qp->lane->is_open)
		close_lane(qp->lane);
}

void lanes_close(struct qp *qp)
{
	lane_close(qp);
	if (lane_comes_in(qp))
		close_lane(qp->lane->in);
}

bool lane_comes_in(const struct qp *qp)
{
	return qp->lane && qp->lane->in;
}

/* Is nothing of this direction left to be done by who has the engine's lock? */
static bool is_idle(const struct qp *from, const struct qp *to)
{
	const struct requester *req = &from->req;

	return from->state == IBV_QPS_RTS && req->head == req->tail &&
	       !req->timer.due_ns && to->state != IBV_QPS_ERR && !to->resp.ack_pending &&
	       !responder_fetch_is_due(to);
}

void lane_open(struct qp *from, struct qp *to)
{
	struct lane *l = from->lane;

	if (!is_idle(from, to) || !to->lane || to->config.srq)
		return;
	spin_lock(&l->lock);
	l->to = to;
	l->is_open = true;
	spin_unlock(&l->lock);
	to->lane->in = l;
	LIST_INSERT_HEAD(&l->engine->lanes, l, entry);
}

/* Both queues that get completions, in an order that is the same for all.
 * Return: false, and none is held, if one has no room or is armed
 */
static bool hold(struct cq *a, struct cq *b)
{
	struct cq *first = MIN(a, b), *second = MAX(a, b);

	if (first == second)
		return cq_hold(first, 2);
	if (first && !cq_hold(first, 1))
		return false;
	if (cq_hold(second, 1))
		return true;
	if (first)
		cq_release(first);
	return false;
}

/* Copy, and tell both sides; the receiver first, and then all that it need not wait for.
 * Return: false if that is not simple; nothing has happened
 */
static bool pass(struct lane *l, struct direct *d)
{
	struct cq *scq = d->wqe->signaled ? d->from->config.send_cq : NULL;
	struct cq *rcq = d->buffer ? d->to->config.recv_cq : NULL;
	struct requester *req = &d->from->req;
	struct ibv_wc wc;

	if ((scq || rcq) && !hold(scq, rcq))
		return false;
	direct_copy(d);
	if (rcq) {
		wc = direct_wc(d);
		cq_add(rcq, &wc, CQ_DIRECT);
		if (rcq != scq)
			cq_release(rcq);
	}
	req->next_psn = req->una_psn = req->snd_max = direct_accept(d);
	l->n_messages[d->wqe->opcode]++;
	if (scq) {
		wc = completer_wc(d->from, d->wqe, IBV_WC_SUCCESS);
		cq_add(scq, &wc, CQ_DIRECT);
		cq_release(scq);
	}
	return true;
}

static bool may_pass(const struct ibv_send_wr *wr)
{
	switch (wr->opcode) {
	case IBV_WR_SEND:
	case IBV_WR_SEND_WITH_IMM:
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
	case IBV_WR_RDMA_READ:
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		return true;
	default:
		return false;
	}
}

static bool post_one(struct lane *l, struct qp *qp, const struct ibv_send_wr *wr)
{
	struct direct d; /* large: the lists are left as they are */
	struct sq_wqe *wqe;

	if (!may_pass(wr) || sq_fill(qp, wr, NULL, &wqe) || wqe->length > LANE_MSG_MAX)
		return false;
	d.from = qp;
	d.to = l->to;
	d.wqe = wqe;
	return direct_find(&d) && pass(l, &d);
}

struct ibv_send_wr *qp_post_lane(struct qp *qp, struct ibv_send_wr *wr)
{
	struct lane *l = atomic_load_explicit(&qp->lane, memory_order_acquire);

	if (!l)
		return wr;
	spin_lock(&l->lock);
	while (wr && l->is_open && post_one(l, qp, wr))
		wr = wr->next;
	spin_unlock(&l->lock);
	return wr;
}
