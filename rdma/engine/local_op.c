/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Work requests that send nothing: binding a window and invalidating one. They take no
 * PSN. Each is done once, when sending comes to it, and then passed over if packets
 * before it are sent again; it completes when all before it is complete.
 */
#include "engine_priv.h"

static int do_op(struct qp *qp, const struct sq_wqe *wqe)
{
	struct mw_user user = qp_mw_user(qp);
	struct engine_stats *stats = &qp->engine->stats;
	int rc;

	lanes_close_all(qp->engine);
	if (wqe->opcode == IBV_WR_LOCAL_INV) {
		rc = mw_invalidate(qp->engine->mrs, wqe->rkey, &user);
		stats->mw_invalidates += !rc;
	} else {
		rc = mw_bind(qp->engine->mrs, &wqe->bind, &user);
		stats->mw_binds += !rc;
	}
	return rc;
}

/* An invalidation waits for all before it (10.6.5.1), as that may still use the window.
 */
static bool may_begin(const struct qp *qp, const struct sq_wqe *wqe)
{
	const struct requester *req = &qp->req;

	if (qp->state != IBV_QPS_RTS)
		return false;
	if (wqe->opcode == IBV_WR_LOCAL_INV)
		return req->tail == req->cur;
	return !wqe->fence || !requester_n_asked(req);
}

/* The one being sent. Return: whether it is done */
static bool run(struct qp *qp, struct sq_wqe *wqe)
{
	struct requester *req = &qp->req;

	if (wqe->is_done)
		return true;
	if (!may_begin(qp, wqe))
		return false;
	wqe->is_done = !do_op(qp, wqe);
	/* What fails ends the queue pair, so what is before it must be over. */
	if (!wqe->is_done && req->tail == req->cur)
		requester_fail(qp, req->cur, IBV_WC_MW_BIND_ERR);
	return wqe->is_done;
}

bool local_ops_run(struct qp *qp)
{
	struct requester *req = &qp->req;

	while (req->cur != req->head) {
		struct sq_wqe *wqe = requester_wqe(req, req->cur);

		if (!sq_is_local(wqe))
			return true;
		if (!run(qp, wqe))
			return false;
		if (req->tail == req->cur)
			completer_retire(qp, IBV_WC_SUCCESS);
		else
			requester_seek(req, req->cur + 1, 0);
	}
	return false;
}
