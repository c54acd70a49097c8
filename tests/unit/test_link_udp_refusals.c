/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma/io/udp when the kernel refuses what is to be sent. sendmmsg() goes through this
 * file (ld --wrap), which refuses what a test tells it to.
 */
#include "link_pair.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "lib/log.h"
#include "lib/util.h"

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
	pair_wait(pair.link[1]);
	assert_int_equal(recv_count(pair.link[1]), 4);

	/* nobody listens: the ICMP error that comes back stops nothing */
	link_close(pair.link[1]);
	for (int i = 0; i < 10; i++)
		pair.link[0]->ops->send(pair.link[0], &sample.burst);
	assert_int_equal(pair.link[0]->stats.tx_failed, 22);
	assert_int_equal(link_udp_open(pair.addr[1], &pair.link[1]), 0);
	pair.link[0]->ops->send(pair.link[0], &sample.burst);
	pair_wait(pair.link[1]);
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
	pair_check_counters(&pair);
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
	pair_wait(pair.link[1]);
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
	pair_wait(pair.link[1]);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_packets),
		cmocka_unit_test(test_passing_refusals),
		cmocka_unit_test(test_lasting_refusal),
		cmocka_unit_test(test_no_gso),
	};
	int rc = pair_network();

	return rc ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
