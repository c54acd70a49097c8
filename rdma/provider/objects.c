/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verbs that make, change and end objects. Errors are translated here from the
 * engine's negative errno to what each verb wants: NULL and errno, or a positive errno.
 */
#include "provider_priv.h"

#include "comp_channel.h"

#include "lib/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Completion queues. */

static struct device_cq *to_cq(struct ibv_cq *ibcq)
{
	return container_of(ibcq, struct device_cq, vcq.cq);
}

/* The engine tells, under the device's lock. */
static void cq_notified(void *arg, enum cq_event event)
{
	struct device_cq *cq = arg;
	struct device *dev = to_device(cq->vcq.cq.context);

	if (event == CQ_OVERRUN) {
		cq->n_async_events++;
		events_send_async(cq->vcq.cq.context, IBV_EVENT_CQ_ERR, &cq->vcq.cq);
		return;
	}
	cq->armed = false;
	progress_disarm(dev);
	cq->n_comp_events++;
	events_send_comp(dev, cq->vcq.cq.channel->fd, &cq->vcq.cq);
}

static int req_notify_cq(struct ibv_cq *ibcq, int solicited_only)
{
	struct device *dev = to_device(ibcq->context);
	struct device_cq *cq = to_cq(ibcq);

	if (!ibcq->channel) /* nobody to tell */
		return 0;
	engine_lock(dev);
	cq_arm(cq->cq, solicited_only);
	if (!cq->armed) {
		cq->armed = true;
		progress_arm(dev);
	}
	engine_unlock(dev);
	return 0;
}

static struct ibv_cq *create_cq(struct ibv_context *ctx, int cqe,
	struct ibv_comp_channel *channel, int comp_vector)
{
	struct device *dev = to_device(ctx);
	struct device_cq *cq;
	int rc;

	/* One that libibverbs made in vain, as it asked /dev/null. */
	if (channel && !event_fd_is_ours(channel->fd))
		return device_fail(-EOPNOTSUPP);
	if (cqe <= 0 || comp_vector < 0 || comp_vector >= ctx->num_comp_vectors)
		return device_fail(-EINVAL);
	cq = device_object_alloc(dev, KIND_CQ, sizeof(*cq));
	if (!cq)
		return device_fail(-ENOMEM);
	rc = cq_create((uint32_t)cqe, &cq->cq);
	if (rc) {
		device_object_free(dev, KIND_CQ, cq);
		return device_fail(rc);
	}
	cq_set_notify(cq->cq, cq_notified, cq);
	cq->vcq.cq.cqe = (int)cq_depth(cq->cq);
	return &cq->vcq.cq;
}

static int resize_cq(struct ibv_cq *ibcq, int cqe)
{
	struct device *dev = to_device(ibcq->context);
	struct device_cq *cq = to_cq(ibcq);
	int rc;

	if (cqe <= 0)
		return EINVAL;
	cq_lock(cq->cq);
	engine_lock(dev);
	rc = cq_resize(cq->cq, (uint32_t)cqe);
	if (!rc)
		ibcq->cqe = (int)cq_depth(cq->cq);
	engine_unlock(dev);
	cq_unlock(cq->cq);
	return -rc;
}

/* ibv_destroy_cq(3) waits for the application to acknowledge the events that it got. */
static void end_cq_events(struct device *dev, struct device_cq *cq)
{
	struct ibv_cq *ibcq = &cq->vcq.cq;
	uint32_t n_comp = 0, n_async;

	engine_lock(dev);
	if (cq->armed)
		progress_disarm(dev);
	if (ibcq->channel)
		n_comp = cq->n_comp_events -
			 events_forget_comp(dev, ibcq->channel->fd, ibcq);
	n_async = cq->n_async_events;
	if (n_async)
		n_async -= events_forget_async(ibcq->context, ibcq);
	engine_unlock(dev);
	events_await_ack(&ibcq->mutex, &ibcq->cond, &ibcq->comp_events_completed, n_comp);
	events_await_ack(
		&ibcq->mutex, &ibcq->cond, &ibcq->async_events_completed, n_async);
}

static int destroy_cq(struct ibv_cq *ibcq)
{
	struct device *dev = to_device(ibcq->context);
	struct device_cq *cq = to_cq(ibcq);

	if (cq->n_users)
		return EBUSY;
	end_cq_events(dev, cq);
	cq_destroy(cq->cq);
	device_object_free(dev, KIND_CQ, cq);
	return 0;
}

/* Shared receive queues. */

static struct device_srq *to_srq(struct ibv_srq *ibsrq)
{
	return container_of(ibsrq, struct device_srq, vsrq.srq);
}

