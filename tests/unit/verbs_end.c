/* SPDX-License-Identifier: BSD-3-Clause */
#include "verbs_end.h"

#include "lib/util.h"
#include "tests/rc_to_rts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define END_ACCESS \
	(IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)

void end_open(struct end *e, const char *addr, const struct end_config *config)
{
	static const struct end_config defaults;
	struct vrdma_attr attr = {.addr = addr};
	struct ibv_srq_init_attr srq = {.attr = {.max_wr = END_DEPTH, .max_sge = 2}};
	struct ibv_qp_init_attr qp = {
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = END_DEPTH,
			.max_send_sge = 4,
			.max_inline_data = 64},
	};
	struct ibv_port_attr port;
	int cq_depth;

	if (!config)
		config = &defaults;
	memset(e, 0, sizeof(*e));
	attr.interface = config->interface;
	cq_depth = (int)(config->cq_depth ? config->cq_depth : END_DEPTH);
	e->ctx = vrdma_open_device(&attr);
	assert_non_null(e->ctx);
	e->pd = ibv_alloc_pd(e->ctx);
	assert_non_null(e->pd);
	if (config->with_channel) {
		e->channel = vrdma_create_comp_channel(e->ctx);
		assert_non_null(e->channel);
	}
	e->scq = ibv_create_cq(e->ctx, cq_depth, &e->scq, e->channel, 0);
	e->rcq = ibv_create_cq(e->ctx, cq_depth, &e->rcq, e->channel, 0);
	assert_non_null(e->scq);
	assert_non_null(e->rcq);
	e->srq = ibv_create_srq(e->pd, &srq);
	assert_non_null(e->srq);
	qp.send_cq = e->scq;
	qp.recv_cq = e->rcq;
	qp.srq = e->srq;
	e->qp = config->create_qp ? config->create_qp(e, &qp) : ibv_create_qp(e->pd, &qp);
	assert_non_null(e->qp);
	e->buf = calloc(1, END_MSG);
	e->mr = ibv_reg_mr(e->pd, e->buf, END_MSG, END_ACCESS | IBV_ACCESS_LOCAL_WRITE);
	assert_non_null(e->mr);
	end_set_gid(e, 0);
	assert_int_equal(ibv_query_port(e->ctx, 1, &port), 0);
	assert_int_equal(port.link_layer, IBV_LINK_LAYER_ETHERNET);
	assert_int_equal(port.active_mtu, IBV_MTU_4096); /* lo has 64 KiB */
	e->psn = e->qp->qp_num;
}

void end_set_gid(struct end *e, uint8_t index)
{
	e->gid_index = index;
	assert_int_equal(ibv_query_gid(e->ctx, 1, index, &e->gid), 0);
}

void end_close(struct end *e)
{
	/* what others are built on can't go first */
	assert_int_equal(ibv_destroy_srq(e->srq), EBUSY);
	assert_int_equal(ibv_destroy_cq(e->scq), EBUSY);
	assert_int_equal(ibv_dealloc_pd(e->pd), EBUSY);
	assert_int_equal(ibv_destroy_qp(e->qp), 0);
	assert_int_equal(ibv_destroy_srq(e->srq), 0);
	assert_int_equal(ibv_destroy_cq(e->scq), 0);
	assert_int_equal(ibv_destroy_cq(e->rcq), 0);
	assert_int_equal(ibv_dereg_mr(e->mr), 0);
	assert_int_equal(ibv_dealloc_pd(e->pd), 0);
	if (e->channel)
		assert_int_equal(ibv_destroy_comp_channel(e->channel), 0);
	assert_int_equal(ibv_close_device(e->ctx), 0);
	free(e->buf);
}

struct ibv_qp *end_create_qp_ex(
	struct end *e, const struct ibv_qp_init_attr *init, uint64_t ops)
{
	struct ibv_qp_init_attr_ex ex = {
		.send_cq = init->send_cq,
		.recv_cq = init->recv_cq,
		.srq = init->srq,
		.cap = init->cap,
		.qp_type = init->qp_type,
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = e->pd,
		.send_ops_flags = ops,
	};

	return ibv_create_qp_ex(e->ctx, &ex);
}

void end_connect(struct end *e, const struct end *peer)
{
	struct ibv_qp_attr attr = {
		.port_num = 1,
		.qp_access_flags = END_ACCESS,
		.max_rd_atomic = 4,
		.max_dest_rd_atomic = 4,
		.path_mtu = IBV_MTU_4096,
		.dest_qp_num = peer->qp->qp_num,
		.rq_psn = peer->psn,
		.sq_psn = e->psn,
		.min_rnr_timer = 1,
		.timeout = 14,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.ah_attr = {.is_global = 1,
			.port_num = 1,
			.grh = {.dgid = peer->gid, .sgid_index = e->gid_index}},
	};

	assert_int_equal(rc_to_rts(e->qp, &attr), 0);
	assert_int_equal(e->qp->state, IBV_QPS_RTS);
}

void end_post_recv(struct end *e)
{
	struct ibv_sge sge = {(uintptr_t)e->buf, END_MSG, e->mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = 7, .sg_list = &sge, .num_sge = 1}, *bad;

	assert_int_equal(ibv_post_srq_recv(e->srq, &wr, &bad), 0);
}

void end_post_send_flags(struct end *e, uint32_t size, unsigned int flags)
{
	struct ibv_sge sge = {(uintptr_t)e->buf, size, e->mr->lkey};
	struct ibv_send_wr wr = {.wr_id = 8,
				   .sg_list = &sge,
				   .num_sge = 1,
				   .opcode = IBV_WR_SEND,
				   .send_flags = flags},
			   *bad;

	assert_int_equal(ibv_post_send(e->qp, &wr, &bad), 0);
}

void end_post_send(struct end *e, uint32_t size)
{
	end_post_send_flags(e, size, IBV_SEND_SIGNALED);
}

void end_wait_wc(struct ibv_cq *cq, struct ibv_wc *wc)
{
	uint64_t end = now_ns() + 10 * NSEC_PER_SEC;
	int n;

	while (!(n = ibv_poll_cq(cq, 1, wc)))
		assert_true(now_ns() < end);
	assert_int_equal(n, 1);
	assert_int_equal(wc->status, IBV_WC_SUCCESS);
}
