/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The extended verbs through the public libibverbs API: polling with ibv_cq_ex and
 * posting with ibv_qp_ex, as ibv_create_cq_ex(3) and ibv_wr_post(3) say.
 */
#include "verbs_end.h"

#include "lib/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#define ADDR_A "127.0.8.1"
#define ADDR_B "127.0.8.2"

#define ALL_OPS                                                                  \
	(IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM |                    \
		IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | \
		IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |   \
		IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD)

static struct ibv_qp *create_ex(struct end *e, struct ibv_qp_init_attr *init)
{
	return end_create_qp_ex(e, init, ALL_OPS);
}

static const struct end_config with_qp_ex = {.create_qp = create_ex};

static struct ibv_qp_ex *pair_open(struct end e[2])
{
	struct ibv_qp_ex *qpx;

	end_open(&e[0], ADDR_A, &with_qp_ex);
	end_open(&e[1], ADDR_B, NULL);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	assert_null(ibv_qp_to_qp_ex(e[1].qp));
	qpx = ibv_qp_to_qp_ex(e[0].qp);
	assert_non_null(qpx);
	return qpx;
}

static void pair_close(struct end e[2])
{
	end_close(&e[0]);
	end_close(&e[1]);
}

static uint64_t at(const struct end *e, uint32_t off)
{
	return (uintptr_t)e->buf + off;
}

/* One work request of each kind, posted together. */
static void every_operation(void **state)
{
	struct end e[2];
	struct ibv_qp_ex *qpx = pair_open(e);
	struct ibv_wc wc;
	uint64_t *remote = (uint64_t *)(e[1].buf + 4096);
	uint64_t *local = (uint64_t *)(e[0].buf + 8192);

	random_bytes(e[0].buf, 2000);
	random_bytes(e[1].buf + 12288, 3000);
	remote[0] = 5;
	remote[1] = 7;
	for (int i = 0; i < 3; i++)
		end_post_recv(&e[1]);

	ibv_wr_start(qpx);
	qpx->wr_flags = IBV_SEND_SIGNALED;
	qpx->wr_id = 1;
	ibv_wr_rdma_write(qpx, e[1].mr->rkey, at(&e[1], 65536));
	ibv_wr_set_sge(qpx, e[0].mr->lkey, at(&e[0], 0), 2000);
	qpx->wr_id = 2;
	ibv_wr_rdma_write_imm(qpx, e[1].mr->rkey, at(&e[1], 70000), htonl(0x1234));
	ibv_wr_set_inline_data(qpx, "inline", 6);
	qpx->wr_id = 3;
	ibv_wr_rdma_read(qpx, e[1].mr->rkey, at(&e[1], 12288));
	ibv_wr_set_sge(qpx, e[0].mr->lkey, at(&e[0], 12288), 3000);
	qpx->wr_id = 4;
	ibv_wr_atomic_cmp_swp(qpx, e[1].mr->rkey, (uintptr_t)&remote[0], 5, 6);
	ibv_wr_set_sge(qpx, e[0].mr->lkey, (uintptr_t)&local[0], 8);
	qpx->wr_id = 5;
	ibv_wr_atomic_fetch_add(qpx, e[1].mr->rkey, (uintptr_t)&remote[1], 3);
	ibv_wr_set_sge(qpx, e[0].mr->lkey, (uintptr_t)&local[1], 8);
	qpx->wr_id = 6;
	ibv_wr_send(qpx);
	ibv_wr_set_sge(qpx, e[0].mr->lkey, at(&e[0], 0), 10);
	qpx->wr_id = 7;
	ibv_wr_send_imm(qpx, htonl(0x5678));
	assert_int_equal(ibv_wr_complete(qpx), 0);

	for (uint64_t i = 1; i <= 7; i++) {
		end_wait_wc(e[0].scq, &wc);
		assert_int_equal(wc.wr_id, i);
	}
	assert_memory_equal(e[1].buf + 65536, e[0].buf, 2000);
	assert_memory_equal(e[1].buf + 70000, "inline", 6);
	assert_memory_equal(e[0].buf + 12288, e[1].buf + 12288, 3000);
	assert_int_equal(local[0], 5);
	assert_int_equal(remote[0], 6);
	assert_int_equal(local[1], 7);
	assert_int_equal(remote[1], 10);
	end_wait_wc(e[1].rcq, &wc);
	assert_int_equal(wc.opcode, IBV_WC_RECV_RDMA_WITH_IMM);
	assert_int_equal(ntohl(wc.imm_data), 0x1234);
	end_wait_wc(e[1].rcq, &wc);
	assert_int_equal(wc.byte_len, 10);
	end_wait_wc(e[1].rcq, &wc);
	assert_int_equal(ntohl(wc.imm_data), 0x5678);
	assert_int_equal(wc.byte_len, 0);
	pair_close(e);
}

