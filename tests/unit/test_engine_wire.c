/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine on a wire that loses, reorders, duplicates and corrupts.
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

/* Both ways at once over a wire that spoils packets: all arrives, once, in order. */
#define LOSSY_MSGS 400
#define LOSSY_SIZE 6000

static void lossy(const struct link_mem_script *script, enum ibv_mtu mtu)
{
	struct world_config config = world_default;
	struct world w;
	uint8_t *src = world_buf(LOSSY_MSGS + LOSSY_SIZE, 11);
	uint8_t *dst[2];
	uint32_t sk[2], rk[2];
	int posted[2] = {0}, got[2] = {0};

	config.script = *script;
	config.mtu = mtu;
	config.timeout = 8;
	world_open(&w, &config);
	for (int i = 0; i < 2; i++) {
		dst[i] = world_buf(32 * LOSSY_SIZE, 0);
		sk[i] = world_reg(&w.end[i], src, LOSSY_MSGS + LOSSY_SIZE, 0);
		rk[i] = world_reg(
			&w.end[i], dst[i], 32 * LOSSY_SIZE, IBV_ACCESS_LOCAL_WRITE);
		for (int k = 0; k < 32; k++)
			assert_int_equal(
				world_recv(&w.end[i], (uint64_t)k,
					dst[i] + k * LOSSY_SIZE, LOSSY_SIZE, rk[i]),
				0);
	}
	while (got[0] < LOSSY_MSGS || got[1] < LOSSY_MSGS) {
		uint64_t before = w.now;

		for (int i = 0; i < 2; i++) {
			struct world_end *end = &w.end[i];
			struct ibv_wc wc;

			while (posted[i] < LOSSY_MSGS &&
				!world_send(end, 0, src + posted[i],
					LOSSY_SIZE - (uint32_t)posted[i] * 7 % 5000,
					sk[i], 0))
				posted[i]++;
			while (cq_poll(end->rcq, 1, &wc)) {
				uint8_t *at = dst[i] + wc.wr_id * LOSSY_SIZE;

				assert_int_equal(wc.status, IBV_WC_SUCCESS);
				assert_int_equal(
					wc.byte_len, LOSSY_SIZE - got[i] * 7 % 5000);
				assert_memory_equal(at, src + got[i], wc.byte_len);
				got[i]++;
				world_recv(end, wc.wr_id, at, LOSSY_SIZE, rk[i]);
			}
			assert_true(cq_is_empty(end->scq));
		}
		world_run(&w, w.now + 20 * NSEC_PER_USEC);
		if (w.now == before)
			w.now += NSEC_PER_USEC;
		assert_true(w.now < WORLD_FOREVER);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			engine_stats(w.end[i].engine)->rx_send_messages, LOSSY_MSGS);
		assert_int_equal(
			engine_stats(w.end[i].engine)->tx_send_messages, LOSSY_MSGS);
		free(dst[i]);
	}
	world_close(&w);
	free(src);
}

static void loss(void **state)
{
	for (uint64_t seed = 1; seed <= 5; seed++)
		lossy(&(struct link_mem_script){.seed = seed, .loss_ppm = 50000},
			IBV_MTU_1024);
}

static void reordering_and_duplication(void **state)
{
	for (uint64_t seed = 1; seed <= 5; seed++)
		lossy(&(struct link_mem_script){.seed = seed,
			      .reorder_ppm = 50000,
			      .duplicate_ppm = 50000},
			IBV_MTU_256);
}

static void everything_at_once(void **state)
{
	for (uint64_t seed = 1; seed <= 5; seed++)
		lossy(&(struct link_mem_script){.seed = seed,
			      .loss_ppm = 20000,
			      .reorder_ppm = 20000,
			      .duplicate_ppm = 20000,
			      .corrupt_ppm = 20000},
			IBV_MTU_4096);
}

/* A script of all operations over a bad wire: WRITEs land before the READs behind them,
 * each atomic is done once, SENDs stay in order among them.
 */
#define MIXED_ROUNDS 60
#define MIXED_SIZE   9000

