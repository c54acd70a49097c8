/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queue pairs: life and states. The work is done by requester.c, completer.c and
 * responder.c.
 */
#include "qp.h"
#include "engine_priv.h"

#include "lib/util.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/*
 * What ibv_modify_qp() must (req) and may (opt) be given for each transition
 * (specification table 91). Transitions to RESET and ERR from anywhere take the state
 * alone.
 */
struct transition {
	bool legal;
	int req;
	int opt;
};

#define N_STATES (IBV_QPS_ERR + 1)

#define INIT_ATTRS   (IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS)
#define UD_INIT	     (IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY)
#define UC_RTR_ATTRS (IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN)
#define RC_RTR_ATTRS (UC_RTR_ATTRS | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER)
#define RC_RTS_ATTRS                                                            \
	(IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | \
		IBV_QP_MAX_QP_RD_ATOMIC)
#define RC_RUN_ATTRS (IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER)
#define UC_RUN_ATTRS (IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS)
#define UD_RUN_ATTRS (IBV_QP_CUR_STATE | IBV_QP_QKEY)
#define UC_SQD_ATTRS \
	(IBV_QP_AV | IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX)
#define RC_SQD_ATTRS                                                                     \
	(UC_SQD_ATTRS | IBV_QP_PORT | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |                \
		IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_MAX_DEST_RD_ATOMIC | \
		IBV_QP_MIN_RNR_TIMER)

typedef struct transition transition_table[N_STATES][N_STATES];

static const transition_table rc_transitions = {
	[IBV_QPS_RESET][IBV_QPS_INIT] = {true, INIT_ATTRS, 0},
	[IBV_QPS_INIT][IBV_QPS_INIT] = {true, 0, INIT_ATTRS},
	[IBV_QPS_INIT][IBV_QPS_RTR] = {true, RC_RTR_ATTRS,
		IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX},
	[IBV_QPS_RTR][IBV_QPS_RTS] = {true, RC_RTS_ATTRS, RC_RUN_ATTRS},
	[IBV_QPS_RTS][IBV_QPS_RTS] = {true, 0, RC_RUN_ATTRS},
	[IBV_QPS_RTS][IBV_QPS_SQD] = {true, 0, IBV_QP_EN_SQD_ASYNC_NOTIFY},
	[IBV_QPS_SQD][IBV_QPS_SQD] = {true, 0, RC_SQD_ATTRS},
	[IBV_QPS_SQD][IBV_QPS_RTS] = {true, 0, RC_RUN_ATTRS},
};

static const transition_table uc_transitions = {
	[IBV_QPS_RESET][IBV_QPS_INIT] = {true, INIT_ATTRS, 0},
	[IBV_QPS_INIT][IBV_QPS_INIT] = {true, 0, INIT_ATTRS},
	[IBV_QPS_INIT][IBV_QPS_RTR] = {true, UC_RTR_ATTRS,
		IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX},
	[IBV_QPS_RTR][IBV_QPS_RTS] = {true, IBV_QP_SQ_PSN, UC_RUN_ATTRS},
	[IBV_QPS_RTS][IBV_QPS_RTS] = {true, 0, UC_RUN_ATTRS},
	[IBV_QPS_RTS][IBV_QPS_SQD] = {true, 0, IBV_QP_EN_SQD_ASYNC_NOTIFY},
	[IBV_QPS_SQD][IBV_QPS_SQD] = {true, 0, UC_SQD_ATTRS},
	[IBV_QPS_SQD][IBV_QPS_RTS] = {true, 0, UC_RUN_ATTRS},
	[IBV_QPS_SQE][IBV_QPS_RTS] = {true, 0, UC_RUN_ATTRS},
};

static const transition_table ud_transitions = {
	[IBV_QPS_RESET][IBV_QPS_INIT] = {true, UD_INIT, 0},
	[IBV_QPS_INIT][IBV_QPS_INIT] = {true, 0, UD_INIT},
	[IBV_QPS_INIT][IBV_QPS_RTR] = {true, 0, IBV_QP_PKEY_INDEX | IBV_QP_QKEY},
	[IBV_QPS_RTR][IBV_QPS_RTS] = {true, IBV_QP_SQ_PSN, UD_RUN_ATTRS},
	[IBV_QPS_RTS][IBV_QPS_RTS] = {true, 0, UD_RUN_ATTRS},
	[IBV_QPS_RTS][IBV_QPS_SQD] = {true, 0, IBV_QP_EN_SQD_ASYNC_NOTIFY},
	[IBV_QPS_SQD][IBV_QPS_SQD] = {true, 0, IBV_QP_PKEY_INDEX | IBV_QP_QKEY},
	[IBV_QPS_SQD][IBV_QPS_RTS] = {true, 0, UD_RUN_ATTRS},
	[IBV_QPS_SQE][IBV_QPS_RTS] = {true, 0, UD_RUN_ATTRS},
};

