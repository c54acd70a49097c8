/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Congestion: the arithmetic of rates, and queue pairs on a wire that marks packets: who
 * notifies, who slows down, what a queue that marks spares, and what forged
 * notifications can do at most.
 */
#include "engine_world.h"

#include "lib/util.h"
#include "rdma/engine/dcqcn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define LINE_RATE 1250000000ull /* 10 Gb/s */
#define ALL	  1000000	/* ppm */

/* The rate alone. */

static void cuts_and_recovers(void **state)
{
	uint64_t now = NSEC_PER_SEC, cut_to;
	struct dcqcn d;

	dcqcn_reset(&d, LINE_RATE);
	assert_int_equal(dcqcn_gate(&d, now), 0);
	assert_true(dcqcn_notified(&d, now, 0));
	assert_int_equal(d.rate, LINE_RATE / 2); /* alpha is 1 */

	/* one that comes right behind says nothing new, nor one within a round trip */
	assert_false(dcqcn_notified(&d, now + 10 * NSEC_PER_USEC, 0));
	assert_false(dcqcn_notified(&d, now + 60 * NSEC_PER_USEC, 100 * NSEC_PER_USEC));
	assert_int_equal(d.rate, LINE_RATE / 2);
	now += 60 * NSEC_PER_USEC;
	assert_true(dcqcn_notified(&d, now, 0));
	assert_in_range(d.rate, LINE_RATE / 4, LINE_RATE * 26 / 100);

	/* fast recovery: half the way each step, never beyond where it was */
	cut_to = d.rate;
	dcqcn_gate(&d, now + 301 * NSEC_PER_USEC);
	assert_int_equal(d.rate, (cut_to + LINE_RATE / 2) / 2);
	dcqcn_gate(&d, now + 1501 * NSEC_PER_USEC);
	assert_in_range(d.rate, LINE_RATE * 48 / 100, LINE_RATE / 2);
	/* then beyond, slowly, and at last fast, until the limit ends */
	dcqcn_gate(&d, now + 3001 * NSEC_PER_USEC);
	assert_in_range(d.rate, LINE_RATE / 2, LINE_RATE * 51 / 100);
	dcqcn_gate(&d, now + 20 * NSEC_PER_MSEC);
	assert_int_equal(d.rate, 0);
	assert_int_equal(dcqcn_gate(&d, now + 20 * NSEC_PER_MSEC), 0);
}

/* Where notifications are rare, alpha is small, and so is a cut. */
static void alpha_sinks(void **state)
{
	uint64_t now = NSEC_PER_SEC, before;
	struct dcqcn d;

	dcqcn_reset(&d, LINE_RATE);
	dcqcn_notified(&d, now, 0);
	for (int i = 0; i < 100; i++) {
		now += 2 * NSEC_PER_MSEC;
		dcqcn_notified(&d, now, 0);
	}
	dcqcn_gate(&d, now += 2 * NSEC_PER_MSEC);
	before = d.rate;
	assert_true(dcqcn_notified(&d, now, 0));
	assert_in_range(d.rate, before * 95 / 100, before - 1);
}

static void floor_holds(void **state)
{
	uint64_t now = NSEC_PER_SEC;
	struct dcqcn d;

	dcqcn_reset(&d, LINE_RATE);
	for (int i = 0; i < 10000; i++)
		dcqcn_notified(&d, now += 60 * NSEC_PER_USEC, 0);
	assert_int_equal(d.rate, DCQCN_RATE_MIN);
	/* a long silence is caught up with at once */
	assert_int_equal(dcqcn_gate(&d, now + 365ull * 86400 * NSEC_PER_SEC), 0);
	assert_int_equal(d.rate, 0);
}

/* Over time it sends what the rate says, though in batches. */
static void gate_keeps_the_rate(void **state)
{
	uint64_t now = NSEC_PER_SEC, sent = 0, begin;
	struct dcqcn d;

	dcqcn_reset(&d, LINE_RATE);
	dcqcn_notified(&d, now, 0);
	begin = now;
	while (now < begin + 290 * NSEC_PER_USEC) { /* before the first increase */
		uint64_t gate = dcqcn_gate(&d, now);

		if (gate) {
			assert_true(gate > now);
			now = gate;
			continue;
		}
		dcqcn_sent(&d, 4096);
		sent += 4096;
	}
	assert_in_range(
		sent, LINE_RATE / 2 * 270 / 1000000, LINE_RATE / 2 * 320 / 1000000);
}

/* Queue pairs. */

static const struct engine_stats *stats_of(const struct world *w, int end)
{
	return engine_stats(w->end[end].engine);
}

