/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmd/heap.c: memory comes and goes in random pieces, and the table agrees with a map of
 * pages; a key that a burst or a message in flight may still use is not taken away.
 * DPDK's memory events and the device's registration are played by this file (linked by
 * --wrap).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rte_errno.h>
#include <rte_memory.h>

#include "lib/util.h"
#include "pmd/heap.h"

#define PAGE	0x1000ul
#define N_PAGES 64
#define BASE	0x100000000ul
#define READER	0

#define MAX_KEY 20000

static struct ibv_mr *registered[MAX_KEY]; /* by key */
static unsigned n_mrs;
static uint32_t next_key;
static bool refuse;

static struct heap heap;
static rte_mem_event_callback_t on_event;
static void *on_event_arg;

int __wrap_rte_mem_event_callback_register(
	const char *name, rte_mem_event_callback_t callback, void *arg);
int __wrap_rte_mem_event_callback_unregister(const char *name, void *arg);
int __wrap_rte_memseg_contig_walk(rte_memseg_contig_walk_t walk, void *arg);
struct ibv_mr *__wrap_ibv_reg_mr(
	struct ibv_pd *pd, void *addr, size_t length, int access);
int __wrap_ibv_dereg_mr(struct ibv_mr *mr);

int __wrap_rte_mem_event_callback_register(
	const char *name, rte_mem_event_callback_t callback, void *arg)
{
	if (refuse) {
		rte_errno = EEXIST;
		return -1;
	}
	on_event = callback;
	on_event_arg = arg;
	return 0;
}

int __wrap_rte_mem_event_callback_unregister(const char *name, void *arg)
{
	return 0;
}

/* At the start there are pages 0 to 3. */
int __wrap_rte_memseg_contig_walk(rte_memseg_contig_walk_t walk, void *arg)
{
	struct rte_memseg segment = {.addr = (void *)BASE};

	return walk(NULL, &segment, 4 * PAGE, arg);
}

struct ibv_mr *__wrap_ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	struct ibv_mr *mr;

	if (refuse) {
		errno = ENOMEM;
		return NULL;
	}
	mr = calloc(1, sizeof(*mr));
	assert_non_null(mr);
	mr->addr = addr;
	mr->length = length;
	mr->lkey = ++next_key;
	assert_true(next_key < MAX_KEY);
	registered[mr->lkey] = mr;
	n_mrs++;
	return mr;
}

int __wrap_ibv_dereg_mr(struct ibv_mr *mr)
{
	assert_ptr_equal(registered[mr->lkey], mr);
	registered[mr->lkey] = NULL;
	n_mrs--;
	free(mr);
	return 0;
}

static int setup(void **state)
{
	struct rte_rcu_qsbr *qsbr = aligned_alloc(RTE_CACHE_LINE_SIZE,
		RTE_ALIGN_CEIL(rte_rcu_qsbr_get_memsize(1), RTE_CACHE_LINE_SIZE));

	assert_non_null(qsbr);
	rte_rcu_qsbr_init(qsbr, 1);
	rte_rcu_qsbr_thread_register(qsbr, READER);
	return heap_init(&heap, NULL, qsbr);
}

static int teardown(void **state)
{
	heap_destroy(&heap);
	free(heap.qsbr);
	refuse = false;
	return n_mrs; /* all were given back */
}

static void event(enum rte_mem_event type, uint32_t page, uint32_t n)
{
	on_event(type, (void *)(BASE + page * PAGE), n * PAGE, on_event_arg);
}

static uint32_t key_of(uintptr_t addr)
{
	uint32_t hint = 0;
	const struct heap_region *region = heap_find(heap_table(&heap), addr, &hint);

	return region ? region->lkey : 0;
}

static void what_was_there_before(void **state)
{
	assert_int_not_equal(key_of(BASE), 0);
	assert_int_equal(key_of(BASE), key_of(BASE + 4 * PAGE - 1));
	assert_int_equal(key_of(BASE + 4 * PAGE), 0);
	assert_int_equal(key_of(BASE - 1), 0);
	/* The same again by an event, with more: only the rest is new. */
	event(RTE_MEM_EVENT_ALLOC, 2, 4);
	assert_int_equal(n_mrs, 2);
	assert_int_not_equal(key_of(BASE + 5 * PAGE), 0);
}

