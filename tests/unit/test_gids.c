/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The GID table of a device that has several addresses, in a network namespace of the
 * test's own: those that are named, and all that an interface has as they come and go.
 */
#include "verbs_end.h"

#include "lib/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SKIPPED 77
#define WAIT_MS 10000 /* never reached */
#define TABLE	32
#define ROCE	4791
#define FIRST	"10.88.0.1"
#define SECOND	"10.88.1.1"
#define THIRD	"fd88::1"
#define COMES	"10.88.2.1"
#define LOCAL	"fe80::8888"
#define IP_ADD	"ip addr add "
#define IP_DEL	"ip addr del "

/* Payload, headers from UDP on, and IP's (see port.c). */
enum { IPV4_LEN = 20, MTU_IPV4 = 4096 + 44 + IPV4_LEN, MTU_IPV6 = MTU_IPV4 + 20 };

static void run(const char *command)
{
	assert_int_equal(system(command), 0);
}

static struct ibv_context *open_interface(void)
{
	struct vrdma_attr attr = {.interface = "v0"};
	struct ibv_context *ctx = vrdma_open_device(&attr);

	assert_non_null(ctx);
	return ctx;
}

static union ibv_gid gid_of(const char *addr)
{
	union ibv_gid gid = {.raw = {[10] = 0xff, [11] = 0xff}};

	if (inet_pton(AF_INET, addr, gid.raw + 12) != 1)
		assert_int_equal(inet_pton(AF_INET6, addr, gid.raw), 1);
	return gid;
}

/* @addr: NULL: the entry is empty */
static void expect_gid(struct ibv_context *ctx, uint32_t index, const char *addr)
{
	static const union ibv_gid none;
	union ibv_gid wanted = addr ? gid_of(addr) : none, gid;
	struct ibv_gid_entry entry;

	assert_int_equal(ibv_query_gid(ctx, 1, (int)index, &gid), 0);
	assert_memory_equal(gid.raw, wanted.raw, 16);
	if (!addr) {
		assert_int_equal(ibv_query_gid_ex(ctx, 1, index, &entry, 0), ENODATA);
		return;
	}
	assert_int_equal(ibv_query_gid_ex(ctx, 1, index, &entry, 0), 0);
	assert_memory_equal(entry.gid.raw, wanted.raw, 16);
	assert_int_equal(entry.gid_index, index);
	assert_int_equal(entry.gid_type, IBV_GID_TYPE_ROCE_V2);
	assert_int_not_equal(entry.ndev_ifindex, 0);
}

static int table_size(struct ibv_context *ctx)
{
	struct ibv_port_attr port;

	assert_int_equal(ibv_query_port(ctx, 1, &port), 0);
	return port.gid_tbl_len;
}

static int n_gids(struct ibv_context *ctx)
{
	struct ibv_gid_entry entries[2 * TABLE];

	return (int)ibv_query_gid_table(ctx, entries, ARRAY_SIZE(entries), 0);
}

static uint64_t counter(struct ibv_context *ctx, const char *name)
{
	struct vrdma_counter counters[256];
	int n = vrdma_query_counters(ctx, counters, ARRAY_SIZE(counters)), i = 0;

	while (i < n && strcmp(counters[i].name, name) != 0)
		i++;
	assert_true(i < n);
	return counters[i].value;
}

static void expect_change(struct ibv_context *ctx)
{
	struct pollfd p = {.fd = ctx->async_fd, .events = POLLIN};
	struct ibv_async_event event;

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(ibv_get_async_event(ctx, &event), 0);
	assert_int_equal(event.event_type, IBV_EVENT_GID_CHANGE);
	ibv_ack_async_event(&event);
}

static void expect_no_change(struct ibv_context *ctx)
{
	struct pollfd p = {.fd = ctx->async_fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 0), 0);
}