static void srq_notified(void *arg)
{
	struct device_srq *srq = arg;

	srq->n_async_events++;
	events_send_async(
		srq->vsrq.srq.context, IBV_EVENT_SRQ_LIMIT_REACHED, &srq->vsrq.srq);
}

static struct ibv_srq *create_srq(struct ibv_pd *ibpd, struct ibv_srq_init_attr *init)
{
	struct device *dev = to_device(ibpd->context);
	struct device_srq *srq = device_object_alloc(dev, KIND_SRQ, sizeof(*srq));
	struct rq *rq;
	int rc;

	if (!srq)
		return device_fail(-ENOMEM);
	rc = rq_create(to_device_pd(ibpd)->id, init->attr.max_wr,
		MAX(init->attr.max_sge, 1u), &rq);
	if (rc) {
		device_object_free(dev, KIND_SRQ, srq);
		return device_fail(rc);
	}
	rq_set_notify(rq, srq_notified, srq);
	srq->rq = rq;
	init->attr.max_wr = rq_depth(rq);
	init->attr.max_sge = rq_max_sge(rq);
	to_device_pd(ibpd)->n_users++;
	srq->vsrq.srq_type = IBV_SRQT_BASIC;
	return &srq->vsrq.srq;
}

static int modify_srq(struct ibv_srq *ibsrq, struct ibv_srq_attr *attr, int mask)
{
	struct device *dev = to_device(ibsrq->context);
	struct rq *rq = to_srq(ibsrq)->rq;

	if (mask & IBV_SRQ_MAX_WR) /* see IBV_DEVICE_SRQ_RESIZE */
		return EOPNOTSUPP;
	if (mask & ~IBV_SRQ_LIMIT || attr->srq_limit > rq_depth(rq))
		return EINVAL;
	if (mask & IBV_SRQ_LIMIT) {
		engine_lock(dev);
		rq_set_limit(rq, attr->srq_limit);
		engine_unlock(dev);
	}
	return 0;
}

static int query_srq(struct ibv_srq *ibsrq, struct ibv_srq_attr *attr)
{
	struct device *dev = to_device(ibsrq->context);
	struct rq *rq = to_srq(ibsrq)->rq;

	engine_lock(dev);
	*attr = (struct ibv_srq_attr){
		.max_wr = rq_depth(rq),
		.max_sge = rq_max_sge(rq),
		.srq_limit = rq_limit(rq),
	};
	engine_unlock(dev);
	return 0;
}

static int destroy_srq(struct ibv_srq *ibsrq)
{
	struct device *dev = to_device(ibsrq->context);
	struct device_srq *srq = to_srq(ibsrq);
	uint32_t n;

	if (srq->n_users)
		return EBUSY;
	engine_lock(dev);
	n = srq->n_async_events;
	if (n)
		n -= events_forget_async(ibsrq->context, ibsrq);
	engine_unlock(dev);
	events_await_ack(&ibsrq->mutex, &ibsrq->cond, &ibsrq->events_completed, n);
	to_device_pd(ibsrq->pd)->n_users--;
	rq_destroy(srq->rq);
	device_object_free(dev, KIND_SRQ, srq);
	return 0;
}

/* Queue pairs. */

static void count_users(struct ibv_qp *ibqp, int n)
{
	to_device_pd(ibqp->pd)->n_users += n;
	to_cq(ibqp->send_cq)->n_users += n;
	to_cq(ibqp->recv_cq)->n_users += n;
	if (ibqp->srq)
		to_srq(ibqp->srq)->n_users += n;
}

static void init_ibv_qp(struct ibv_qp *ibqp, struct ibv_pd *pd,
	const struct ibv_qp_init_attr *init, uint32_t qpn)
{
	ibqp->context = pd->context;
	ibqp->qp_context = init->qp_context;
	ibqp->pd = pd;
	ibqp->send_cq = init->send_cq;
	ibqp->recv_cq = init->recv_cq;
	ibqp->srq = init->srq;
	ibqp->qp_type = init->qp_type;
	ibqp->state = IBV_QPS_RESET;
	ibqp->qp_num = qpn;
	ibqp->handle = qpn;
	pthread_mutex_init(&ibqp->mutex, NULL);
	pthread_cond_init(&ibqp->cond, NULL);
}

static void qp_notified(void *arg, enum ibv_event_type event)
{
	struct device_qp *qp = arg;

	qp->n_async_events++;
	events_send_async(qp->vqp.qp.context, event, &qp->vqp.qp);
}

