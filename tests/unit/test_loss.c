/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What loss, reordering and duplication cost: all data is right, and the slow-down is
 * bounded. On a wire of 10 Gb/s with a round trip of 50 us, in virtual time.
 */
#include "engine_world.h"

#include "lib/util.h"
#include "rdma/engine/congestion.h"
#include "rdma/engine/rtt.h"
#include "rdma/wire/psn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#define PERCENT 10000 /* ppm */
#define SIZE	(16u << 20)

static const struct link_mem_script wire = {
	.delay_ns = 25 * NSEC_PER_USEC,
	.rate = 1250000000,
	.queue_bytes = 1 << 20,
};

static struct world_config config_of(const struct link_mem_script *script)
{
	struct world_config config = world_default;

	config.mtu = IBV_MTU_4096;
	config.script = *script;
	config.script.delay_ns = wire.delay_ns;
	config.script.rate = wire.rate;
	config.script.queue_bytes = wire.queue_bytes;
	return config;
}

static uint64_t time_of(const struct link_mem_script *script, enum ibv_wr_opcode opcode)
{
	struct world_config config = config_of(script);
	struct world w;
	uint64_t took;

	world_open(&w, &config);
	took = world_transfer(&w, opcode, SIZE);
	world_close(&w);
	return took;
}

/* The median of some seeds' times, as a multiple in tenths of that on a good wire. */
static uint64_t slow_down(struct link_mem_script script, enum ibv_wr_opcode opcode)
{
	uint64_t good = time_of(&wire, opcode), took[3];

	for (uint64_t i = 0; i < 3; i++) {
		script.seed = i + 1;
		took[i] = time_of(&script, opcode);
	}
	for (int i = 0; i < 2; i++) {
		if (took[i] > took[i + 1]) {
			uint64_t swap = took[i];

			took[i] = took[i + 1];
			took[i + 1] = swap;
		}
	}
	return MAX(took[0], took[1]) * 10 / good;
}

/* The bounds are some 1.5 times what they were when this was written; time goes in steps
 * of 1 ms, of which a good wire takes 14.
 */
static void check(const struct link_mem_script *script, uint64_t max_tenths)
{
	uint64_t tenths = slow_down(*script, IBV_WR_RDMA_WRITE);

	print_message("WRITE takes %.1f times as long", (double)tenths / 10);
	assert_in_range(tenths, 7, max_tenths);
	tenths = slow_down(*script, IBV_WR_RDMA_READ);
	print_message(", READ %.1f\n", (double)tenths / 10);
	assert_in_range(tenths, 7, max_tenths);
}

static void loss_of_a_thousandth(void **state)
{
	check(&(struct link_mem_script){.loss_ppm = PERCENT / 10}, 16);
}

static void loss_of_a_hundredth(void **state)
{
	check(&(struct link_mem_script){.loss_ppm = PERCENT}, 26);
}

static void loss_of_a_twentieth(void **state)
{
	check(&(struct link_mem_script){.loss_ppm = 5 * PERCENT}, 75);
}

static void reordering(void **state)
{
	check(&(struct link_mem_script){.reorder_ppm = PERCENT / 10}, 16);
	check(&(struct link_mem_script){.reorder_ppm = PERCENT}, 24);
}

static void duplication(void **state)
{
	check(&(struct link_mem_script){.duplicate_ppm = 5 * PERCENT}, 11);
}

/* Loses the first @n copies of packet @psn that end 0 sends. */
struct victim {
	uint32_t psn;
	int n;
};

static bool lose_victim(void *arg, int from_end, uint8_t *data, uint32_t len)
{
	struct victim *v = arg;
	uint32_t psn = (uint32_t)(data[9] << 16 | data[10] << 8 | data[11]);

	if (from_end != 0 || psn != v->psn || !v->n)
		return true;
	v->n--;
	return false;
}

/* The last packet of all, of which nothing tells; and one that is lost twice, of which
 * the receiver tells once. Neither waits for the ACK timeout of 67 ms.
 */
static void nobody_tells(void **state)
{
	for (int copies = 1; copies <= 2; copies++) {
		struct world_config config = config_of(&wire);
		const struct engine_stats *stats;
		struct victim v = {0};
		struct world w;

		config.psn = 0;
		world_open(&w, &config);
		stats = engine_stats(w.end[0].engine);
		world_transfer(&w, IBV_WR_RDMA_WRITE, 1 << 20); /* 256 packets */
		v.psn = copies == 1 ? 511 : 300;
		v.n = copies;
		link_mem_set_filter(w.end[0].link, lose_victim, &v);
		assert_true(world_transfer(&w, IBV_WR_RDMA_WRITE, 1 << 20) <
			    5 * NSEC_PER_MSEC);
		assert_int_equal(v.n, 0);
		assert_int_equal(stats->hasty_retries, 1);
		assert_int_equal(stats->ack_timeouts, 0);
		world_close(&w);
	}
}

