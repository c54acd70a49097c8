/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The port and its GID, in a network namespace of the test's own: what programs see when
 * the address goes and comes back, the cable is pulled, the MTU changes.
 */
#include "verbs_end.h"
#include "own_net.h"

#include "lib/util.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 10000 /* never reached */

static void ip(const char *args)
{
	char command[200];

	snprintf(command, sizeof(command), "ip %s", args);
	assert_int_equal(system(command), 0);
}

static struct ibv_context *open_on(const char *addr)
{
	struct vrdma_attr attr = {.addr = addr};
	struct ibv_context *ctx = vrdma_open_device(&attr);

	assert_non_null(ctx);
	return ctx;
}

static void expect_event(struct ibv_context *ctx, enum ibv_event_type type)
{
	struct pollfd p = {.fd = ctx->async_fd, .events = POLLIN};
	struct ibv_async_event event;

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(ibv_get_async_event(ctx, &event), 0);
	assert_int_equal(event.event_type, type);
	assert_int_equal(event.element.port_num, 1);
	ibv_ack_async_event(&event);
}

static void expect_no_event(struct ibv_context *ctx)
{
	struct pollfd p = {.fd = ctx->async_fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 0), 0);
}

/* @addr: of IPv4, or NULL: none */
static void expect_gid(struct ibv_context *ctx, const uint8_t addr[4])
{
	const union ibv_gid none = {.raw = {0}};
	struct ibv_gid_entry entry;
	union ibv_gid gid;

	assert_int_equal(ibv_query_gid(ctx, 1, 0, &gid), 0);
	if (!addr) {
		assert_memory_equal(gid.raw, none.raw, 16);
		assert_int_equal(ibv_query_gid_ex(ctx, 1, 0, &entry, 0), ENODATA);
		return;
	}
	assert_memory_equal(gid.raw + 12, addr, 4);
	assert_int_equal(ibv_query_gid_ex(ctx, 1, 0, &entry, 0), 0);
	assert_memory_equal(entry.gid.raw, gid.raw, 16);
	assert_int_equal(entry.gid_type, IBV_GID_TYPE_ROCE_V2);
}

static enum ibv_mtu active_mtu(struct ibv_context *ctx)
{
	struct ibv_port_attr port;

	assert_int_equal(ibv_query_port(ctx, 1, &port), 0);
	return port.active_mtu;
}

static void address_goes_and_comes(void **state)
{
	static const uint8_t addr[] = {10, 88, 0, 1};
	struct ibv_context *ctx = open_on("10.88.0.1"), *second, *other;

	second = open_on("10.88.0.1");
	other = open_on("10.88.0.2");
	expect_gid(ctx, addr);

	ip("addr del 10.88.0.1/24 dev v0");
	expect_event(ctx, IBV_EVENT_GID_CHANGE);
	expect_event(second, IBV_EVENT_GID_CHANGE);
	expect_gid(ctx, NULL);
	expect_gid(second, NULL);
	ip("addr add 10.88.0.1/24 dev v0");
	expect_event(ctx, IBV_EVENT_GID_CHANGE);
	expect_event(second, IBV_EVENT_GID_CHANGE);
	expect_gid(ctx, addr);
	/* opened when it was back: nothing to tell */
	ibv_close_device(second);
	second = open_on("10.88.0.1");
	expect_gid(second, addr);
	expect_no_event(second);

	/* another address is another device's affair */
	ip("addr add 10.88.0.3/24 dev v0");
	ip("addr del 10.88.0.3/24 dev v0");
	ip("addr del 10.88.0.1/24 dev v0");
	expect_event(ctx, IBV_EVENT_GID_CHANGE);
	expect_no_event(ctx);
	expect_no_event(other);
	ip("addr add 10.88.0.1/24 dev v0");
	ibv_close_device(other);
	ibv_close_device(second);
	ibv_close_device(ctx);
}

static void queue_pair_outlives_it(void **state)
{
	struct end e[2];
	struct ibv_wc wc;

	end_open(&e[0], "10.88.0.1", NULL);
	end_open(&e[1], "10.88.0.2", NULL);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	ip("addr del 10.88.0.2/24 dev v0");
	expect_event(e[1].ctx, IBV_EVENT_GID_CHANGE);
	end_post_recv(&e[1]);
	end_post_send(&e[0], 1000);
	assert_int_equal(ibv_poll_cq(e[1].rcq, 1, &wc), 0);
	ip("addr add 10.88.0.2/24 dev v0");
	end_wait_wc(e[1].rcq, &wc);
	end_wait_wc(e[0].scq, &wc);
	expect_event(e[1].ctx, IBV_EVENT_GID_CHANGE);
	end_close(&e[0]);
	end_close(&e[1]);
}

