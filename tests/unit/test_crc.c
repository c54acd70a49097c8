/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every implementation of the CRC that this CPU can run, against ISA-L's: all lengths and
 * alignments around the sizes of their steps, chained calls, and that a copy is a copy of
 * the right bytes and of no others.
 */
#include "rdma/wire/crc.h"

#include <isa-l/crc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/util.h"

#define SIZE_MAX_ALL 1100 /* four steps of the largest kind and more */
#define LARGE	     70000
#define GUARD	     0xa5

static uint8_t src[LARGE + 64];
static uint8_t dst[LARGE + 128];

static void src_fill(void)
{
	for (size_t i = 0; i < sizeof(src); i++)
		src[i] = (uint8_t)(random_u32() >> 7);
}

static void check_copied(const uint8_t *to, const uint8_t *from, size_t size)
{
	assert_memory_equal(to, from, size);
	assert_int_equal(to[-1], GUARD);
	assert_int_equal(to[size], GUARD);
}

static void check_one(const struct crc_variant *v, size_t size, size_t from, size_t to)
{
	const uint8_t *p = src + from;
	uint8_t *q = dst + 1 + to;
	uint32_t seed = (uint32_t)(size * 2654435761u);
	uint32_t want = crc32_gzip_refl(seed, p, size);

	assert_int_equal(v->add(seed, p, size), want);
	memset(q - 1, GUARD, size + 2);
	assert_int_equal(v->copy(seed, q, p, size, size % 2 ? p + size : NULL), want);
	check_copied(q, p, size);
}

/* Each test runs with each variant. */
static void for_each_variant(void (*check)(const struct crc_variant *v))
{
	for (int i = 0; i < CRC_VARIANTS_MAX; i++) {
		const struct crc_variant *v = &crc_variants[i];

		if (!v->name)
			continue;
		if (!v->usable())
			print_message("%s: this CPU has not\n", v->name);
		else
			check(v);
	}
}

static void check_lengths(const struct crc_variant *v)
{
	for (size_t size = 0; size <= SIZE_MAX_ALL; size++)
		for (size_t align = 0; align < 64; align++)
			check_one(v, size, align, (align * 7 + size) % 64);
}

static void check_large(const struct crc_variant *v)
{
	for (size_t size = 4000; size < LARGE; size += 1 + size / 40)
		check_one(v, size, size % 64, size % 61);
}

/* A packet's CRC is taken piece by piece. */
static void check_chained(const struct crc_variant *v)
{
	for (size_t first = 0; first <= 600; first++) {
		uint32_t whole = crc32_gzip_refl(0, src, 1000);

		assert_int_equal(
			v->add(v->add(0, src, first), src + first, 1000 - first), whole);
		assert_int_equal(v->copy(v->copy(0, dst, src, first, NULL), dst + first,
					 src + first, 1000 - first, NULL),
			whole);
		assert_memory_equal(dst, src, 1000);
	}
}

static void test_lengths(void **state)
{
	(void)state;
	for_each_variant(check_lengths);
}

static void test_large(void **state)
{
	(void)state;
	for_each_variant(check_large);
}

static void test_chained(void **state)
{
	(void)state;
	for_each_variant(check_chained);
}

static void test_known_value(void **state)
{
	(void)state;
	/* The check value that catalogues of CRCs give for this one. */
	assert_int_equal(crc_add(0, "123456789", 9), 0xcbf43926);
	assert_int_equal(crc_copy(0, dst, "123456789", 9, NULL), 0xcbf43926);
}

static void test_usable_is_chosen(void **state)
{
	const struct crc_variant *v = crc_variant();

	(void)state;
	assert_in_range((uintptr_t)v, (uintptr_t)crc_variants,
		(uintptr_t)(crc_variants + CRC_VARIANTS_MAX - 1));
	assert_true(v->usable());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_chained),
		cmocka_unit_test(test_known_value),
		cmocka_unit_test(test_usable_is_chosen),
	};

	src_fill();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
