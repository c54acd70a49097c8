/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receiving without acknowledgement: UC and UD (specification 9.8). What can't be taken
 * is dropped and counted; the sender never hears of it.
 */
#include "engine_priv.h"

#include "rdma/wire/gid.h"

#include <string.h>

#define GRH_SIZE 40

/* What a datagram came in, as its completion tells (annex A17.4.5.1). Where is not in
 * the specification; as in Mellanox' devices it is wc.sl: a UDP header, and IPv6 or IPv4.
 * UCX 1.13 drops datagrams otherwise.
 */
enum { SL_UDP = 8, SL_IPV6 = 1, SL_IPV4 = 2 };

/* A packet of UC that does not follow on: its message is lost, and its buffer is kept for
 * the next one (9.8.2.2).
 */
static void lose_message(struct qp *qp)
{
	if (qp->resp.in_message)
		qp->engine->stats.rx_messages_cut_off++;
	qp->resp.in_message = 0;
}

static void input_uc(struct qp *qp, const struct wire_packet *pkt, uint32_t flags)
{
	struct responder *resp = &qp->resp;
	struct engine_stats *stats = &qp->engine->stats;

	if ((flags & WIRE_IS_FIRST) || pkt->psn != resp->epsn)
		lose_message(qp);
	resp->epsn = psn_add(pkt->psn, 1);
	if (!message_fits(qp, pkt, flags)) {
		lose_message(qp);
		stats->rx_out_of_sequence++;
		return;
	}
	if (message_needs_wqe(resp, flags) && !message_take_wqe(qp)) {
		lose_message(qp);
		stats->rx_drop_no_buffer++;
		return;
	}
	if (flags & WIRE_IS_FIRST)
		message_begin(resp, pkt, flags);
	if (message_store(qp, pkt, flags) != WIRE_SYN_ACK) {
		lose_message(qp);
		stats->rx_drop_access++;
		return;
	}
	if (flags & WIRE_IS_LAST)
		message_end(qp, pkt, flags);
}

static uint16_t ip_checksum(const uint8_t *hdr)
{
	uint32_t sum = 0;

	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)(hdr[i] << 8 | hdr[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

/*
 * What stands in front of a datagram's data: the IPv6 header, or 20 zero bytes and the
 * IPv4 header (annex A17.4.5.2). Its source and destination are as received; the rest is
 * made up, as a socket does not tell.
 */
static void make_grh(const struct link_rx *rx, bool is_ipv4, uint8_t grh[GRH_SIZE])
{
	uint32_t udp_len = 8 + rx->len + WIRE_ICRC_SIZE;
	uint8_t *ip = grh + 20;
	uint16_t sum;

	memset(grh, 0, GRH_SIZE);
	if (!is_ipv4) {
		grh[0] = 0x60;
		grh[4] = (uint8_t)(udp_len >> 8);
		grh[5] = (uint8_t)udp_len;
		grh[6] = 17;
		grh[7] = 64;
		memcpy(grh + 8, rx->sgid, 16);
		memcpy(grh + 24, rx->dgid, 16);
		return;
	}
	ip[0] = 0x45;
	ip[1] = rx->ecn;
	ip[2] = (uint8_t)((udp_len + 20) >> 8);
	ip[3] = (uint8_t)(udp_len + 20);
	ip[6] = 0x40;
	ip[8] = 64;
	ip[9] = 17;
	memcpy(ip + 12, rx->sgid + 12, 4);
	memcpy(ip + 16, rx->dgid + 12, 4);
	sum = ip_checksum(ip);
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
}

static void input_ud(struct qp *qp, const struct wire_packet *pkt, uint32_t flags,
	const struct link_rx *rx)
{
	struct responder *resp = &qp->resp;
	struct engine_stats *stats = &qp->engine->stats;
	bool is_ipv4 = gid_is_ipv4(rx->sgid);
	enum ibv_wc_status status;
	uint8_t grh[GRH_SIZE];

	if (pkt->payload_len > qp->mtu) { /* a datagram is one packet (9.8.3) */
		stats->rx_drop_malformed++;
		return;
	}
	if (pkt->qkey != qp->attr.qkey) {
		stats->rx_drop_qkey++;
		return;
	}
	if (!message_take_wqe(qp)) {
		stats->rx_drop_no_buffer++;
		return;
	}
	message_begin(resp, pkt, flags);
	resp->sl = SL_UDP | (is_ipv4 ? SL_IPV4 : SL_IPV6);
	make_grh(rx, is_ipv4, grh);
	status = message_scatter(qp, grh, GRH_SIZE);
	if (status == IBV_WC_SUCCESS)
		status = message_scatter(qp, pkt->payload, pkt->payload_len);
	if (status != IBV_WC_SUCCESS) {
		resp->in_message = 0;
		message_complete(qp, NULL, status);
		stats->rx_drop_access++;
		return;
	}
	message_end(qp, pkt, flags);
}

void unreliable_input(
	struct qp *qp, const struct wire_packet *pkt, const struct link_rx *rx)
{
	uint32_t flags = wire_opcodes[pkt->opcode].flags;

	qp->engine->stats.rx_request_packets++;
	if (qp->config.type == IBV_QPT_UD)
		input_ud(qp, pkt, flags, rx);
	else
		input_uc(qp, pkt, flags);
}
