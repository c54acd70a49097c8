/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Timers against a model: an array that is searched for what is due.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "rdma/engine/timers.h"

#include "lib/util.h"

#include <string.h>

#define N     300
#define STEPS 200000

static uint64_t rng_state = 88172645463325252u;

static uint32_t rng(uint32_t below)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return (uint32_t)(rng_state % below);
}

static uint64_t earliest(const uint64_t due[N])
{
	uint64_t t = TIMERS_NONE;

	for (int i = 0; i < N; i++) {
		if (due[i])
			t = MIN(t, due[i]);
	}
	return t;
}

/* All that is due goes off, once, in no order; nothing else does. */
static void take_all(
	struct timers *h, const struct timer *timers, uint64_t due[N], uint64_t now)
{
	struct timer *t;

	assert_true(timers_deadline(h) <= earliest(due));
	while ((t = timers_take(h, now))) {
		int64_t i = t - timers;

		assert_in_range(due[i], 1, now);
		assert_int_equal(t->due_ns, 0);
		due[i] = 0;
	}
	assert_true(earliest(due) > now);
	assert_true(timers_deadline(h) > now);
}

static void test_model(void **state)
{
	static struct timer timers[N];
	static uint64_t due[N];
	struct timers h = {0};
	uint64_t now = 1;

	for (int step = 0; step < STEPS; step++) {
		uint32_t i = rng(N);

		switch (rng(5)) {
		case 0:
			due[i] = 0;
			timer_set(&h, &timers[i], 0);
			break;
		case 1:
			timer_remove(&h, &timers[i]);
			memset(&timers[i], 0, sizeof(timers[i]));
			due[i] = 0;
			break;
		case 2:
			now += rng(50);
			take_all(&h, timers, due, now);
			break;
		default:
			due[i] = now + 1 + rng(1000);
			timer_set(&h, &timers[i], due[i]);
		}
	}
	take_all(&h, timers, due, now + 1000);
	assert_int_equal(timers_deadline(&h), TIMERS_NONE);
}

/* Putting off costs no work, going off early is never too late. */
static void test_put_off(void **state)
{
	struct timers h = {0};
	struct timer a = {0}, b = {0};

	timer_set(&h, &a, 100);
	timer_set(&h, &b, 200);
	timer_set(&h, &a, 300);
	assert_int_equal(timers_deadline(&h), 100); /* too early is allowed */
	assert_null(timers_take(&h, 100));
	assert_int_equal(timers_deadline(&h), 200);
	timer_set(&h, &a, 150);
	assert_int_equal(timers_deadline(&h), 150);
	assert_ptr_equal(timers_take(&h, 199), &a);
	assert_null(timers_take(&h, 199));
	assert_ptr_equal(timers_take(&h, 200), &b);
	assert_int_equal(timers_deadline(&h), TIMERS_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_put_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
