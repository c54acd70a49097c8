/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The frames of the packet port, built and taken apart: what goes in comes out, and
 * nothing that is cut short or changed is taken for good. scapy judges the formats
 * themselves (tests/proto/port_veth.py).
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/util.h"
#include "rdma/io/gid.h"
#include "rdma/io/group_msg.h"
#include "rdma/io/neigh_msg.h"
#include "rdma/io/port.h"
#include "rdma/wire/packet.h"

static const uint8_t mac_a[6] = {2, 0, 0, 0, 0, 0xa}, mac_b[6] = {2, 0, 0, 0, 0, 0xb};
static const char *const addr_a[] = {"10.0.0.1", "fd00::1"};
static const char *const addr_b[] = {"10.0.0.2", "fd00::2"};

static void gid_set(uint8_t gid[16], const char *text)
{
	uint32_t scope;

	assert_int_equal(gid_parse(text, gid, &scope), 0);
}

static struct neigh_self self_of(const char *addr, const uint8_t mac[6])
{
	struct neigh_self self;

	gid_set(self.gid, addr);
	memcpy(self.mac, mac, 6);
	return self;
}

/* A frame with @size bytes of payload. Return: its size */
static size_t frame_make(int v, size_t size, uint8_t *frame)
{
	struct eth_packet pkt = {.flow = {.sport = 0xc001, .dport = WIRE_UDP_PORT},
		.tclass = 0x8a,
		.ip_id = 0x1234,
		.size = size};
	size_t n;

	memcpy(pkt.dmac, mac_b, 6);
	memcpy(pkt.smac, mac_a, 6);
	gid_set(pkt.flow.src, addr_a[v]);
	gid_set(pkt.flow.dst, addr_b[v]);
	n = eth_headers_put(&pkt, frame);
	memset(frame + n, 0x5a, size);
	return n + size;
}

/* In a buffer of its own, so that a sanitizer sees who reads behind it. */
static int parse(const uint8_t *frame, size_t size, struct eth_packet *out)
{
	uint8_t *copy = malloc(size + 1);
	int rc;

	memcpy(copy, frame, size);
	copy = realloc(copy, size ? size : 1);
	eth_kind(copy, size);
	rc = eth_parse(copy, size, out);
	if (!rc)
		out->data = frame + (out->data - copy);
	free(copy);
	return rc;
}

static void test_udp(void **state)
{
	uint8_t frame[2000];
	struct eth_packet pkt;

	for (int v = 0; v < 2; v++) {
		for (size_t size = 0; size < 100; size++) {
			size_t n = frame_make(v, size, frame);

			assert_int_equal(eth_kind(frame, n), ETH_KIND_UDP);
			/* Ethernet pads short frames */
			for (size_t padding = 0; padding < 20; padding += 19) {
				assert_int_equal(parse(frame, n + padding, &pkt), 0);
				assert_ptr_equal(pkt.data, frame + n - size);
				assert_int_equal(pkt.size, size);
			}
			assert_int_equal(pkt.tclass, 0x8a);
			assert_int_equal(pkt.ip_id, v ? 0 : 0x1234);
			assert_int_equal(pkt.flow.sport, 0xc001);
			assert_memory_equal(pkt.dmac, mac_b, 6);
			assert_memory_equal(pkt.smac, mac_a, 6);
			assert_true(gid_is_ipv4(pkt.flow.src) == !v);
			for (size_t cut = 0; cut < n; cut++)
				assert_int_equal(parse(frame, cut, &pkt), -EPROTO);
		}
	}
}

/* IPv6 packets that name IPv4 addresses would have a second way to the same GIDs. */
static void test_mapped_addresses(void **state)
{
	uint8_t frame[200], mapped[16];
	struct eth_packet pkt;
	size_t n;

	gid_set(mapped, addr_a[0]);
	for (int at = 8; at <= 24; at += 16) {
		n = frame_make(1, 20, frame);
		memcpy(frame + ETH_SIZE + at, mapped, 16);
		assert_int_equal(parse(frame, n, &pkt), -EPROTO);
	}
}

static void assert_msg(const uint8_t *frame, size_t n, enum neigh_msg_kind kind,
	const uint8_t target[16], const uint8_t *from)
{
	struct neigh_msg msg;

	assert_in_range(n, 1, NEIGH_MSG_MAX);
	assert_int_equal(eth_kind(frame, n), ETH_KIND_NEIGHBOUR);
	assert_int_equal(neigh_msg_parse(frame, n, &msg), 0);
	assert_int_equal(msg.kind, kind);
	assert_memory_equal(msg.target, target, 16);
	assert_memory_equal(msg.mac, mac_a, 6);
	assert_int_equal(msg.has_from, from != NULL);
	if (from)
		assert_memory_equal(msg.from, from, 16);
}

