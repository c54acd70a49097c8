/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive queue: a ring of posted buffers, of one queue pair or shared (SRQ). Producers,
 * one at a time (rq_lock()), and one consumer (the engine, under its owner's lock; or a
 * lane, lane.c); the two sides may run concurrently.
 */
#ifndef RDMA_ENGINE_RQ_H
#define RDMA_ENGINE_RQ_H

#include <stdint.h>
#include <infiniband/verbs.h>

#define RQ_DEPTH_MAX (1u << 16)
#define RQ_SGE_MAX   32

/** struct rq_wqe - one posted buffer */
struct rq_wqe {
	uint64_t wr_id;
	uint32_t n_sge;
	struct ibv_sge sge[];
};

struct rq;

/** rq_create() - @depth (1..RQ_DEPTH_MAX) buffers of up to @max_sge pieces
 * @pd: protection domain that the pieces' keys belong to
 * Return: 0, -EINVAL, -ENOMEM
 */
int rq_create(uint32_t pd, uint32_t depth, uint32_t max_sge, struct rq **out);
void rq_destroy(struct rq *rq);

uint32_t rq_depth(const struct rq *rq);
uint32_t rq_max_sge(const struct rq *rq);
uint32_t rq_pd(const struct rq *rq);

/** rq_notify - called by the consumer when fewer buffers are posted than the limit */
typedef void rq_notify(void *arg);

/** rq_set_notify() - whom to tell; set before the queue is used */
void rq_set_notify(struct rq *rq, rq_notify *notify, void *arg);

/** rq_set_limit() - consumer: tell once when fewer than @limit buffers are posted, which
 * may be at once. 0: don't.
 */
void rq_set_limit(struct rq *rq, uint32_t limit);
/** rq_limit() - the limit that has not been reached yet; 0 if there is none */
uint32_t rq_limit(const struct rq *rq);

/** rq_lock() - producer: rq_post() is called with it */
void rq_lock(struct rq *rq);
void rq_unlock(struct rq *rq);

/** rq_post() - producer: add one buffer. Return: 0, -EINVAL (pieces), -ENOMEM (full) */
int rq_post(struct rq *rq, const struct ibv_recv_wr *wr);

/** rq_peek() - consumer: the oldest buffer, valid until rq_pop(); NULL if none */
const struct rq_wqe *rq_peek(struct rq *rq);
void rq_pop(struct rq *rq);

#endif