/* What another process' device would have. */
static int take_port(const char *addr)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(ROCE)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(inet_pton(AF_INET, addr, &in.sin_addr), 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static void named(void **state)
{
	struct ibv_context *ctx;
	struct vrdma_attr attr = {.addr = THIRD "," FIRST "," SECOND};
	int fd;

	ctx = vrdma_open_device(&attr);
	assert_non_null(ctx);
	assert_int_equal(table_size(ctx), 3);
	assert_int_equal(n_gids(ctx), 3);
	expect_gid(ctx, 0, THIRD);
	expect_gid(ctx, 1, FIRST);
	expect_gid(ctx, 2, SECOND);
	ibv_close_device(ctx);

	fd = take_port(SECOND);
	assert_null(vrdma_open_device(&attr));
	assert_int_equal(errno, EADDRINUSE);
	close(fd);
	attr.addr = FIRST ",127.0.0.1"; /* of another interface */
	assert_null(vrdma_open_device(&attr));
	assert_int_equal(errno, EINVAL);
	attr.interface = "v0";
	assert_null(vrdma_open_device(&attr));
	assert_int_equal(errno, EINVAL);
	attr = (struct vrdma_attr){.interface = "none"};
	assert_null(vrdma_open_device(&attr));
	assert_int_equal(errno, ENODEV);
	attr.interface = "v1"; /* it has no address */
	assert_null(vrdma_open_device(&attr));
	assert_int_equal(errno, EADDRNOTAVAIL);
}

static void follows(void **state)
{
	struct ibv_context *ctx = open_interface(), *second = open_interface();

	assert_int_equal(table_size(ctx), TABLE);
	assert_int_equal(n_gids(ctx), 4);
	expect_gid(ctx, 0, FIRST);
	expect_gid(ctx, 1, SECOND);
	expect_gid(ctx, 2, THIRD);
	expect_gid(ctx, 3, LOCAL);
	expect_gid(ctx, 4, NULL);

	run(IP_ADD COMES "/24 dev v0");
	expect_change(ctx);
	expect_change(second);
	expect_gid(ctx, 4, COMES);
	expect_gid(second, 4, COMES);
	run(IP_DEL SECOND "/24 dev v0");
	expect_change(ctx);
	expect_gid(ctx, 1, NULL);
	assert_int_equal(n_gids(ctx), 4);
	/* the first free entry, whatever it had before */
	run(IP_ADD "fd88::2/64 dev v0 nodad");
	expect_change(ctx);
	expect_gid(ctx, 1, "fd88::2");
	run(IP_ADD SECOND "/24 dev v0");
	expect_change(ctx);
	expect_gid(ctx, 5, SECOND);
	expect_gid(second, 5, SECOND);
	expect_no_change(ctx);
	assert_int_equal(counter(ctx, "gid_changes"), 4);
	ibv_close_device(second);
	ibv_close_device(ctx);
	run(IP_DEL "fd88::2/64 dev v0");
	run(IP_DEL COMES "/24 dev v0");
}

/* IPv6 makes sure first that nobody else has an address. */
static void not_before_it_is_ours(void **state)
{
	struct ibv_context *ctx = open_interface();

	run(IP_ADD "fd88::3/64 dev v0");
	expect_change(ctx);
	expect_gid(ctx, 4, "fd88::3");
	assert_int_equal(counter(ctx, "gids_left_out"), 0);
	run(IP_DEL "fd88::3/64 dev v0");
	expect_change(ctx);
	ibv_close_device(ctx);
}

static void others_have_some(void **state)
{
	int fd = take_port(FIRST), fds[2];
	struct ibv_context *ctx = open_interface();

	expect_gid(ctx, 0, SECOND);
	assert_int_equal(n_gids(ctx), 3);
	assert_int_equal(counter(ctx, "gids_left_out"), 1);
	/* when it next looks, it is told of nothing new, and then has it */
	run(IP_ADD COMES "/24 dev v0");
	expect_change(ctx);
	assert_int_equal(counter(ctx, "gids_left_out"), 1);
	close(fd);
	run(IP_DEL COMES "/24 dev v0");
	expect_change(ctx);
	expect_change(ctx);
	expect_gid(ctx, 3, FIRST);
	ibv_close_device(ctx);

	/* nothing is left, as this interface has one address */
	run("ip addr add 10.89.0.1/24 dev v1");
	fd = take_port("10.89.0.1");
	assert_null(vrdma_open_device(&(struct vrdma_attr){.interface = "v1"}));
	assert_int_equal(errno, EADDRINUSE);
	close(fd);
	run("ip addr del 10.89.0.1/24 dev v1");

	/* two devices on one interface, both on addresses of their own */
	ctx = vrdma_open_device(&(struct vrdma_attr){.addr = SECOND});
	assert_non_null(ctx);
	fds[0] = take_port(FIRST);
	expect_gid(ctx, 0, SECOND);
	ibv_close_device(ctx);
	close(fds[0]);
}

static void full(void **state)
{
	struct ibv_context *ctx;
	char command[100];

	for (int i = 0; i < TABLE; i++) {
		snprintf(command, sizeof(command), IP_ADD "10.90.0.%d/32 dev v0", i + 1);
		run(command);
	}
	ctx = open_interface();
	assert_int_equal(n_gids(ctx), TABLE);
	assert_int_equal(counter(ctx, "gids_left_out"), 4);
	run(IP_DEL "10.90.0.1/32 dev v0");
	expect_change(ctx); /* it goes; then another one has its place */
	expect_change(ctx);
	assert_int_equal(n_gids(ctx), TABLE);
	ibv_close_device(ctx);
	for (int i = 1; i < TABLE; i++) {
		snprintf(command, sizeof(command), IP_DEL "10.90.0.%d/32 dev v0", i + 1);
		run(command);
	}
}

static struct ibv_ah *make_ah(struct ibv_pd *pd, uint8_t index, const char *to)
{
	struct ibv_ah_attr attr = {.is_global = 1,
		.port_num = 1,
		.grh = {.dgid = gid_of(to), .sgid_index = index}};

	return ibv_create_ah(pd, &attr);
}

static void ways_that_there_are(void **state)
{
	struct ibv_context *ctx = open_interface();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_ah *ah;

	for (uint8_t i = 0; i < 4; i++) {
		bool is_ipv4 = i < 2;

		ah = make_ah(pd, i, is_ipv4 ? "10.88.0.9" : "fd88::9");
		assert_non_null(ah);
		assert_int_equal(ibv_destroy_ah(ah), 0);
		errno = 0;
		assert_null(make_ah(pd, i, is_ipv4 ? "fd88::9" : "10.88.0.9"));
		assert_int_equal(errno, EINVAL);
	}
	assert_null(make_ah(pd, 4, "10.88.0.9"));
	assert_null(make_ah(pd, TABLE, "10.88.0.9"));
	assert_null(make_ah(pd, 255, "10.88.0.9"));
	ibv_dealloc_pd(pd);
	ibv_close_device(ctx);
}

/* What an address handle names is no other address' for as long as it is there. */
static void entries_in_use(void **state)
{
	struct ibv_context *ctx = open_interface();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_ah *ah = make_ah(pd, 1, "10.88.0.9");

	assert_non_null(ah);
	run(IP_DEL SECOND "/24 dev v0");
	expect_change(ctx);
	expect_gid(ctx, 1, NULL);
	assert_null(make_ah(pd, 1, "10.88.0.9"));
	run(IP_ADD COMES "/24 dev v0");
	expect_change(ctx);
	expect_gid(ctx, 1, NULL);
	expect_gid(ctx, 4, COMES);
	run(IP_ADD SECOND "/24 dev v0");
	expect_change(ctx);
	expect_gid(ctx, 1, SECOND);

	run(IP_DEL SECOND "/24 dev v0");
	expect_change(ctx);
	assert_int_equal(ibv_destroy_ah(ah), 0);
	run(IP_ADD "fd88::4/64 dev v0 nodad");
	expect_change(ctx);
	expect_gid(ctx, 1, "fd88::4");
	ibv_dealloc_pd(pd);
	ibv_close_device(ctx);
	run(IP_DEL "fd88::4/64 dev v0");
	run(IP_DEL COMES "/24 dev v0");
	run(IP_ADD SECOND "/24 dev v0");
}

/* When nobody uses the entry of an address that went, its port is another's to have. */
static void lets_go(void **state)
{
	struct ibv_context *ctx = open_interface();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_ah *ah = make_ah(pd, 1, "10.88.0.9");
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(ROCE)};
	uint64_t end = now_ns() + WAIT_MS * NSEC_PER_MSEC;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	run(IP_DEL SECOND "/24 dev v0");
	expect_change(ctx);
	run("ip addr add " SECOND "/24 dev v1");
	inet_pton(AF_INET, SECOND, &in.sin_addr);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), -1);
	assert_int_equal(ibv_destroy_ah(ah), 0);
	while (bind(fd, (struct sockaddr *)&in, sizeof(in)))
		assert_true(now_ns() < end);
	close(fd);
	run("ip addr del " SECOND "/24 dev v1");
	run(IP_ADD SECOND "/24 dev v0");
	expect_change(ctx);
	ibv_dealloc_pd(pd);
	ibv_close_device(ctx);
}