static void marks_are_notified(void **state)
{
	struct world_config config = world_default;
	struct world w;
	uint64_t took;

	config.script = (struct link_mem_script){.ce_ppm = ALL};
	world_open(&w, &config);
	took = world_transfer(&w, IBV_WR_RDMA_WRITE, 4 << 20);
	/* all WRITE packets, and the ACKs and notifications that came back */
	assert_true(stats_of(&w, 1)->rx_ecn_marked >= 4096);
	assert_true(stats_of(&w, 0)->rx_ecn_marked > 0);
	assert_in_range(stats_of(&w, 1)->tx_cnps, 2, 1 + took / (50 * NSEC_PER_USEC));
	/* ACKs and notifications are not answered */
	assert_int_equal(stats_of(&w, 0)->tx_cnps, 0);
	assert_int_equal(stats_of(&w, 0)->rx_cnps, stats_of(&w, 1)->tx_cnps);
	assert_in_range(stats_of(&w, 0)->rate_cuts, 2, stats_of(&w, 0)->rx_cnps);
	assert_int_equal(stats_of(&w, 0)->tx_retransmitted, 0);
	world_close(&w);
}

static void nothing_without_marks(void **state)
{
	struct world w;

	world_open(&w, &world_default);
	world_transfer(&w, IBV_WR_RDMA_WRITE, 1 << 20);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(stats_of(&w, i)->rx_ecn_marked, 0);
		assert_int_equal(stats_of(&w, i)->tx_cnps, 0);
	}
	world_close(&w);
}

/* Who answers a READ is who has to slow down. */
static void read_answers_are_paced(void **state)
{
	struct world_config config = world_default;
	struct world w;
	uint64_t unmarked, marked;

	world_open(&w, &config);
	unmarked = world_transfer(&w, IBV_WR_RDMA_READ, 1 << 20);
	world_close(&w);
	config.script = (struct link_mem_script){.ce_ppm = ALL};
	world_open(&w, &config);
	marked = world_transfer(&w, IBV_WR_RDMA_READ, 1 << 20);
	assert_true(stats_of(&w, 1)->rate_cuts > 0);
	assert_int_equal(stats_of(&w, 0)->rate_cuts, 0);
	assert_int_equal(stats_of(&w, 0)->ack_timeouts, 0);
	assert_true(marked > 2 * unmarked);
	world_close(&w);
}

/* A SEND of UC or UD, which have no window. */
static void send_some(struct world *w, enum ibv_qp_type type, int n)
{
	static uint8_t data[1024], inbox[1024 + 40];
	struct ibv_sge sge = {.addr = (uintptr_t)data,
		.length = sizeof(data),
		.lkey = world_reg(&w->end[0], data, sizeof(data), 0)};
	uint32_t key =
		world_reg(&w->end[1], inbox, sizeof(inbox), IBV_ACCESS_LOCAL_WRITE);
	struct ibv_ah_attr ah = {.is_global = 1, .port_num = 1};

	memcpy(ah.grh.dgid.raw, w->end[1].link->gid, 16);
	for (int i = 0; i < n; i++) {
		struct ibv_send_wr wr = {
			.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND};

		if (type == IBV_QPT_UD) {
			wr.wr.ud.remote_qpn = qp_number(w->end[1].qp);
			wr.wr.ud.remote_qkey = WORLD_QKEY;
		}
		assert_int_equal(world_recv(&w->end[1], 1, inbox, sizeof(inbox), key), 0);
		assert_int_equal(
			qp_post_send(w->end[0].qp, &wr, type == IBV_QPT_UD ? &ah : NULL),
			0);
		world_run(w, w->now + 10 * NSEC_PER_USEC);
		while (!cq_is_empty(w->end[1].rcq))
			world_wc(w->end[1].rcq);
	}
	world_run(w, WORLD_FOREVER);
}

static void unreliable_too(void **state)
{
	static const enum ibv_qp_type types[] = {IBV_QPT_UC, IBV_QPT_UD};

	for (int t = 0; t < 2; t++) {
		struct world_config config = world_default;
		struct world w;
		uint64_t begin;

		config.type = types[t];
		world_open(&w, &config);
		begin = w.now;
		send_some(&w, types[t], 32);
		assert_in_range(w.now - begin, 1, 350 * NSEC_PER_USEC);
		link_mem_set_script(
			w.end[0].link, &(struct link_mem_script){.ce_ppm = ALL});
		send_some(&w, types[t], 600);
		assert_true(stats_of(&w, 1)->tx_cnps > 5);
		assert_int_equal(stats_of(&w, 0)->rx_cnps, stats_of(&w, 1)->tx_cnps);
		assert_true(stats_of(&w, 0)->rate_cuts > 5);
		/* by now the rate is low; all come nevertheless */
		begin = w.now;
		send_some(&w, types[t], 32);
		assert_true(w.now - begin > NSEC_PER_MSEC);
		assert_int_equal(stats_of(&w, 1)->rx_send_messages, 32 + 600 + 32);
		world_close(&w);
	}
}

/* A flood of notifications, as an attacker could send it: slow, at the floor's rate and
 * not below, and nothing breaks.
 */
