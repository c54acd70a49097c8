/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The invariant CRC. The state kept between calls is at every point a finished CRC
 * (crc.h).
 *
 * The masked copy of the headers is put together in one small buffer, so a packet costs
 * one short CRC and one per piece of payload.
 */
#include "icrc.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "be.h"
#include "crc.h"
#include "gid.h"
#include "packet.h"

/* The bytes 0xff that stand for the masked LRH. The CRC could begin with its value behind
 * them; but with them IPv4, UDP and BTH are 48 bytes, and with RETH 64, which a CRC by 16
 * bytes at a time takes without a rest.
 */
#define LRH_SIZE 8

#define IPV4_SIZE 20
#define IPV6_SIZE 40
#define UDP_SIZE  8
#define IPV4_DF	  0x4000
#define PROTO_UDP 17

static uint8_t *ipv4_put(
	uint8_t *p, const struct wire_flow *flow, uint16_t id, size_t udp_payload_len)
{
	p[0] = 0x45;
	p[1] = 0xff; /* TOS */
	be_put16(p + 2, (uint16_t)(IPV4_SIZE + UDP_SIZE + udp_payload_len));
	be_put16(p + 4, id);
	be_put16(p + 6, IPV4_DF);
	p[8] = 0xff; /* TTL */
	p[9] = PROTO_UDP;
	be_put16(p + 10, 0xffff); /* checksum */
	memcpy(p + 12, flow->src + 12, 4);
	memcpy(p + 16, flow->dst + 12, 4);
	return p + IPV4_SIZE;
}

static uint8_t *ipv6_put(uint8_t *p, const struct wire_flow *flow, size_t udp_payload_len)
{
	be_put32(p, 0x6fffffff); /* traffic class and flow label */
	be_put16(p + 4, (uint16_t)(UDP_SIZE + udp_payload_len));
	p[6] = PROTO_UDP;
	p[7] = 0xff; /* hop limit */
	memcpy(p + 8, flow->src, 16);
	memcpy(p + 24, flow->dst, 16);
	return p + IPV6_SIZE;
}

uint32_t icrc_begin(const struct wire_flow *flow, uint16_t ip_id, const uint8_t *bth,
	size_t hdr_len, size_t udp_payload_len)
{
	uint8_t buf[LRH_SIZE + IPV6_SIZE + UDP_SIZE + WIRE_HDR_MAX];
	uint8_t *p = buf + LRH_SIZE;

	assert(hdr_len >= WIRE_BTH_SIZE && hdr_len <= WIRE_HDR_MAX);
	memset(buf, 0xff, LRH_SIZE);
	if (gid_is_ipv4(flow->dst))
		p = ipv4_put(p, flow, ip_id, udp_payload_len);
	else
		p = ipv6_put(p, flow, udp_payload_len);

	be_put16(p, flow->sport);
	be_put16(p + 2, flow->dport);
	be_put16(p + 4, (uint16_t)(UDP_SIZE + udp_payload_len));
	be_put16(p + 6, 0xffff); /* checksum */
	p += UDP_SIZE;

	memcpy(p, bth, hdr_len);
	p[4] = 0xff; /* FECN, BECN and the reserved bits beside them */
	p += hdr_len;
	return crc_add(0, buf, (size_t)(p - buf));
}

uint32_t icrc_add(uint32_t state, const void *buf, size_t size)
{
	return crc_add(state, buf, size);
}

uint32_t icrc_copy(
	uint32_t state, void *dst, const void *src, size_t size, const void *next)
{
	return crc_copy(state, dst, src, size, next);
}

void icrc_end(uint32_t state, uint8_t out[4])
{
	state = htole32(state);
	memcpy(out, &state, sizeof(state));
}