/* By packets, through every entry; between two devices of one interface. */
static void messages_by_each(void **state)
{
	static const char *const addrs[] = {
		FIRST "," SECOND "," THIRD, "10.88.0.2,10.88.1.2,fd88::2"};
	struct ibv_wc wc;

	run(IP_ADD "10.88.0.2/24 dev v0");
	run(IP_ADD "10.88.1.2/24 dev v0");
	run(IP_ADD "fd88::2/64 dev v0 nodad");
	for (uint8_t index = 0; index < 3; index++) {
		struct end e[2];

		for (int i = 0; i < 2; i++) {
			end_open(&e[i], addrs[i], NULL);
			end_set_gid(&e[i], index);
		}
		end_connect(&e[0], &e[1]);
		end_connect(&e[1], &e[0]);
		end_post_recv(&e[1]);
		end_post_send(&e[0], 100000);
		end_wait_wc(e[1].rcq, &wc);
		end_wait_wc(e[0].scq, &wc);
		assert_true(counter(e[1].ctx, "link_rx_packets") >= 25);
		assert_int_equal(counter(e[1].ctx, "rx_drop_destination"), 0);
		end_close(&e[0]);
		end_close(&e[1]);
	}
	run(IP_DEL "10.88.0.2/24 dev v0");
	run(IP_DEL "10.88.1.2/24 dev v0");
	run(IP_DEL "fd88::2/64 dev v0");
}

