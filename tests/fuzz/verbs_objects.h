/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What applications of fuzz_verbs.c have: objects in slots, made and ended in any order.
 * An object that others are built on must be busy, and no other may be.
 */
#ifndef TESTS_FUZZ_VERBS_OBJECTS_H
#define TESTS_FUZZ_VERBS_OBJECTS_H

#include <stdbool.h>

#include "verbs_input.h"

#define N_PDS  2
#define N_CQS  3
#define N_SRQS 2
#define N_QPS  3
#define N_MRS  IN_MRS_MAX
#define N_MWS  IN_MWS_MAX
#define N_WRS  1024 /* of a side in all */
#define BUF    (64u << 10)
#define MEMORY 8192u /* of it, that regions show */

struct side {
	/* for ever */
	struct ibv_context *ctx;
	struct ibv_comp_channel *channel;
	union ibv_gid gid;
	/* by run */
	struct ibv_pd *pd[N_PDS];
	struct ibv_cq *cq[N_CQS];
	bool cq_is_ex[N_CQS];
	struct ibv_srq *srq[N_SRQS];
	struct ibv_qp *qp[N_QPS];
	bool qp_is_ex[N_QPS];
	bool qp_is_near[N_QPS]; /* its peer is on the same device */
	uint8_t groups[N_QPS];	/* that the queue pair is attached to, bit by bit */
	struct ibv_mr *mr[N_MRS];
	struct ibv_mw *mw[N_MWS];
	struct ibv_ah *ah;
	bool waits[N_WRS]; /* posted, and not complete; by wr_id */
	uint64_t next_id;
};

extern struct side sides[2];
extern uint8_t memory[2][BUF];

/* make_...: what is in the slot is ended first, if it can be. end_...: likewise, if there
 * is anything. */
void make_pd(struct side *s, int i);
void end_pd(struct side *s, int i);
void end_mr(struct side *s, int i);
void end_mw(struct side *s, int i);
void make_mw(struct side *s, int i);
void make_mr(struct side *s, int i, struct input *in);
void make_ah(struct side *s, struct input *in);
void end_cq(struct side *s, int i);
void make_cq(struct side *s, int i, struct input *in);
void end_srq(struct side *s, int i);
void make_srq(struct side *s, int i, struct input *in);
void modify_srq(struct side *s, int i, struct input *in);
void end_qp(struct side *s, int i);
void make_qp(struct side *s, int i, struct input *in);
uint32_t qpn_of(const struct ibv_qp *qp);
/* Two queue pairs become each other's peers, of both devices, or of one. */
void connect_both(struct input *in);
void connect_alike(struct side *s, struct input *in);
void join(struct side *s, int i, int group);
void leave(struct side *s, int i, int group);
void modify_qp(struct side *s, struct ibv_qp *qp, struct input *in);
void set_state(struct ibv_qp *qp, struct input *in);

#endif
