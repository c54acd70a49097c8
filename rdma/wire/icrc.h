/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The invariant CRC of RoCEv2 (annex A17.3.3): CRC-32 over the IP, UDP and transport
 * headers with the fields that change on the way taken as ones, then payload and pad.
 */
#ifndef RDMA_WIRE_ICRC_H
#define RDMA_WIRE_ICRC_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct wire_flow - what the ICRC covers below BTH
 *
 * Addresses are GIDs, network order: IPv4 as ::ffff:a.b.c.d.
 */
struct wire_flow {
	uint8_t src[16];
	uint8_t dst[16];
	uint16_t sport; /* UDP source port, host order */
	uint16_t dport; /* UDP destination port, host order */
};

/** icrc_begin() - the CRC's state after IP, UDP and BTH
 * @flow:    borrowed
 * @ip_id:   the IPv4 identification that the packet will carry or carried, host
 *           order; not used for IPv6
 * @bth:     the transport headers, from BTH on
 * @hdr_len: their length; at least WIRE_BTH_SIZE
 * @udp_payload_len: BTH to ICRC inclusive, bytes
 */
uint32_t icrc_begin(const struct wire_flow *flow, uint16_t ip_id, const uint8_t *bth,
	size_t hdr_len, size_t udp_payload_len);

/** icrc_add() - go on over @size bytes of payload or pad */
uint32_t icrc_add(uint32_t state, const void *buf, size_t size);

/** icrc_copy() - copy payload, and go on over what was copied; see crc_copy() */
uint32_t icrc_copy(
	uint32_t state, void *dst, const void *src, size_t size, const void *next);

/** icrc_end() - write the ICRC as it lies on the wire (little-endian) */
void icrc_end(uint32_t state, uint8_t out[4]);

#endif
