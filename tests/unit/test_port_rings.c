/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where frames come into a packet port, by rings and by the socket's queue, on a veth
 * pair of the test's own: they come in order, whatever their sizes; what there is no room
 * for is counted; the descriptors tell of what there is. setsockopt() goes through this
 * file (ld --wrap), which refuses rings when a test says so.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/util.h"
#include "rdma/io/port.h"

#define SKIPPED	   77
#define ARRIVAL_MS 10000 /* for packets that are on their way; never reached */
#define LARGE	   4096
#define SMALL	   64
/* More frames than there is room for. */
#define FLOOD 1500

static bool refuse_rings;

int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t size);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size);

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
	if (refuse_rings && level == SOL_PACKET && name == PACKET_RX_RING) {
		errno = ENOMEM;
		return -1;
	}
	return __real_setsockopt(fd, level, name, value, size);
}

/* Two ports, one on each end; packets go from the first to the second, unless told. */
struct world {
	struct link *link[2];
	uint32_t sent, received; /* packets carry their number */
	bool gso;		 /* runs of packets come as one frame */
};

static struct link *open_on(const char *ifname, const char *addr)
{
	struct link_port_attr attr = {.ifname = ifname, .addr = addr};
	struct link *link;

	assert_int_equal(link_port_open(&attr, &link), 0);
	return link;
}

static void world_open(struct world *w, bool rings)
{
	*w = (struct world){0};
	refuse_rings = !rings;
	w->link[0] = open_on("v0", "10.9.0.1/24");
	w->link[1] = open_on("v1", "10.9.0.2/24");
	/* Only the queue needs system calls. */
	assert_int_equal(w->link[1]->stats.rx_syscalls == 0, rings);
}

static void world_close(struct world *w)
{
	link_close(w->link[0]);
	link_close(w->link[1]);
}

static uint8_t payload[LARGE];

static void packet_add(
	struct world *w, struct link_burst *burst, const struct link *to, uint32_t size)
{
	struct wire_packet pkt = {
		.opcode = WIRE_SEND_ONLY, .psn = w->sent++ & WIRE_24BIT};
	struct link_tx *tx = &burst->pkt[burst->n_pkts++];

	*tx = (struct link_tx){
		.iov_first = (uint16_t)burst->n_iovs, .n_iov = 1, .payload_len = size};
	tx->hdr_len = (uint8_t)wire_build(&pkt, tx->hdr);
	memcpy(tx->dgid, to->gid, sizeof(tx->dgid));
	burst->iov[burst->n_iovs++] = (struct iovec){payload, size};
}

/* Send @n packets of @size bytes as one message. */
static void send_run(
	struct world *w, struct link *from, const struct link *to, int n, uint32_t size)
{
	struct link_burst burst = {.n_pkts = 0};

	for (int i = 0; i < n; i++)
		packet_add(w, &burst, to, size);
	from->ops->send(from, &burst);
}

static void expect_number(struct world *w, const struct link_rx *rx)
{
	struct wire_packet pkt;

	assert_int_equal(wire_parse(rx->data, rx->len, &pkt), 0);
	assert_int_equal(pkt.psn, w->received++);
}

/* All that was sent, in order, at most @max a call; then there is nothing more. */
static void receive_all(struct world *w, struct link *at, int max)
{
	struct link_rx rx[LINK_BURST];

	while (w->received < w->sent) {
		int n = at->ops->recv(at, rx, max);

		assert_in_range(n, 0, max);
		if (n == 0)
			assert_true(link_wait(at, ARRIVAL_MS));
		for (int i = 0; i < n; i++)
			expect_number(w, &rx[i]);
	}
	assert_int_equal(at->ops->recv(at, rx, max), 0);
	assert_false(link_wait(at, 0));
}

/* Before Linux 6.2 there is no GSO, which the sender learns by losing a message. */
static void gso_try(struct world *w)
{
	send_run(w, w->link[0], w->link[1], 2, SMALL);
	w->gso = !w->link[0]->stats.tx_failed;
	if (!w->gso)
		w->received = w->sent;
	w->link[0]->stats.tx_failed = 0;
	receive_all(w, w->link[1], LINK_BURST);
}

/* The neighbour is not known before. */
static void meet(struct world *w)
{
	struct link_rx rx[LINK_BURST];

	send_run(w, w->link[0], w->link[1], 1, SMALL);
	while (w->received < w->sent) {
		for (int i = 0; i < 2; i++)
			if (w->link[i]->ops->recv(w->link[i], rx, LINK_BURST))
				expect_number(w, &rx[0]);
	}
	receive_all(w, w->link[1], 1);
	gso_try(w);
}

/* Small and large frames, in any order, more than the rings have slots. */
static void in_order(struct world *w, struct link *from, struct link *to)
{
	for (int round = 0; round < 200; round++) {
		for (int i = rand() % 8; i >= 0; i--) {
			bool large = rand() % 2;

			send_run(w, from, to, large ? 2 + rand() % 14 : 1,
				rand() % 2 ? LARGE : SMALL);
		}
		receive_all(w, to, 1 + rand() % LINK_BURST);
	}
	assert_int_equal(to->stats.rx_overflow, 0);
	assert_int_equal(to->stats.rx_bad_icrc, 0);
	assert_int_equal(from->stats.tx_failed, 0);
}