static void forged_flood(void **state)
{
	struct world_config config = world_default;
	uint8_t cnp[WIRE_BTH_SIZE + WIRE_CNP_RESERVED];
	struct wire_packet pkt = {
		.opcode = WIRE_OPCODE_CNP, .becn = true, .pkey = WIRE_PKEY_DEFAULT};
	uint32_t size = 400000;
	uint8_t *src = world_buf(size, 3), *dst = world_buf(size, 0);
	struct ibv_sge sge = {.addr = (uintptr_t)src, .length = size};
	struct ibv_send_wr wr = {.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED};
	struct world w;
	uint64_t begin;

	world_open(&w, &config);
	sge.lkey = world_reg(&w.end[0], src, size, 0);
	wr.wr.rdma.remote_addr = (uintptr_t)dst;
	wr.wr.rdma.rkey = world_reg(&w.end[1], dst, size, WORLD_ALL_ACCESS);
	pkt.dest_qpn = qp_number(w.end[0].qp);
	assert_int_equal(wire_build(&pkt, cnp), sizeof(cnp));
	begin = w.now;
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, NULL), 0);
	while (cq_is_empty(w.end[0].scq)) {
		for (int i = 0; i < 3; i++)
			link_mem_inject(w.end[0].link, cnp, sizeof(cnp));
		world_run(&w, w.now + 20 * NSEC_PER_USEC);
		/* 0.2 s at the floor, and a little for headers */
		assert_true(w.now - begin < 250 * NSEC_PER_MSEC);
	}
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_SUCCESS);
	assert_memory_equal(src, dst, size);
	assert_int_equal(stats_of(&w, 0)->ack_timeouts, 0);
	assert_int_equal(stats_of(&w, 0)->tx_retransmitted, 0);
	/* those that come together cut once */
	assert_true(stats_of(&w, 0)->rx_cnps > 100);
	assert_true(stats_of(&w, 0)->rate_cuts * 2 < stats_of(&w, 0)->rx_cnps);
	world_close(&w);
	free(src);
	free(dst);
}

/* Notifications to a queue pair that is not connected, and from strangers, count as what
 * they are.
 */
static void stray_notifications(void **state)
{
	uint8_t cnp[WIRE_BTH_SIZE + WIRE_CNP_RESERVED];
	struct wire_packet pkt = {
		.opcode = WIRE_OPCODE_CNP, .becn = true, .pkey = WIRE_PKEY_DEFAULT};
	struct link_rx rx = {.data = cnp, .len = sizeof(cnp)};
	struct world w;

	world_open(&w, &world_default);
	pkt.dest_qpn = qp_number(w.end[0].qp);
	wire_build(&pkt, cnp);
	engine_input(w.end[0].engine, &rx, 1, w.now); /* from :: */
	assert_int_equal(stats_of(&w, 0)->rx_drop_source, 1);
	pkt.dest_qpn ^= 1;
	wire_build(&pkt, cnp);
	engine_input(w.end[0].engine, &rx, 1, w.now);
	assert_int_equal(stats_of(&w, 0)->rx_drop_no_qp, 1);
	assert_int_equal(stats_of(&w, 0)->rx_cnps, 0);
	world_close(&w);
}

/* A bottleneck of 1 Gb/s with a queue of 64 KiB. That it marks spares nearly all losses,
 * and costs little of the throughput.
 */
static void marking_queue_spares_losses(void **state)
{
	struct world_config config = world_default;
	uint64_t lost[2], took[2];
	struct world w;

	config.script = (struct link_mem_script){.delay_ns = 20 * NSEC_PER_USEC,
		.rate = LINE_RATE / 10,
		.queue_bytes = 64 << 10};
	for (int marks = 0; marks < 2; marks++) {
		config.script.mark_bytes = marks ? 16 << 10 : 0;
		world_open(&w, &config);
		took[marks] = world_transfer(&w, IBV_WR_RDMA_WRITE, 16 << 20);
		lost[marks] = link_mem_stats(w.end[0].link)->overflowed;
		world_close(&w);
	}
	assert_true(lost[0] > 100);
	assert_true(lost[1] < lost[0] / 4);
	assert_true(took[1] < took[0] * 5 / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cuts_and_recovers),
		cmocka_unit_test(alpha_sinks),
		cmocka_unit_test(floor_holds),
		cmocka_unit_test(gate_keeps_the_rate),
		cmocka_unit_test(marks_are_notified),
		cmocka_unit_test(nothing_without_marks),
		cmocka_unit_test(read_answers_are_paced),
		cmocka_unit_test(unreliable_too),
		cmocka_unit_test(forged_flood),
		cmocka_unit_test(stray_notifications),
		cmocka_unit_test(marking_queue_spares_losses),
	};

	return cmocka_run_group_tests_name("congestion", tests, NULL, NULL);
}