static const struct transition *transition_of(
	enum ibv_qp_type type, enum ibv_qp_state from, enum ibv_qp_state to)
{
	switch (type) {
	case IBV_QPT_UC:
		return &uc_transitions[from][to];
	case IBV_QPT_UD:
		return &ud_transitions[from][to];
	default:
		return &rc_transitions[from][to];
	}
}

static bool in_range(const struct engine *e, const struct ibv_qp_attr *a, int mask)
{
	return !((mask & IBV_QP_PATH_MTU &&
			 (a->path_mtu < IBV_MTU_256 || a->path_mtu > IBV_MTU_4096)) ||
		 (mask & IBV_QP_PORT && a->port_num != 1) ||
		 (mask & IBV_QP_PKEY_INDEX && a->pkey_index != 0) ||
		 (mask & IBV_QP_DEST_QPN && (a->dest_qp_num & ~WIRE_24BIT)) ||
		 (mask & IBV_QP_AV &&
			 (!a->ah_attr.is_global ||
				 !engine_has_gid(e, a->ah_attr.grh.sgid_index))) ||
		 (mask & IBV_QP_MIN_RNR_TIMER && a->min_rnr_timer > 31) ||
		 (mask & IBV_QP_TIMEOUT && a->timeout > 31) ||
		 (mask & IBV_QP_RETRY_CNT && a->retry_cnt > 7) ||
		 (mask & IBV_QP_RNR_RETRY && a->rnr_retry > 7) ||
		 (mask & IBV_QP_MAX_QP_RD_ATOMIC && a->max_rd_atomic > ENGINE_RD_MAX) ||
		 (mask & IBV_QP_MAX_DEST_RD_ATOMIC &&
			 a->max_dest_rd_atomic > ENGINE_RD_MAX));
}

static int check_modify(const struct qp *qp, const struct ibv_qp_attr *attr, int mask)
{
	enum ibv_qp_state next = mask & IBV_QP_STATE ? attr->qp_state : qp->state;
	const struct transition *t;

	if ((mask & IBV_QP_CUR_STATE) && attr->cur_qp_state != qp->state)
		return -EINVAL;
	mask &= ~IBV_QP_STATE;
	if (next == IBV_QPS_RESET || next == IBV_QPS_ERR)
		return mask & ~IBV_QP_CUR_STATE ? -EINVAL : 0;
	if ((unsigned int)next > IBV_QPS_ERR)
		return -EINVAL;
	t = transition_of(qp->config.type, qp->state, next);
	if (!t->legal || (mask & t->req) != t->req || (mask & ~(t->req | t->opt)))
		return -EINVAL;
	if (!in_range(qp->engine, attr, mask))
		return -EINVAL;
	if ((mask & IBV_QP_PATH_MTU) && 128u << attr->path_mtu > qp->config.port_mtu)
		return -EINVAL;
	return 0;
}

static void set_attrs(struct qp_attrs *to, const struct ibv_qp_attr *from, int mask)
{
	if (mask & IBV_QP_ACCESS_FLAGS)
		to->qp_access_flags = from->qp_access_flags;
	if (mask & IBV_QP_PKEY_INDEX)
		to->pkey_index = from->pkey_index;
	if (mask & IBV_QP_PORT)
		to->port_num = from->port_num;
	if (mask & IBV_QP_AV)
		to->ah_attr = from->ah_attr;
	if (mask & IBV_QP_QKEY)
		to->qkey = from->qkey;
	if (mask & IBV_QP_PATH_MTU)
		to->path_mtu = (uint8_t)from->path_mtu;
	if (mask & IBV_QP_DEST_QPN)
		to->dest_qp_num = from->dest_qp_num;
	if (mask & IBV_QP_MAX_QP_RD_ATOMIC)
		to->max_rd_atomic = from->max_rd_atomic;
	if (mask & IBV_QP_MAX_DEST_RD_ATOMIC)
		to->max_dest_rd_atomic = from->max_dest_rd_atomic;
	if (mask & IBV_QP_MIN_RNR_TIMER)
		to->min_rnr_timer = from->min_rnr_timer;
	if (mask & IBV_QP_TIMEOUT)
		to->timeout = from->timeout;
	if (mask & IBV_QP_RETRY_CNT)
		to->retry_cnt = from->retry_cnt;
	if (mask & IBV_QP_RNR_RETRY)
		to->rnr_retry = from->rnr_retry;
}

