/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma/io/udp over the loopback of a network namespace of the test's own: what one link
 * sends in one burst arrives at the other whole, in order and from the right address,
 * whatever the sizes; and the errors of opening. sendmmsg() goes through this file (ld
 * --wrap), which refuses what a test tells it to.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/log.h"
#include "lib/util.h"
#include "rdma/io/gid.h"
#include "rdma/io/udp.h"

#define SKIPPED	    77
#define ARRIVAL_MS  10000 /* for packets that are on their way; never reached */
#define PAYLOAD_MAX 4096
#define SOURCE_SIZE (1 << 20)

struct pair {
	const char *addr[2];
	struct link *link[2];
};

static uint8_t source[SOURCE_SIZE];

/* What the kernel is made to say: the next @refusals sends fail with @refusal_errno,
 * those with GSO alone if @refuse_gso_only.
 */
static int refusals, refusal_errno;
static bool refuse_gso_only;

int __real_sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags);

int __wrap_sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags)
{
	if (refusals && (!refuse_gso_only || msgs[0].msg_hdr.msg_control)) {
		refusals--;
		errno = refusal_errno;
		return -1;
	}
	return __real_sendmmsg(fd, msgs, n, flags);
}

/* One burst, and what each of its packets must look like when it arrives. */
struct sample {
	struct link_burst burst;
	uint8_t expected[LINK_BURST][WIRE_HDR_MAX + PAYLOAD_MAX + 3];
	uint32_t size[LINK_BURST];
};

static struct sample sample;
static uint32_t next_psn;

/* rand() with a fixed seed: the same packets in every run */
static uint32_t random_below(uint32_t n)
{
	return (uint32_t)rand() % n;
}

static void sample_clear(void)
{
	sample.burst.n_pkts = 0;
	sample.burst.n_iovs = 0;
}

/* Add a packet with @size bytes of payload in up to @pieces pieces. */
static void sample_add(const struct link *to, uint8_t opcode, uint32_t size,
	uint32_t pieces, uint16_t sport_hash)
{
	struct link_burst *burst = &sample.burst;
	uint8_t *expected = sample.expected[burst->n_pkts];
	struct link_tx *tx = &burst->pkt[burst->n_pkts];
	struct wire_packet pkt = {.opcode = opcode,
		.pad = (uint8_t)(-size & 3),
		.pkey = 0xffff,
		.psn = next_psn++ & WIRE_24BIT};

	*tx = (struct link_tx){.pad = pkt.pad,
		.iov_first = (uint16_t)burst->n_iovs,
		.sport_hash = sport_hash,
		.payload_len = size};
	memcpy(tx->dgid, to->gid, sizeof(tx->dgid));
	tx->hdr_len = (uint8_t)wire_build(&pkt, tx->hdr);
	memcpy(expected, tx->hdr, tx->hdr_len);
	expected += tx->hdr_len;
	for (uint32_t left = size; pieces > 0; pieces--) {
		uint32_t n = pieces == 1 ? left : random_below(left + 1);
		uint8_t *at = source + random_below(SOURCE_SIZE - PAYLOAD_MAX);

		burst->iov[burst->n_iovs++] = (struct iovec){at, n};
		tx->n_iov++;
		memcpy(expected, at, n);
		expected += n;
		left -= n;
	}
	memset(expected, 0, tx->pad);
	sample.size[burst->n_pkts++] = tx->hdr_len + size + tx->pad;
}

static void wait_readable(const struct link *link)
{
	struct pollfd pfd = {.fd = link->fd, .events = POLLIN};

	assert_int_equal(poll(&pfd, 1, ARRIVAL_MS), 1);
}

/* Receive the sample at @to, at most @max packets a call. */
static void sample_check(struct link *from, struct link *to, int max)
{
	struct link_rx rx[LINK_BURST];
	int done = 0;

	while (done < sample.burst.n_pkts) {
		int n = to->ops->recv(to, rx, max);

		assert_in_range(n, 0, max);
		if (n == 0)
			wait_readable(to);
		for (int i = 0; i < n; i++, done++) {
			assert_int_equal(rx[i].len, sample.size[done]);
			assert_memory_equal(rx[i].data, sample.expected[done], rx[i].len);
			assert_memory_equal(rx[i].sgid, from->gid, 16);
			assert_memory_equal(rx[i].dgid, to->gid, 16);
			assert_int_equal(rx[i].ecn, LINK_ECN_ECT0);
		}
	}
	assert_int_equal(to->ops->recv(to, rx, max), 0);
}

static void sample_send(struct pair *pair, int max)
{
	pair->link[0]->ops->send(pair->link[0], &sample.burst);
	assert_int_equal(pair->link[0]->stats.tx_failed, 0);
	sample_check(pair->link[0], pair->link[1], max);
}

static void pair_open(struct pair *pair)
{
	for (int i = 0; i < 2; i++)
		assert_int_equal(link_udp_open(pair->addr[i], &pair->link[i]), 0);
}

static void pair_close(struct pair *pair)
{
	for (int i = 0; i < 2; i++)
		link_close(pair->link[i]);
}

