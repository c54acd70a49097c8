/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A set of links: UDP links on addresses of the loopback interface, in a network
 * namespace of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "rdma/io/gid.h"
#include "rdma/io/link_set.h"
#include "rdma/io/udp.h"
#include "own_net.h"

#define ARRIVAL_MS 10000 /* never reached */
#define N_FLOOD	   100	 /* bursts */

static const uint8_t group[16] = {[10] = 0xff, [11] = 0xff, 239, 1, 2, 3};
static const char payload[] = "who sends it";

static struct link_burst burst;
static struct link_rx rx[LINK_BURST];

static void add(struct link_set *set, uint8_t index, const char *addr)
{
	struct link *link;

	assert_int_equal(link_udp_open(addr, &link), 0);
	assert_int_equal(link_set_add(set, index, link), 0);
}

static struct link_set *open_set(const char *first, const char *second)
{
	struct link_set *set;

	assert_int_equal(link_set_create(&set), 0);
	assert_int_equal(link_set_fd(set), -1);
	assert_int_equal(link_set_recv(set, rx, LINK_BURST), 0);
	add(set, 0, first);
	add(set, 5, second);
	return set;
}

static const uint8_t *gid_of(const struct link_set *set, uint8_t index)
{
	return link_set_link(set, index)->gid;
}

static void burst_clear(void)
{
	burst.n_pkts = 0;
	burst.n_iovs = 0;
}

/* A packet whose PSN is its place in the burst, and whose payload lies in two pieces. */
static void burst_add(uint8_t from, const uint8_t to[16])
{
	struct wire_packet pkt = {
		.opcode = 0x64, .pkey = 0xffff, .psn = (uint32_t)burst.n_pkts};
	struct link_tx *tx = &burst.pkt[burst.n_pkts++];

	*tx = (struct link_tx){.iov_first = (uint16_t)burst.n_iovs,
		.n_iov = 2,
		.pad = -sizeof(payload) & 3,
		.payload_len = sizeof(payload),
		.sgid_index = from};
	pkt.pad = tx->pad;
	memcpy(tx->dgid, to, 16);
	tx->hdr_len = (uint8_t)wire_build(&pkt, tx->hdr);
	burst.iov[burst.n_iovs++] = (struct iovec){(void *)(uintptr_t)payload, 4};
	burst.iov[burst.n_iovs++] =
		(struct iovec){(void *)(uintptr_t)(payload + 4), sizeof(payload) - 4};
}

static void send_one(struct link_set *set, uint8_t from, const uint8_t to[16])
{
	burst_clear();
	burst_add(from, to);
	link_set_send(set, &burst);
}

static bool is_readable(const struct link_set *set, int ms)
{
	struct pollfd pfd = {.fd = link_set_fd(set), .events = POLLIN};

	return poll(&pfd, 1, ms) == 1;
}

/* The next packets. */
static int receive(struct link_set *set)
{
	int n;

	while (!(n = link_set_recv(set, rx, LINK_BURST)))
		assert_true(is_readable(set, ARRIVAL_MS));
	return n;
}

/* Until it says that there is nothing, and its descriptor too. Return: how many came */
static int drain(struct link_set *set)
{
	int n, sum = 0;

	while ((n = link_set_recv(set, rx, LINK_BURST)) || is_readable(set, 0))
		sum += n;
	return sum;
}

static uint32_t psn_of(const struct link_rx *pkt)
{
	struct wire_packet parsed;

	assert_int_equal(wire_parse(pkt->data, pkt->len, &parsed), 0);
	assert_int_equal(parsed.payload_len, sizeof(payload));
	assert_memory_equal(parsed.payload, payload, sizeof(payload));
	return parsed.psn;
}

/* A burst of packets from, and to, several addresses. */
static void each_by_its_own(void **state)
{
	struct link_set *a = open_set("127.0.0.71", "127.0.0.72");
	struct link_set *b = open_set("127.0.0.73", "127.0.0.74");
	uint32_t next[2] = {0, 1};
	int got = 0;

	burst_clear();
	for (int i = 0; i < 20; i++)
		burst_add(i % 2 ? 5 : 0, gid_of(b, i % 2 ? 0 : 5));
	link_set_send(a, &burst);
	while (got < 20) {
		int n = receive(b);

		for (int i = 0; i < n; i++, got++) {
			bool odd = !memcmp(rx[i].sgid, gid_of(a, 5), 16);

			if (!odd)
				assert_memory_equal(rx[i].sgid, gid_of(a, 0), 16);
			assert_memory_equal(rx[i].dgid, gid_of(b, odd ? 0 : 5), 16);
			assert_int_equal(psn_of(&rx[i]), next[odd]);
			next[odd] += 2;
		}
	}
	assert_int_equal(drain(b), 0);
	assert_int_equal(link_set_stats(a).tx_packets, 20);
	assert_int_equal(link_set_stats(b).rx_packets, 20);
	link_set_destroy(a);
	link_set_destroy(b);
}

