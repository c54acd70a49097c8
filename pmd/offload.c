/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See offload.h.
 */
#include "pmd/offload.h"

#include <netinet/in.h>
#include <string.h>

#include "lib/util.h"

#define IPV4_TOTAL_AT	2
#define IPV4_ID_AT	4
#define IPV4_CSUM_AT	10
#define IPV4_ADDRS_AT	12
#define IPV6_PAYLOAD_AT 4
#define IPV6_HDR	40
#define IPV6_ADDRS_AT	8
#define TCP_SEQ_AT	4
#define TCP_FLAGS_AT	13
#define TCP_FIN_PSH	0x09
#define TCP_CWR		0x80
#define TCP_CSUM_AT	16
#define UDP_LEN_AT	4
#define UDP_CSUM_AT	6
#define SCTP_CSUM_AT	8

static uint32_t be32_at(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_be16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void put_be32(uint8_t *p, uint32_t value)
{
	put_be16(p, value >> 16);
	put_be16(p + 2, value);
}

/* The Internet checksum (RFC 1071): it is the same in any byte order, so the words are
 * summed as the machine has them.
 */
static uint64_t sum_bytes(uint64_t sum, const uint8_t *p, uint32_t size)
{
	uint32_t word;
	uint16_t last = 0;

	for (; size >= sizeof(word); p += sizeof(word), size -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		sum += word;
	}
	if (size >= sizeof(last)) {
		memcpy(&last, p, sizeof(last));
		sum += last;
		p += sizeof(last);
		size -= sizeof(last);
	}
	if (size) {
		last = 0;
		memcpy(&last, p, 1);
		sum += last;
	}
	return sum;
}

static uint16_t sum_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void put_sum(uint8_t *p, uint16_t sum)
{
	memcpy(p, &sum, sizeof(sum));
}

/* l4_size() - what the checksum covers: the rest of the IP packet, or for UDP what
 * its length field says
 */
static uint32_t l4_size(const uint8_t *l4, const struct frame_layout *layout)
{
	if (layout->l4_proto == IPPROTO_UDP)
		return be32_at(l4 + UDP_LEN_AT) >> 16;
	return layout->ip_end - layout->l2_len - layout->l3_len;
}

static uint64_t sum_pseudo(const uint8_t *frame, const struct frame_layout *layout)
{
	const uint8_t *ip = frame + layout->l2_len;
	uint32_t size = l4_size(ip + layout->l3_len, layout);
	uint32_t words[2] = {htonl(size), htonl(layout->l4_proto)};
	uint64_t sum = (uint64_t)words[0] + words[1];

	if (layout->ip_version == 4)
		return sum_bytes(sum, ip + IPV4_ADDRS_AT, 8);
	return sum_bytes(sum, ip + IPV6_ADDRS_AT, 32);
}

void offload_ipv4_csum(uint8_t *frame, const struct frame_layout *layout)
{
	uint8_t *ip = frame + layout->l2_len;

	if (layout->ip_version != 4)
		return;
	put_be16(ip + IPV4_CSUM_AT, 0);
	put_sum(ip + IPV4_CSUM_AT, (uint16_t)~sum_fold(sum_bytes(0, ip, layout->l3_len)));
}

void offload_pseudo_csum(uint8_t *frame, const struct frame_layout *layout)
{
	uint8_t *l4 = frame + layout->l2_len + layout->l3_len;

	if (layout->l4_proto == IPPROTO_SCTP)
		put_be32(l4 + SCTP_CSUM_AT, 0);
	else
		put_sum(l4 + (layout->l4_proto == IPPROTO_TCP ? TCP_CSUM_AT
							      : UDP_CSUM_AT),
			sum_fold(sum_pseudo(frame, layout)));
}

/* CRC-32C (RFC 9260 appendix A), a nibble at a time: SCTP without a NIC's help is rare,
 * and a table of 16 is all it gets.
 */
static uint32_t crc32c(const uint8_t *p, uint32_t size)
{
	static const uint32_t table[16] = {
		0x00000000,
		0x105ec76f,
		0x20bd8ede,
		0x30e349b1,
		0x417b1dbc,
		0x5125dad3,
		0x61c69362,
		0x7198540d,
		0x82f63b78,
		0x92a8fc17,
		0xa24bb5a6,
		0xb21572c9,
		0xc38d26c4,
		0xd3d3e1ab,
		0xe330a81a,
		0xf36e6f75,
	};
	uint32_t crc = ~0u;

	for (; size; p++, size--) {
		crc = crc >> 4 ^ table[(crc ^ *p) & 15];
		crc = crc >> 4 ^ table[(crc ^ *p >> 4) & 15];
	}
	return ~crc;
}

static void sctp_csum(uint8_t *l4, uint32_t size)
{
	uint32_t crc;

	put_be32(l4 + SCTP_CSUM_AT, 0);
	crc = crc32c(l4, size);
	put_be32(l4 + SCTP_CSUM_AT, __builtin_bswap32(crc)); /* least byte first */
}

void offload_l4_csum(uint8_t *frame, const struct frame_layout *layout)
{
	uint8_t *l4 = frame + layout->l2_len + layout->l3_len;
	uint32_t size = l4_size(l4, layout);
	uint32_t at = TCP_CSUM_AT;
	uint16_t sum;

	if (layout->l4_proto == IPPROTO_SCTP) {
		sctp_csum(l4, size);
		return;
	}
	if (layout->l4_proto == IPPROTO_UDP)
		at = UDP_CSUM_AT;
	put_be16(l4 + at, 0);
	sum = (uint16_t)~sum_fold(sum_bytes(sum_pseudo(frame, layout), l4, size));
	if (sum == 0 && layout->l4_proto == IPPROTO_UDP)
		sum = UINT16_MAX; /* 0 would say "no checksum" (RFC 768) */
	put_sum(l4 + at, sum);
}

static uint32_t headers_len(const struct frame_layout *layout)
{
	return (uint32_t)layout->l2_len + layout->l3_len + layout->l4_len;
}

uint32_t offload_n_segments(
	uint32_t frame_len, const struct frame_layout *layout, uint32_t mss)
{
	return (frame_len - headers_len(layout) + mss - 1) / mss;
}

/* segment_ip() - the length and identification of one segment */
static void segment_ip(uint8_t *ip, const struct frame_layout *layout, uint32_t index)
{
	uint32_t total = layout->ip_end - layout->l2_len;

	if (layout->ip_version == 6) {
		put_be16(ip + IPV6_PAYLOAD_AT, total - IPV6_HDR);
		return;
	}
	put_be16(ip + IPV4_TOTAL_AT, total);
	put_be16(ip + IPV4_ID_AT, (be32_at(ip + IPV4_ID_AT) >> 16) + index);
}

/* segment_tcp() - FIN and PSH belong to the last segment, CWR to the first (RFC 3168) */
static void segment_tcp(uint8_t *tcp, uint32_t offset, int first, int last)
{
	put_be32(tcp + TCP_SEQ_AT, be32_at(tcp + TCP_SEQ_AT) + offset);
	if (!last)
		tcp[TCP_FLAGS_AT] &= (uint8_t)~TCP_FIN_PSH;
	if (!first)
		tcp[TCP_FLAGS_AT] &= (uint8_t)~TCP_CWR;
}

uint32_t offload_segment(const uint8_t *frame, uint32_t frame_len,
	const struct frame_layout *layout, uint32_t mss, uint32_t index, uint8_t *out)
{
	uint32_t hdrs = headers_len(layout), offset = index * mss;
	uint32_t left = frame_len - hdrs - offset, size = MIN(left, mss);
	struct frame_layout seg = *layout;

	memcpy(out, frame, hdrs);
	memcpy(out + hdrs, frame + hdrs + offset, size);
	seg.ip_end = hdrs + size;
	segment_ip(out + seg.l2_len, &seg, index);
	segment_tcp(out + seg.l2_len + seg.l3_len, offset, index == 0, size == left);
	offload_ipv4_csum(out, &seg);
	offload_l4_csum(out, &seg);
	return seg.ip_end;
}