static void assert_nothing_dropped(const struct pair *pair)
{
	const struct link_stats *tx = &pair->link[0]->stats, *rx = &pair->link[1]->stats;

	assert_int_equal(tx->tx_failed, 0);
	assert_int_equal(tx->tx_packets, rx->rx_packets);
	assert_int_equal(tx->tx_bytes, rx->rx_bytes);
	assert_int_equal(rx->rx_runt, 0);
	assert_int_equal(rx->rx_bad_icrc, 0);
	assert_int_equal(rx->rx_truncated, 0);
	assert_int_equal(rx->rx_overflow, 0);
	assert_int_equal(rx->rx_icrc_unverified,
		gid_is_ipv4(pair->link[1]->gid) ? rx->rx_packets : 0);
}

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
			uint32_t left = MIN(65536, LINK_BURST * mtu) - random_below(1000);

			sample_clear();
			while (left) {
				uint32_t size = MIN(left, mtu);

				sample_add(pair->link[1], WIRE_SEND_MIDDLE, size,
					1 + random_below(3), 5);
				left -= size;
			}
			sample_send(pair, 1 + (int)random_below(LINK_BURST));
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
		int n = 1 + (int)random_below(LINK_BURST);
		uint32_t size = sizes[random_below(ARRAY_SIZE(sizes))];

		sample_clear();
		while (sample.burst.n_pkts < n) {
			if (random_below(4) == 0)
				size = sizes[random_below(ARRAY_SIZE(sizes))];
			if (random_below(4) == 0)
				sample_add(pair->link[1], WIRE_ACK, 0, 0, 3);
			else
				sample_add(pair->link[1],
					opcodes[random_below(ARRAY_SIZE(opcodes))], size,
					1 + random_below(4), 3);
		}
		sample_send(pair, 1 + (int)random_below(LINK_BURST));
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
			wait_readable(pair->link[1]);
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
	next_psn = 0;
	pair_open(&pair);
	every_length(&pair);
	messages(&pair);
	mixtures(&pair);
	several_ports(&pair);
	assert_nothing_dropped(&pair);
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
	wait_readable(pair.link[1]);
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
	wait_readable(link);
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
	wait_readable(pair.link[1]);
	while (pair.link[1]->ops->recv(pair.link[1], rx, LINK_BURST) > 0)
		;
	pair.link[0]->ops->send(pair.link[0], &sample.burst);
	wait_readable(pair.link[1]);
	assert_int_equal(pair.link[1]->ops->recv(pair.link[1], rx, LINK_BURST), 1);
	assert_true(pair.link[1]->stats.rx_overflow > 0);
	assert_int_equal(
		pair.link[1]->stats.rx_packets + pair.link[1]->stats.rx_overflow, 101);
	pair_close(&pair);
}

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

	wait_readable(to);
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
			wait_readable(pair.link[1]);
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

/* Receive until nothing is left. Return: how many packets came */
static int recv_count(struct link *link)
{
	struct link_rx rx[LINK_BURST];
	int all = 0, n;

	while ((n = link->ops->recv(link, rx, LINK_BURST)) > 0)
		all += n;
	return all;
}

static void test_refused_packets(void **state)
{
	struct pair pair = {.addr = {"127.0.0.2", "127.0.0.3"}};

	pair_open(&pair);
	sample_clear();
	for (int i = 0; i < 6; i++)
		sample_add(pair.link[1], WIRE_SEND_ONLY, 100, 1, 0);
	/* IPv6 from an IPv4 link; an address that has no route; and good ones after them
	 */
	memset(sample.burst.pkt[1].dgid, 0xfd, 16);
	memcpy(sample.burst.pkt[3].dgid + 12, (uint8_t[]){198, 51, 100, 1}, 4);
	pair.link[0]->ops->send(pair.link[0], &sample.burst);
	assert_int_equal(pair.link[0]->stats.tx_failed, 2);
	assert_int_equal(pair.link[0]->stats.tx_packets, 4);
	wait_readable(pair.link[1]);
	assert_int_equal(recv_count(pair.link[1]), 4);

	/* nobody listens: the ICMP error that comes back stops nothing */
	link_close(pair.link[1]);
	for (int i = 0; i < 10; i++)
		pair.link[0]->ops->send(pair.link[0], &sample.burst);
	assert_int_equal(pair.link[0]->stats.tx_failed, 22);
	assert_int_equal(link_udp_open(pair.addr[1], &pair.link[1]), 0);
	pair.link[0]->ops->send(pair.link[0], &sample.burst);
	wait_readable(pair.link[1]);
	assert_int_equal(recv_count(pair.link[1]), 4);
	pair_close(&pair);
}

/* A burst of two messages: one of five packets, one of a longer one. */
static void two_messages(const struct pair *pair)
{
	sample_clear();
	for (int i = 0; i < 5; i++)
		sample_add(pair->link[1], WIRE_SEND_ONLY, 100, 1, 0);
	sample_add(pair->link[1], WIRE_SEND_ONLY, 200, 1, 0);
}

