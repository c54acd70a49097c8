/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory windows in time: the place of a bind and of an invalidation in the send queue,
 * and a window's life over a bad wire.
 */
#include "shown.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Places in the send queue. */

static void post_signaled_send(struct shown *s, int end, uint64_t id)
{
	assert_int_equal(world_send(&s->w.end[end], id, end ? s->memory : s->peer, 8,
				 end ? s->mr.lkey : s->peer_key, IBV_SEND_SIGNALED),
		0);
}

static void expect(struct shown *s, uint64_t id, enum ibv_wc_status status)
{
	struct ibv_wc wc = world_wc(s->w.end[1].scq);

	assert_int_equal(wc.wr_id, id);
	assert_int_equal(wc.status, status);
}

static void take_receives(struct shown *s)
{
	for (int i = 0; i < 8; i++)
		world_recv(&s->w.end[0], 0, s->peer, SIZE, s->peer_key);
}

/* A bind that fails does so in its turn: what is before it completes, what is behind it
 * does not begin.
 */
static void error_in_order(void **state)
{
	struct shown s;
	struct ibv_send_wr wr;
	struct ibv_mw mw;

	shown_open(&s);
	take_receives(&s);
	mw = shown_window(&s, IBV_MW_TYPE_1);
	post_signaled_send(&s, 1, 10);
	wr = shown_bind_wr(&s, &mw, SIZE, 1, 0);
	shown_post(&s, 1, &wr);
	post_signaled_send(&s, 1, 11);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 10, IBV_WC_SUCCESS);
	expect(&s, 1, IBV_WC_MW_BIND_ERR);
	expect(&s, 11, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(engine_stats(s.w.end[1].engine)->tx_send_messages, 1);
	/* nor afterwards */
	wr = shown_bind_wr(&s, &mw, 0, 1, 0);
	shown_post(&s, 1, &wr);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 1, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(engine_stats(s.w.end[1].engine)->mw_binds, 0);
	world_close(&s.w);
}

/* As many windows as the device says, and regions beside them. */
static void limits(void **state)
{
	struct mr_table *t;
	struct mr mr = {.pd = WORLD_PD, .length = 1};
	uint32_t *keys = calloc(MW_MAX, sizeof(*keys)), key;

	assert_non_null(keys);
	assert_int_equal(mr_table_create(&t), 0);
	for (uint32_t i = 0; i < MW_MAX; i++)
		assert_int_equal(mw_alloc(t, WORLD_PD, IBV_MW_TYPE_2, &keys[i]), 0);
	assert_int_equal(mw_alloc(t, WORLD_PD, IBV_MW_TYPE_2, &key), -ENOMEM);
	assert_int_equal(mr_register(t, &mr, &key), 0);
	for (uint32_t i = 0; i < MW_MAX; i++)
		mw_dealloc(t, keys[i]);
	assert_int_equal(mw_alloc(t, WORLD_PD, IBV_MW_TYPE_2, &key), 0);
	mr_table_destroy(t);
	free(keys);
}

/* While nothing gets through: a bind is done although what is before it is not complete,
 * but waits for a READ with the fence; an invalidation waits for anything. All complete
 * in order once the wire is whole.
 */