static void enter_reset(struct qp *qp)
{
	qp->state = IBV_QPS_RESET;
	qp->attr = (struct qp_attrs){0};
	qp->mtu = qp->config.port_mtu; /* until RTR tells; never 0 */
	requester_reset(qp, 0);
	responder_reset(qp, 0);
	while (!qp->config.srq && rq_peek(qp->rq))
		rq_pop(qp->rq);
}

int qp_modify(struct qp *qp, const struct ibv_qp_attr *attr, int mask)
{
	enum ibv_qp_state prev = qp->state;
	int rc = check_modify(qp, attr, mask);

	if (rc)
		return rc;
	lanes_close(qp);
	set_attrs(&qp->attr, attr, mask);
	/* Without memory for a lane, messages go as packets. */
	if (mask & IBV_QP_AV)
		qp->is_direct = direct_is_possible(qp) && !lane_create(qp);
	if (!(mask & IBV_QP_STATE))
		return 0;

	switch (attr->qp_state) {
	case IBV_QPS_RESET:
		enter_reset(qp);
		return 0;
	case IBV_QPS_ERR:
		qp_fail(qp);
		return 0;
	case IBV_QPS_RTR:
		qp->mtu = qp->config.type == IBV_QPT_UD ? qp->config.port_mtu
							: 128u << qp->attr.path_mtu;
		responder_reset(qp, attr->rq_psn);
		cnp_reset(qp);
		break;
	case IBV_QPS_RTS:
		if (prev == IBV_QPS_RTR)
			requester_reset(qp, attr->sq_psn);
		if (prev == IBV_QPS_SQE)
			requester_flush(qp);
		engine_schedule(qp);
		break;
	default:
		break;
	}
	qp->state = attr->qp_state;
	qp->req.tell_drained = qp->state == IBV_QPS_SQD &&
			       (mask & IBV_QP_EN_SQD_ASYNC_NOTIFY) &&
			       attr->en_sqd_async_notify;
	requester_check_drained(qp);
	return 0;
}

void qp_query(struct qp *qp, struct ibv_qp_attr *attr)
{
	const struct qp_attrs *a = &qp->attr;

	lanes_close(qp);
	*attr = (struct ibv_qp_attr){
		.qp_state = qp->state,
		.cur_qp_state = qp->state,
		.path_mtu = a->path_mtu,
		.qkey = a->qkey,
		.rq_psn = qp->resp.epsn,
		.sq_psn = qp->req.next_psn,
		.dest_qp_num = a->dest_qp_num,
		.qp_access_flags = (unsigned int)a->qp_access_flags,
		.cap = qp->config.cap,
		.ah_attr = a->ah_attr,
		.pkey_index = a->pkey_index,
		.sq_draining =
			qp->state == IBV_QPS_SQD && qp->req.una_psn != qp->req.snd_max,
		.max_rd_atomic = a->max_rd_atomic,
		.max_dest_rd_atomic = a->max_dest_rd_atomic,
		.min_rnr_timer = a->min_rnr_timer,
		.port_num = a->port_num,
		.timeout = a->timeout,
		.retry_cnt = a->retry_cnt,
		.rnr_retry = a->rnr_retry,
	};
}

void qp_raise(struct qp *qp, enum ibv_event_type event)
{
	if (qp->config.notify)
		qp->config.notify(qp->config.notify_arg, event);
}

void qp_fail(struct qp *qp)
{
	if (qp->state == IBV_QPS_ERR)
		return;
	lanes_close(qp);
	qp->state = IBV_QPS_ERR;
	qp->engine->stats.qp_errors++;
	/* Who posts a receive has posted it, or will see the state. */
	rq_lock(qp->rq);
	rq_unlock(qp->rq);
	requester_flush(qp);
	message_flush(qp);
	/* It takes no more buffers from the shared queue (11.6.3.2). */
	if (qp->config.srq)
		qp_raise(qp, IBV_EVENT_QP_LAST_WQE_REACHED);
}

void qp_fail_send(struct qp *qp)
{
	if (qp->config.type == IBV_QPT_RC) {
		qp_fail(qp);
		return;
	}
	requester_flush(qp);
	if (qp->state != IBV_QPS_ERR)
		qp->state = IBV_QPS_SQE;
}

static void complete(struct qp *qp, struct cq *cq, const struct ibv_wc *wc, int flags)
{
	if (cq_push(cq, wc, flags))
		return;
	qp->engine->stats.cq_overruns++;
	if (qp->state != IBV_QPS_ERR)
		qp_raise(qp, IBV_EVENT_QP_FATAL);
	qp_fail(qp);
}

void qp_complete_recv(struct qp *qp, const struct ibv_wc *wc, int flags)
{
	complete(qp, qp->config.recv_cq, wc, flags);
}

