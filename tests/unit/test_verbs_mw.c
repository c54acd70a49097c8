/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory windows and invalidation through the public libibverbs API, as ibv_alloc_mw(3),
 * ibv_bind_mw(3), ibv_post_send(3) and ibv_wr_post(3) say. What windows let in is the
 * engine's matter (test_windows.c); here it is the ways to it. End 0 has the memory.
 */
#include "verbs_end.h"

#include "lib/util.h"

#include <errno.h>
#include <string.h>

#define ADDR_A "127.0.8.3"
#define ADDR_B "127.0.8.4"
#define OPS                                                                              \
	(IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_INV | IBV_QP_EX_WITH_LOCAL_INV | \
		IBV_QP_EX_WITH_BIND_MW | IBV_QP_EX_WITH_RDMA_WRITE)
#define REMOTE (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ)

struct pair {
	struct end e[2];
	struct ibv_qp_ex *qpx[2];
	struct ibv_mr *mr; /* end 0's, closed to peers */
	uint8_t memory[4096];
};

static struct ibv_qp *create_ex(struct end *e, struct ibv_qp_init_attr *init)
{
	return end_create_qp_ex(e, init, OPS);
}

static struct ibv_cq_ex *recv_cq; /* of the queue pair that create_on_cq_ex() made */

static struct ibv_qp *create_on_cq_ex(struct end *e, struct ibv_qp_init_attr *init)
{
	struct ibv_cq_init_attr_ex cq = {
		.cqe = END_DEPTH, .wc_flags = IBV_WC_STANDARD_FLAGS};

	recv_cq = ibv_create_cq_ex(e->ctx, &cq);
	assert_non_null(recv_cq);
	init->recv_cq = ibv_cq_ex_to_cq(recv_cq);
	return create_ex(e, init);
}

static void pair_open_with(struct pair *p,
	struct ibv_qp *(*create_qp)(struct end *e, struct ibv_qp_init_attr *init))
{
	const struct end_config first = {.create_qp = create_qp};
	const struct end_config second = {.create_qp = create_ex};

	memset(p, 0, sizeof(*p));
	end_open(&p->e[0], ADDR_A, &first);
	end_open(&p->e[1], ADDR_B, &second);
	for (int i = 0; i < 2; i++) {
		end_connect(&p->e[i], &p->e[!i]);
		p->qpx[i] = ibv_qp_to_qp_ex(p->e[i].qp);
		p->qpx[i]->wr_flags = IBV_SEND_SIGNALED;
	}
	p->mr = ibv_reg_mr(p->e[0].pd, p->memory, sizeof(p->memory),
		IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	assert_non_null(p->mr);
}

static void pair_open(struct pair *p)
{
	pair_open_with(p, create_ex);
}

static void pair_close(struct pair *p)
{
	assert_int_equal(ibv_dereg_mr(p->mr), 0);
	end_close(&p->e[0]);
	end_close(&p->e[1]);
}

static struct ibv_mw_bind_info all_of_it(struct pair *p)
{
	return (struct ibv_mw_bind_info){
		.mr = p->mr,
		.addr = (uintptr_t)p->memory,
		.length = sizeof(p->memory),
		.mw_access_flags = REMOTE,
	};
}

static void expect(struct ibv_cq *cq, enum ibv_wc_opcode opcode)
{
	struct ibv_wc wc;

	end_wait_wc(cq, &wc);
	assert_int_equal(wc.opcode, opcode);
}

/* End 1 writes a byte through @rkey. Return: how that ends */
static enum ibv_wc_status write_byte(struct pair *p, uint32_t rkey, uint8_t value)
{
	struct ibv_sge sge = {(uintptr_t)p->e[1].buf, 1, p->e[1].mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
				   .num_sge = 1,
				   .opcode = IBV_WR_RDMA_WRITE,
				   .send_flags = IBV_SEND_SIGNALED,
				   .wr.rdma = {(uintptr_t)p->memory, rkey}},
			   *bad;
	uint64_t until = now_ns() + 10 * NSEC_PER_SEC;
	struct ibv_wc wc;

