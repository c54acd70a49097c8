/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Behind the IP header, which has the option "router alert":
 *
 *   IGMPv2, MLDv1                          IGMPv3, MLDv2: a report
 *   0 type, code                           0 type, reserved
 *   2 checksum                             2 checksum
 *     MLD: 4 response delay, reserved      6 number of records
 *   4 group (MLD: 8, 16 bytes)             8 record type, 0, 10 number of sources (0)
 *                                          12 group
 */
#include "group_msg.h"

#include <string.h>

#include "gid.h"
#include "rdma/wire/be.h"

#define IGMP_QUERY     0x11
#define IGMP_V2_REPORT 0x16
#define IGMP_V2_LEAVE  0x17
#define IGMP_V3_REPORT 0x22
#define MLD_QUERY      130
#define MLD_V1_REPORT  131
#define MLD_V1_DONE    132
#define MLD_V2_REPORT  143

#define IPV4_ALERT_SIZE (ETH_IPV4_SIZE + 4)
#define OPTIONS_SIZE	8 /* IPv6: hop-by-hop */
#define TTL		1

/* Record types: a host without source filters excludes no source while it is in. */
static uint8_t record_type(enum group_event event)
{
	return event == GROUP_STAY ? 2 : event == GROUP_JOIN ? 4 : 3;
}

/* The newer versions' report, but for the type. Return: its size */
static size_t record_put(
	const uint8_t *group, size_t group_size, enum group_event event, uint8_t *p)
{
	memset(p, 0, 12);
	be_put16(p + 6, 1);
	p[8] = record_type(event);
	memcpy(p + 12, group, group_size);
	return 12 + group_size;
}

/* IGMP. @dst: where the message goes; Return: its size */
static size_t igmp_put(const uint8_t group[4], enum group_event event, int version,
	uint8_t *p, uint8_t dst[16])
{
	size_t size = 8;

	if (version) {
		size = record_put(group, 4, event, p);
		p[0] = IGMP_V3_REPORT;
		gid_from_ipv4((uint8_t[]){224, 0, 0, 22}, dst);
	} else {
		memset(p, 0, 4);
		p[0] = event == GROUP_LEAVE ? IGMP_V2_LEAVE : IGMP_V2_REPORT;
		memcpy(p + 4, group, 4);
		gid_from_ipv4(group, dst);
		if (event == GROUP_LEAVE)
			gid_from_ipv4((uint8_t[]){224, 0, 0, 2}, dst);
	}
	be_put16(p + 2, eth_sum_end(eth_sum(0, p, size)));
	return size;
}

static void ipv4_put(
	const struct neigh_self *self, const uint8_t dst[16], size_t size, uint8_t *frame)
{
	uint8_t *p = frame + ETH_SIZE;

	eth_group_mac(dst, frame);
	memcpy(frame + 6, self->mac, ETH_MAC_SIZE);
	be_put16(frame + 12, ETH_TYPE_IPV4);
	memset(p, 0, IPV4_ALERT_SIZE);
	p[0] = 0x46;
	p[1] = 0xc0; /* internetwork control */
	be_put16(p + 2, (uint16_t)(IPV4_ALERT_SIZE + size));
	be_put16(p + 6, 0x4000);
	p[8] = TTL;
	p[9] = ETH_PROTO_IGMP;
	memcpy(p + 12, self->gid + 12, 4);
	memcpy(p + 16, dst + 12, 4);
	be_put16(p + 20, 0x9404); /* router alert (RFC 2113) */
	be_put16(p + 10, eth_sum_end(eth_sum(0, p, IPV4_ALERT_SIZE)));
}

/* MLD, but for the checksum, as igmp_put(). */
static size_t mld_put(const uint8_t group[16], enum group_event event, int version,
	uint8_t *p, uint8_t dst[16])
{
	static const uint8_t link_local[16] = {0xff, 0x02};
	size_t size = 24;

	memcpy(dst, link_local, 16);
	if (version) {
		size = record_put(group, 16, event, p);
		p[0] = MLD_V2_REPORT;
		dst[15] = 0x16;
	} else {
		memset(p, 0, 8);
		p[0] = event == GROUP_LEAVE ? MLD_V1_DONE : MLD_V1_REPORT;
		memcpy(p + 8, group, 16);
		if (event == GROUP_LEAVE)
			dst[15] = 2;
		else
			memcpy(dst, group, 16);
	}
	return size;
}