static struct ibv_qp *create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *init)
{
	struct device *dev = to_device(pd->context);
	struct device_qp *qp;
	struct qp_config config = {
		.pd = to_device_pd(pd)->id,
		.type = init->qp_type,
		.port_mtu = 128u << device_mtu(dev),
		.sq_sig_all = init->sq_sig_all,
		.cap = init->cap,
	};
	int rc;

	if (!init->send_cq || !init->recv_cq)
		return device_fail(-EINVAL);
	config.send_cq = to_cq(init->send_cq)->cq;
	config.recv_cq = to_cq(init->recv_cq)->cq;
	if (init->srq)
		config.srq = to_srq(init->srq)->rq;
	qp = calloc(1, sizeof(*qp));
	if (!qp)
		return device_fail(-ENOMEM);
	config.notify = qp_notified;
	config.notify_arg = qp;
	engine_lock(dev);
	rc = qp_create(dev->engine, &config, &qp->qp);
	engine_unlock(dev);
	if (rc) {
		free(qp);
		return device_fail(rc);
	}
	qp->sq_sig_all = init->sq_sig_all;
	qp->gid_index = -1;
	init->cap = config.cap;
	init_ibv_qp(&qp->vqp.qp, pd, init, qp_number(qp->qp));
	count_users(&qp->vqp.qp, 1);
	return &qp->vqp.qp;
}

static int modify_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int mask)
{
	struct device *dev = to_device(ibqp->context);
	struct device_qp *qp = container_of(ibqp, struct device_qp, vqp.qp);
	int rc;

	engine_lock_sent(dev);
	rc = mask & IBV_QP_AV ? path_modify(dev, qp, *attr, mask)
			      : qp_modify(qp->qp, attr, mask);
	if (!rc && (mask & IBV_QP_STATE) && attr->qp_state == IBV_QPS_RESET)
		path_set_gid(dev, qp, -1);
	engine_unlock(dev);
	return -rc;
}

static int query_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int mask,
	struct ibv_qp_init_attr *init)
{
	struct device *dev = to_device(ibqp->context);
	struct device_qp *qp = container_of(ibqp, struct device_qp, vqp.qp);

	engine_lock(dev);
	qp_query(qp->qp, attr);
	engine_unlock(dev);
	*init = (struct ibv_qp_init_attr){
		.qp_context = ibqp->qp_context,
		.send_cq = ibqp->send_cq,
		.recv_cq = ibqp->recv_cq,
		.srq = ibqp->srq,
		.cap = attr->cap,
		.qp_type = ibqp->qp_type,
		.sq_sig_all = qp->sq_sig_all,
	};
	return 0;
}

/* Nobody may take completions while those of the queue pair are removed. */
static void lock_cqs(struct ibv_qp *ibqp)
{
	struct cq *s = to_cq(ibqp->send_cq)->cq;
	struct cq *r = to_cq(ibqp->recv_cq)->cq;

	cq_lock(MIN(s, r));
	if (s != r)
		cq_lock(MAX(s, r));
}

static void unlock_cqs(struct ibv_qp *ibqp)
{
	cq_unlock(to_cq(ibqp->send_cq)->cq);
	if (ibqp->send_cq != ibqp->recv_cq)
		cq_unlock(to_cq(ibqp->recv_cq)->cq);
}

static int destroy_qp(struct ibv_qp *ibqp)
{
	struct device *dev = to_device(ibqp->context);
	struct device_qp *qp = container_of(ibqp, struct device_qp, vqp.qp);
	uint32_t n;

	lock_cqs(ibqp);
	engine_lock_sent(dev);
	if (qp_in_group(qp->qp)) {
		engine_unlock(dev);
		unlock_cqs(ibqp);
		return EBUSY;
	}
	qp_destroy(qp->qp);
	path_set_gid(dev, qp, -1);
	n = qp->n_async_events;
	if (n)
		n -= events_forget_async(ibqp->context, ibqp);
	engine_unlock(dev);
	unlock_cqs(ibqp);
	events_await_ack(&ibqp->mutex, &ibqp->cond, &ibqp->events_completed, n);
	count_users(ibqp, -1);
	qp_ex_destroy(qp);
	pthread_cond_destroy(&ibqp->cond);
	pthread_mutex_destroy(&ibqp->mutex);
	free(qp);
	return 0;
}

const struct verbs_context_ops object_ops = {
	.create_cq = create_cq,
	.resize_cq = resize_cq,
	.req_notify_cq = req_notify_cq,
	.destroy_cq = destroy_cq,
	.create_srq = create_srq,
	.modify_srq = modify_srq,
	.query_srq = query_srq,
	.destroy_srq = destroy_srq,
	.create_qp = create_qp,
	.modify_qp = modify_qp,
	.query_qp = query_qp,
	.destroy_qp = destroy_qp,
};
