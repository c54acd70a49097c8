/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine's states, and packets that a queue pair must not believe.
 */
#include "engine_world.h"

#include "lib/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The queue pair in @state, whatever it was in. */
static void bring_to(struct world *w, enum ibv_qp_state state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};
	struct qp *qp = w->end[0].qp;

	assert_int_equal(qp_modify(qp, &attr, IBV_QP_STATE), 0);
	for (int s = IBV_QPS_INIT; s <= (int)MIN(state, IBV_QPS_RTS); s++)
		world_step_state(w, 0, &world_default, (enum ibv_qp_state)s);
	attr.qp_state = state;
	if (state > IBV_QPS_RTS)
		assert_int_equal(qp_modify(qp, &attr, IBV_QP_STATE), 0);
	assert_int_equal(qp_state(qp), state);
}

/* From every state to every other, with the state alone: what needs attributes or is not
 * in the specification's diagram is refused and changes nothing.
 */
static void transitions_without_attributes(void **state)
{
	static const bool legal[IBV_QPS_ERR + 1][IBV_QPS_ERR + 1] = {
		[IBV_QPS_INIT][IBV_QPS_INIT] = true,
		[IBV_QPS_RTS][IBV_QPS_RTS] = true,
		[IBV_QPS_RTS][IBV_QPS_SQD] = true,
		[IBV_QPS_SQD][IBV_QPS_SQD] = true,
		[IBV_QPS_SQD][IBV_QPS_RTS] = true,
	};
	struct world w;

	world_open(&w, &world_default);
	for (int from = IBV_QPS_RESET; from <= IBV_QPS_ERR; from++) {
		if (from == IBV_QPS_SQE) /* not for RC: tested with UC */
			continue;
		for (int to = IBV_QPS_RESET; to <= IBV_QPS_ERR + 1; to++) {
			struct ibv_qp_attr attr = {.qp_state = (enum ibv_qp_state)to};
			bool ok = to == IBV_QPS_RESET || to == IBV_QPS_ERR ||
				  (to <= IBV_QPS_ERR && legal[from][to]);

			bring_to(&w, (enum ibv_qp_state)from);
			assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_STATE),
				ok ? 0 : -EINVAL);
			assert_int_equal(qp_state(w.end[0].qp), ok ? to : from);
		}
	}
	/* and back to work */
	bring_to(&w, IBV_QPS_RTS);
	world_close(&w);
}

/* Attributes out of range, or not allowed in the transition. */
static void bad_attributes(void **state)
{
	const int init =
		IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1};
	struct world w;
	struct qp *qp;

	world_open(&w, &world_default);
	qp = w.end[0].qp;
	bring_to(&w, IBV_QPS_RESET);
	attr.port_num = 2;
	assert_int_equal(qp_modify(qp, &attr, init), -EINVAL);
	attr.port_num = 1;
	attr.pkey_index = 1;
	assert_int_equal(qp_modify(qp, &attr, init), -EINVAL);
	attr.pkey_index = 0;
	assert_int_equal(qp_modify(qp, &attr, init | IBV_QP_TIMEOUT), -EINVAL);
	assert_int_equal(qp_modify(qp, &attr, init & ~IBV_QP_PORT), -EINVAL);
	assert_int_equal(qp_modify(qp, &attr, init), 0);
	attr.cur_qp_state = IBV_QPS_RTS;
	assert_int_equal(qp_modify(qp, &attr, IBV_QP_CUR_STATE), -EINVAL);
	world_close(&w);
}

/* UC goes on receiving when a request can't be sent (SQE), and RTS repairs it. */
static void send_queue_error(void **state)
{
	struct world_config config = world_default;
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS};
	uint8_t buf[4] = "abc", dst[4] = {0};
	struct world w;
	uint32_t sk, rk;

	config.type = IBV_QPT_UC;
	world_open(&w, &config);
	sk = world_reg(&w.end[0], buf, 4, 0);
	rk = world_reg(&w.end[1], dst, 4, IBV_ACCESS_LOCAL_WRITE);
	assert_int_equal(world_send(&w.end[0], 1, buf, 4, sk ^ 1, 0), 0);
	assert_int_equal(world_send(&w.end[0], 2, buf, 4, sk, 0), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_LOC_PROT_ERR);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(qp_state(w.end[0].qp), IBV_QPS_SQE);
	assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_STATE), 0);
	world_recv(&w.end[1], 3, dst, 4, rk);
	assert_int_equal(world_send(&w.end[0], 3, buf, 4, sk, IBV_SEND_SIGNALED), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_SUCCESS);
	assert_memory_equal(dst, buf, 4);
	world_close(&w);
}

/* Drain: what was posted after SQD waits for RTS. */
static void send_queue_drain(void **state)
{
	struct world w;
	uint8_t buf[4] = "abc", dst[4] = {0};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_SQD};
	uint32_t sk, rk;

	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], buf, 4, 0);
	rk = world_reg(&w.end[1], dst, 4, IBV_ACCESS_LOCAL_WRITE);
	world_recv(&w.end[1], 1, dst, 4, rk);
	assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_STATE), 0);
	assert_int_equal(world_send(&w.end[0], 1, buf, 4, sk, 0), 0);
	world_run(&w, WORLD_FOREVER);
	assert_true(cq_is_empty(w.end[1].rcq));
	attr.qp_state = IBV_QPS_RTS;
	assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_STATE), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[1].rcq).status, IBV_WC_SUCCESS);
	world_close(&w);
}

