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

	cq_lock(cq->cq);
	got = cq_poll(cq->cq, n, wc);
	if (!got) {
		progress_for(to_device(ibcq->context), cq->cq);
		got = cq_poll(cq->cq, n, wc);
	}
	cq_unlock(cq->cq);
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
	struct device_qp *qp = container_of(ibqp, struct device_qp, vqp.qp);
	int rc;

	wr = qp_post_lane(qp->qp, wr);
	if (!wr)
		return 0;
	engine_lock(dev);
	rc = post_sends(qp, wr, bad_wr);
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

	/* One by itself is all or none. */
	if (!wr->next && !qp_post_lane(qp->qp, wr))
		return 0;
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

/* With rq_lock() */
static int post_rq(struct rq *rq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	for (; wr; wr = wr->next) {
		int rc = rq_post(rq, wr);

		if (rc) {
			*bad_wr = wr;
			return -rc;
		}
	}
	return 0;
}

static int post_recv(
	struct ibv_qp *ibqp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	struct device_qp *qp = container_of(ibqp, struct device_qp, vqp.qp);
	struct device *dev = to_device(ibqp->context);
	struct rq *rq = qp_rq(qp->qp);
	enum ibv_qp_state state;
	int rc = EINVAL;

	*bad_wr = wr;
	if (ibqp->srq)
		return rc;
	rq_lock(rq);
	/* Pairs with qp_fail(), which changes the state and then takes the lock: either
	 * it flushes what is posted here, or this thread sees the error state. */
	state = qp_state(qp->qp);
	if (state != IBV_QPS_RESET) /* ibv_post_recv(3) */
		rc = post_rq(rq, wr, bad_wr);
	rq_unlock(rq);
	if (unlikely(state == IBV_QPS_ERR)) {
		engine_lock(dev);
		qp_flush_rq(qp->qp);
		engine_unlock(dev);
	}
	return rc;
}

static int post_srq_recv(
	struct ibv_srq *ibsrq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	struct rq *rq = container_of(ibsrq, struct device_srq, vsrq.srq)->rq;
	int rc;

	rq_lock(rq);
	rc = post_rq(rq, wr, bad_wr);
	rq_unlock(rq);
	return rc;
}

const struct verbs_context_ops datapath_ops = {
	.poll_cq = poll_cq,
	.post_send = post_send,
	.post_recv = post_recv,
	.post_srq_recv = post_srq_recv,
};