static void order_of_sizes(void **state)
{
	struct world w;

	for (int rings = 0; rings < 2; rings++) {
		world_open(&w, rings);
		meet(&w);
		in_order(&w, w.link[0], w.link[1]);
		world_close(&w);
	}
}

/* What a port sends to itself goes out by another socket and comes in like the rest. */
static void order_to_itself(void **state)
{
	struct world w;

	world_open(&w, true);
	meet(&w);
	in_order(&w, w.link[0], w.link[0]);
	world_close(&w);
}

/* The kernel takes the sockets off the interface and puts them back: each must get its
 * own size of frames then.
 */
static void interface_goes_and_comes(void **state)
{
	struct world w;

	world_open(&w, true);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(system("ip link set v1 down && ip link set v1 up"), 0);
		link_wait(w.link[1], 0); /* takes the error */
		meet(&w);
		in_order(&w, w.link[0], w.link[1]);
	}
	assert_int_equal(w.link[1]->stats.rx_truncated, 0);
	world_close(&w);
}

/* Many frames of one packet each. */
static void flood(struct world *w, int n)
{
	for (int i = 0; i < n; i++)
		send_run(w, w->link[0], w->link[1], 1, SMALL);
}

static uint32_t drain(struct link *link)
{
	struct link_rx rx[LINK_BURST];
	uint32_t n_all = 0;
	int n;

	while ((n = link->ops->recv(link, rx, LINK_BURST)) > 0)
		n_all += (uint32_t)n;
	return n_all;
}

/* No room: what comes is what came first, and the rest is counted when the next comes. */
static void overflow(void **state)
{
	uint64_t end = now_ns() + ARRIVAL_MS * NSEC_PER_MSEC;
	uint32_t n_sent = FLOOD, n;
	struct world w;

	world_open(&w, true);
	meet(&w);
	flood(&w, FLOOD);
	n = drain(w.link[1]);
	assert_in_range(n, 1, FLOOD - 1);
	while (n + w.link[1]->stats.rx_overflow != n_sent) {
		flood(&w, 1);
		n_sent++;
		n += drain(w.link[1]);
		assert_true(now_ns() < end);
	}
	assert_true(w.link[1]->stats.rx_overflow > 0);
	world_close(&w);
}

/* A full ring of one kind does not keep the other from getting its frames. */
static void overflow_of_one_kind(void **state)
{
	uint64_t end = now_ns() + ARRIVAL_MS * NSEC_PER_MSEC;
	struct link_rx rx[LINK_BURST];
	uint32_t n_large = 0;
	struct world w;

	world_open(&w, true);
	meet(&w);
	if (!w.gso) {
		world_close(&w);
		skip();
	}
	flood(&w, FLOOD);
	send_run(&w, w.link[0], w.link[1], 15, LARGE);
	while (n_large < 15) {
		int n = w.link[1]->ops->recv(w.link[1], rx, LINK_BURST);

		for (int i = 0; i < n; i++)
			n_large += rx[i].len > LARGE;
		assert_true(now_ns() < end);
	}
	assert_int_equal(w.link[1]->stats.rx_truncated, 0);
	world_close(&w);
}

static void expect_some(struct world *w, int n)
{
	struct link_rx rx[LINK_BURST];

	assert_int_equal(w->link[1]->ops->recv(w->link[1], rx, n), n);
	for (int i = 0; i < n; i++)
		expect_number(w, &rx[i]);
}

/* A frame of which some packets wait for the next call is kept, while others come in:
 * more than the ring has slots.
 */
static void half_read_frames(void **state)
{
	struct world w;

	for (int rings = 0; rings < 2; rings++) {
		world_open(&w, rings);
		meet(&w);
		send_run(&w, w.link[0], w.link[1], 15, LARGE);
		assert_true(link_wait(w.link[1], ARRIVAL_MS));
		expect_some(&w, 7);
		expect_some(&w, 3);
		for (int i = 0; i < 100; i++)
			send_run(&w, w.link[0], w.link[1], 15, LARGE);
		expect_some(&w, 5);
		world_close(&w);
	}
}

/* What a thread sends from two cores may change its order in the kernel. */
static void stay_on_one_core(void)
{
	cpu_set_t cores, one;

	sched_getaffinity(0, sizeof(cores), &cores);
	CPU_ZERO(&one);
	for (int i = CPU_SETSIZE - 1; i >= 0 && !CPU_COUNT(&one); i--)
		if (CPU_ISSET(i, &cores))
			CPU_SET(i, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_of_sizes),
		cmocka_unit_test(order_to_itself),
		cmocka_unit_test(interface_goes_and_comes),
		cmocka_unit_test(overflow),
		cmocka_unit_test(overflow_of_one_kind),
		cmocka_unit_test(half_read_frames),
	};

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		printf("skipped: no network namespace: %s\n", strerror(errno));
		return SKIPPED;
	}
	if (system("ip link add v0 mtu 9000 type veth peer name v1 mtu 9000 && "
		   "ip link set v0 up && ip link set v1 up")) {
		printf("skipped: no veth pair\n");
		return SKIPPED;
	}
	stay_on_one_core();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