/* An event tells when all that was sent is acknowledged; not before. */
static void drained_event(void **state)
{
	struct world w;
	uint8_t buf[4] = "abc", dst[4] = {0};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_SQD, .en_sqd_async_notify = 1};
	uint32_t sk, rk;

	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], buf, 4, 0);
	rk = world_reg(&w.end[1], dst, 4, IBV_ACCESS_LOCAL_WRITE);
	assert_int_equal(world_send(&w.end[0], 1, buf, 4, sk, 0), 0);
	/* it is out, but there is no buffer for it */
	world_run(&w, w.now + NSEC_PER_MSEC);
	assert_int_equal(
		qp_modify(w.end[0].qp, &attr, IBV_QP_STATE | IBV_QP_EN_SQD_ASYNC_NOTIFY),
		0);
	world_run(&w, w.now + NSEC_PER_MSEC);
	assert_int_equal(w.end[0].n_events, 0);
	world_recv(&w.end[1], 1, dst, 4, rk);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(w.end[0].n_events, 1);
	assert_int_equal(w.end[0].last_event, IBV_EVENT_SQ_DRAINED);
	world_close(&w);
}

/* From RESET to ERR, without attributes: what is posted is flushed. */
static void error_before_anything(void **state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};
	uint8_t buf[4] = "abc";
	struct qp_sq_mark mark;
	struct world w;

	world_open(&w, &world_default);
	assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_STATE), 0);
	assert_int_equal(world_send(&w.end[0], 1, buf, 4, 0, 0), -EINVAL);
	attr.qp_state = IBV_QPS_ERR;
	assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_STATE), 0);
	assert_int_equal(world_send(&w.end[0], 2, buf, 4, 0, 0), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_WR_FLUSH_ERR);
	/* a list that is refused: none of it was posted */
	mark = qp_sq_mark(w.end[0].qp);
	assert_int_equal(world_send(&w.end[0], 3, buf, 4, 0, 0), 0);
	qp_sq_rollback(w.end[0].qp, mark);
	world_run(&w, WORLD_FOREVER);
	assert_true(cq_is_empty(w.end[0].scq));
	world_close(&w);
}

/* Packets from a stranger's address, or for another partition, change nothing. */
static void answers_from_nowhere(void **state)
{
	struct world w;
	struct wire_packet pkt = {.opcode = WIRE_ACK,
		.pkey = WIRE_PKEY_DEFAULT,
		.syndrome = WIRE_SYN_ACK_NO_CREDIT_LIMIT};
	uint8_t buf[WIRE_HDR_MAX], data[4] = {0};
	struct link_rx rx = {.data = buf};
	uint32_t sk;

	if (world_direct) /* there are no packets */
		return;
	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], data, 4, 0);
	link_mem_set_filter(w.end[0].link, world_drop_all, NULL);
	world_send(&w.end[0], 1, data, 4, sk, IBV_SEND_SIGNALED);
	world_run(&w, w.now + NSEC_PER_USEC);
	memcpy(rx.sgid, w.end[1].link->gid, 16);
	pkt.dest_qpn = qp_number(w.end[0].qp);

	/* an ACK of what was never sent */
	pkt.psn = (world_default.psn + 1) & 0xffffff;
	rx.len = (uint32_t)wire_build(&pkt, buf);
	engine_input(w.end[0].engine, &rx, 1, w.now);
	assert_int_equal(engine_stats(w.end[0].engine)->rx_drop_stale_ack, 1);
	/* the right PSN from another address */
	pkt.psn = world_default.psn;
	rx.len = (uint32_t)wire_build(&pkt, buf);
	rx.sgid[15] ^= 1;
	engine_input(w.end[0].engine, &rx, 1, w.now);
	assert_int_equal(engine_stats(w.end[0].engine)->rx_drop_source, 1);
	/* to another address of ours than the one it is connected from */
	rx.sgid[15] ^= 1;
	engine_set_gid(w.end[0].engine, 0, w.end[0].link->gid);
	memcpy(rx.dgid, w.end[0].link->gid, 16);
	rx.dgid[15] ^= 8;
	engine_set_gid(w.end[0].engine, 1, rx.dgid);
	engine_input(w.end[0].engine, &rx, 1, w.now);
	assert_int_equal(engine_stats(w.end[0].engine)->rx_drop_destination, 1);
	memcpy(rx.dgid, w.end[0].link->gid, 16);
	/* another queue pair */
	pkt.dest_qpn ^= 1;
	rx.len = (uint32_t)wire_build(&pkt, buf);
	engine_input(w.end[0].engine, &rx, 1, w.now);
	assert_int_equal(engine_stats(w.end[0].engine)->rx_drop_no_qp, 1);
	/* another partition */
	pkt.dest_qpn ^= 1;
	pkt.pkey = 0x1234;
	rx.len = (uint32_t)wire_build(&pkt, buf);
	engine_input(w.end[0].engine, &rx, 1, w.now);
	assert_int_equal(engine_stats(w.end[0].engine)->rx_drop_pkey, 1);
	assert_true(cq_is_empty(w.end[0].scq));
	/* and at last the real one */
	pkt.pkey = WIRE_PKEY_DEFAULT;
	rx.len = (uint32_t)wire_build(&pkt, buf);
	engine_input(w.end[0].engine, &rx, 1, w.now);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_SUCCESS);
	world_close(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transitions_without_attributes),
		cmocka_unit_test(bad_attributes),
		cmocka_unit_test(send_queue_error),
		cmocka_unit_test(send_queue_drain),
		cmocka_unit_test(drained_event),
		cmocka_unit_test(error_before_anything),
		cmocka_unit_test(answers_from_nowhere),
	};

	world_main_args(argc, argv);
	return cmocka_run_group_tests_name("engine_states", tests, NULL, NULL);
}