void qp_complete_send(struct qp *qp, const struct ibv_wc *wc)
{
	complete(qp, qp->config.send_cq, wc, 0);
}

void qp_flush_rq(struct qp *qp)
{
	if (qp->state == IBV_QPS_ERR)
		message_flush(qp);
}

static_assert(offsetof(struct qp, qpn) == 0, "as idtable.h wants it");
/* With the provider's part and the allocator's, an idle one has 1 KiB (bench/rdma qps).
 */
static_assert(sizeof(struct qp) <= 512, "what few need, allocate when it is needed");
static_assert(
	offsetof(struct qp, req.next_psn) >= offsetof(struct qp, req) + CACHE_LINE &&
		offsetof(struct qp, resp) >=
			offsetof(struct qp, req.unrequested) + CACHE_LINE,
	"apart, see struct qp");

/* Numbers 0, 1 and the multicast one (all bits set), which are taken, are not given. */
static int choose_number(struct engine *e, struct qp *qp)
{
	int rc = idtable_add(&e->qps, qp, WIRE_24BIT);

	qp->sport_hash = (uint16_t)(qp->qpn ^ qp->qpn >> 8);
	return rc;
}

static int make_rq(const struct qp_config *config, struct rq **out)
{
	const struct ibv_qp_cap *cap = &config->cap;

	if (!config->srq && cap->max_recv_wr > ENGINE_WR_MAX)
		return -EINVAL;
	/* Twice as many as are granted: who keeps as many posted need not look, at each,
	 * whether the consumer has left a place; and a lane tells of a message before it
	 * has (lane.c). */
	if (!config->srq)
		return rq_create(config->pd, MAX(cap->max_recv_wr, 1u) * 2,
			MAX(cap->max_recv_sge, 1u), out);
	*out = config->srq;
	return 0;
}

/* With the buffer that is being filled behind it. */
static struct qp *qp_alloc(const struct rq *rq)
{
	struct qp *qp = calloc(1, sizeof(*qp) + sizeof(struct rq_wqe) +
					  rq_max_sge(rq) * sizeof(struct ibv_sge));

	if (!qp)
		return NULL;
	qp->resp.wqe = (struct rq_wqe *)(qp + 1);
	return qp;
}

static void tell_granted(const struct qp *qp, struct ibv_qp_cap *cap)
{
	cap->max_send_wr = qp->req.depth;
	cap->max_send_sge = qp->req.max_sge;
	cap->max_recv_wr = qp->config.srq ? 0 : rq_depth(qp->rq) / 2;
	cap->max_recv_sge = qp->config.srq ? 0 : rq_max_sge(qp->rq);
}

int qp_create(struct engine *e, struct qp_config *config, struct qp **out)
{
	struct qp *qp;
	struct rq *rq;
	int rc;

	if (config->type != IBV_QPT_RC && config->type != IBV_QPT_UC &&
		config->type != IBV_QPT_UD)
		return -EOPNOTSUPP;
	rc = make_rq(config, &rq);
	if (rc)
		return rc;
	qp = qp_alloc(rq);
	rc = -ENOMEM;
	if (!qp)
		goto err_rq;
	qp->engine = e;
	qp->rq = rq;
	qp->config = *config;
	rc = requester_init(qp);
	if (rc)
		goto err_free;
	rc = choose_number(e, qp);
	if (rc)
		goto err_requester;
	enter_reset(qp);
	tell_granted(qp, &config->cap);
	qp->config.cap = config->cap;
	*out = qp;
	return 0;

err_requester:
	requester_destroy(qp);
err_free:
	free(qp);
err_rq:
	if (!config->srq)
		rq_destroy(rq);
	return rc;
}

void qp_destroy(struct qp *qp)
{
	struct engine *e;

	if (!qp)
		return;
	e = qp->engine;
	lanes_close_all(e);
	mw_unbind_all(&qp->windows);
	if (qp->is_ready)
		TAILQ_REMOVE(&e->ready, qp, ready_entry);
	timer_remove(&e->timers, &qp->req.timer);
	idtable_remove(&e->qps, qp);
	cnp_reset(qp);
	cq_purge(qp->config.send_cq, qp->qpn);
	cq_purge(qp->config.recv_cq, qp->qpn);
	responder_fetch_reset(qp);
	requester_destroy(qp);
	lane_destroy(qp);
	if (!qp->config.srq)
		rq_destroy(qp->rq);
	free(qp);
}

bool qp_in_group(const struct qp *qp)
{
	return qp->n_groups;
}

uint32_t qp_number(const struct qp *qp)
{
	return qp->qpn;
}

enum ibv_qp_state qp_state(const struct qp *qp)
{
	return qp->state;
}

struct rq *qp_rq(const struct qp *qp)
{
	return qp->rq;
}
