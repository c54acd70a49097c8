/* SPDX-License-Identifier: BSD-3-Clause */
#include "link_pair.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
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

#define SKIPPED	    77
#define ARRIVAL_MS  10000 /* for packets that are on their way; never reached */
#define SOURCE_SIZE (1 << 20)

static uint8_t source[SOURCE_SIZE];
struct sample sample;
uint32_t sample_next_psn;

uint32_t sample_random(uint32_t n)
{
	return (uint32_t)rand() % n;
}

void sample_clear(void)
{
	sample.burst.n_pkts = 0;
	sample.burst.n_iovs = 0;
}

void sample_add(const struct link *to, uint8_t opcode, uint32_t size, uint32_t pieces,
	uint16_t sport_hash)
{
	struct link_burst *burst = &sample.burst;
	uint8_t *expected = sample.expected[burst->n_pkts];
	struct link_tx *tx = &burst->pkt[burst->n_pkts];
	struct wire_packet pkt = {.opcode = opcode,
		.pad = (uint8_t)(-size & 3),
		.pkey = 0xffff,
		.psn = sample_next_psn++ & WIRE_24BIT};

	*tx = (struct link_tx){.pad = pkt.pad,
		.iov_first = (uint16_t)burst->n_iovs,
		.sport_hash = sport_hash,
		.payload_len = size};
	memcpy(tx->dgid, to->gid, sizeof(tx->dgid));
	tx->hdr_len = (uint8_t)wire_build(&pkt, tx->hdr);
	memcpy(expected, tx->hdr, tx->hdr_len);
	expected += tx->hdr_len;
	for (uint32_t left = size; pieces > 0; pieces--) {
		uint32_t n = pieces == 1 ? left : sample_random(left + 1);
		uint8_t *at = source + sample_random(SOURCE_SIZE - PAYLOAD_MAX);

		burst->iov[burst->n_iovs++] = (struct iovec){at, n};
		tx->n_iov++;
		memcpy(expected, at, n);
		expected += n;
		left -= n;
	}
	memset(expected, 0, tx->pad);
	sample.size[burst->n_pkts++] = tx->hdr_len + size + tx->pad;
}

void pair_wait(const struct link *link)
{
	struct pollfd pfd = {.fd = link->fd, .events = POLLIN};

	assert_int_equal(poll(&pfd, 1, ARRIVAL_MS), 1);
}

void sample_check(struct link *from, struct link *to, int max)
{
	struct link_rx rx[LINK_BURST];
	int done = 0;

	while (done < sample.burst.n_pkts) {
		int n = to->ops->recv(to, rx, max);

		assert_in_range(n, 0, max);
		if (n == 0)
			pair_wait(to);
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

void sample_send(struct pair *pair, int max)
{
	pair->link[0]->ops->send(pair->link[0], &sample.burst);
	assert_int_equal(pair->link[0]->stats.tx_failed, 0);
	sample_check(pair->link[0], pair->link[1], max);
}

void pair_open(struct pair *pair)
{
	for (int i = 0; i < 2; i++)
		assert_int_equal(link_udp_open(pair->addr[i], &pair->link[i]), 0);
}

void pair_close(struct pair *pair)
{
	for (int i = 0; i < 2; i++)
		link_close(pair->link[i]);
}

void pair_check_counters(const struct pair *pair)
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

/* Is an address still looked for on the link? Nothing can be bound to it until then. */
static bool is_tentative(void)
{
	FILE *file = fopen("/proc/net/if_inet6", "re");
	unsigned int flags = 0, all = 0;

	assert_non_null(file);
	while (fscanf(file, "%*s %*x %*x %*x %x %*s", &flags) == 1)
		all |= flags;
	fclose(file);
	return all & IFA_F_TENTATIVE;
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

int pair_network(void)
{
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		printf("skipped: no network namespace: %s\n", strerror(errno));
		return SKIPPED;
	}
	if (interfaces_up() < 0) {
		printf("skipped: no interfaces with IPv6: %s\n", strerror(errno));
		return SKIPPED;
	}
	while (is_tentative())
		usleep(1000);
	for (size_t i = 0; i < sizeof(source); i++)
		source[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16));
	return 0;
}