#define QKEY 0x1234

static struct ibv_qp *make_ud(struct end *e)
{
	struct ibv_qp_init_attr init = {.qp_type = IBV_QPT_UD,
		.send_cq = e->scq,
		.recv_cq = e->rcq,
		.srq = e->srq,
		.cap = {.max_send_wr = 4, .max_send_sge = 1}};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = QKEY};
	struct ibv_qp *qp = ibv_create_qp(e->pd, &init);

	assert_non_null(qp);
	assert_int_equal(
		ibv_modify_qp(qp, &attr,
			IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY),
		0);
	attr.qp_state = IBV_QPS_RTR;
	assert_int_equal(ibv_modify_qp(qp, &attr, IBV_QP_STATE), 0);
	attr.qp_state = IBV_QPS_RTS;
	assert_int_equal(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN), 0);
	return qp;
}

/* A datagram, and what stands in front of it. */
static void datagram(struct end *e, struct ibv_qp *qp, uint8_t from,
	const char *from_addr, const char *to_addr)
{
	struct ibv_ah *ah = make_ah(e->pd, from, to_addr);
	struct ibv_sge sge = {(uintptr_t)e->buf + 1000, 100, e->mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
				   .num_sge = 1,
				   .opcode = IBV_WR_SEND,
				   .send_flags = IBV_SEND_SIGNALED,
				   .wr.ud = {.ah = ah,
					   .remote_qpn = qp->qp_num,
					   .remote_qkey = QKEY}},
			   *bad;
	union ibv_gid src = gid_of(from_addr), dst = gid_of(to_addr);
	bool is_ipv4 = !strchr(to_addr, ':');
	struct ibv_wc wc;

	assert_non_null(ah);
	end_post_recv(e);
	assert_int_equal(ibv_post_send(qp, &wr, &bad), 0);
	end_wait_wc(e->scq, &wc);
	end_wait_wc(e->rcq, &wc);
	assert_int_equal(wc.wc_flags, IBV_WC_GRH);
	assert_int_equal(wc.byte_len, 140);
	assert_int_equal(e->buf[is_ipv4 ? 20 : 0] >> 4, is_ipv4 ? 4 : 6);
	if (is_ipv4) {
		assert_memory_equal(e->buf + 32, src.raw + 12, 4);
		assert_memory_equal(e->buf + 36, dst.raw + 12, 4);
	} else {
		assert_memory_equal(e->buf + 8, src.raw, 16);
		assert_memory_equal(e->buf + 24, dst.raw, 16);
	}
	assert_int_equal(ibv_destroy_ah(ah), 0);
}