static void fences(void **state)
{
	struct shown s;
	struct ibv_send_wr wr;
	struct ibv_mw a, b;
	struct ibv_sge sge = {0};
	const struct engine_stats *stats;
	uint32_t rkey;

	if (world_direct) /* there is no wire to be cut */
		return;
	shown_open(&s);
	take_receives(&s);
	stats = engine_stats(s.w.end[1].engine);
	sge = (struct ibv_sge){(uintptr_t)s.memory, 8, s.mr.lkey};
	rkey = world_reg(&s.w.end[0], s.peer, SIZE, IBV_ACCESS_REMOTE_READ);
	a = shown_window(&s, IBV_MW_TYPE_2);
	b = shown_window(&s, IBV_MW_TYPE_1);
	link_mem_set_filter(s.w.end[0].link, world_drop_all, NULL);

	post_signaled_send(&s, 1, 10);
	wr = shown_bind_wr(&s, &a, 0, 8, 0);
	wr.wr_id = 11;
	shown_post(&s, 1, &wr);
	wr = (struct ibv_send_wr){.wr_id = 12,
		.opcode = IBV_WR_RDMA_READ,
		.sg_list = &sge,
		.num_sge = 1,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = {(uintptr_t)s.peer, rkey}};
	shown_post(&s, 1, &wr);
	wr = shown_bind_wr(&s, &b, 0, 8, 0);
	wr.wr_id = 13;
	wr.send_flags |= IBV_SEND_FENCE;
	shown_post(&s, 1, &wr);
	world_run(&s.w, s.w.now + 100000);
	assert_int_equal(stats->mw_binds, 1);
	assert_true(cq_is_empty(s.w.end[1].scq));

	link_mem_set_filter(s.w.end[0].link, NULL, NULL);
	world_run(&s.w, WORLD_FOREVER);
	assert_int_equal(stats->mw_binds, 2);
	for (uint64_t id = 10; id <= 13; id++)
		expect(&s, id, IBV_WC_SUCCESS);

	link_mem_set_filter(s.w.end[0].link, world_drop_all, NULL);
	post_signaled_send(&s, 1, 10);
	wr = shown_inv_wr(IBV_WR_LOCAL_INV, ibv_inc_rkey(a.rkey));
	wr.wr_id = 11;
	shown_post(&s, 1, &wr);
	post_signaled_send(&s, 1, 12);
	world_run(&s.w, s.w.now + 100000);
	assert_int_equal(stats->mw_invalidates, 0);
	link_mem_set_filter(s.w.end[0].link, NULL, NULL);
	world_run(&s.w, WORLD_FOREVER);
	assert_int_equal(stats->mw_invalidates, 1);
	for (uint64_t id = 10; id <= 12; id++)
		expect(&s, id, IBV_WC_SUCCESS);
	world_close(&s.w);
}

/* Nothing that comes later tells that a bind is complete whose READ before it is. */
static void bind_behind_read(void **state)
{
	struct shown s;
	struct ibv_mw mw;
	struct ibv_sge sge;
	struct ibv_send_wr read = {.wr_id = 10,
				   .opcode = IBV_WR_RDMA_READ,
				   .sg_list = &sge,
				   .num_sge = 1,
				   .send_flags = IBV_SEND_SIGNALED},
			   wr;

	shown_open(&s);
	sge = (struct ibv_sge){(uintptr_t)s.memory, 8, s.mr.lkey};
	read.wr.rdma.remote_addr = (uintptr_t)s.peer;
	read.wr.rdma.rkey = world_reg(&s.w.end[0], s.peer, SIZE, IBV_ACCESS_REMOTE_READ);
	mw = shown_window(&s, IBV_MW_TYPE_2);
	wr = shown_bind_wr(&s, &mw, 0, SIZE, ALL_REMOTE);
	shown_post(&s, 1, &read);
	shown_post(&s, 1, &wr);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 10, IBV_WC_SUCCESS);
	expect(&s, 1, IBV_WC_SUCCESS);
	world_close(&s.w);
}

/* In SQD a bind does not begin. */
static void drained(void **state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_SQD};
	struct shown s;
	struct ibv_send_wr wr;
	struct ibv_mw mw;

	shown_open(&s);
	mw = shown_window(&s, IBV_MW_TYPE_1);
	wr = shown_bind_wr(&s, &mw, 0, 8, 0);
	assert_int_equal(qp_modify(s.w.end[1].qp, &attr, IBV_QP_STATE), 0);
	shown_post(&s, 1, &wr);
	world_run(&s.w, WORLD_FOREVER);
	assert_true(cq_is_empty(s.w.end[1].scq));
	attr.qp_state = IBV_QPS_RTS;
	assert_int_equal(qp_modify(s.w.end[1].qp, &attr, IBV_QP_STATE), 0);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 1, IBV_WC_SUCCESS);
	world_close(&s.w);
}

/* Over a wire that loses packets: bind, tell the peer, be written to and be invalidated;
 * each is done once, whatever is sent again.
 */