/* MLD comes from link-local addresses only: the one that the MAC gives (RFC 4291). */
static void link_local_of(const uint8_t mac[ETH_MAC_SIZE], uint8_t gid[16])
{
	static const uint8_t prefix[8] = {0xfe, 0x80};

	memcpy(gid, prefix, sizeof(prefix));
	memcpy(gid + 8, mac, 3);
	gid[8] ^= 0x02;
	gid[11] = 0xff;
	gid[12] = 0xfe;
	memcpy(gid + 13, mac + 3, 3);
}

/* In front of and into the MLD message of @size bytes. */
static void ipv6_put(
	const struct neigh_self *self, const uint8_t dst[16], size_t size, uint8_t *frame)
{
	static const uint8_t alert[OPTIONS_SIZE] = {
		ETH_PROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0}; /* RFC 2711, and padding */
	struct eth_packet pkt = {0};
	uint8_t *p;

	eth_group_mac(dst, pkt.dmac);
	memcpy(pkt.smac, self->mac, ETH_MAC_SIZE);
	link_local_of(self->mac, pkt.flow.src);
	memcpy(pkt.flow.dst, dst, 16);
	p = frame + eth_ipv6_put(&pkt, 0, TTL, OPTIONS_SIZE + size, frame);
	memcpy(p, alert, sizeof(alert));
	p += OPTIONS_SIZE;
	be_put16(p + 2, eth_sum_end(eth_sum(
				eth_ipv6_sum(pkt.flow.src, dst, ETH_PROTO_ICMPV6, size),
				p, size)));
}

size_t group_report_put(const struct neigh_self *self, const uint8_t group[16],
	enum group_event event, int version, uint8_t *frame)
{
	uint8_t dst[16];
	size_t front, size;

	if (gid_is_ipv4(group)) {
		front = ETH_SIZE + IPV4_ALERT_SIZE;
		size = igmp_put(group + 12, event, version, frame + front, dst);
		ipv4_put(self, dst, size, frame);
	} else {
		front = ETH_SIZE + ETH_IPV6_SIZE + OPTIONS_SIZE;
		size = mld_put(group, event, version, frame + front, dst);
		ipv6_put(self, dst, size, frame);
	}
	return front + size;
}

static bool is_igmp_query(const uint8_t *ip, size_t size)
{
	size_t header = (ip[0] & 0xf) * 4u, total = be_get16(ip + 2);

	if (ip[0] >> 4 != 4 || header < ETH_IPV4_SIZE || total > size ||
		total < header + 8)
		return false;
	return ip[header] == IGMP_QUERY &&
	       eth_sum_end(eth_sum(0, ip + header, total - header)) == 0;
}

static bool is_mld_query(const uint8_t *ip, size_t size)
{
	const uint8_t *options = ip + ETH_IPV6_SIZE, *mld = options + OPTIONS_SIZE;
	size_t total = ETH_IPV6_SIZE + (size_t)be_get16(ip + 4), mld_size;

	if (total > size || total < ETH_IPV6_SIZE + OPTIONS_SIZE + 24 ||
		options[0] != ETH_PROTO_ICMPV6 || options[1] != 0 || ip[7] != TTL ||
		ip[8] != 0xfe || (ip[9] & 0xc0) != 0x80)
		return false;
	mld_size = total - ETH_IPV6_SIZE - OPTIONS_SIZE;
	return mld[0] == MLD_QUERY &&
	       eth_sum_end(
		       eth_sum(eth_ipv6_sum(ip + 8, ip + 24, ETH_PROTO_ICMPV6, mld_size),
			       mld, mld_size)) == 0;
}

bool group_is_query(const uint8_t *frame, size_t size)
{
	const uint8_t *ip = frame + ETH_SIZE;

	if (size < ETH_SIZE + ETH_IPV4_SIZE)
		return false;
	size -= ETH_SIZE;
	if (be_get16(frame + 12) == ETH_TYPE_IPV4)
		return is_igmp_query(ip, size);
	return size >= ETH_IPV6_SIZE && is_mld_query(ip, size);
}