/* A datagram tells from which address to which it went; all of the device's are good. */
static void datagrams_by_each(void **state)
{
	static const struct end_config all = {.interface = "v0"};
	struct ibv_qp *qp;
	struct end e;

	end_open(&e, NULL, &all);
	qp = make_ud(&e);
	datagram(&e, qp, 0, FIRST, SECOND);
	datagram(&e, qp, 1, SECOND, FIRST);
	datagram(&e, qp, 1, SECOND, SECOND);
	datagram(&e, qp, 2, THIRD, THIRD);
	datagram(&e, qp, 3, LOCAL, LOCAL);
	datagram(&e, qp, 2, THIRD, LOCAL);
	assert_int_equal(ibv_destroy_qp(qp), 0);
	end_close(&e);
}

/* A peer that sends to another address of ours than the one it is connected to. */
static void to_another_address(void **state)
{
	static const struct end_config both = {.interface = "v0"};
	uint64_t end = now_ns() + WAIT_MS * NSEC_PER_MSEC;
	struct end e[2];
	struct ibv_wc wc;

	run(IP_ADD "10.88.0.2/24 dev v1");
	end_open(&e[0], "10.88.0.2", NULL);
	end_open(&e[1], NULL, &both);
	end_set_gid(&e[1], 1);
	end_connect(&e[0], &e[1]);
	end_set_gid(&e[1], 0);
	end_connect(&e[1], &e[0]);
	end_post_recv(&e[1]);
	end_post_send(&e[0], 100);
	while (!counter(e[1].ctx, "rx_drop_destination"))
		assert_true(now_ns() < end);
	assert_int_equal(ibv_poll_cq(e[1].rcq, 1, &wc), 0);
	end_close(&e[0]);
	end_close(&e[1]);
	run(IP_DEL "10.88.0.2/24 dev v1");
}

/* Without packets, between two addresses of one device. */
static void direct(void **state)
{
	static const struct end_config both = {.interface = "v0"};
	struct end e[2];
	struct ibv_wc wc;

	for (int i = 0; i < 2; i++) {
		end_open(&e[i], NULL, &both);
		end_set_gid(&e[i], (uint8_t)i);
	}
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	end_post_recv(&e[1]);
	end_post_send(&e[0], 1000);
	end_wait_wc(e[1].rcq, &wc);
	end_wait_wc(e[0].scq, &wc);
	assert_int_equal(counter(e[0].ctx, "direct_messages"), 1);
	assert_int_equal(counter(e[0].ctx, "link_tx_packets"), 0);
	end_close(&e[0]);
	end_close(&e[1]);
}

/* A connection goes on when its address is back, in its old place. */
static void connection_outlives_it(void **state)
{
	static const struct end_config both = {.interface = "v0"};
	struct end e[2];
	struct ibv_wc wc;

	run(IP_ADD "10.88.0.2/24 dev v1");
	end_open(&e[0], "10.88.0.2", NULL);
	end_open(&e[1], NULL, &both);
	end_set_gid(&e[1], 1);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	run(IP_DEL SECOND "/24 dev v0");
	expect_change(e[1].ctx);
	end_post_recv(&e[1]);
	end_post_send(&e[0], 1000);
	run(IP_ADD SECOND "/24 dev v0");
	expect_change(e[1].ctx);
	expect_gid(e[1].ctx, 1, SECOND);
	end_wait_wc(e[1].rcq, &wc);
	end_wait_wc(e[0].scq, &wc);
	end_close(&e[0]);
	end_close(&e[1]);
	run(IP_DEL "10.88.0.2/24 dev v1");
}