static void mixed_operations(const struct link_mem_script *script)
{
	struct world_config config = world_default;
	uint8_t *src = world_buf(MIXED_ROUNDS + MIXED_SIZE, 17),
		*remote = world_buf(MIXED_SIZE, 0);
	uint8_t *back = world_buf(MIXED_SIZE, 0), *inbox = world_buf(MIXED_SIZE, 0);
	uint64_t counter = 1000, old = 0;
	uint32_t key[4], rkey[3];
	struct world w;

	config.script = *script;
	config.timeout = 8;
	world_open(&w, &config);
	key[0] = world_reg(&w.end[0], src, MIXED_ROUNDS + MIXED_SIZE, 0);
	key[1] = world_reg(&w.end[0], back, MIXED_SIZE, IBV_ACCESS_LOCAL_WRITE);
	key[2] = world_reg(&w.end[0], &old, sizeof(old), IBV_ACCESS_LOCAL_WRITE);
	rkey[0] = world_reg(&w.end[1], remote, MIXED_SIZE, WORLD_ALL_ACCESS);
	rkey[1] = world_reg(&w.end[1], &counter, sizeof(counter), WORLD_ALL_ACCESS);
	rkey[2] = world_reg(&w.end[1], inbox, MIXED_SIZE, IBV_ACCESS_LOCAL_WRITE);
	for (uint64_t i = 0; i < MIXED_ROUNDS; i++) {
		uint32_t size = (uint32_t)(i * 701 % MIXED_SIZE) + 1;
		struct ibv_sge sge[] = {
			{(uintptr_t)src + i, size, key[0]},
			{(uintptr_t)&old, 8, key[2]},
			{(uintptr_t)back, size, key[1]},
		};
		struct ibv_send_wr wr[] = {
			{.sg_list = &sge[0],
				.opcode = IBV_WR_RDMA_WRITE,
				.wr.rdma = {(uintptr_t)remote, rkey[0]}},
			{.sg_list = &sge[1],
				.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
				.wr.atomic = {(uintptr_t)&counter, i, 0, rkey[1]}},
			{.sg_list = &sge[2],
				.opcode = IBV_WR_RDMA_READ,
				.wr.rdma = {(uintptr_t)remote, rkey[0]}},
			{.sg_list = &sge[0], .opcode = IBV_WR_SEND},
			{.sg_list = &sge[2],
				.opcode = IBV_WR_RDMA_READ,
				.send_flags = IBV_SEND_SIGNALED,
				.wr.rdma = {(uintptr_t)remote, rkey[0]}},
		};
		uint64_t before = counter;

		memset(back, 0, MIXED_SIZE);
		world_recv(&w.end[1], i, inbox, MIXED_SIZE, rkey[2]);
		for (size_t k = 0; k < ARRAY_SIZE(wr); k++) {
			wr[k].num_sge = 1;
			assert_int_equal(qp_post_send(w.end[0].qp, &wr[k], NULL), 0);
		}
		world_run(&w, WORLD_FOREVER);
		assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_SUCCESS);
		assert_int_equal(world_wc(w.end[1].rcq).byte_len, size);
		assert_memory_equal(back, src + i, size);
		assert_memory_equal(inbox, src + i, size);
		assert_int_equal(old, before);
		assert_int_equal(counter, before + i);
	}
	world_close(&w);
	free(src);
	free(remote);
	free(back);
	free(inbox);
}

static void mixed_on_good_wire(void **state)
{
	mixed_operations(&(struct link_mem_script){0});
}

static void mixed_on_bad_wire(void **state)
{
	for (uint64_t seed = 1; seed <= 8; seed++)
		mixed_operations(&(struct link_mem_script){.seed = seed,
			.loss_ppm = 30000,
			.reorder_ppm = 20000,
			.duplicate_ppm = 20000,
			.corrupt_ppm = 10000});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loss),
		cmocka_unit_test(reordering_and_duplication),
		cmocka_unit_test(everything_at_once),
		cmocka_unit_test(mixed_on_good_wire),
		cmocka_unit_test(mixed_on_bad_wire),
	};

	return cmocka_run_group_tests_name("engine_wire", tests, NULL, NULL);
}
