/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See frame.h. The frames come from guests and peers: every length is checked against
 * what is there before it is followed.
 */
#include "pmd/frame.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#define ETHERTYPE_AT   12
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define VLAN_TAG       4
#define VLAN_TAGS_MAX  2
#define IPV4_HDR       20
#define IPV4_FRAGMENT  0x3fff /* MF and offset */
#define IPV6_HDR       40
#define IPV6_EXT_MAX   256 /* bytes of extension headers */
#define TCP_HDR	       20
#define UDP_HDR	       8
#define SCTP_HDR       12

static uint16_t be16_at(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32_at(const uint8_t *p)
{
	return (uint32_t)be16_at(p) << 16 | be16_at(p + 2);
}

void frame_record_encode(uint8_t *hdr, const struct frame_record *record)
{
	hdr[0] = FRAME_TYPE_ETHERNET;
	hdr[1] = record->flags;
	hdr[2] = (uint8_t)(record->mss >> 8);
	hdr[3] = (uint8_t)record->mss;
	hdr[4] = (uint8_t)(record->len >> 24);
	hdr[5] = (uint8_t)(record->len >> 16);
	hdr[6] = (uint8_t)(record->len >> 8);
	hdr[7] = (uint8_t)record->len;
}

int frame_record_decode(
	const uint8_t *msg, uint32_t size, uint32_t offset, struct frame_record *record)
{
	const uint8_t *hdr = msg + offset;
	uint32_t left = size - offset;

	if (left < FRAME_HDR_SIZE)
		return -EPROTO;
	left -= FRAME_HDR_SIZE;
	record->flags = hdr[1];
	record->mss = be16_at(hdr + 2);
	record->len = be32_at(hdr + 4);
	if (hdr[0] != FRAME_TYPE_ETHERNET || (record->flags & ~FRAME_FLAGS) != 0)
		return -EPROTO;
	if (record->len < FRAME_LEN_MIN || record->len > FRAME_LEN_MAX ||
		record->len > left)
		return -EPROTO;
	if (!(record->flags & FRAME_TSO))
		return record->mss ? -EPROTO : 0;
	if (offset != 0 || record->len != left)
		return -EBADMSG;
	return 0;
}

/* parse_l2() - returns the EtherType behind the VLAN tags, or 0 */
static uint16_t parse_l2(
	const uint8_t *frame, uint32_t avail, struct frame_layout *layout)
{
	uint32_t at = ETHERTYPE_AT;
	int n_tags = 0;
	uint16_t type;

	if (avail < FRAME_ETH_LEN)
		return 0;
	type = be16_at(frame + at);
	while (type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ) {
		at += VLAN_TAG;
		if (++n_tags > VLAN_TAGS_MAX || avail < at + 2)
			return 0;
		type = be16_at(frame + at);
	}
	layout->l2_len = (uint16_t)(at + 2);
	return type;
}

static int parse_ipv4(
	const uint8_t *ip, uint32_t avail, uint32_t len, struct frame_layout *layout)
{
	uint32_t hdr_len, total;

	if (avail < IPV4_HDR || ip[0] >> 4 != 4)
		return -EPROTO;
	hdr_len = (ip[0] & 15) * 4u;
	total = be16_at(ip + 2);
	if (hdr_len < IPV4_HDR || hdr_len > avail || total < hdr_len || total > len)
		return -EPROTO;
	if (be16_at(ip + 6) & IPV4_FRAGMENT)
		return -EPROTO;
	layout->ip_version = 4;
	layout->l3_len = (uint16_t)hdr_len;
	layout->l4_proto = ip[9];
	layout->ip_end = layout->l2_len + total;
	return 0;
}

static bool ipv6_ext(uint8_t next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING ||
	       next == IPPROTO_DSTOPTS;
}

static int parse_ipv6(
	const uint8_t *ip, uint32_t avail, uint32_t len, struct frame_layout *layout)
{
	uint32_t end, at = IPV6_HDR;
	uint8_t next;

	if (avail < IPV6_HDR || ip[0] >> 4 != 6)
		return -EPROTO;
	end = IPV6_HDR + be16_at(ip + 4);
	if (end > len)
		return -EPROTO;
	next = ip[6];
	while (ipv6_ext(next)) {
		if (at + 8 > avail || at + 8 > end)
			return -EPROTO;
		next = ip[at];
		at += 8 + ip[at + 1] * 8u;
		if (at > avail || at > end || at > IPV6_HDR + IPV6_EXT_MAX)
			return -EPROTO;
	}
	layout->ip_version = 6;
	layout->l3_len = (uint16_t)at;
	layout->l4_proto = next;
	layout->ip_end = layout->l2_len + end;
	return 0;
}

/* parse_l4() - @avail and @len: bytes behind the IP header that are at hand, and to
 * the end of the IP packet
 */
static int parse_l4(
	const uint8_t *l4, uint32_t avail, uint32_t len, struct frame_layout *layout)
{
	uint32_t least, hdr_len;

	switch (layout->l4_proto) {
	case IPPROTO_TCP:
		least = TCP_HDR;
		break;
	case IPPROTO_UDP:
		least = UDP_HDR;
		break;
	case IPPROTO_SCTP:
		least = SCTP_HDR;
		break;
	default:
		return -EPROTO;
	}
	if (avail < least || len < least)
		return -EPROTO;
	hdr_len = least;
	if (layout->l4_proto == IPPROTO_TCP) {
		hdr_len = (l4[12] >> 4) * 4u;
		if (hdr_len < TCP_HDR || hdr_len > avail || hdr_len > len)
			return -EPROTO;
	}
	if (layout->l4_proto == IPPROTO_UDP &&
		(be16_at(l4 + 4) < UDP_HDR || be16_at(l4 + 4) > len))
		return -EPROTO;
	layout->l4_len = (uint16_t)hdr_len;
	return 0;
}

static int frame_parse(const struct frame_record *record, const uint8_t *frame,
	uint32_t avail, struct frame_layout *layout)
{
	uint16_t type = parse_l2(frame, avail, layout);
	uint32_t hdrs;
	int err;

	if (type != ETHERTYPE_IPV4 && type != ETHERTYPE_IPV6)
		return -EPROTO;
	err = (type == ETHERTYPE_IPV4 ? parse_ipv4 : parse_ipv6)(frame + layout->l2_len,
		avail - layout->l2_len, record->len - layout->l2_len, layout);
	if (err)
		return err;
	if (!(record->flags & (FRAME_CSUM | FRAME_TSO)))
		return 0;
	hdrs = layout->l2_len + layout->l3_len;
	return parse_l4(frame + hdrs, avail - hdrs, layout->ip_end - hdrs, layout);
}

int frame_check_offload(const struct frame_record *record, const uint8_t *frame,
	uint32_t avail, struct frame_layout *layout)
{
	int err;

	memset(layout, 0, sizeof(*layout));
	err = frame_parse(record, frame, avail, layout);
	if (err)
		return err;
	if (!(record->flags & FRAME_TSO)) {
		if ((record->flags & FRAME_IPCSUM) && layout->ip_version != 4)
			return -EPROTO;
		return 0;
	}
	if (layout->l4_proto != IPPROTO_TCP || record->mss < FRAME_MSS_MIN ||
		layout->ip_end != record->len ||
		record->len <= (uint32_t)layout->l2_len + layout->l3_len + layout->l4_len)
		return -EPROTO;
	return 0;
}