static void *changes(void *arg)
{
	for (int i = 0; i < 10; i++) {
		run(IP_ADD COMES "/24 dev v0");
		run(IP_DEL COMES "/24 dev v0");
	}
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

/* Links come and go beside one that is in use. */
static void traffic_meanwhile(void **state)
{
	static const struct end_config both = {.interface = "v0"};
	atomic_bool done = false;
	struct end e[2];
	struct ibv_wc wc;
	pthread_t thread;

	run(IP_ADD "10.88.0.2/24 dev v1");
	end_open(&e[0], "10.88.0.2", NULL);
	end_open(&e[1], NULL, &both);
	end_set_gid(&e[1], 1);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	assert_int_equal(pthread_create(&thread, NULL, changes, &done), 0);
	while (!atomic_load(&done)) {
		end_post_recv(&e[1]);
		end_post_send(&e[0], 20000);
		end_wait_wc(e[1].rcq, &wc);
		end_wait_wc(e[0].scq, &wc);
	}
	pthread_join(thread, NULL);
	end_close(&e[0]);
	end_close(&e[1]);
	run(IP_DEL "10.88.0.2/24 dev v1");
}

static enum ibv_mtu active_mtu(const char *addr)
{
	struct ibv_context *ctx = vrdma_open_device(&(struct vrdma_attr){.addr = addr});
	struct ibv_port_attr port;

	assert_non_null(ctx);
	assert_int_equal(ibv_query_port(ctx, 1, &port), 0);
	ibv_close_device(ctx);
	return port.active_mtu;
}

/* IPv6 headers are 20 bytes larger; what the port tells goes for all addresses. */
static void mtu_of_each_version(void **state)
{
	char command[100];

	snprintf(command, sizeof(command), "ip link set v0 mtu %d", MTU_IPV4);
	run(command);
	assert_int_equal(active_mtu(FIRST), IBV_MTU_4096);
	assert_int_equal(active_mtu(THIRD), IBV_MTU_2048);
	assert_int_equal(active_mtu(FIRST "," THIRD), IBV_MTU_2048);
	snprintf(command, sizeof(command), "ip link set v0 mtu %d", MTU_IPV6);
	run(command);
	assert_int_equal(active_mtu(FIRST "," THIRD), IBV_MTU_4096);
	snprintf(command, sizeof(command), "ip link set v0 mtu %d", MTU_IPV4 - 1);
	run(command);
	assert_int_equal(active_mtu(FIRST), IBV_MTU_2048);
	run("ip link set v0 mtu 9000");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(named),
		cmocka_unit_test(follows),
		cmocka_unit_test(not_before_it_is_ours),
		cmocka_unit_test(others_have_some),
		cmocka_unit_test(full),
		cmocka_unit_test(ways_that_there_are),
		cmocka_unit_test(entries_in_use),
		cmocka_unit_test(lets_go),
		cmocka_unit_test(messages_by_each),
		cmocka_unit_test(datagrams_by_each),
		cmocka_unit_test(to_another_address),
		cmocka_unit_test(direct),
		cmocka_unit_test(connection_outlives_it),
		cmocka_unit_test(traffic_meanwhile),
		cmocka_unit_test(mtu_of_each_version),
	};

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		printf("skipped: no network namespace: %s\n", strerror(errno));
		return SKIPPED;
	}
	if (system("ip link set lo up && "
		   "ip link add v0 mtu 9000 type veth peer name v1 mtu 9000 && "
		   "sysctl -qw net.ipv6.conf.v0.addr_gen_mode=1 "
		   "net.ipv6.conf.v1.addr_gen_mode=1 && "
		   "ip link set v0 up && ip link set v1 up && "
		   "ip addr add " FIRST "/24 dev v0 && "
		   "ip addr add " SECOND "/24 dev v0 && "
		   "ip addr add " THIRD "/64 dev v0 nodad && "
		   "ip addr add " LOCAL "/64 dev v0 nodad")) {
		printf("skipped: no interface that can be changed\n");
		return SKIPPED;
	}
	return cmocka_run_group_tests_name("gids", tests, NULL, NULL);
}