	p->e[1].buf[0] = value;
	assert_int_equal(ibv_post_send(p->e[1].qp, &wr, &bad), 0);
	while (!ibv_poll_cq(p->e[1].scq, 1, &wc))
		assert_true(now_ns() < until);
	assert_int_equal(p->memory[0] == value, wc.status == IBV_WC_SUCCESS);
	return wc.status;
}

static void attributes(void **state)
{
	const unsigned int flags = IBV_DEVICE_MEM_WINDOW | IBV_DEVICE_MEM_WINDOW_TYPE_2B |
				   IBV_DEVICE_MEM_MGT_EXTENSIONS;
	struct ibv_device_attr attr;
	struct pair p;

	pair_open(&p);
	assert_int_equal(ibv_query_device(p.e[0].ctx, &attr), 0);
	assert_int_equal(attr.device_cap_flags & flags, flags);
	assert_int_equal(attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2A, 0);
	assert_true(attr.max_mw > 0);
	pair_close(&p);
}

static void type_1(void **state)
{
	struct ibv_mw_bind bind = {.wr_id = 4, .send_flags = IBV_SEND_SIGNALED};
	struct ibv_mw *mw;
	uint32_t first;
	struct pair p;

	pair_open(&p);
	bind.bind_info = all_of_it(&p);
	mw = ibv_alloc_mw(p.e[0].pd, IBV_MW_TYPE_1);
	assert_non_null(mw);
	first = mw->rkey;
	assert_int_equal(ibv_bind_mw(p.e[0].qp, mw, &bind), 0);
	assert_int_equal(mw->rkey, ibv_inc_rkey(first));
	expect(p.e[0].scq, IBV_WC_BIND_MW);
	assert_int_equal(write_byte(&p, mw->rkey, 1), IBV_WC_SUCCESS);
	assert_int_equal(ibv_dereg_mr(p.mr), EBUSY);

	bind.bind_info.addr += 1;
	bind.bind_info.length = 8;
	assert_int_equal(ibv_bind_mw(p.e[0].qp, mw, &bind), 0);
	expect(p.e[0].scq, IBV_WC_BIND_MW);
	bind.bind_info = (struct ibv_mw_bind_info){0};
	assert_int_equal(ibv_bind_mw(p.e[0].qp, mw, &bind), 0);
	expect(p.e[0].scq, IBV_WC_BIND_MW);
	assert_int_equal(write_byte(&p, mw->rkey, 2), IBV_WC_REM_ACCESS_ERR);
	assert_int_equal(ibv_dealloc_mw(mw), 0);
	pair_close(&p);
}

/* By ibv_post_send(), in one list with what tells the peer of it. */
static void type_2_posted(void **state)
{
	struct ibv_sge sge;
	struct ibv_send_wr send = {.sg_list = &sge,
				   .num_sge = 1,
				   .opcode = IBV_WR_SEND,
				   .send_flags = IBV_SEND_SIGNALED},
			   bind = {.next = &send,
				   .opcode = IBV_WR_BIND_MW,
				   .send_flags = IBV_SEND_SIGNALED},
			   inv = {.opcode = IBV_WR_LOCAL_INV,
				   .send_flags = IBV_SEND_SIGNALED},
			   *bad;
	uint32_t told;
	struct pair p;

	pair_open(&p);
	end_post_recv(&p.e[1]);
	bind.bind_mw.mw = ibv_alloc_mw(p.e[0].pd, IBV_MW_TYPE_2);
	assert_non_null(bind.bind_mw.mw);
	bind.bind_mw.rkey = ibv_inc_rkey(bind.bind_mw.mw->rkey);
	bind.bind_mw.bind_info = all_of_it(&p);
	memcpy(p.e[0].buf, &bind.bind_mw.rkey, 4);
	sge = (struct ibv_sge){(uintptr_t)p.e[0].buf, 4, p.e[0].mr->lkey};
	assert_int_equal(ibv_post_send(p.e[0].qp, &bind, &bad), 0);
	assert_int_equal(bind.bind_mw.mw->rkey, bind.bind_mw.rkey);
	expect(p.e[0].scq, IBV_WC_BIND_MW);
	expect(p.e[0].scq, IBV_WC_SEND);
	expect(p.e[1].rcq, IBV_WC_RECV);
	memcpy(&told, p.e[1].buf, 4);
	assert_int_equal(write_byte(&p, told, 1), IBV_WC_SUCCESS);

	inv.invalidate_rkey = told;
	assert_int_equal(ibv_post_send(p.e[0].qp, &inv, &bad), 0);
	expect(p.e[0].scq, IBV_WC_LOCAL_INV);
	assert_int_equal(write_byte(&p, told, 2), IBV_WC_REM_ACCESS_ERR);
	assert_int_equal(ibv_dealloc_pd(p.e[0].pd), EBUSY);
	assert_int_equal(ibv_dealloc_mw(bind.bind_mw.mw), 0);
	pair_close(&p);
}

/* By ibv_wr_*(): bound, invalidated here, bound again, invalidated by the peer. */
static void type_2_built(void **state)
{
	struct ibv_mw_bind_info info;
	struct ibv_mw *mw;
	struct ibv_wc wc;
	struct pair p;
	uint32_t key;

	pair_open(&p);
	info = all_of_it(&p);
	mw = ibv_alloc_mw(p.e[0].pd, IBV_MW_TYPE_2);
	assert_non_null(mw);
	key = mw->rkey;
	ibv_wr_start(p.qpx[0]);
	ibv_wr_bind_mw(p.qpx[0], mw, key + 1, &info);
	ibv_wr_local_inv(p.qpx[0], key + 1);
	ibv_wr_bind_mw(p.qpx[0], mw, key + 12, &info);
	assert_int_equal(ibv_wr_complete(p.qpx[0]), 0);
	assert_int_equal(mw->rkey, key + 12);
	expect(p.e[0].scq, IBV_WC_BIND_MW);
	expect(p.e[0].scq, IBV_WC_LOCAL_INV);
	expect(p.e[0].scq, IBV_WC_BIND_MW);
	assert_int_equal(write_byte(&p, key + 12, 1), IBV_WC_SUCCESS);

	end_post_recv(&p.e[0]);
	ibv_wr_start(p.qpx[1]);
	ibv_wr_send_inv(p.qpx[1], key + 12);
	ibv_wr_set_sge(p.qpx[1], p.e[1].mr->lkey, (uintptr_t)p.e[1].buf, 5000);
	assert_int_equal(ibv_wr_complete(p.qpx[1]), 0);
	expect(p.e[1].scq, IBV_WC_SEND);
	end_wait_wc(p.e[0].rcq, &wc);
	assert_int_equal(wc.wc_flags, IBV_WC_WITH_INV);
	assert_int_equal(wc.invalidated_rkey, key + 12);
	assert_int_equal(wc.byte_len, 5000);
	assert_int_equal(ibv_dealloc_mw(mw), 0);
	pair_close(&p);
}

/* The extended polling API tells of it, too. */
static void read_invalidated_key(void **state)
{
	struct ibv_qp_init_attr init = {.qp_type = IBV_QPT_RC, .cap = {.max_send_wr = 1}};
	struct ibv_poll_cq_attr none = {0};
	struct ibv_mw_bind_info info;
	struct ibv_mw *mw;
	struct pair p;
	uint64_t until;

	pair_open_with(&p, create_on_cq_ex);
	info = all_of_it(&p);
	mw = ibv_alloc_mw(p.e[0].pd, IBV_MW_TYPE_2);
	assert_non_null(mw);
	end_post_recv(&p.e[0]);
	ibv_wr_start(p.qpx[0]);
	ibv_wr_bind_mw(p.qpx[0], mw, mw->rkey, &info);
	assert_int_equal(ibv_wr_complete(p.qpx[0]), 0);
	expect(p.e[0].scq, IBV_WC_BIND_MW);
	ibv_wr_start(p.qpx[1]);
	ibv_wr_send_inv(p.qpx[1], mw->rkey);
	assert_int_equal(ibv_wr_complete(p.qpx[1]), 0);
	expect(p.e[1].scq, IBV_WC_SEND);
	until = now_ns() + 10 * NSEC_PER_SEC;
	while (ibv_start_poll(recv_cq, &none))
		assert_true(now_ns() < until);
	assert_int_equal(recv_cq->status, IBV_WC_SUCCESS);
	assert_int_equal(ibv_wc_read_wc_flags(recv_cq), IBV_WC_WITH_INV);
	assert_int_equal(ibv_wc_read_invalidated_rkey(recv_cq), mw->rkey);
	ibv_end_poll(recv_cq);
	assert_int_equal(ibv_dealloc_mw(mw), 0);
	assert_int_equal(ibv_destroy_qp(p.e[0].qp), 0);
	assert_int_equal(ibv_destroy_cq(ibv_cq_ex_to_cq(recv_cq)), 0);
	/* end_close() wants one that uses the queues it made */
	init.send_cq = p.e[0].scq;
	init.recv_cq = p.e[0].rcq;
	init.srq = p.e[0].srq;
	p.e[0].qp = create_ex(&p.e[0], &init);
	assert_non_null(p.e[0].qp);
	pair_close(&p);
}

/* What is refused at once, and that it changes no key. */
static void refused(void **state)
{
	struct ibv_mw_bind bind = {0};
	struct ibv_send_wr wr = {.opcode = IBV_WR_BIND_MW}, *bad;
	struct ibv_mw *one, *two, *strange;
	struct ibv_pd *pd;
	struct pair p;
	uint32_t key;

	pair_open(&p);
	bind.bind_info = all_of_it(&p);
	pd = ibv_alloc_pd(p.e[0].ctx);
	one = ibv_alloc_mw(p.e[0].pd, IBV_MW_TYPE_1);
	two = ibv_alloc_mw(p.e[0].pd, IBV_MW_TYPE_2);
	strange = ibv_alloc_mw(pd, IBV_MW_TYPE_1);
	errno = 0;
	assert_null(ibv_alloc_mw(pd, (enum ibv_mw_type)3));
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ibv_bind_mw(p.e[0].qp, two, &bind), EINVAL);
	assert_int_equal(ibv_bind_mw(p.e[0].qp, strange, &bind), EPERM);
	bind.bind_info.mw_access_flags |= IBV_ACCESS_LOCAL_WRITE;
	key = one->rkey;
	assert_int_equal(ibv_bind_mw(p.e[0].qp, one, &bind), EINVAL);
	assert_int_equal(one->rkey, key);
	bind.bind_info.mw_access_flags = 0;
	wr.bind_mw.mw = one;
	wr.bind_mw.bind_info = bind.bind_info;
	assert_int_equal(ibv_post_send(p.e[0].qp, &wr, &bad), EINVAL);
	wr.bind_mw.mw = NULL;
	assert_int_equal(ibv_post_send(p.e[0].qp, &wr, &bad), EINVAL);

	/* of a list, all or nothing */
	key = two->rkey;
	ibv_wr_start(p.qpx[0]);
	ibv_wr_bind_mw(p.qpx[0], two, ibv_inc_rkey(key), &bind.bind_info);
	ibv_wr_bind_mw(p.qpx[0], one, ibv_inc_rkey(key), &bind.bind_info);
	assert_int_equal(ibv_wr_complete(p.qpx[0]), EINVAL);
	assert_int_equal(two->rkey, key);

	assert_int_equal(ibv_dealloc_mw(one), 0);
	assert_int_equal(ibv_dealloc_mw(two), 0);
	assert_int_equal(ibv_dealloc_mw(strange), 0);
	assert_int_equal(ibv_dealloc_pd(pd), 0);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attributes),
		cmocka_unit_test(type_1),
		cmocka_unit_test(type_2_posted),
		cmocka_unit_test(type_2_built),
		cmocka_unit_test(read_invalidated_key),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