/* Lists of pieces, of memory and inline; more requests than the stage has room at first.
 */
static void lists_and_growth(void **state)
{
	struct end e[2];
	struct ibv_qp_ex *qpx = pair_open(e);
	struct ibv_data_buf bufs[] = {{"ab", 2}, {"", 0}, {"cde", 3}};
	struct ibv_wc wc;

	random_bytes(e[0].buf, 4096);
	ibv_wr_start(qpx);
	for (uint32_t i = 0; i < END_DEPTH; i++) {
		struct ibv_sge sges[] = {{at(&e[0], i), 3, e[0].mr->lkey},
			{at(&e[0], 1000 + i), 4, e[0].mr->lkey}};

		qpx->wr_id = i;
		qpx->wr_flags = i == END_DEPTH - 1 ? IBV_SEND_SIGNALED : 0;
		ibv_wr_rdma_write(qpx, e[1].mr->rkey, at(&e[1], i * 16));
		if (i % 2)
			ibv_wr_set_inline_data_list(qpx, ARRAY_SIZE(bufs), bufs);
		else
			ibv_wr_set_sge_list(qpx, 2, sges);
	}
	assert_int_equal(ibv_wr_complete(qpx), 0);
	end_wait_wc(e[0].scq, &wc);
	assert_int_equal(wc.wr_id, END_DEPTH - 1);
	for (uint32_t i = 0; i < END_DEPTH; i++) {
		const uint8_t *got = e[1].buf + i * 16;

		if (i % 2) {
			assert_memory_equal(got, "abcde", 5);
			continue;
		}
		assert_memory_equal(got, e[0].buf + i, 3);
		assert_memory_equal(got + 3, e[0].buf + 1000 + i, 4);
	}
	pair_close(e);
}

static void stage_write(struct end e[2], struct ibv_qp_ex *qpx, uint32_t off)
{
	qpx->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_rdma_write(qpx, e[1].mr->rkey, at(&e[1], off));
	ibv_wr_set_sge(qpx, e[0].mr->lkey, at(&e[0], 0), 1);
}

/* All or none: after each of these nothing was posted, and the next one works. */
static void all_or_none(void **state)
{
	struct end e[2];
	struct ibv_qp_ex *qpx = pair_open(e);
	struct ibv_sge sges[5] = {{0}};
	static char big[65];
	struct ibv_wc wc;

	e[0].buf[0] = 1;
	ibv_wr_start(qpx);
	stage_write(e, qpx, 0);
	ibv_wr_abort(qpx);

	ibv_wr_start(qpx);
	stage_write(e, qpx, 0);
	stage_write(e, qpx, 0);
	ibv_wr_set_sge_list(qpx, 5, sges); /* 4 are allowed */
	assert_int_equal(ibv_wr_complete(qpx), EINVAL);

	ibv_wr_start(qpx);
	stage_write(e, qpx, 0);
	ibv_wr_set_inline_data(qpx, big, sizeof(big)); /* 64 are allowed */
	assert_int_equal(ibv_wr_complete(qpx), EINVAL);

	ibv_wr_start(qpx);
	for (int i = 0; i <= END_DEPTH; i++)
		stage_write(e, qpx, 0);
	assert_int_equal(ibv_wr_complete(qpx), ENOMEM);

	/* found by the engine only: an atomic has 8 bytes */
	ibv_wr_start(qpx);
	stage_write(e, qpx, 0);
	ibv_wr_atomic_fetch_add(qpx, e[1].mr->rkey, at(&e[1], 8), 1);
	ibv_wr_set_sge(qpx, e[0].mr->lkey, at(&e[0], 0), 4);
	assert_int_equal(ibv_wr_complete(qpx), EINVAL);

	ibv_wr_start(qpx);
	stage_write(e, qpx, 100);
	assert_int_equal(ibv_wr_complete(qpx), 0);
	end_wait_wc(e[0].scq, &wc);
	assert_int_equal(ibv_poll_cq(e[0].scq, 1, &wc), 0);
	assert_int_equal(e[1].buf[100], 1);
	assert_int_equal(e[1].buf[0], 0);
	pair_close(e);
}

