/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One end of a connection through the public libibverbs API, for tests: a device of this
 * process with a queue pair and all that it needs. What fails ends the test.
 */
#ifndef TESTS_UNIT_VERBS_END_H
#define TESTS_UNIT_VERBS_END_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rdma/include/vrdma.h"

#define END_MSG	  (256u << 10) /* size of the buffer */
#define END_DEPTH 64

struct end {
	struct ibv_context *ctx;
	struct ibv_comp_channel *channel; /* of both queues, or NULL */
	struct ibv_pd *pd;
	struct ibv_cq *scq, *rcq;
	struct ibv_srq *srq;
	struct ibv_qp *qp;
	struct ibv_mr *mr; /* of all of buf, to be written by peers */
	uint8_t *buf;
	union ibv_gid gid;
	uint8_t gid_index;
	uint32_t psn;
};

/* What end_open() may do otherwise; NULL and zeros are its defaults. */
struct end_config {
	bool with_channel;
	const char *interface; /* whose addresses it has; then without addr */
	uint32_t cq_depth;
	/* to be made by this instead of ibv_create_qp() */
	struct ibv_qp *(*create_qp)(struct end *e, struct ibv_qp_init_attr *init);
};

void end_open(struct end *e, const char *addr, const struct end_config *config);
void end_close(struct end *e);
/* The entry of the GID table to be connected from and to. The first is 0. */
void end_set_gid(struct end *e, uint8_t index);
/* For end_config.create_qp: one that posts by ibv_wr_*(), with @ops. */
struct ibv_qp *end_create_qp_ex(
	struct end *e, const struct ibv_qp_init_attr *init, uint64_t ops);
/* Bring @e's queue pair to RTS, with @peer as its peer. */
void end_connect(struct end *e, const struct end *peer);
void end_post_recv(struct end *e);
void end_post_send_flags(struct end *e, uint32_t size, unsigned int flags);
void end_post_send(struct end *e, uint32_t size);
/* Take one completion, which must be a success. */
void end_wait_wc(struct ibv_cq *cq, struct ibv_wc *wc);

#endif
