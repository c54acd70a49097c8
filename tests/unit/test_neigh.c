/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of neighbours on a virtual clock: who is asked when, what is believed, and
 * what hostile hosts can't do.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/util.h"
#include "rdma/io/gid.h"
#include "rdma/io/neigh.h"

#define MS NSEC_PER_MSEC
#define S  NSEC_PER_SEC

static const uint8_t mac_a[6] = {2, 0, 0, 0, 0, 0xa}, mac_b[6] = {2, 0, 0, 0, 0, 0xb};

static struct neigh_table *table;
static struct neigh_ask ask;
static uint8_t found[6];
static uint64_t now;

static const uint8_t *gid(const char *text)
{
	static uint8_t gids[4][16];
	static int next;
	uint32_t scope;
	uint8_t *p = gids[next++ % 4];

	assert_int_equal(gid_parse(text, p, &scope), 0);
	return p;
}

static int table_open(void **state)
{
	struct neigh_config config = {.prefix_len = 96 + 24, .has_gateway = true};

	memcpy(config.gid, gid("10.0.0.1"), 16);
	memcpy(config.gateway, gid("10.0.0.254"), 16);
	now = 1000 * S;
	return neigh_create(&config, &table);
}

static int table_close(void **state)
{
	neigh_destroy(table);
	return 0;
}

static enum neigh_way find(const char *dst)
{
	return neigh_find(table, gid(dst), now, 1, found, &ask);
}

static struct neigh_held *tell(
	enum neigh_msg_kind kind, const char *target, const uint8_t *mac)
{
	struct neigh_msg msg = {.kind = kind, .has_mac = mac != NULL};

	memcpy(msg.target, gid(target), 16);
	if (mac)
		memcpy(msg.mac, mac, 6);
	return neigh_told(table, &msg, now, found, &ask);
}

static void hold(const char *dst, uint32_t size, uint8_t mark)
{
	struct neigh_held *held = calloc(1, sizeof(*held) + size);

	held->n_packets = 1;
	held->size = size;
	held->data[0] = mark;
	assert_true(neigh_hold(table, gid(dst), held, now, found));
}

static int free_all(struct neigh_held *held)
{
	struct neigh_held *next;
	int n = 0;

	for (; held; held = next, n++) {
		next = held->next;
		free(held);
	}
	return n;
}

static void assert_sent_to(const char *dst, const uint8_t *mac)
{
	assert_int_equal(find(dst), NEIGH_SEND);
	assert_memory_equal(found, mac, 6);
}

static void assert_asks(const char *target, bool everybody)
{
	assert_true(ask.wanted);
	assert_memory_equal(ask.target, gid(target), 16);
	assert_int_equal(ask.everybody, everybody);
}

/* As far as NEIGH_KNOWN. */
static void learn(const char *dst, const uint8_t *mac)
{
	assert_int_equal(find(dst), NEIGH_WAIT);
	assert_null(tell(NEIGH_MSG_ANSWER, dst, mac));
	assert_sent_to(dst, mac);
	assert_false(ask.wanted);
}

static void test_resolve(void **state)
{
	struct neigh_held *held;

	assert_int_equal(find("10.0.0.2"), NEIGH_WAIT);
	assert_asks("10.0.0.2", true);
	hold("10.0.0.2", 100, 1);
	assert_int_equal(find("10.0.0.2"), NEIGH_WAIT);
	assert_false(ask.wanted);
	hold("10.0.0.2", 100, 2);
	held = tell(NEIGH_MSG_ANSWER, "10.0.0.2", mac_a);
	assert_memory_equal(found, mac_a, 6);
	assert_int_equal(held->data[0], 1);
	assert_int_equal(held->next->data[0], 2);
	assert_int_equal(free_all(held), 2);
	assert_sent_to("10.0.0.2", mac_a);
	assert_int_equal(neigh_stats(table)->unresolved, 0);
}

/* Between the question and the packet the answer came. */
static void test_answer_overtakes(void **state)
{
	struct neigh_held *held = calloc(1, sizeof(*held) + 1);

	held->size = 1;
	assert_int_equal(find("10.0.0.2"), NEIGH_WAIT);
	assert_null(tell(NEIGH_MSG_ANSWER, "10.0.0.2", mac_a));
	memset(found, 0, sizeof(found));
	assert_false(neigh_hold(table, gid("10.0.0.2"), held, now, found));
	assert_memory_equal(found, mac_a, 6);
	free(held);
}

