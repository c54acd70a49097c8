/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma/io/udp over the loopback of a network namespace of the test's own: what one link
 * sends in one burst arrives at the other whole, in order and from the right address,
 * whatever the sizes; packets of strangers, and the errors of opening.
 */
#include "link_pair.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/util.h"

/* Every payload length, alone in its burst: pad, ICRC, no GSO. */
static void every_length(struct pair *pair)
{
	for (uint32_t size = 0; size <= 300; size++) {
		sample_clear();
		sample_add(
			pair->link[1], WIRE_SEND_ONLY, size, size ? 1 + size % 3 : 0, 0);
		sample_send(pair, 1);
	}
}

/* A message as large as a burst or 64 KiB, at each path MTU, with its last packet
 * shorter. */
static void messages(struct pair *pair)
{
	for (uint32_t mtu = 1024; mtu <= PAYLOAD_MAX; mtu *= 2) {
		for (int repeat = 0; repeat < 8; repeat++) {
			uint32_t left =
				MIN(65536, LINK_BURST * mtu) - sample_random(1000);

			sample_clear();
			while (left) {
				uint32_t size = MIN(left, mtu);

				sample_add(pair->link[1], WIRE_SEND_MIDDLE, size,
					1 + sample_random(3), 5);
				left -= size;
			}
			sample_send(pair, 1 + (int)sample_random(LINK_BURST));
		}
	}
}

/* Whatever may stand side by side in a burst: sizes up and down, acknowledgements. All
 * from one port, as only those of one port stay in order.
 */
static void mixtures(struct pair *pair)
{
	static const uint8_t opcodes[] = {WIRE_SEND_ONLY, WIRE_SEND_LAST_IMM,
		WIRE_WRITE_ONLY_IMM, WIRE_READ_RESP_ONLY,
		WIRE_OPCODE(WIRE_UD, WIRE_SEND_ONLY)};
	static const uint32_t sizes[] = {0, 1, 4, 64, 255, 256, 1024, 4095, 4096};

	for (int repeat = 0; repeat < 500; repeat++) {
		int n = 1 + (int)sample_random(LINK_BURST);
		uint32_t size = sizes[sample_random(ARRAY_SIZE(sizes))];

		sample_clear();
		while (sample.burst.n_pkts < n) {
			if (sample_random(4) == 0)
				size = sizes[sample_random(ARRAY_SIZE(sizes))];
			if (sample_random(4) == 0)
				sample_add(pair->link[1], WIRE_ACK, 0, 0, 3);
			else
				sample_add(pair->link[1],
					opcodes[sample_random(ARRAY_SIZE(opcodes))], size,
					1 + sample_random(4), 3);
		}
		sample_send(pair, 1 + (int)sample_random(LINK_BURST));
	}
}

/* From several ports: order holds within each, which sport_hash tells apart. */
static void several_ports(struct pair *pair)
{
	struct link_rx rx[LINK_BURST];
	bool seen[LINK_BURST] = {false};
	int last[8], got = 0;

	sample_clear();
	for (int i = 0; i < LINK_BURST; i++)
		sample_add(pair->link[1], WIRE_SEND_ONLY, (uint32_t)i * 8, 1,
			(uint16_t)(i / 3));
	memset(last, -1, sizeof(last));
	pair->link[0]->ops->send(pair->link[0], &sample.burst);
	while (got < LINK_BURST) {
		int n = pair->link[1]->ops->recv(pair->link[1], rx, LINK_BURST);

		if (n == 0)
			pair_wait(pair->link[1]);
		for (int i = 0; i < n; i++, got++) {
			uint32_t which = (rx[i].len - WIRE_BTH_SIZE) / 8;
			int port = (int)(which / 3 % 8);

			assert_in_range(which, 0, LINK_BURST - 1);
			assert_false(seen[which]);
			seen[which] = true;
			assert_memory_equal(
				rx[i].data, sample.expected[which], rx[i].len);
			assert_true((int)which > last[port]);
			last[port] = (int)which;
		}
	}
}

/* A link talks to itself too: two queue pairs of one device. */
static void to_itself(struct pair *pair)
{
	struct pair self = {.link = {pair->link[0], pair->link[0]}};

	sample_clear();
	for (int i = 0; i < 20; i++)
		sample_add(self.link[0], WIRE_SEND_ONLY, 1000, 2, 1);
	sample_send(&self, LINK_BURST);
}

static void all_traffic(const char *addr0, const char *addr1)
{
	struct pair pair = {.addr = {addr0, addr1}};

	srand(1);
	sample_next_psn = 0;
	pair_open(&pair);
	every_length(&pair);
	messages(&pair);
	mixtures(&pair);
	several_ports(&pair);
	pair_check_counters(&pair);
	to_itself(&pair);
	pair_close(&pair);
}

static void test_ipv4(void **state)
{
	all_traffic("127.0.0.2", "127.0.0.3");
}

static void test_ipv6(void **state)
{
	all_traffic("fd00::1", "fd00::2");
}