static void a_piece_from_the_middle_goes(void **state)
{
	uint32_t key = key_of(BASE);

	event(RTE_MEM_EVENT_FREE, 1, 2);
	assert_int_equal(key_of(BASE), key);
	assert_int_equal(key_of(BASE + 1 * PAGE), 0);
	assert_int_equal(key_of(BASE + 2 * PAGE), 0);
	assert_int_equal(key_of(BASE + 3 * PAGE), key);
	assert_int_equal(n_mrs, 1);
	/* It comes back: with a key of its own, and the old one goes with the last page.
	 */
	event(RTE_MEM_EVENT_ALLOC, 1, 1);
	assert_int_not_equal(key_of(BASE + 1 * PAGE), key);
	event(RTE_MEM_EVENT_FREE, 0, 1);
	assert_non_null(registered[key]);
	event(RTE_MEM_EVENT_FREE, 3, 1);
	event(RTE_MEM_EVENT_ALLOC, 9, 1); /* time for what was put off */
	assert_null(registered[key]);
}

/* A burst that began before keeps its table and its keys until it ends. */
static void a_burst_keeps_its_table(void **state)
{
	const struct heap_table *table;
	uint32_t hint = 0, key;

	rte_rcu_qsbr_thread_online(heap.qsbr, READER);
	table = heap_table(&heap);
	key = heap_find(table, BASE, &hint)->lkey;
	event(RTE_MEM_EVENT_FREE, 0, 4);
	event(RTE_MEM_EVENT_ALLOC, 8, 1);
	assert_int_equal(key_of(BASE), 0);
	assert_int_equal(heap_find(table, BASE, &hint)->lkey, key);
	assert_non_null(registered[key]);
	rte_rcu_qsbr_thread_offline(heap.qsbr, READER);
	event(RTE_MEM_EVENT_ALLOC, 9, 1);
	assert_null(registered[key]);
	assert_int_equal(n_mrs, 2);
}

static void refused_memory_is_not_found(void **state)
{
	refuse = true;
	event(RTE_MEM_EVENT_ALLOC, 10, 2);
	assert_int_equal(key_of(BASE + 10 * PAGE), 0);
	assert_int_equal(heap.n_failed, 1);
}

/* What could not be made need not be destroyed, but may be. */
static void no_callback_no_heap(void **state)
{
	struct heap other;

	refuse = true;
	assert_int_equal(heap_init(&other, NULL, heap.qsbr), -EEXIST);
	heap_destroy(&other);
}

static void agrees_with_a_map(void **state)
{
	bool there[N_PAGES] = {true, true, true, true};
	uint32_t hint = 0;

	srand(1);
	for (int round = 0; round < 5000; round++) {
		uint32_t page = (uint32_t)rand() % N_PAGES;
		uint32_t n = 1 + (uint32_t)rand() % MIN(N_PAGES - page, 8u);
		bool alloc = rand() & 1;

		event(alloc ? RTE_MEM_EVENT_ALLOC : RTE_MEM_EVENT_FREE, page, n);
		memset(there + page, alloc, n);
		for (uint32_t i = 0; i < N_PAGES; i++) {
			uintptr_t addr = BASE + i * PAGE + (uint32_t)rand() % PAGE;
			const struct heap_region *region =
				heap_find(heap_table(&heap), addr, &hint);

			assert_int_equal(region != NULL, there[i]);
			if (!region)
				continue;
			assert_true(addr >= region->start && addr < region->end);
			assert_ptr_equal(registered[region->lkey], region->mr);
			assert_true(region->start >= (uintptr_t)region->mr->addr &&
				    region->end <= (uintptr_t)region->mr->addr +
							   region->mr->length);
		}
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(what_was_there_before),
		TEST(a_piece_from_the_middle_goes),
		TEST(a_burst_keeps_its_table),
		TEST(refused_memory_is_not_found),
		TEST(no_callback_no_heap),
		TEST(agrees_with_a_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