static void test_asks_again(void **state)
{
	uint64_t wait[] = {100 * MS, 200 * MS, 400 * MS, 800 * MS, S, S};

	find("10.0.0.2");
	for (size_t i = 0; i < ARRAY_SIZE(wait); i++) {
		now += wait[i] - 1;
		assert_int_equal(find("10.0.0.2"), NEIGH_WAIT);
		assert_false(ask.wanted);
		now += 1;
		assert_int_equal(find("10.0.0.2"), NEIGH_WAIT);
		assert_asks("10.0.0.2", true);
	}
}

static void test_gateway(void **state)
{
	assert_int_equal(find("198.51.100.1"), NEIGH_WAIT);
	assert_asks("10.0.0.254", true);
	assert_null(tell(NEIGH_MSG_ANSWER, "10.0.0.254", mac_b));
	assert_sent_to("198.51.100.1", mac_b);
	assert_sent_to("203.0.113.1", mac_b);
	/* who is beyond it has no MAC here */
	assert_null(tell(NEIGH_MSG_ANSWER, "203.0.113.1", mac_a));
	assert_sent_to("203.0.113.1", mac_b);
}

static void test_networks(void **state)
{
	static const struct {
		const char *own, *other;
		int prefix;
		bool inside;
	} cases[] = {
		{"10.0.0.1", "10.0.0.255", 120, true},
		{"10.0.0.1", "10.0.1.1", 120, false},
		{"10.0.1.1", "10.0.0.1", 119, true},
		{"10.0.1.1", "10.0.2.1", 119, false},
		{"10.0.0.1", "10.0.0.1", 128, true},
		{"10.0.0.1", "10.0.0.2", 128, false},
		{"fd00::1", "fd00::ffff", 64, true},
		{"fd00::1", "fd00:0:0:1::1", 64, false},
		{"fd00::1", "fe80::1", 64, true},
		{"fd00::1", "febf::1", 64, true},
		{"fd00::1", "fec0::1", 64, false},
		{"fd00::1", "fd00::2", 127, false},
		{"fd00::2", "fd00::3", 127, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct neigh_config config = {.prefix_len = (uint8_t)cases[i].prefix};

		memcpy(config.gid, gid(cases[i].own), 16);
		assert_int_equal(
			neigh_in_network(&config, gid(cases[i].other)), cases[i].inside);
	}
}

/* Confirmed while it is used; forgotten when it does not answer any more. */
static void test_ageing(void **state)
{
	learn("10.0.0.2", mac_a);
	now += 30 * S - 1;
	assert_sent_to("10.0.0.2", mac_a);
	assert_false(ask.wanted);
	now += 1;
	assert_sent_to("10.0.0.2", mac_a);
	assert_asks("10.0.0.2", false);
	assert_memory_equal(ask.mac, mac_a, 6);
	/* IPv6: "yes", without saying the MAC again */
	assert_null(tell(NEIGH_MSG_ANSWER, "10.0.0.2", NULL));
	now += 29 * S;
	assert_sent_to("10.0.0.2", mac_a);
	assert_false(ask.wanted);
	for (int i = 0; i < 3; i++) {
		now += i ? S : 2 * S;
		assert_sent_to("10.0.0.2", mac_a);
		assert_asks("10.0.0.2", false);
	}
	now += S;
	assert_int_equal(find("10.0.0.2"), NEIGH_WAIT);
	assert_asks("10.0.0.2", true);
}

/* Told unasked: everybody is asked, rarely; the first answer counts. */
static void test_moved(void **state)
{
	learn("10.0.0.2", mac_a);
	now += 5 * S;
	assert_null(tell(NEIGH_MSG_ANNOUNCE, "10.0.0.2", mac_b));
	assert_asks("10.0.0.2", true);
	assert_sent_to("10.0.0.2", mac_a);
	assert_false(ask.wanted);
	/* said once more, it is no answer */
	assert_null(tell(NEIGH_MSG_ANNOUNCE, "10.0.0.2", mac_b));
	assert_false(ask.wanted);
	assert_sent_to("10.0.0.2", mac_a);
	assert_null(tell(NEIGH_MSG_ANSWER, "10.0.0.2", mac_b));
	assert_sent_to("10.0.0.2", mac_b);
	assert_int_equal(neigh_stats(table)->moved, 1);
}

static void test_liar(void **state)
{
	uint64_t asked;

	learn("10.0.0.2", mac_a);
	asked = neigh_stats(table)->asked;
	for (int i = 0; i < 10000; i++) { /* one second */
		now += S / 10000;
		assert_null(tell(i % 2 ? NEIGH_MSG_ANSWER : NEIGH_MSG_ANNOUNCE,
			"10.0.0.2", mac_b));
		assert_sent_to("10.0.0.2", mac_a);
		if (neigh_stats(table)->asked > asked) {
			asked++;
			assert_null(tell(NEIGH_MSG_ANSWER, "10.0.0.2", mac_a));
		}
	}
	assert_in_range(neigh_stats(table)->asked, 1, 3);
	assert_int_equal(neigh_stats(table)->moved, 0);
}

/* While the neighbour itself is asked, another one's answer only raises a doubt. */
static void test_liar_answers_check(void **state)
{
	learn("10.0.0.2", mac_a);
	now += 30 * S;
	assert_sent_to("10.0.0.2", mac_a);
	assert_asks("10.0.0.2", false);
	assert_null(tell(NEIGH_MSG_ANSWER, "10.0.0.2", mac_b));
	assert_sent_to("10.0.0.2", mac_a);
	now += S;
	assert_sent_to("10.0.0.2", mac_a);
	assert_asks("10.0.0.2", true);
	assert_null(tell(NEIGH_MSG_ANSWER, "10.0.0.2", mac_a));
	assert_sent_to("10.0.0.2", mac_a);
	assert_int_equal(neigh_stats(table)->moved, 0);
}

static void test_no_entries_for_what_is_told(void **state)
{
	for (uint32_t i = 0; i < 5000; i++) {
		char text[32];

		snprintf(text, sizeof(text), "10.0.%u.%u", i >> 8 & 0xff, i & 0xff);
		assert_null(tell(NEIGH_MSG_ANSWER, text, mac_b));
	}
	assert_int_equal(neigh_stats(table)->ignored, 5000);
	assert_int_equal(find("10.0.0.7"), NEIGH_WAIT);
}

static void test_held_limits(void **state)
{
	uint32_t n = 0;

	/* of one neighbour */
	find("10.0.0.2");
	for (int i = 0; i < 200; i++)
		hold("10.0.0.2", 4096, 0);
	assert_int_equal(neigh_stats(table)->unresolved, 200 - NEIGH_HELD_BYTES / 4096);
	/* and of all */
	for (int i = 3; i < 50; i++) {
		char text[32];

		snprintf(text, sizeof(text), "10.0.0.%d", i);
		find(text);
		for (int k = 0; k < 100; k++, n++)
			hold(text, 4096, 0);
	}
	assert_int_equal(
		neigh_stats(table)->unresolved, 200 + n - NEIGH_HELD_BYTES_ALL / 4096);
	/* all that waits for long is dropped, and makes room */
	now += 2 * S;
	hold("10.0.0.2", 4096, 7);
	assert_int_equal(free_all(tell(NEIGH_MSG_ANSWER, "10.0.0.2", mac_a)), 1);
	/* the rest is freed with the table */
}

static void test_full(void **state)
{
	struct neigh_config config = {.prefix_len = 96 + 8};
	char text[32];

	neigh_destroy(table);
	memcpy(config.gid, gid("10.0.0.1"), 16);
	assert_int_equal(neigh_create(&config, &table), 0);
	for (uint32_t i = 0; i < NEIGH_MAX; i++) {
		snprintf(text, sizeof(text), "10.1.%u.%u", i >> 8, i & 0xff);
		assert_int_equal(find(text), NEIGH_WAIT);
	}
	/* none has been idle */
	assert_int_equal(find("10.2.0.1"), NEIGH_DROP);
	assert_false(ask.wanted);
	assert_int_equal(neigh_stats(table)->unresolved, 1);
	now += S;
	assert_int_equal(find("10.1.0.0"), NEIGH_WAIT); /* so 10.1.0.1 is the oldest */
	hold("10.1.0.1", 10, 0);
	assert_int_equal(find("10.2.0.1"), NEIGH_WAIT);
	assert_int_equal(neigh_stats(table)->evicted, 1);
	assert_int_equal(neigh_stats(table)->unresolved, 2);
	assert_null(tell(NEIGH_MSG_ANSWER, "10.1.0.1", mac_a));
	assert_int_equal(neigh_stats(table)->ignored, 1);
	assert_int_equal(neigh_stats(table)->answered, 0);
	/* no gateway here */
	assert_int_equal(find("192.0.2.1"), NEIGH_DROP);
	assert_int_equal(neigh_stats(table)->no_route, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, table_open, table_close)
	const struct CMUnitTest tests[] = {
		TEST(test_resolve),
		TEST(test_answer_overtakes),
		TEST(test_asks_again),
		TEST(test_gateway),
		TEST(test_networks),
		TEST(test_ageing),
		TEST(test_moved),
		TEST(test_liar),
		TEST(test_liar_answers_check),
		TEST(test_no_entries_for_what_is_told),
		TEST(test_held_limits),
		TEST(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
