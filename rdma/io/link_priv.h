/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the links share: the ICRC over packets that lie in pieces, and its check.
 */
#ifndef RDMA_IO_LINK_PRIV_H
#define RDMA_IO_LINK_PRIV_H

#include <stddef.h>

#include "link.h"
#include "rdma/wire/icrc.h"

/** link_tx_size() - bytes of UDP payload that a packet makes: BTH to ICRC inclusive */
static inline size_t link_tx_size(const struct link_tx *pkt)
{
	return (size_t)pkt->hdr_len + pkt->payload_len + pkt->pad + WIRE_ICRC_SIZE;
}

/** link_tx_put() - write a whole packet, BTH to ICRC inclusive
 * The payload is read once, so the ICRC is right whatever its owner does to it meanwhile.
 * @flow:  the packet's addresses and ports
 * @ip_id: IPv4 identification that it will carry
 * @to:    room for link_tx_size() bytes
 */
void link_tx_put(const struct link_burst *burst, const struct link_tx *pkt,
	const struct wire_flow *flow, uint16_t ip_id, uint8_t *to);

/** link_icrc_write() - put the ICRC at the end of a packet that lies in one piece
 * @data: BTH to ICRC inclusive; @size is at least WIRE_BTH_SIZE + WIRE_ICRC_SIZE
 */
void link_icrc_write(
	const struct wire_flow *flow, uint16_t ip_id, uint8_t *data, size_t size);

/** link_icrc_ok() - is the ICRC at the end of @data right? As link_icrc_write(). */
bool link_icrc_ok(
	const struct wire_flow *flow, uint16_t ip_id, const uint8_t *data, size_t size);

#endif