/* Nothing comes back any more: it is sent again, ever less often, and the end comes after
 * the timeouts that were configured.
 */
static void peer_dies(void **state)
{
	struct world_config config = config_of(&wire);
	const struct engine_stats *stats;
	uint8_t *data = world_buf(4096, 1);
	struct world w;
	uint64_t begin;
	uint32_t key;

	config.timeout = 14;
	config.retry_cnt = 2;
	world_open(&w, &config);
	stats = engine_stats(w.end[0].engine);
	world_transfer(&w, IBV_WR_RDMA_WRITE, 1 << 20);
	link_mem_set_filter(w.end[0].link, world_drop_all, NULL);
	key = world_reg(&w.end[0], data, 4096, 0);
	begin = w.now;
	assert_int_equal(world_send(&w.end[0], 1, data, 4096, key, IBV_SEND_SIGNALED), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_RETRY_EXC_ERR);
	assert_int_equal(stats->ack_timeouts, 3);
	assert_in_range(
		w.now - begin, 3 * (4096ull << 14), 3 * (4096ull << 14) + 10000000);
	/* 1, 2, 4, 8, 16, 32 ms each time */
	assert_in_range(stats->hasty_retries, 6, 21);
	world_close(&w);
	free(data);
}

/* The window: half after a loss, but not below what the path holds. */
static void window(void **state)
{
	struct congestion c;

	congestion_reset(&c, 4096);
	assert_int_equal(c.cwnd, 32);
	congestion_lost(&c, 100, 0);
	assert_int_equal(c.cwnd, 16);
	congestion_lost(&c, 101, 0); /* of the same round trip */
	assert_int_equal(c.cwnd, 16);
	congestion_acked(&c, 100, 1, true);
	congestion_lost(&c, 200, 15);
	assert_int_equal(c.cwnd, 14); /* by an eighth at least */
	congestion_acked(&c, 200, 1, true);
	congestion_lost(&c, 300, 2);
	assert_int_equal(c.cwnd, 7);
	congestion_acked(&c, 300, 1, true);

	/* a doubt that was wrong leaves no trace, however often it was repeated */
	congestion_doubt(&c, 400, 5);
	congestion_doubt(&c, 400, 5);
	assert_int_equal(c.cwnd, CONGESTION_WINDOW_MIN_PKTS);
	congestion_undo(&c);
	assert_true(c.cwnd >= 7);
	assert_false(c.in_recovery);
}

static void round_trip(void **state)
{
	struct rtt r = {0};
	uint64_t now = NSEC_PER_SEC;
	uint32_t psn = 0xfffff0;

	assert_int_equal(rtt_patience_ns(&r, NSEC_PER_MSEC), 0);
	for (int i = 0; i < 100; i++) {
		rtt_sent(&r, psn_add(psn, 9), psn, now);
		rtt_sent(&r, psn_add(psn, 10), psn, now + 10); /* not followed */
		rtt_acked(&r, psn_add(psn, 9), now + 20);      /* not the one */
		now += 50 * NSEC_PER_USEC;
		psn = psn_add(psn, 10);
		rtt_acked(&r, psn, now);
	}
	assert_in_range(r.mean_ns, 49900, 50100);
	assert_int_equal(r.min_ns, 50000);
	assert_int_equal(r.path_pkts, 10);
	assert_int_equal(rtt_patience_ns(&r, NSEC_PER_MSEC), NSEC_PER_MSEC);
	assert_true(rtt_patience_ns(&r, 0) < 110 * NSEC_PER_USEC);

	/* twice as much in twice the time: half of it waits in a queue */
	rtt_sent(&r, psn_add(psn, 19), psn, now);
	rtt_acked(&r, psn_add(psn, 20), now + 100 * NSEC_PER_USEC);
	assert_int_equal(r.path_pkts, 10);
	assert_true(rtt_patience_ns(&r, 0) > 150 * NSEC_PER_USEC);

	/* of one that was followed when a loss came nothing is learnt */
	rtt_sent(&r, psn, psn, now);
	rtt_lost(&r, now + NSEC_PER_SEC);
	rtt_acked(&r, psn_add(psn, 1), now + NSEC_PER_SEC);
	assert_true(r.mean_ns < 100000);
	/* unless nothing is known at all */
	r = (struct rtt){0};
	rtt_sent(&r, psn, psn, now);
	rtt_lost(&r, now + 1000);
	assert_int_equal(r.mean_ns, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loss_of_a_thousandth),
		cmocka_unit_test(loss_of_a_hundredth),
		cmocka_unit_test(loss_of_a_twentieth),
		cmocka_unit_test(reordering),
		cmocka_unit_test(duplication),
		cmocka_unit_test(nobody_tells),
		cmocka_unit_test(peer_dies),
		cmocka_unit_test(window),
		cmocka_unit_test(round_trip),
	};

	return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