static void life_over_a_bad_wire(void **state)
{
	struct world_config config = world_default;
	struct shown s;
	struct ibv_mw mw;
	const int rounds = 200;

	config.timeout = 8;
	config.script = (struct link_mem_script){.seed = 5,
		.loss_ppm = 50000,
		.reorder_ppm = 30000,
		.duplicate_ppm = 30000};
	shown_open_with(&s, &config, REGION_FLAGS);
	mw = shown_window(&s, IBV_MW_TYPE_2);
	for (int i = 0; i < rounds; i++) {
		struct ibv_send_wr wr = shown_bind_wr(&s, &mw, 0, SIZE, ALL_REMOTE);

		for (int k = 0; k < 2; k++)
			world_recv(
				&s.w.end[0], 0, s.peer + SIZE / 2, SIZE / 2, s.peer_key);
		world_recv(&s.w.end[1], 0, s.memory + SIZE / 2, SIZE / 2, s.mr.lkey);
		post_signaled_send(&s, 1, 0);
		shown_post(&s, 1, &wr);
		mw.rkey = wr.bind_mw.rkey;
		post_signaled_send(&s, 1, 2);
		world_run(&s.w, WORLD_FOREVER);
		expect(&s, 0, IBV_WC_SUCCESS);
		expect(&s, 1, IBV_WC_SUCCESS);
		expect(&s, 2, IBV_WC_SUCCESS);
		assert_int_equal(
			shown_use(&s, IBV_WR_RDMA_WRITE, mw.rkey, shown_at(&s, 0), 3000),
			0);
		shown_send_inv(&s, 2000, mw.rkey);
		world_run(&s.w, WORLD_FOREVER);
		assert_int_equal(world_wc(s.w.end[0].scq).status, IBV_WC_SUCCESS);
		assert_int_equal(world_wc(s.w.end[1].rcq).invalidated_rkey, mw.rkey);
		for (int k = 0; k < 2; k++)
			world_wc(s.w.end[0].rcq);
	}
	assert_int_equal(engine_stats(s.w.end[1].engine)->mw_binds, rounds);
	assert_int_equal(engine_stats(s.w.end[1].engine)->rx_invalidates, rounds);
	/* with one engine, the peer's are among them */
	assert_int_equal(engine_stats(s.w.end[1].engine)->tx_send_messages,
		(world_direct ? 3 : 2) * rounds);
	world_close(&s.w);
}

/* UC binds and invalidates as well. */
static void unreliable(void **state)
{
	struct world_config config = world_default;
	struct shown s;
	struct ibv_send_wr wr;
	struct ibv_mw mw;

	config.type = IBV_QPT_UC;
	shown_open_with(&s, &config, REGION_FLAGS);
	mw = shown_window(&s, IBV_MW_TYPE_2);
	post_signaled_send(&s, 1, 10);
	wr = shown_bind_wr(&s, &mw, 0, SIZE, ALL_REMOTE);
	shown_post(&s, 1, &wr);
	post_signaled_send(&s, 1, 11);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 10, IBV_WC_SUCCESS);
	expect(&s, 1, IBV_WC_SUCCESS);
	expect(&s, 11, IBV_WC_SUCCESS);
	mw.rkey = wr.bind_mw.rkey;
	s.peer[0] = 77;
	assert_int_equal(
		shown_use(&s, IBV_WR_RDMA_WRITE, mw.rkey, shown_at(&s, 0), 1), 0);
	assert_int_equal(s.memory[0], 77);
	post_signaled_send(&s, 1, 10);
	wr = shown_inv_wr(IBV_WR_LOCAL_INV, mw.rkey);
	shown_post(&s, 1, &wr);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 10, IBV_WC_SUCCESS);
	expect(&s, 2, IBV_WC_SUCCESS);
	s.peer[0] = 78;
	assert_int_equal(
		shown_use(&s, IBV_WR_RDMA_WRITE, mw.rkey, shown_at(&s, 0), 1), 0);
	assert_int_equal(s.memory[0], 77);
	world_close(&s.w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_in_order),
		cmocka_unit_test(limits),
		cmocka_unit_test(fences),
		cmocka_unit_test(bind_behind_read),
		cmocka_unit_test(drained),
		cmocka_unit_test(life_over_a_bad_wire),
		cmocka_unit_test(unreliable),
	};

	world_main_args(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