static void links_come_and_go(void **state)
{
	struct link_set *a = open_set("127.0.0.71", "127.0.0.72");
	struct link_set *b = open_set("127.0.0.73", "127.0.0.74");

	send_one(a, 5, gid_of(b, 0));
	assert_int_equal(receive(b), 1);
	link_set_remove(a, 5);
	assert_null(link_set_link(a, 5));
	assert_int_equal(link_set_stats(a).tx_packets, 1); /* not forgotten */
	send_one(a, 5, gid_of(b, 0));
	send_one(a, LINK_SET_MAX, gid_of(b, 0));
	assert_int_equal(link_set_stats(a).tx_failed, 2);
	assert_int_equal(drain(b), 0);

	/* the one that was received from last */
	link_set_remove(b, 0);
	send_one(a, 0, gid_of(b, 5));
	assert_true(is_readable(b, ARRIVAL_MS));
	assert_int_equal(receive(b), 1);
	add(b, 1, "127.0.0.73"); /* its port is free */
	send_one(a, 0, gid_of(b, 1));
	assert_true(is_readable(b, ARRIVAL_MS));
	assert_int_equal(receive(b), 1);
	assert_memory_equal(rx[0].dgid, gid_of(b, 1), 16);

	link_set_remove(b, 1);
	link_set_remove(b, 5);
	assert_int_equal(link_set_recv(b, rx, LINK_BURST), 0);
	assert_int_equal(link_set_stats(b).rx_packets, 3);
	link_set_destroy(a);
	link_set_destroy(b);
}

/* Who floods one address does not keep others out. */
static void a_flood(void **state)
{
	struct link_set *a = open_set("127.0.0.71", "127.0.0.72");
	struct link_set *b = open_set("127.0.0.73", "127.0.0.74");
	uint8_t calm[16];
	int n_flood = 0, n, i;

	memcpy(calm, gid_of(b, 5), 16);
	burst_clear();
	while (burst.n_pkts < LINK_BURST)
		burst_add(0, gid_of(b, 0));
	for (i = 0; i < N_FLOOD; i++)
		link_set_send(a, &burst);
	send_one(a, 0, calm);
	do {
		n = receive(b);
		for (i = 0; i < n && memcmp(rx[i].dgid, calm, 16) != 0; i++)
			n_flood++;
	} while (i == n);
	assert_true(n_flood < N_FLOOD * LINK_BURST);
	assert_int_equal(n_flood + drain(b), N_FLOOD * LINK_BURST);
	link_set_destroy(a);
	link_set_destroy(b);
}

/* A group's packets come once, whichever links there are. */
static void groups(void **state)
{
	static const uint8_t group6[16] = {0xff, 0x0e, [15] = 1};
	struct link_set *a = open_set("127.0.0.71", "127.0.0.72");
	struct link_set *b = open_set("127.0.0.73", "127.0.0.74");

	assert_int_equal(link_set_join(b, group6), -EINVAL); /* there is no IPv6 */
	assert_int_equal(link_set_join(b, group), 0);
	send_one(a, 0, group);
	assert_int_equal(receive(b), 1);
	assert_int_equal(drain(b), 0);
	assert_memory_equal(rx[0].dgid, group, 16);

	link_set_remove(b, 0); /* which had joined */
	send_one(a, 0, group);
	assert_int_equal(receive(b), 1);
	link_set_remove(b, 5);
	send_one(a, 0, group);
	add(b, 0, "127.0.0.73");
	assert_int_equal(drain(b), 0);
	send_one(a, 0, group);
	assert_int_equal(receive(b), 1);

	link_set_leave(b, group);
	send_one(a, 0, group);
	send_one(a, 0, gid_of(b, 0));
	assert_int_equal(receive(b), 1);
	assert_memory_equal(rx[0].dgid, gid_of(b, 0), 16);
	assert_int_equal(drain(b), 0);
	link_set_destroy(a);
	link_set_destroy(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_by_its_own),
		cmocka_unit_test(links_come_and_go),
		cmocka_unit_test(a_flood),
		cmocka_unit_test(groups),
	};
	int rc = own_net("ip link set lo up");

	return rc ? rc : cmocka_run_group_tests_name("link_set", tests, NULL, NULL);
}
