/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The GID table of a device that has several addresses, in a network namespace of the
 * test's own: those that are named, and all that an interface has as they come and go.
 */
#include "gids_end.h"
#include "own_net.h"

#include "lib/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define TABLE 32
#define ROCE  4791

/* Payload, headers from UDP on, and IP's (see port.c). */
enum { IPV4_LEN = 20, MTU_IPV4 = 4096 + 44 + IPV4_LEN, MTU_IPV6 = MTU_IPV4 + 20 };

static struct ibv_context *open_interface(void)
{
	struct vrdma_attr attr = {.interface = "v0"};
	struct ibv_context *ctx = vrdma_open_device(&attr);

	assert_non_null(ctx);
	return ctx;
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
	gids_expect(ctx, 0, THIRD);
	gids_expect(ctx, 1, FIRST);
	gids_expect(ctx, 2, SECOND);
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
	gids_expect(ctx, 0, FIRST);
	gids_expect(ctx, 1, SECOND);
	gids_expect(ctx, 2, THIRD);
	gids_expect(ctx, 3, LOCAL);
	gids_expect(ctx, 4, NULL);

	run(IP_ADD COMES "/24 dev v0");
	gids_expect_change(ctx);
	gids_expect_change(second);
	gids_expect(ctx, 4, COMES);
	gids_expect(second, 4, COMES);
	run(IP_DEL SECOND "/24 dev v0");
	gids_expect_change(ctx);
	gids_expect(ctx, 1, NULL);
	assert_int_equal(n_gids(ctx), 4);
	/* the first free entry, whatever it had before */
	run(IP_ADD "fd88::2/64 dev v0 nodad");
	gids_expect_change(ctx);
	gids_expect(ctx, 1, "fd88::2");
	run(IP_ADD SECOND "/24 dev v0");
	gids_expect_change(ctx);
	gids_expect(ctx, 5, SECOND);
	gids_expect(second, 5, SECOND);
	expect_no_change(ctx);
	assert_int_equal(gids_counter(ctx, "gid_changes"), 4);
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
	gids_expect_change(ctx);
	gids_expect(ctx, 4, "fd88::3");
	assert_int_equal(gids_counter(ctx, "gids_left_out"), 0);
	run(IP_DEL "fd88::3/64 dev v0");
	gids_expect_change(ctx);
	ibv_close_device(ctx);
}

static void others_have_some(void **state)
{
	int fd = take_port(FIRST), fds[2];
	struct ibv_context *ctx = open_interface();

	gids_expect(ctx, 0, SECOND);
	assert_int_equal(n_gids(ctx), 3);
	assert_int_equal(gids_counter(ctx, "gids_left_out"), 1);
	/* when it next looks, it is told of nothing new, and then has it */
	run(IP_ADD COMES "/24 dev v0");
	gids_expect_change(ctx);
	assert_int_equal(gids_counter(ctx, "gids_left_out"), 1);
	close(fd);
	run(IP_DEL COMES "/24 dev v0");
	gids_expect_change(ctx);
	gids_expect_change(ctx);
	gids_expect(ctx, 3, FIRST);
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
	gids_expect(ctx, 0, SECOND);
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
	assert_int_equal(gids_counter(ctx, "gids_left_out"), 4);
	run(IP_DEL "10.90.0.1/32 dev v0");
	gids_expect_change(ctx); /* it goes; then another one has its place */
	gids_expect_change(ctx);
	assert_int_equal(n_gids(ctx), TABLE);
	ibv_close_device(ctx);
	for (int i = 1; i < TABLE; i++) {
		snprintf(command, sizeof(command), IP_DEL "10.90.0.%d/32 dev v0", i + 1);
		run(command);
	}
}

static void ways_that_there_are(void **state)
{
	struct ibv_context *ctx = open_interface();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_ah *ah;

	for (uint8_t i = 0; i < 4; i++) {
		bool is_ipv4 = i < 2;

		ah = gids_make_ah(pd, i, is_ipv4 ? "10.88.0.9" : "fd88::9");
		assert_non_null(ah);
		assert_int_equal(ibv_destroy_ah(ah), 0);
		errno = 0;
		assert_null(gids_make_ah(pd, i, is_ipv4 ? "fd88::9" : "10.88.0.9"));
		assert_int_equal(errno, EINVAL);
	}
	assert_null(gids_make_ah(pd, 4, "10.88.0.9"));
	assert_null(gids_make_ah(pd, TABLE, "10.88.0.9"));
	assert_null(gids_make_ah(pd, 255, "10.88.0.9"));
	ibv_dealloc_pd(pd);
	ibv_close_device(ctx);
}

/* What an address handle names is no other address' for as long as it is there. */
static void entries_in_use(void **state)
{
	struct ibv_context *ctx = open_interface();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_ah *ah = gids_make_ah(pd, 1, "10.88.0.9");

	assert_non_null(ah);
	run(IP_DEL SECOND "/24 dev v0");
	gids_expect_change(ctx);
	gids_expect(ctx, 1, NULL);
	assert_null(gids_make_ah(pd, 1, "10.88.0.9"));
	run(IP_ADD COMES "/24 dev v0");
	gids_expect_change(ctx);
	gids_expect(ctx, 1, NULL);
	gids_expect(ctx, 4, COMES);
	run(IP_ADD SECOND "/24 dev v0");
	gids_expect_change(ctx);
	gids_expect(ctx, 1, SECOND);

	run(IP_DEL SECOND "/24 dev v0");
	gids_expect_change(ctx);
	assert_int_equal(ibv_destroy_ah(ah), 0);
	run(IP_ADD "fd88::4/64 dev v0 nodad");
	gids_expect_change(ctx);
	gids_expect(ctx, 1, "fd88::4");
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
	struct ibv_ah *ah = gids_make_ah(pd, 1, "10.88.0.9");
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(ROCE)};
	uint64_t end = now_ns() + WAIT_MS * NSEC_PER_MSEC;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	run(IP_DEL SECOND "/24 dev v0");
	gids_expect_change(ctx);
	run("ip addr add " SECOND "/24 dev v1");
	inet_pton(AF_INET, SECOND, &in.sin_addr);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), -1);
	assert_int_equal(ibv_destroy_ah(ah), 0);
	while (bind(fd, (struct sockaddr *)&in, sizeof(in)))
		assert_true(now_ns() < end);
	close(fd);
	run("ip addr del " SECOND "/24 dev v1");
	run(IP_ADD SECOND "/24 dev v0");
	gids_expect_change(ctx);
	ibv_dealloc_pd(pd);
	ibv_close_device(ctx);
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
		cmocka_unit_test(mtu_of_each_version),
	};
	int rc = own_net(GIDS_NET);

	return rc ? rc : cmocka_run_group_tests_name("gids", tests, NULL, NULL);
}