static void qp_ex_refusals(void **state)
{
	struct end e;
	struct ibv_qp_init_attr_ex ex;
	struct ibv_qp *qp;

	end_open(&e, ADDR_A, NULL);
	ex = (struct ibv_qp_init_attr_ex){
		.send_cq = e.scq,
		.recv_cq = e.rcq,
		.cap = {.max_send_wr = 1, .max_recv_wr = 1},
		.qp_type = IBV_QPT_UD,
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = e.pd,
		.send_ops_flags = IBV_QP_EX_WITH_RDMA_READ,
	};
	assert_null(ibv_create_qp_ex(e.ctx, &ex));
	assert_int_equal(errno, EOPNOTSUPP);
	ex.send_ops_flags = IBV_QP_EX_WITH_SEND;
	ex.comp_mask |= IBV_QP_INIT_ATTR_MAX_TSO_HEADER;
	assert_null(ibv_create_qp_ex(e.ctx, &ex));
	assert_int_equal(errno, EOPNOTSUPP);
	ex.comp_mask = IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
	assert_null(ibv_create_qp_ex(e.ctx, &ex));
	assert_int_equal(errno, EINVAL);
	ex.comp_mask |= IBV_QP_INIT_ATTR_PD;
	qp = ibv_create_qp_ex(e.ctx, &ex);
	assert_non_null(qp);
	assert_int_equal(ibv_destroy_qp(qp), 0);
	end_close(&e);
}

/* Polling. */

static struct ibv_cq_ex *create_cq_ex(struct ibv_context *ctx, uint32_t flags)
{
	struct ibv_cq_init_attr_ex init = {
		.cqe = END_DEPTH,
		.wc_flags = IBV_WC_STANDARD_FLAGS,
		.comp_mask = IBV_CQ_INIT_ATTR_MASK_FLAGS,
		.flags = flags,
	};
	struct ibv_cq_ex *cq = ibv_create_cq_ex(ctx, &init);

	assert_non_null(cq);
	return cq;
}

static struct ibv_cq_ex *recv_cq_ex; /* of the end that create_on_cq_ex() made */
static uint32_t cq_flags;

static struct ibv_qp *create_on_cq_ex(struct end *e, struct ibv_qp_init_attr *init)
{
	recv_cq_ex = create_cq_ex(e->ctx, cq_flags);
	init->recv_cq = ibv_cq_ex_to_cq(recv_cq_ex);
	return ibv_create_qp(e->pd, init);
}

static void start_poll(struct ibv_cq_ex *cq)
{
	struct ibv_poll_cq_attr attr = {0};
	uint64_t end = now_ns() + 10 * NSEC_PER_SEC;
	int rc;

	while ((rc = ibv_start_poll(cq, &attr)) == ENOENT)
		assert_true(now_ns() < end);
	assert_int_equal(rc, 0);
}