static void test_neighbours(void **state)
{
	uint8_t frame[NEIGH_MSG_MAX], target[16];
	struct neigh_msg query;

	for (int v = 0; v < 2; v++) {
		struct neigh_self a = self_of(addr_a[v], mac_a);
		struct neigh_self b = self_of(addr_b[v], mac_b);
		size_t n;

		gid_set(target, addr_b[v]);
		n = neigh_query_put(&a, target, NULL, frame);
		assert_msg(frame, n, NEIGH_MSG_QUERY, target, a.gid);
		assert_true(frame[0] & 1);
		n = neigh_query_put(&a, target, mac_b, frame);
		assert_msg(frame, n, NEIGH_MSG_QUERY, target, a.gid);
		assert_memory_equal(frame, mac_b, 6);
		n = neigh_probe_put(&a, frame);
		assert_msg(frame, n, NEIGH_MSG_QUERY, a.gid, NULL);
		n = neigh_announce_put(&a, frame);
		assert_msg(frame, n, NEIGH_MSG_ANNOUNCE, a.gid, a.gid);

		n = neigh_query_put(&b, a.gid, NULL, frame);
		assert_int_equal(neigh_msg_parse(frame, n, &query), 0);
		n = neigh_answer_put(&a, &query, frame);
		assert_msg(frame, n, NEIGH_MSG_ANSWER, a.gid, a.gid);
		assert_memory_equal(frame, mac_b, 6);
		/* the same to everybody is no answer */
		memset(frame, 0xff, 6);
		assert_msg(frame, n, NEIGH_MSG_ANNOUNCE, a.gid, a.gid);
	}
}

/* Cut short at any place, or with any bit changed: refused, or another message. */
static void test_bad_neighbours(void **state)
{
	uint8_t frame[NEIGH_MSG_MAX], *copy;
	struct neigh_msg msg;

	for (int v = 0; v < 2; v++) {
		struct neigh_self a = self_of(addr_a[v], mac_a);
		size_t n = neigh_announce_put(&a, frame);

		for (size_t cut = 0; cut < n; cut++) {
			copy = malloc(cut ? cut : 1);
			memcpy(copy, frame, cut);
			assert_int_not_equal(neigh_msg_parse(copy, cut, &msg), 0);
			free(copy);
		}
	}
	/* of an IPv6 message all is covered by its checksum, but Ethernet, the first
	 * word, and the hop limit, which must be 255 */
	for (size_t bit = 8 * (ETH_SIZE + 4); bit < 8 * (ETH_SIZE + ETH_IPV6_SIZE + 32);
		bit++) {
		struct neigh_self a = self_of(addr_a[1], mac_a);
		size_t n = neigh_announce_put(&a, frame);

		frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (eth_kind(frame, n) == ETH_KIND_NEIGHBOUR)
			assert_int_not_equal(neigh_msg_parse(frame, n, &msg), 0);
	}
}

static void test_groups(void **state)
{
	static const char *const groups[] = {"239.255.1.2", "ff0e::1:2:3"};
	static const char *const macs[] = {
		"\x01\x00\x5e\x7f\x01\x02", "\x33\x33\0\x02\0\x03"};
	uint8_t frame[GROUP_MSG_MAX], gid[16], mac[6];

	for (int v = 0; v < 2; v++) {
		struct neigh_self a = self_of(addr_a[v], mac_a);

		gid_set(gid, groups[v]);
		eth_group_mac(gid, mac);
		assert_memory_equal(mac, macs[v], 6);
		for (int version = 0; version < 2; version++) {
			for (int event = GROUP_JOIN; event <= GROUP_LEAVE; event++) {
				size_t n =
					group_report_put(&a, gid, event, version, frame);

				assert_in_range(n, 1, GROUP_MSG_MAX);
				assert_int_equal(eth_kind(frame, n), ETH_KIND_GROUP);
				assert_false(group_is_query(frame, n));
				for (size_t cut = 0; cut < n; cut++)
					assert_false(group_is_query(frame, cut));
			}
		}
	}
}

static void test_attributes(void **state)
{
	static const struct link_port_attr bad[] = {
		{"lo", "10.0.0.1", NULL, NULL},
		{"lo", "10.0.0.1/33", NULL, NULL},
		{"lo", "10.0.0.1/0", NULL, NULL},
		{"lo", "10.0.0.1/24x", NULL, NULL},
		{"lo", "fd00::1/129", NULL, NULL},
		{"lo", "224.0.0.1/24", NULL, NULL},
		{"lo", "0.0.0.0/24", NULL, NULL},
		{"lo", "ff02::1/64", NULL, NULL},
		{"lo", "fe80::1%lo/64", NULL, NULL},
		{"lo", "host/24", NULL, NULL},
		{"lo", "10.0.0.1/24", "02:00:00:00:00", NULL},
		{"lo", "10.0.0.1/24", "01:00:00:00:00:01", NULL},
		{"lo", "10.0.0.1/24", "00:00:00:00:00:00", NULL},
		{"lo", "10.0.0.1/24", "02:00:00:00:00:01x", NULL},
		{"lo", "10.0.0.1/24", NULL, "10.0.1.1"},
		{"lo", "10.0.0.1/24", NULL, "10.0.0.1"},
		{"lo", "10.0.0.1/24", NULL, "fd00::1"},
		{"lo", "10.0.0.1/24", NULL, "gateway"},
	};
	struct link_port_attr attr = {"nosuch", "10.0.0.1/24", NULL, "10.0.0.254"};
	struct link *link;
	uint8_t gid[16];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(link_port_check(&bad[i], gid), -EINVAL);
		assert_int_equal(link_port_open(&bad[i], &link), -EINVAL);
	}
	assert_int_equal(link_port_open(&attr, &link), -ENODEV);
	attr.ifname = "lo";
	assert_int_equal(link_port_open(&attr, &link), -EPROTONOSUPPORT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_udp),
		cmocka_unit_test(test_mapped_addresses),
		cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_bad_neighbours),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_attributes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
