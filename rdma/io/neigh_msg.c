/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ARP behind Ethernet, 28 bytes:          ICMPv6 135 (query), 136 (answer), 24 bytes:
 *   0  hardware 1, protocol 0x0800         0  type, code 0
 *   4  sizes 6, 4                          2  checksum
 *   6  1 query, 2 answer                   4  answer: router, solicited, override
 *   8  sender's MAC, 14 its address        8  target
 *   18 target's MAC, 24 its address        24 options: type, size in 8 bytes, MAC
 */
#include "neigh_msg.h"

#include <errno.h>
#include <string.h>

#include "gid.h"
#include "rdma/wire/be.h"

#define ARP_SIZE       28
#define ARP_QUERY      1
#define ARP_ANSWER     2
#define ND_QUERY       135
#define ND_ANSWER      136
#define ND_SIZE	       24
#define ND_OPTION_SIZE 8 /* with a MAC */
#define ND_SOURCE_MAC  1
#define ND_TARGET_MAC  2
#define ND_SOLICITED   0x40
#define ND_OVERRIDE    0x20
#define ND_HOP_LIMIT   255 /* so it comes from this very link */

static const uint8_t everybody_mac[ETH_MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t nobody[16];
static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};

void neigh_solicited_group(const uint8_t gid[16], uint8_t group[16])
{
	static const uint8_t prefix[13] = {0xff, 0x02, [11] = 0x01, [12] = 0xff};

	memcpy(group, prefix, sizeof(prefix));
	memcpy(group + 13, gid + 13, 3);
}

/* ARP */

static int arp_parse(const uint8_t *p, size_t size, struct neigh_msg *out)
{
	static const uint8_t start[] = {0, 1, 0x08, 0x00, 6, 4, 0};

	if (size < ARP_SIZE || memcmp(p, start, sizeof(start)) != 0)
		return -EPROTO;
	if (p[7] != ARP_QUERY && p[7] != ARP_ANSWER)
		return -ENOMSG;
	memcpy(out->mac, p + 8, ETH_MAC_SIZE);
	out->has_mac = true;
	out->has_from = be_get32(p + 14) != 0;
	gid_from_ipv4(p + 14, out->from);
	if (!memcmp(p + 14, p + 24, 4)) {
		out->kind = NEIGH_MSG_ANNOUNCE;
		gid_from_ipv4(p + 14, out->target);
	} else if (p[7] == ARP_QUERY) {
		out->kind = NEIGH_MSG_QUERY;
		gid_from_ipv4(p + 24, out->target);
	} else {
		out->kind = NEIGH_MSG_ANSWER;
		gid_from_ipv4(p + 14, out->target);
	}
	return eth_mac_is_host(out->mac) ? 0 : -EPROTO;
}

static size_t arp_put(const struct neigh_self *self, uint8_t operation,
	const uint8_t *from, const uint8_t *to_mac, const uint8_t *to, uint8_t *frame)
{
	uint8_t *p = frame + ETH_SIZE;

	memcpy(frame, to_mac, ETH_MAC_SIZE);
	memcpy(frame + 6, self->mac, ETH_MAC_SIZE);
	be_put16(frame + 12, ETH_TYPE_ARP);
	be_put16(p, 1);
	be_put16(p + 2, ETH_TYPE_IPV4);
	p[4] = ETH_MAC_SIZE;
	p[5] = 4;
	be_put16(p + 6, operation);
	memcpy(p + 8, self->mac, ETH_MAC_SIZE);
	memcpy(p + 14, from, 4);
	memset(p + 18, 0, ETH_MAC_SIZE);
	if (operation == ARP_ANSWER)
		memcpy(p + 18, to_mac, ETH_MAC_SIZE);
	memcpy(p + 24, to, 4);
	return ETH_SIZE + ARP_SIZE;
}

/* Neighbour discovery */

/* The option of that type, if it is there and holds a MAC. Return: 0 or -EPROTO */
static int nd_option_find(
	const uint8_t *p, size_t size, uint8_t type, struct neigh_msg *out)
{
	while (size > 0) {
		size_t len = size >= 2 ? p[1] * 8u : 0;

		if (len == 0 || len > size)
			return -EPROTO;
		if (p[0] == type && len == ND_OPTION_SIZE) {
			memcpy(out->mac, p + 2, ETH_MAC_SIZE);
			out->has_mac = true;
			if (!eth_mac_is_host(out->mac))
				return -EPROTO;
		}
		p += len;
		size -= len;
	}
	return 0;
}

static int nd_parse(const uint8_t *ip, size_t size, struct neigh_msg *out)
{
	const uint8_t *p = ip + ETH_IPV6_SIZE;
	bool is_query;
	size_t len;

	if (size <= ETH_IPV6_SIZE || (p[0] != ND_QUERY && p[0] != ND_ANSWER))
		return -ENOMSG;
	is_query = p[0] == ND_QUERY;
	len = be_get16(ip + 4);
	if (ip[0] >> 4 != 6 || len < ND_SIZE || len > size - ETH_IPV6_SIZE ||
		ip[7] != ND_HOP_LIMIT || p[1] != 0 || p[8] == 0xff ||
		eth_sum_end(eth_sum(eth_ipv6_sum(ip + 8, ip + 24, ETH_PROTO_ICMPV6, len),
			p, len)) != 0)
		return -EPROTO;
	memcpy(out->target, p + 8, 16);
	memcpy(out->from, ip + 8, 16);
	out->has_from = memcmp(out->from, nobody, sizeof(nobody)) != 0;
	if (is_query)
		out->kind = NEIGH_MSG_QUERY;
	else
		out->kind = p[4] & ND_SOLICITED ? NEIGH_MSG_ANSWER : NEIGH_MSG_ANNOUNCE;
	return nd_option_find(p + ND_SIZE, len - ND_SIZE,
		is_query ? ND_SOURCE_MAC : ND_TARGET_MAC, out);
}