static void cable_is_pulled(void **state)
{
	struct ibv_context *ctx = open_on("10.88.0.1");
	struct ibv_port_attr port;

	ip("link set v1 down");
	expect_event(ctx, IBV_EVENT_PORT_ERR);
	assert_int_equal(ibv_query_port(ctx, 1, &port), 0);
	assert_int_equal(port.state, IBV_PORT_DOWN);
	ip("link set v1 up");
	expect_event(ctx, IBV_EVENT_PORT_ACTIVE);
	assert_int_equal(ibv_query_port(ctx, 1, &port), 0);
	assert_int_equal(port.state, IBV_PORT_ACTIVE);
	expect_no_event(ctx);
	ibv_close_device(ctx);
}

/* An interface that is taken down loses its IPv6 addresses. */
static void ipv6(void **state)
{
	struct ibv_context *ctx = open_on("fd88::1");

	ip("addr del fd88::1/64 dev v0");
	expect_event(ctx, IBV_EVENT_GID_CHANGE);
	expect_gid(ctx, NULL);
	ip("addr add fd88::1/64 dev v0 nodad");
	expect_event(ctx, IBV_EVENT_GID_CHANGE);
	ibv_close_device(ctx);
}

/* No event belongs to that; who asks is told. Closes @ctx. */
static void mtu_follows(struct ibv_context *ctx)
{
	uint64_t end = now_ns() + WAIT_MS * NSEC_PER_MSEC;

	assert_int_equal(active_mtu(ctx), IBV_MTU_4096);
	ip("link set v0 mtu 1500");
	while (active_mtu(ctx) != IBV_MTU_1024)
		assert_true(now_ns() < end);
	ip("link set v0 mtu 9000");
	while (active_mtu(ctx) != IBV_MTU_4096)
		assert_true(now_ns() < end);
	ibv_close_device(ctx);
}

static void mtu_changes(void **state)
{
	mtu_follows(open_on("10.88.0.1"));
}

static struct ibv_context *open_port(const char *addr)
{
	struct vrdma_attr attr = {.addr = addr, .port = "v0"};
	struct ibv_context *ctx = vrdma_open_device(&attr);

	assert_non_null(ctx);
	return ctx;
}

/* A host of its own is on the interface all the same. */
static void packet_port(void **state)
{
	static const uint8_t addr[] = {10, 88, 0, 9};
	struct ibv_context *ctx;

	mtu_follows(open_port("10.88.0.9/24"));
	mtu_follows(open_port("10.88.0.9/24,fd88::9/64"));
	ctx = open_port("10.88.0.9/24");
	ip("link set v1 down");
	expect_event(ctx, IBV_EVENT_PORT_ERR);
	ip("link set v1 up");
	expect_event(ctx, IBV_EVENT_PORT_ACTIVE);
	expect_gid(ctx, addr);
	ip("link set v0 name w0"); /* it is gone */
	expect_event(ctx, IBV_EVENT_GID_CHANGE);
	expect_event(ctx, IBV_EVENT_PORT_ERR);
	expect_gid(ctx, NULL);
	ip("link set w0 name v0");
	expect_event(ctx, IBV_EVENT_GID_CHANGE);
	expect_event(ctx, IBV_EVENT_PORT_ACTIVE);
	expect_gid(ctx, addr);
	ibv_close_device(ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_goes_and_comes),
		cmocka_unit_test(queue_pair_outlives_it),
		cmocka_unit_test(cable_is_pulled),
		cmocka_unit_test(ipv6),
		cmocka_unit_test(mtu_changes),
		cmocka_unit_test(packet_port),
	};
	int rc = own_net("ip link set lo up && "
			 "ip link add v0 mtu 9000 type veth peer name v1 mtu 9000 && "
			 "ip link set v0 up && ip link set v1 up && "
			 "ip addr add 10.88.0.1/24 dev v0 && "
			 "sysctl -qw net.ipv4.conf.v0.promote_secondaries=1 && "
			 "ip addr add 10.88.0.2/24 dev v0 && "
			 "ip addr add fd88::1/64 dev v0 nodad");

	return rc ? rc : cmocka_run_group_tests_name("port", tests, NULL, NULL);
}
