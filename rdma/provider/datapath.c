/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verbs that move data: post and poll.
 */
#include "provider_priv.h"

#include "lib/util.h"

#include <errno.h>

static int poll_cq(struct ibv_cq *ibcq, int n, struct ibv_wc *wc)
{
	struct device_cq *cq = container_of(ibcq, struct device_cq, vcq.cq);
	int got;

	if (cq_is_empty(cq->cq))
		progress(to_device(ibcq->context), cq->cq);
	pthread_spin_lock(&cq->lock);
	got = cq_poll(cq->cq, n, wc);
	pthread_spin_unlock(&cq->lock);
	return got;
}

static int post_one(struct device_qp *qp, const struct ibv_send_wr *wr)
{
	const struct ibv_ah_attr *ah = NULL;

	if (qp->vqp.qp.qp_type == IBV_QPT_UD) {
		if (!wr->wr.ud.ah)
			return -EINVAL;
		ah = &container_of(wr->wr.ud.ah, struct device_ah, ibv)->attr;
	} else if (unlikely(wr->opcode == IBV_WR_BIND_MW)) {
		/* Type 1 has ibv_bind_mw(3). */
		if (!wr->bind_mw.mw || wr->bind_mw.mw->type != IBV_MW_TYPE_2)
			return -EINVAL;
	}
	return qp_post_send(qp->qp, wr, ah);
}

/* Windows have new keys when what binds them is posted. */
static void set_window_keys(const struct ibv_send_wr *wr, const struct ibv_send_wr *end)
{
	for (; wr != end; wr = wr->next) {
		if (unlikely(wr->opcode == IBV_WR_BIND_MW))
			wr->bind_mw.mw->rkey = (wr->bind_mw.mw->rkey & ~MW_KEY_BITS) |
					       (wr->bind_mw.rkey & MW_KEY_BITS);
	}
}

/* Under the device's lock. @bad_wr: set if one can't be posted. 0 or negative errno */
static int post_sends(
	struct device_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_wr)
{
	for (; wr; wr = wr->next) {
		int rc = post_one(qp, wr);

		if (rc) {
			*bad_wr = wr;
			return rc;
		}
	}
	return 0;
}

static int post_send(
	struct ibv_qp *ibqp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_wr)
{
	struct device *dev = to_device(ibqp->context);
	int rc;

	engine_lock(dev);
	rc = post_sends(container_of(ibqp, struct device_qp, vqp.qp), wr, bad_wr);
	set_window_keys(wr, rc ? *bad_wr : NULL);
	engine_unlock(dev);
	return -rc;
}

int device_post_all(struct device_qp *qp, struct ibv_send_wr *wr)
{
	struct device *dev = to_device(qp->vqp.qp.context);
	struct ibv_send_wr *bad_wr;
	struct qp_sq_mark mark;
	int rc;

	engine_lock(dev);
	mark = qp_sq_mark(qp->qp);
	rc = post_sends(qp, wr, &bad_wr);
	if (rc)
		qp_sq_rollback(qp->qp, mark);
	else
		set_window_keys(wr, NULL);
	engine_unlock(dev);
	return -rc;
}

static int post_rq(
	struct device_rq *rq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	int rc = 0;

	pthread_spin_lock(&rq->lock);
	for (; wr; wr = wr->next) {
		rc = rq_post(rq->rq, wr);
		if (rc) {
			*bad_wr = wr;
			break;
		}
	}
	pthread_spin_unlock(&rq->lock);
	return -rc;
}

static int post_recv(
	struct ibv_qp *ibqp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	struct device_qp *qp = container_of(ibqp, struct device_qp, vqp.qp);
	struct device *dev = to_device(ibqp->context);
	int rc;

	/* ibv_post_recv(3): not in RESET, not with an SRQ. */
	if (ibqp->srq || qp_state(qp->qp) == IBV_QPS_RESET) {
		*bad_wr = wr;
		return EINVAL;
	}
	rc = post_rq(&qp->rq, wr, bad_wr);
	/* Pairs with the change of state in qp_fail(): either it flushes what was just
	 * posted, or this thread sees the error state. */
	atomic_thread_fence(memory_order_seq_cst);
	if (unlikely(qp_state(qp->qp) == IBV_QPS_ERR)) {
		engine_lock(dev);
		qp_flush_rq(qp->qp);
		engine_unlock(dev);
	}
	return rc;
}

static int post_srq_recv(
	struct ibv_srq *ibsrq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	struct device_srq *srq = container_of(ibsrq, struct device_srq, vsrq.srq);

	return post_rq(&srq->rq, wr, bad_wr);
}

const struct verbs_context_ops datapath_ops = {
	.poll_cq = poll_cq,
	.post_send = post_send,
	.post_recv = post_recv,
	.post_srq_recv = post_srq_recv,
};