static size_t nd_put(const struct neigh_self *self, const uint8_t src[16],
	const uint8_t dst[16], const uint8_t *mac, const uint8_t icmp[ND_SIZE],
	uint8_t option, uint8_t *frame)
{
	struct eth_packet pkt = {0};
	size_t size = ND_SIZE + (option ? ND_OPTION_SIZE : 0);
	uint8_t *p;

	if (mac)
		memcpy(pkt.dmac, mac, ETH_MAC_SIZE);
	else
		eth_group_mac(dst, pkt.dmac);
	memcpy(pkt.smac, self->mac, ETH_MAC_SIZE);
	memcpy(pkt.flow.src, src, 16);
	memcpy(pkt.flow.dst, dst, 16);
	p = frame + eth_ipv6_put(&pkt, ETH_PROTO_ICMPV6, ND_HOP_LIMIT, size, frame);
	memcpy(p, icmp, ND_SIZE);
	if (option) {
		p[ND_SIZE] = option;
		p[ND_SIZE + 1] = 1;
		memcpy(p + ND_SIZE + 2, self->mac, ETH_MAC_SIZE);
	}
	be_put16(
		p + 2, eth_sum_end(eth_sum(
			       eth_ipv6_sum(src, dst, ETH_PROTO_ICMPV6, size), p, size)));
	return (size_t)(p - frame) + size;
}

static size_t nd_query_put(const struct neigh_self *self, const uint8_t from[16],
	const uint8_t target[16], const uint8_t *mac, uint8_t *frame)
{
	uint8_t icmp[ND_SIZE] = {ND_QUERY}, group[16];

	memcpy(icmp + 8, target, 16);
	neigh_solicited_group(target, group);
	/* who has no address says nothing of its MAC either */
	return nd_put(self, from, mac ? target : group, mac, icmp,
		memcmp(from, nobody, 16) ? ND_SOURCE_MAC : 0, frame);
}

static size_t nd_answer_put(const struct neigh_self *self, const uint8_t dst[16],
	const uint8_t *mac, uint8_t flags, uint8_t *frame)
{
	uint8_t icmp[ND_SIZE] = {ND_ANSWER};

	icmp[4] = flags;
	memcpy(icmp + 8, self->gid, 16);
	return nd_put(self, self->gid, dst, mac, icmp, ND_TARGET_MAC, frame);
}

/* Both */

int neigh_msg_parse(const uint8_t *frame, size_t size, struct neigh_msg *out)
{
	int rc;

	*out = (struct neigh_msg){0};
	if (size <= ETH_SIZE || !eth_mac_is_host(frame + 6))
		return -EPROTO;
	/* an IPv6 asker that leaves its MAC out is answered where it came from */
	memcpy(out->mac, frame + 6, ETH_MAC_SIZE);
	if (be_get16(frame + 12) == ETH_TYPE_ARP)
		rc = arp_parse(frame + ETH_SIZE, size - ETH_SIZE, out);
	else
		rc = nd_parse(frame + ETH_SIZE, size - ETH_SIZE, out);
	/* what is told to everybody answers nobody */
	if (out->kind == NEIGH_MSG_ANSWER && frame[0] & 1)
		out->kind = NEIGH_MSG_ANNOUNCE;
	return rc;
}

size_t neigh_query_put(const struct neigh_self *self, const uint8_t target[16],
	const uint8_t *mac, uint8_t *frame)
{
	if (gid_is_ipv4(self->gid))
		return arp_put(self, ARP_QUERY, self->gid + 12, mac ? mac : everybody_mac,
			target + 12, frame);
	return nd_query_put(self, self->gid, target, mac, frame);
}

size_t neigh_probe_put(const struct neigh_self *self, uint8_t *frame)
{
	if (gid_is_ipv4(self->gid))
		return arp_put(
			self, ARP_QUERY, nobody, everybody_mac, self->gid + 12, frame);
	return nd_query_put(self, nobody, self->gid, NULL, frame);
}

size_t neigh_answer_put(
	const struct neigh_self *self, const struct neigh_msg *query, uint8_t *frame)
{
	if (gid_is_ipv4(self->gid))
		return arp_put(self, ARP_ANSWER, self->gid + 12, query->mac,
			query->from + 12, frame);
	/* An asker without an address listens to all nodes' group. */
	if (!query->has_from)
		return nd_answer_put(self, all_nodes, NULL, ND_OVERRIDE, frame);
	return nd_answer_put(
		self, query->from, query->mac, ND_SOLICITED | ND_OVERRIDE, frame);
}

size_t neigh_announce_put(const struct neigh_self *self, uint8_t *frame)
{
	if (gid_is_ipv4(self->gid))
		return arp_put(self, ARP_QUERY, self->gid + 12, everybody_mac,
			self->gid + 12, frame);
	return nd_answer_put(self, all_nodes, NULL, ND_OVERRIDE, frame);
}
