/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmd/mactable.c: learning, ageing, moving, and that a flood of invented addresses costs
 * only its inventor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pmd/mactable.h"

#define MAX_AGE 300

static struct mactable *table;

static int setup(void **state)
{
	table = calloc(1, sizeof(*table));
	if (!table)
		return -1;
	table->seed = 0x1234;
	table->max_age = MAX_AGE;
	return 0;
}

static int teardown(void **state)
{
	free(table);
	return 0;
}

static const uint8_t *mac(uint32_t n)
{
	static uint8_t bytes[6];

	bytes[0] = 2;
	for (int i = 0; i < 4; i++)
		bytes[2 + i] = (uint8_t)(n >> 8 * i);
	return bytes;
}

static void learns_and_looks_up(void **state)
{
	assert_int_equal(mactable_lookup(table, mac(1), 0), MACTABLE_NONE);
	mactable_learn(table, mac(1), 7, 0);
	mactable_learn(table, mac(2), 0, 0);
	mactable_learn(table, mac(3), MACTABLE_PEER_MAX, 0);
	assert_int_equal(mactable_lookup(table, mac(1), 0), 7);
	assert_int_equal(mactable_lookup(table, mac(2), 0), 0);
	assert_int_equal(mactable_lookup(table, mac(3), 0), MACTABLE_PEER_MAX);
	assert_int_equal(table->stats.learned, 3);
}

static void not_every_address(void **state)
{
	static const uint8_t zero[6], group[6] = {1, 0, 0x5e, 0, 0, 1},
				      all[6] = {255, 255, 255, 255, 255, 255};

	mactable_learn(table, zero, 1, 0);
	mactable_learn(table, group, 1, 0);
	mactable_learn(table, all, 1, 0);
	assert_int_equal(table->stats.learned, 0);
	assert_int_equal(mactable_lookup(table, zero, 0), MACTABLE_NONE);
	assert_int_equal(mactable_lookup(table, group, 0), MACTABLE_NONE);
	assert_false(mactable_forget(table, zero));
}

static void ages(void **state)
{
	uint32_t t = UINT32_MAX - 10; /* ticks wrap around */

	mactable_learn(table, mac(1), 7, t);
	/* Another thread may have taken the time a little earlier. */
	assert_int_equal(mactable_lookup(table, mac(1), t - 1), 7);
	assert_int_equal(mactable_lookup(table, mac(1), t + MAX_AGE), 7);
	assert_int_equal(mactable_lookup(table, mac(1), t + MAX_AGE + 1), MACTABLE_NONE);
	mactable_learn(table, mac(1), 7, t + 200);
	assert_int_equal(mactable_lookup(table, mac(1), t + 200 + MAX_AGE), 7);
	assert_int_equal(table->stats.learned, 1);
}

static void moves(void **state)
{
	mactable_learn(table, mac(1), 7, 0);
	mactable_learn(table, mac(1), 8, 0);
	assert_int_equal(mactable_lookup(table, mac(1), 0), 8);
	assert_int_equal(table->stats.moved, 1);
	assert_true(mactable_forget(table, mac(1)));
	assert_false(mactable_forget(table, mac(1)));
	assert_int_equal(mactable_lookup(table, mac(1), 0), MACTABLE_NONE);
}

static void flushes_one_peer(void **state)
{
	for (uint32_t i = 0; i < 100; i++)
		mactable_learn(table, mac(i), i % 2, 0);
	mactable_flush_peer(table, 1);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(
			mactable_lookup(table, mac(i), 0), i % 2 ? MACTABLE_NONE : 0);
}

static void a_flood_costs_its_source(void **state)
{
	for (uint32_t i = 0; i < 100; i++)
		mactable_learn(table, mac(i), 1, 0);
	for (uint32_t i = 0; i < 200000; i++)
		mactable_learn(table, mac(1000 + i), 2, 1);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(mactable_lookup(table, mac(i), 1), 1);
	assert_true(table->stats.evicted > 0);
}

static void busy_set_refuses(void **state)
{
	/* Three peers fill the table; a fourth finds the full sets busy, later not. */
	for (uint32_t i = 0; i < 200000; i++)
		mactable_learn(table, mac(i), i % 3, 0);
	table->stats.refused = 0;
	for (uint32_t i = 0; i < 1000; i++)
		mactable_learn(table, mac(1000000 + i), 9, 1);
	assert_true(table->stats.refused > 900);
	table->stats.refused = 0;
	for (uint32_t i = 0; i < 1000; i++)
		mactable_learn(table, mac(1000000 + i), 9, 1 + MACTABLE_BUSY + 1);
	assert_int_equal(table->stats.refused, 0);
}

struct walked {
	uint32_t n;
	uint32_t age;
};

static void visit(void *arg, const uint8_t addr[6], uint32_t peer, uint32_t age)
{
	struct walked *walked = arg;

	assert_memory_equal(addr, mac(1), 6);
	assert_int_equal(peer, 3);
	walked->n++;
	walked->age = age;
}

static void walks(void **state)
{
	struct walked walked = {0};

	mactable_learn(table, mac(1), 3, 50);
	mactable_walk(table, 60, visit, &walked);
	assert_int_equal(walked.n, 1);
	assert_int_equal(walked.age, 10);
	mactable_walk(table, 60 + MAX_AGE, visit, &walked);
	assert_int_equal(walked.n, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(learns_and_looks_up, setup, teardown),
		cmocka_unit_test_setup_teardown(not_every_address, setup, teardown),
		cmocka_unit_test_setup_teardown(ages, setup, teardown),
		cmocka_unit_test_setup_teardown(moves, setup, teardown),
		cmocka_unit_test_setup_teardown(flushes_one_peer, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_flood_costs_its_source, setup, teardown),
		cmocka_unit_test_setup_teardown(busy_set_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(walks, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