/* GSO is what makes the link fast; a burst that falls apart would still arrive. */
static void test_one_call_per_burst(void **state)
{
	struct pair pair = {.addr = {"127.0.0.2", "127.0.0.3"}};
	uint64_t tx_before, rx_before;

	pair_open(&pair);
	sample_clear();
	for (int i = 0; i < 15; i++)
		sample_add(pair.link[1], WIRE_SEND_MIDDLE, 4096, 2, 0);
	tx_before = pair.link[0]->stats.tx_syscalls;
	rx_before = pair.link[1]->stats.rx_syscalls;
	pair.link[0]->ops->send(pair.link[0], &sample.burst);
	pair_wait(pair.link[1]);
	sample_check(pair.link[0], pair.link[1], LINK_BURST);
	assert_int_equal(pair.link[0]->stats.tx_syscalls - tx_before, 1);
	/* one that gave all, and one that gave nothing */
	assert_int_equal(pair.link[1]->stats.rx_syscalls - rx_before, 2);
	pair_close(&pair);
}

/* Bytes from a stranger: @size of them, with @tos. */
static void raw_send(
	const char *from, const char *to, const void *data, size_t size, int tos)
{
	union gid_sockaddr src, dst;
	uint8_t gid[16];
	uint32_t scope;
	socklen_t len;
	int fd;

	assert_int_equal(gid_parse(from, gid, &scope), 0);
	len = gid_to_sockaddr(gid, scope, 50000, &src);
	assert_int_equal(gid_parse(to, gid, &scope), 0);
	gid_to_sockaddr(gid, scope, WIRE_UDP_PORT, &dst);
	fd = socket(src.sa.sa_family, SOCK_DGRAM, 0);
	assert_true(fd >= 0);
	if (src.sa.sa_family == AF_INET)
		setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	else
		setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
	assert_int_equal(bind(fd, &src.sa, len), 0);
	assert_int_equal(sendto(fd, data, size, 0, &dst.sa, len), size);
	close(fd);
}

static struct link_stats raw_receive(const char *from, const char *to, size_t size,
	int tos, struct link_rx *rx, int *n)
{
	static uint8_t data[65000] = {WIRE_SEND_ONLY};
	struct link_stats stats;
	struct link *link;

	assert_int_equal(link_udp_open(to, &link), 0);
	raw_send(from, to, data, size, tos);
	pair_wait(link);
	*n = link->ops->recv(link, rx, 1);
	stats = link->stats;
	link_close(link);
	rx->data = NULL;
	return stats;
}

static void test_stranger(void **state)
{
	struct link_stats stats;
	struct link_rx rx;
	int n;

	for (size_t size = 0; size < WIRE_BTH_SIZE + WIRE_ICRC_SIZE; size++) {
		stats = raw_receive("127.0.0.1", "127.0.0.2", size, 0, &rx, &n);
		assert_int_equal(n, 0);
		assert_int_equal(stats.rx_packets, 1);
		assert_int_equal(stats.rx_runt, 1);
	}
	/* wrong ICRC: only IPv6 can tell */
	stats = raw_receive("fd00::1", "fd00::2", 65000, 0, &rx, &n);
	assert_int_equal(n, 0);
	assert_int_equal(stats.rx_bad_icrc, 1);
	/* congestion experienced */
	stats = raw_receive("127.0.0.1", "127.0.0.2", 100, 0x0b, &rx, &n);
	assert_int_equal(n, 1);
	assert_int_equal(stats.rx_icrc_unverified, 1);
	assert_int_equal(rx.ecn, 3);
}

static void test_overflow(void **state)
{
	struct pair pair = {.addr = {"127.0.0.2", "127.0.0.3"}};
	struct link_rx rx[LINK_BURST];
	int small = 4096;

	pair_open(&pair);
	assert_int_equal(setsockopt(pair.link[1]->fd, SOL_SOCKET, SO_RCVBUF, &small,
				 sizeof(small)),
		0);
	for (int i = 0; i < 100; i++) {
		sample_clear();
		sample_add(pair.link[1], WIRE_SEND_ONLY, 1000, 1, 0);
		pair.link[0]->ops->send(pair.link[0], &sample.burst);
	}
	/* the kernel tells with the next packet that gets in */
	pair_wait(pair.link[1]);
	while (pair.link[1]->ops->recv(pair.link[1], rx, LINK_BURST) > 0)
		;
	pair.link[0]->ops->send(pair.link[0], &sample.burst);
	pair_wait(pair.link[1]);
	assert_int_equal(pair.link[1]->ops->recv(pair.link[1], rx, LINK_BURST), 1);
	assert_true(pair.link[1]->stats.rx_overflow > 0);
	assert_int_equal(
		pair.link[1]->stats.rx_packets + pair.link[1]->stats.rx_overflow, 101);
	pair_close(&pair);
}

static void test_open_errors(void **state)
{
	static const char *const malformed[] = {"", "10.0.0", "10.0.0.1.2", "fd00::1::2",
		"host", "fe80::1%nosuch", "1.2.3.4%lo"};
	static const char *const foreign[] = {"198.51.100.7", "0.0.0.0",
		"::", "224.0.0.1", "2001:db8::7", "::ffff:198.51.100.7"};
	struct link *link, *again;

	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++)
		assert_int_equal(link_udp_open(malformed[i], &link), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
		assert_int_equal(link_udp_open(foreign[i], &link), -EADDRNOTAVAIL);

	assert_int_equal(link_udp_open("::ffff:127.0.0.2", &link), 0);
	assert_int_equal(link_udp_open("127.0.0.2", &again), -EADDRINUSE);
	assert_string_equal(link->ifname, "lo");
	assert_int_equal(link->ip_mtu, 65536);
	link_close(link);
	assert_int_equal(link_udp_open("127.0.0.2", &again), 0);
	link_close(again);
	link_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_one_call_per_burst),
		cmocka_unit_test(test_stranger),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_open_errors),
	};
	int rc = pair_network();

	return rc ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
