/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A message within one device, step by step: what direct.c and lane.c share.
 */
#ifndef RDMA_ENGINE_DIRECT_H
#define RDMA_ENGINE_DIRECT_H

#include "engine_priv.h"

/* One message. */
struct direct {
	struct qp *from, *to; /* requester and responder; of a READ, data go back */
	const struct sq_wqe *wqe;
	/* What direct_find() finds: */
	const struct rq_wqe *buffer; /* what it takes, or NULL */
	uint64_t *atomic;	     /* what an atomic changes, or NULL */
	uint64_t old;		     /* what it finds there */
	/* what to copy */
	int n_src, n_dst;
	struct iovec src[ENGINE_SGE_MAX], dst[MAX(ENGINE_SGE_MAX, RQ_SGE_MAX)];
};

/* Find out what to copy where. Return: false if anything is in the way */
bool direct_find(struct direct *d);
void direct_copy(struct direct *d);
/* The receiver's completion, of a message that takes a buffer */
struct ibv_wc direct_wc(const struct direct *d);
/* The responder has it, and the buffer is used up. Return: the PSN behind the message */
uint32_t direct_accept(struct direct *d);
/* Count @n messages, as the receiver does. */
void direct_count(struct engine_stats *stats, uint8_t opcode, uint64_t n);

#endif
