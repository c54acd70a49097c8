/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma/io/udp and multicast groups: who gets what is sent to a group.
 */
#include "link_pair.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* One packet from @link to a group, or to another link. */
static void send_one(struct link *link, const uint8_t dgid[16])
{
	sample_clear();
	sample_add(link, WIRE_SEND_ONLY, 100, 1, 0);
	memcpy(sample.burst.pkt[0].dgid, dgid, 16);
	link->ops->send(link, &sample.burst);
	assert_int_equal(link->stats.tx_failed, 0);
}

/* The sample is what comes next. */
static void assert_arrives(struct link *from, struct link *to, const uint8_t dgid[16])
{
	struct link_rx rx;

	pair_wait(to);
	assert_int_equal(to->ops->recv(to, &rx, 1), 1);
	assert_int_equal(rx.len, sample.size[0]);
	assert_memory_equal(rx.data, sample.expected[0], rx.len);
	assert_memory_equal(rx.sgid, from->gid, 16);
	assert_memory_equal(rx.dgid, dgid, 16);
}

/* Who is a member gets what is sent to the group, the sender too; others do not, as the
 * packet shows that is sent to them afterwards.
 */
static void group_traffic(
	const char *addr0, const char *addr1, const char *group1, const char *group2)
{
	struct pair pair = {.addr = {addr0, addr1}};
	struct link *a, *b;
	uint8_t gid[2][16];
	uint32_t scope;

	pair_open(&pair);
	a = pair.link[0];
	b = pair.link[1];
	gid_parse(group1, gid[0], &scope);
	gid_parse(group2, gid[1], &scope);
	assert_int_equal(a->ops->join(a, gid[0]), 0);
	assert_int_equal(b->ops->join(b, gid[0]), 0);
	assert_int_equal(b->ops->join(b, gid[1]), 0);
	send_one(a, gid[0]);
	assert_arrives(a, a, gid[0]);
	assert_arrives(a, b, gid[0]);
	send_one(a, gid[1]);
	assert_arrives(a, b, gid[1]);
	send_one(b, a->gid);
	assert_arrives(b, a, a->gid);
	b->ops->leave(b, gid[0]);
	send_one(a, gid[0]);
	assert_arrives(a, a, gid[0]);
	send_one(a, b->gid);
	assert_arrives(a, b, b->gid);
	b->ops->leave(b, gid[1]);
	send_one(a, b->gid);
	assert_arrives(a, b, b->gid);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pair.link[i]->stats.rx_bad_icrc, 0);
		/* what is closed with a group still joined */
		assert_int_equal(pair.link[i]->ops->join(pair.link[i], gid[1]), 0);
	}
	pair_close(&pair);
}

static void test_groups(void **state)
{
	group_traffic("127.0.0.2", "127.0.0.3", "224.9.9.1", "239.255.1.2");
	group_traffic("fd01::1", "fd01::2", "ff02::4791", "ff15::4791");
}

/* The same group on another interface is another one. */
static void test_group_elsewhere(void **state)
{
	struct pair pair = {.addr = {"127.0.0.2", "10.9.9.1"}};
	struct link_rx rx;
	uint8_t gid[16];
	uint32_t scope;

	pair_open(&pair);
	gid_parse("239.1.1.1", gid, &scope);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pair.link[i]->ops->join(pair.link[i], gid), 0);
	for (int i = 0; i < 2; i++) {
		send_one(pair.link[i], gid);
		assert_arrives(pair.link[i], pair.link[i], gid);
		assert_int_equal(pair.link[!i]->ops->recv(pair.link[!i], &rx, 1), 0);
	}
	pair_close(&pair);
}

static void test_no_groups(void **state)
{
	struct pair pair = {.addr = {"127.0.0.2", "fd00::1"}};
	static const char *const wrong[2][4] = {
		{"ff02::1:1", "127.0.0.1", "223.255.255.255", "240.0.0.0"},
		{"224.1.1.1", "fe80::1", "fd00::1", "::"}};
	uint8_t gid[16];
	uint32_t scope;

	pair_open(&pair);
	for (int i = 0; i < 2; i++) {
		for (int j = 0; j < 4; j++) {
			assert_int_equal(gid_parse(wrong[i][j], gid, &scope), 0);
			assert_int_equal(
				pair.link[i]->ops->join(pair.link[i], gid), -EINVAL);
			pair.link[i]->ops->leave(pair.link[i], gid);
		}
	}
	pair_close(&pair);
}

/* All packets of a burst to a group arrive, between others. */
static void test_group_burst(void **state)
{
	struct pair pair = {.addr = {"127.0.0.2", "127.0.0.3"}};
	struct link_rx rx[LINK_BURST];
	uint8_t gid[16];
	uint32_t scope;
	int n_group = 0, n_own = 0;

	pair_open(&pair);
	gid_parse("224.9.9.1", gid, &scope);
	assert_int_equal(pair.link[1]->ops->join(pair.link[1], gid), 0);
	sample_clear();
	for (int i = 0; i < LINK_BURST; i++) {
		sample_add(pair.link[1], WIRE_SEND_ONLY, 1000, 2, 0);
		if (i % 20 < 10)
			memcpy(sample.burst.pkt[i].dgid, gid, 16);
	}
	pair.link[0]->ops->send(pair.link[0], &sample.burst);
	assert_int_equal(pair.link[0]->stats.tx_failed, 0);
	while (n_group + n_own < LINK_BURST) {
		int n = pair.link[1]->ops->recv(pair.link[1], rx, 5);

		if (n == 0)
			pair_wait(pair.link[1]);
		for (int i = 0; i < n; i++) {
			bool to_group = !memcmp(rx[i].dgid, gid, 16);
			int at = to_group ? n_group++ : n_own++;

			at = at / 10 * 20 + at % 10 + (to_group ? 0 : 10);
			assert_int_equal(rx[i].len, sample.size[at]);
			assert_memory_equal(rx[i].data, sample.expected[at], rx[i].len);
		}
	}
	assert_int_equal(n_group, LINK_BURST / 2);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_group_elsewhere),
		cmocka_unit_test(test_no_groups),
		cmocka_unit_test(test_group_burst),
	};
	int rc = pair_network();

	return rc ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
