/* SPDX-License-Identifier: BSD-3-Clause */
#include "link_priv.h"

#include <assert.h>
#include <string.h>

#include "lib/util.h"

size_t link_tx_tail(const struct link_burst *burst, const struct link_tx *pkt,
	const struct wire_flow *flow, uint16_t ip_id, uint8_t *tail)
{
	const struct iovec *iov = &burst->iov[pkt->iov_first];
	size_t payload = 0;
	uint32_t crc;

	crc = icrc_begin(flow, ip_id, pkt->hdr, pkt->hdr_len, link_tx_size(pkt));
	for (int i = 0; i < pkt->n_iov; i++) {
		crc = icrc_add(crc, iov[i].iov_base, iov[i].iov_len);
		payload += iov[i].iov_len;
	}
	assert(payload == pkt->payload_len);
	memset(tail, 0, pkt->pad);
	crc = icrc_add(crc, tail, pkt->pad);
	icrc_end(crc, tail + pkt->pad);
	return (size_t)pkt->pad + WIRE_ICRC_SIZE;
}

/* The ICRC of a packet in one piece, all but its last four bytes. */
static void icrc_whole(const struct wire_flow *flow, uint16_t ip_id, const uint8_t *data,
	size_t size, uint8_t icrc[WIRE_ICRC_SIZE])
{
	size_t covered = size - WIRE_ICRC_SIZE;
	size_t hdr_len = MIN(covered, (size_t)WIRE_HDR_MAX);
	uint32_t crc = icrc_begin(flow, ip_id, data, hdr_len, size);

	icrc_end(icrc_add(crc, data + hdr_len, covered - hdr_len), icrc);
}

void link_icrc_write(
	const struct wire_flow *flow, uint16_t ip_id, uint8_t *data, size_t size)
{
	icrc_whole(flow, ip_id, data, size, data + size - WIRE_ICRC_SIZE);
}

bool link_icrc_ok(
	const struct wire_flow *flow, uint16_t ip_id, const uint8_t *data, size_t size)
{
	uint8_t icrc[WIRE_ICRC_SIZE];

	icrc_whole(flow, ip_id, data, size, icrc);
	return !memcmp(icrc, data + size - WIRE_ICRC_SIZE, sizeof(icrc));
}
