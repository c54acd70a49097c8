/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of queue pairs and keys: it grows, finds what is there and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "rdma/engine/engine.h"
#include "rdma/engine/idtable.h"

#include <errno.h>

#define N (1u << 16)

static void test_grows(void **state)
{
	static uint32_t ids[N];
	struct idtable t;
	uint32_t one_more, found = 0;

	assert_int_equal(idtable_init(&t, N, 0), 0);
	for (uint32_t i = 0; i < N; i++) {
		assert_int_equal(idtable_add(&t, &ids[i], 0xffffff), 0);
		assert_true(ids[i] >= 2 && ids[i] < 0xffffff);
	}
	assert_int_equal(idtable_add(&t, &one_more, 0xffffff), -ENOMEM);
	for (uint32_t i = 0; i < N; i++)
		assert_ptr_equal(idtable_find(&t, ids[i]), &ids[i]);
	/* every number that is not there */
	idtable_remove(&t, &ids[0]);
	assert_null(idtable_find(&t, ids[0]));
	for (uint32_t id = 0; id <= 0xffffff; id++)
		found += !!idtable_find(&t, id);
	assert_int_equal(found, N - 1);
	assert_int_equal(idtable_add(&t, &one_more, 0xffffff), 0);
	idtable_destroy(&t);
}

static void test_own_bits(void **state)
{
	struct idtable t;
	uint32_t id, others[1000];

	assert_int_equal(idtable_init(&t, N, 8), 0);
	assert_int_equal(idtable_add(&t, &id, UINT32_MAX), 0);
	assert_ptr_equal(idtable_find(&t, id ^ 0xff), &id);
	for (int bit = 8; bit < 32; bit++)
		assert_null(idtable_find(&t, id ^ 1u << bit));
	for (uint32_t i = 1; i < 1000; i++)
		assert_int_equal(idtable_add(&t, &others[i], UINT32_MAX), 0);
	assert_ptr_equal(idtable_find(&t, id), &id);
	idtable_remove(&t, &id);
	assert_null(idtable_find(&t, id));
	assert_int_equal(t.n_used, 999);
	idtable_destroy(&t);
}

static void test_keys(void **state)
{
	static uint32_t keys[MR_MAX];
	static uint8_t memory[16];
	struct mr mr = {.pd = 1, .length = sizeof(memory), .addr = memory};
	struct mr_table *t;
	uint32_t key;

	assert_int_equal(mr_table_create(&t), 0);
	for (uint32_t i = 0; i < MR_MAX; i++) {
		mr.iova = i * 16;
		assert_int_equal(mr_register(t, &mr, &keys[i]), 0);
	}
	assert_int_equal(mr_register(t, &mr, &key), -ENOMEM);
	for (uint32_t i = 0; i < MR_MAX; i++) {
		assert_ptr_equal(mr_resolve(t, keys[i], 1, i * 16, 16, 0), memory);
		/* all bits count, also those that do not choose the slot */
		assert_null(mr_resolve(t, keys[i] ^ 1, 1, i * 16, 16, 0));
		assert_null(mr_resolve(t, keys[i], 2, i * 16, 16, 0));
	}
	mr_deregister(t, keys[5] ^ 1);
	assert_ptr_equal(mr_resolve(t, keys[5], 1, 80, 16, 0), memory);
	mr_deregister(t, keys[5]);
	assert_null(mr_resolve(t, keys[5], 1, 80, 16, 0));
	assert_int_equal(mr_register(t, &mr, &key), 0);
	mr_table_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows),
		cmocka_unit_test(test_own_bits),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