static void test_passing_refusals(void **state)
{
	static const int errnos[] = {EAGAIN, ENOBUFS, ECONNREFUSED, EHOSTUNREACH};
	struct pair pair = {.addr = {"127.0.0.2", "127.0.0.3"}};

	pair_open(&pair);
	for (size_t i = 0; i < ARRAY_SIZE(errnos); i++) {
		refusals = 1;
		refusal_errno = errnos[i];
		two_messages(&pair);
		sample_send(&pair, LINK_BURST);
	}
	assert_nothing_dropped(&pair);
	pair_close(&pair);
}

static void test_lasting_refusal(void **state)
{
	struct pair pair = {.addr = {"127.0.0.2", "127.0.0.3"}};
	struct link_rx rx[LINK_BURST];

	pair_open(&pair);
	refusals = 2;
	refusal_errno = ENOBUFS;
	two_messages(&pair);
	pair.link[0]->ops->send(pair.link[0], &sample.burst);
	assert_int_equal(pair.link[0]->stats.tx_failed, 5);
	assert_int_equal(pair.link[0]->stats.tx_packets, 1);
	wait_readable(pair.link[1]);
	assert_int_equal(pair.link[1]->ops->recv(pair.link[1], rx, LINK_BURST), 1);
	assert_int_equal(rx[0].len, sample.size[5]);
	pair_close(&pair);
}

static void no_log(enum log_level level, const char *module, const char *msg)
{
}

/* Without GSO one burst is lost; from then on packets are sent one by one. */
static void test_no_gso(void **state)
{
	struct pair pair = {.addr = {"fd00::1", "fd00::2"}};
	struct link_rx rx[LINK_BURST];

	pair_open(&pair);
	refusals = INT_MAX;
	refusal_errno = EIO;
	refuse_gso_only = true;
	log_set_sink(no_log);
	two_messages(&pair);
	pair.link[0]->ops->send(pair.link[0], &sample.burst);
	assert_int_equal(pair.link[0]->stats.tx_failed, 5);
	wait_readable(pair.link[1]);
	assert_int_equal(pair.link[1]->ops->recv(pair.link[1], rx, LINK_BURST), 1);

	two_messages(&pair);
	pair.link[0]->ops->send(pair.link[0], &sample.burst);
	assert_int_equal(pair.link[0]->stats.tx_failed, 5);
	sample_check(pair.link[0], pair.link[1], LINK_BURST);
	assert_int_equal(pair.link[1]->stats.rx_bad_icrc, 0);
	pair_close(&pair);
	log_set_sink(NULL);
	refusals = 0;
	refuse_gso_only = false;
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

/* struct in6_ifreq, whose header (linux/ipv6.h) does not go with netinet/in.h */
struct in6_ifreq_args {
	struct in6_addr addr;
	uint32_t prefix_len;
	int ifindex;
};

/* Bring @ifname up, with the addresses @prefix::1 and @prefix::2. */
static int interface_up(const char *ifname, const char *prefix)
{
	struct ifreq ifr = {.ifr_flags = IFF_UP};
	struct in6_ifreq_args in6 = {.prefix_len = 128};
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return -1;
	strcpy(ifr.ifr_name, ifname);
	rc = ioctl(fd, SIOCSIFFLAGS, &ifr);
	in6.ifindex = (int)if_nametoindex(ifname);
	for (int i = 1; i <= 2 && rc == 0; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%s::%d", prefix, i);
		inet_pton(AF_INET6, text, &in6.addr);
		rc = ioctl(fd, SIOCSIFADDR, &in6);
	}
	close(fd);
	return rc;
}

static int ipv4_address_add(const char *ifname, const char *addr)
{
	struct ifreq ifr = {0};
	struct sockaddr_in in = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return -1;
	strcpy(ifr.ifr_name, ifname);
	inet_pton(AF_INET, addr, &in.sin_addr);
	memcpy(&ifr.ifr_addr, &in, sizeof(in));
	rc = ioctl(fd, SIOCSIFADDR, &ifr);
	close(fd);
	return rc;
}

/* The loopback interface, and for groups over IPv6, which it does not carry, another one.
 * That is there as long as its descriptor is open.
 */
static int interfaces_up(void)
{
	struct ifreq ifr = {.ifr_name = "groups", .ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 || interface_up("lo", "fd00"))
		return -1;
	return interface_up(ifr.ifr_name, "fd01") ||
	       ipv4_address_add(ifr.ifr_name, "10.9.9.1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_one_call_per_burst),
		cmocka_unit_test(test_stranger),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_group_elsewhere),
		cmocka_unit_test(test_no_groups),
		cmocka_unit_test(test_group_burst),
		cmocka_unit_test(test_refused_packets),
		cmocka_unit_test(test_passing_refusals),
		cmocka_unit_test(test_lasting_refusal),
		cmocka_unit_test(test_no_gso),
		cmocka_unit_test(test_open_errors),
	};

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		printf("skipped: no network namespace: %s\n", strerror(errno));
		return SKIPPED;
	}
	if (interfaces_up() < 0) {
		printf("skipped: no interfaces with IPv6: %s\n", strerror(errno));
		return SKIPPED;
	}
	for (size_t i = 0; i < sizeof(source); i++)
		source[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