static void cq_ex_poll(void **state)
{
	static const struct end_config config = {.create_qp = create_on_cq_ex};
	struct ibv_poll_cq_attr attr = {0};
	struct end e[2];
	struct ibv_qp_ex *qpx;
	struct ibv_wc wc;

	end_open(&e[0], ADDR_A, &with_qp_ex);
	end_open(&e[1], ADDR_B, &config);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	qpx = ibv_qp_to_qp_ex(e[0].qp);
	assert_int_equal(ibv_start_poll(recv_cq_ex, &attr), ENOENT);
	for (int i = 0; i < 2; i++)
		end_post_recv(&e[1]);
	ibv_wr_start(qpx);
	qpx->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_send_imm(qpx, htonl(0xabcd));
	ibv_wr_set_sge(qpx, e[0].mr->lkey, at(&e[0], 0), 77);
	ibv_wr_send(qpx);
	assert_int_equal(ibv_wr_complete(qpx), 0);
	end_wait_wc(e[0].scq, &wc);
	end_wait_wc(e[0].scq, &wc);

	start_poll(recv_cq_ex);
	assert_int_equal(recv_cq_ex->status, IBV_WC_SUCCESS);
	assert_int_equal(recv_cq_ex->wr_id, 7);
	assert_int_equal(ibv_wc_read_opcode(recv_cq_ex), IBV_WC_RECV);
	assert_int_equal(ibv_wc_read_byte_len(recv_cq_ex), 77);
	assert_int_equal(ibv_wc_read_wc_flags(recv_cq_ex), IBV_WC_WITH_IMM);
	assert_int_equal(ntohl(ibv_wc_read_imm_data(recv_cq_ex)), 0xabcd);
	assert_int_equal(ibv_wc_read_qp_num(recv_cq_ex), e[1].qp->qp_num);
	assert_int_equal(ibv_wc_read_src_qp(recv_cq_ex), e[0].qp->qp_num);
	assert_int_equal(ibv_wc_read_slid(recv_cq_ex), 0);
	assert_int_equal(ibv_wc_read_sl(recv_cq_ex), 0);
	assert_int_equal(ibv_wc_read_dlid_path_bits(recv_cq_ex), 0);
	assert_int_equal(ibv_wc_read_vendor_err(recv_cq_ex), 0);
	assert_int_equal(ibv_next_poll(recv_cq_ex), 0);
	assert_int_equal(ibv_wc_read_byte_len(recv_cq_ex), 0);
	assert_int_equal(ibv_next_poll(recv_cq_ex), ENOENT);
	ibv_end_poll(recv_cq_ex);
	attr.comp_mask = 1;
	assert_int_equal(ibv_start_poll(recv_cq_ex, &attr), EINVAL);

	assert_int_equal(ibv_destroy_qp(e[1].qp), 0);
	assert_int_equal(ibv_destroy_cq(ibv_cq_ex_to_cq(recv_cq_ex)), 0);
	/* end_close() wants one that uses the queues it made */
	e[1].qp = ibv_create_qp(e[1].pd, &(struct ibv_qp_init_attr){.qp_type = IBV_QPT_RC,
						 .send_cq = e[1].scq,
						 .recv_cq = e[1].rcq,
						 .srq = e[1].srq,
						 .cap = {.max_send_wr = 1}});
	pair_close(e);
}

static void cq_ex_threadsafe(void **state)
{
	cq_flags = 0;
	cq_ex_poll(state);
}

static void cq_ex_single_threaded(void **state)
{
	cq_flags = IBV_CREATE_CQ_ATTR_SINGLE_THREADED;
	cq_ex_poll(state);
}

static void cq_ex_refusals(void **state)
{
	struct vrdma_attr attr = {.addr = ADDR_A};
	struct ibv_context *ctx = vrdma_open_device(&attr);
	struct ibv_cq_init_attr_ex init = {
		.cqe = 1, .wc_flags = IBV_WC_EX_WITH_COMPLETION_TIMESTAMP};

	assert_non_null(ctx);
	assert_null(ibv_create_cq_ex(ctx, &init));
	assert_int_equal(errno, EOPNOTSUPP);
	init.wc_flags = 0;
	init.cqe = UINT32_MAX;
	assert_null(ibv_create_cq_ex(ctx, &init));
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ibv_close_device(ctx), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_operation),
		cmocka_unit_test(lists_and_growth),
		cmocka_unit_test(all_or_none),
		cmocka_unit_test(qp_ex_refusals),
		cmocka_unit_test(cq_ex_threadsafe),
		cmocka_unit_test(cq_ex_single_threaded),
		cmocka_unit_test(cq_ex_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
