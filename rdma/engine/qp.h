/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queue pairs, as their owner sees them: life, states, posting.
 *
 * Locking: as engine.h says.
 */
#ifndef RDMA_ENGINE_QP_H
#define RDMA_ENGINE_QP_H

#include "engine.h"

struct qp;

/** qp_notify - called by the engine, from within any of its functions */
typedef void qp_notify(void *arg, enum ibv_event_type event);

/** struct qp_config - what a queue pair is made of; queues are borrowed and must outlive
 * it */
struct qp_config {
	uint32_t pd;
	enum ibv_qp_type type; /* IBV_QPT_RC, _UC or _UD */
	uint32_t port_mtu;     /* largest path MTU, and payload of a UD packet, bytes */
	int sq_sig_all;
	struct cq *send_cq;
	struct cq *recv_cq;
	struct rq *srq;	   /* or NULL: a receive queue of its own, as cap says */
	qp_notify *notify; /* told of IBV_EVENT_QP_..., or NULL */
	void *notify_arg;
	struct ibv_qp_cap cap; /* qp_create() writes back what was granted */
};

/** qp_create() - make a queue pair in RESET
 * Return: 0, -EINVAL (a capability is out of range), -EOPNOTSUPP (type), -ENOMEM
 */
int qp_create(struct engine *e, struct qp_config *config, struct qp **out);

/** qp_destroy() - end a queue pair in any state, without completions
 * @qp: attached to no multicast group
 */
void qp_destroy(struct qp *qp);
/** qp_in_group() - is it attached to a multicast group? */
bool qp_in_group(const struct qp *qp);

uint32_t qp_number(const struct qp *qp);
/** qp_state() - may be called from any thread without the engine's lock */
enum ibv_qp_state qp_state(const struct qp *qp);
struct rq *qp_rq(const struct qp *qp);

/** qp_modify() - change attributes and state
 * @attr, @mask: as for ibv_modify_qp(3)
 * Return: 0, or -EINVAL: no such transition, an attribute is missing, not allowed in
 *         it, or out of range
 */
int qp_modify(struct qp *qp, const struct ibv_qp_attr *attr, int mask);

/** qp_query() - the attributes as they are */
void qp_query(struct qp *qp, struct ibv_qp_attr *attr);

/** qp_post_send() - put one work request on the send queue; engine_output() sends it, or
 * completes it as flushed if the queue pair is in an error state
 * @ah: UD only: where wr->wr.ud.ah leads; copied
 * Return: 0, -EINVAL (state, opcode, pieces, length), -ENOMEM (queue full)
 */
int qp_post_send(
	struct qp *qp, const struct ibv_send_wr *wr, const struct ibv_ah_attr *ah);

/** qp_post_lane() - bring messages to a peer of the same engine as far as that is
 * possible without the engine's lock (lane.c); from any thread
 * @wr: a list, or NULL
 * Return: the rest of the list, for qp_post_send()
 */
struct ibv_send_wr *qp_post_lane(struct qp *qp, struct ibv_send_wr *wr);

/** struct qp_sq_mark - what was posted last */
struct qp_sq_mark {
	uint32_t head;
	uint32_t next_psn;
};

/** qp_sq_mark(), qp_sq_rollback() - forget what was posted since the mark was taken. No
 * other function of the engine may be called in between.
 */
struct qp_sq_mark qp_sq_mark(struct qp *qp);
void qp_sq_rollback(struct qp *qp, struct qp_sq_mark mark);

/** qp_flush_rq() - complete posted buffers with IBV_WC_WR_FLUSH_ERR when the queue pair
 * is in the error state; to be called after rq_post() on a queue pair's own queue
 */
void qp_flush_rq(struct qp *qp);

#endif
