/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The responder: requests that come in, and their answers (specification 9.7.4, 9.7.5).
 *
 * Answers are not sent one by one: all packets that came in together are answered by
 * one coalesced ACK, when engine_output() next asks.
 */
#include "engine_priv.h"

#include "lib/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int responder_init(struct qp *qp)
{
	qp->resp.wqe = calloc(
		1, sizeof(struct rq_wqe) + rq_max_sge(qp->rq) * sizeof(struct ibv_sge));
	return qp->resp.wqe ? 0 : -ENOMEM;
}

void responder_destroy(struct qp *qp)
{
	free(qp->resp.wqe);
}

void responder_reset(struct qp *qp, uint32_t psn)
{
	qp->resp = (struct responder){.wqe = qp->resp.wqe, .epsn = psn & PSN_MASK};
}

/* Answers. */

static void answer(struct qp *qp, uint8_t syndrome, uint32_t psn)
{
	struct responder *resp = &qp->resp;

	/* A NAK that is due is not overwritten by the ACK of a duplicate. */
	if (resp->ack_pending && resp->syndrome != WIRE_SYN_ACK_NO_CREDIT_LIMIT)
		return;
	resp->ack_pending = true;
	resp->syndrome = syndrome;
	resp->ack_psn = psn;
	engine_schedule(qp);
}

static void acknowledge(struct qp *qp)
{
	answer(qp, WIRE_SYN_ACK_NO_CREDIT_LIMIT, psn_add(qp->resp.epsn, PSN_MASK));
}

static void nak_sequence(struct qp *qp)
{
	if (qp->resp.nak_sent)
		return;
	qp->resp.nak_sent = true;
	answer(qp, WIRE_SYN_NAK_PSN, qp->resp.epsn);
}

void responder_nak_fatal(struct qp *qp, uint8_t syndrome)
{
	answer(qp, syndrome, qp->resp.epsn);
	qp_fail(qp);
}

static void count_answer(struct engine_stats *stats, uint8_t syndrome)
{
	switch (WIRE_SYN_CLASS(syndrome)) {
	case WIRE_SYN_ACK:
		stats->tx_acks++;
		break;
	case WIRE_SYN_RNR_NAK:
		stats->tx_naks_rnr++;
		break;
	default:
		if (syndrome == WIRE_SYN_NAK_PSN)
			stats->tx_naks_sequence++;
		else
			stats->tx_naks_fatal++;
	}
}

bool responder_output(struct qp *qp, struct link_burst *burst)
{
	struct responder *resp = &qp->resp;
	struct wire_packet pkt = {
		.opcode = WIRE_OPCODE(WIRE_RC, WIRE_ACK),
		.mig_req = true,
		.pkey = WIRE_PKEY_DEFAULT,
		.dest_qpn = qp->attr.dest_qp_num,
		.psn = resp->ack_psn,
		.syndrome = resp->syndrome,
		.msn = resp->msn,
	};

	/* An ACK behind a READ would tell the peer that the READ's answers were lost. */
	if (!responder_fetch_output(qp, burst))
		return false;
	if (!resp->ack_pending)
		return true;
	if (!engine_emit(qp, burst, &pkt))
		return false;
	resp->ack_pending = false;
	count_answer(&qp->engine->stats, resp->syndrome);
	return true;
}

/* Receive buffers. */

static bool take_wqe(struct qp *qp)
{
	struct responder *resp = &qp->resp;
	const struct rq_wqe *wqe = rq_peek(qp->rq);

	if (!wqe)
		return false;
	resp->wqe->wr_id = wqe->wr_id;
	resp->wqe->n_sge = wqe->n_sge;
	memcpy(resp->wqe->sge, wqe->sge, wqe->n_sge * sizeof(*wqe->sge));
	rq_pop(qp->rq);
	resp->have_wqe = true;
	resp->at = (struct sge_cursor){0};
	return true;
}

static void complete_recv(
	struct qp *qp, const struct wire_packet *pkt, enum ibv_wc_status status)
{
	struct responder *resp = &qp->resp;
	uint32_t flags = pkt ? wire_opcodes[pkt->opcode].flags : 0;
	struct ibv_wc wc = {
		.wr_id = resp->wqe->wr_id,
		.status = status,
		.opcode = flags & WIRE_IS_WRITE ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV,
		.byte_len = (uint32_t)resp->received,
		.qp_num = qp->qpn,
		.src_qp = qp->attr.dest_qp_num,
	};

	if (flags & WIRE_HAS_IMM) {
		wc.wc_flags = IBV_WC_WITH_IMM;
		wc.imm_data = pkt->imm_be;
	}
	resp->have_wqe = false;
	qp_complete_recv(qp, &wc);
}

void responder_flush(struct qp *qp)
{
	struct responder *resp = &qp->resp;

	if (resp->have_wqe)
		complete_recv(qp, NULL, IBV_WC_WR_FLUSH_ERR);
	resp->received = 0;
	while (!qp->config.srq && take_wqe(qp))
		complete_recv(qp, NULL, IBV_WC_WR_FLUSH_ERR);
}

/* Requests. Each of these returns false when the packet ended in a NAK. */

static bool receive_send(struct qp *qp, const struct wire_packet *pkt)
{
	struct responder *resp = &qp->resp;
	struct sge_list list = {
		.mrs = qp->engine->mrs,
		.pd = rq_pd(qp->rq),
		.n = resp->wqe->n_sge,
		.sge = resp->wqe->sge,
	};
	int rc = sge_scatter(&list, &resp->at, pkt->payload, pkt->payload_len);

	if (!rc)
		return true;
	complete_recv(
		qp, NULL, rc == -EMSGSIZE ? IBV_WC_LOC_LEN_ERR : IBV_WC_LOC_PROT_ERR);
	responder_nak_fatal(qp, rc == -EMSGSIZE ? WIRE_SYN_NAK_INVALID_REQUEST
						: WIRE_SYN_NAK_REMOTE_OPERATION);
	return false;
}

static bool receive_write(struct qp *qp, const struct wire_packet *pkt, uint32_t flags)
{
	struct responder *resp = &qp->resp;
	uint64_t end = resp->received + pkt->payload_len;
	uint8_t *p;

	if (flags & WIRE_HAS_RETH) {
		resp->write_va = pkt->va;
		resp->write_rkey = pkt->rkey;
		resp->write_len = pkt->dma_len;
	}
	if (end > resp->write_len || ((flags & WIRE_IS_LAST) && end != resp->write_len)) {
		responder_nak_fatal(qp, WIRE_SYN_NAK_INVALID_REQUEST);
		return false;
	}
	/* The queue pair must allow it as well as the region (10.6.3.2). A write of no
	 * bytes touches no memory, so its key is not looked at (9.7.4.1.5). */
	if (!(qp->attr.qp_access_flags & IBV_ACCESS_REMOTE_WRITE)) {
		responder_nak_fatal(qp, WIRE_SYN_NAK_REMOTE_ACCESS);
		return false;
	}
	if (!pkt->payload_len)
		return true;
	p = mr_resolve(qp->engine->mrs, resp->write_rkey, qp->config.pd,
		resp->write_va + resp->received, pkt->payload_len,
		IBV_ACCESS_REMOTE_WRITE);
	if (!p) {
		responder_nak_fatal(qp, WIRE_SYN_NAK_REMOTE_ACCESS);
		return false;
	}
	memcpy(p, pkt->payload, pkt->payload_len);
	return true;
}

/* Does the packet fit the message that is under way, and has it the right length? */
static bool fits_message(
	const struct qp *qp, const struct wire_packet *pkt, uint32_t flags)
{
	const struct responder *resp = &qp->resp;
	uint32_t class = flags & WIRE_IS_REQUEST;

	if (flags & WIRE_IS_FIRST ? resp->in_message != 0 : resp->in_message != class)
		return false;
	if (!(flags & WIRE_IS_LAST))
		return pkt->payload_len == qp->mtu;
	if (!(flags & WIRE_IS_FIRST) && pkt->payload_len == 0)
		return false;
	return pkt->payload_len <= qp->mtu;
}

static void end_message(struct qp *qp, const struct wire_packet *pkt, uint32_t flags)
{
	struct responder *resp = &qp->resp;

	resp->in_message = 0;
	resp->msn = psn_add(resp->msn, 1);
	if (flags & WIRE_IS_SEND)
		qp->engine->stats.rx_send_messages++;
	else
		qp->engine->stats.rx_write_messages++;
	if (resp->have_wqe)
		complete_recv(qp, pkt, IBV_WC_SUCCESS);
}

static void receive_fetch(struct qp *qp, const struct wire_packet *pkt)
{
	struct responder *resp = &qp->resp;
	uint32_t n_psns;

	if (resp->in_message) {
		responder_nak_fatal(qp, WIRE_SYN_NAK_INVALID_REQUEST);
		return;
	}
	n_psns = responder_fetch(qp, pkt);
	if (!n_psns)
		return;
	resp->epsn = psn_add(resp->epsn, n_psns);
	resp->msn = psn_add(resp->msn, 1);
	resp->nak_sent = false;
}

static void receive_in_order(struct qp *qp, const struct wire_packet *pkt, uint32_t flags)
{
	struct responder *resp = &qp->resp;
	bool begins = flags & WIRE_IS_FIRST;
	bool needs_wqe = flags & WIRE_IS_SEND ? begins : flags & WIRE_HAS_IMM;

	if (flags & (WIRE_IS_READ | WIRE_IS_ATOMIC)) {
		receive_fetch(qp, pkt);
		return;
	}
	if (!(flags & (WIRE_IS_SEND | WIRE_IS_WRITE)) || (flags & WIRE_HAS_IETH) ||
		!fits_message(qp, pkt, flags)) {
		responder_nak_fatal(qp, WIRE_SYN_NAK_INVALID_REQUEST);
		return;
	}
	if (needs_wqe && !take_wqe(qp)) {
		/* Each try is answered; what follows the refused packet is not. */
		resp->nak_sent = true;
		answer(qp, WIRE_SYN_RNR_NAK | qp->attr.min_rnr_timer, resp->epsn);
		return;
	}
	if (begins) {
		resp->received = 0;
		resp->in_message = flags & WIRE_IS_REQUEST;
	}
	if (flags & WIRE_IS_SEND ? !receive_send(qp, pkt)
				 : !receive_write(qp, pkt, flags))
		return;

	resp->received += pkt->payload_len;
	resp->epsn = psn_add(resp->epsn, 1);
	resp->nak_sent = false;
	if (flags & WIRE_IS_LAST)
		end_message(qp, pkt, flags);
	if (pkt->ack_req)
		acknowledge(qp);
}

void responder_input(struct qp *qp, const struct wire_packet *pkt)
{
	struct engine_stats *stats = &qp->engine->stats;
	int32_t ahead = psn_diff(pkt->psn, qp->resp.epsn);
	uint32_t flags = wire_opcodes[pkt->opcode].flags;

	stats->rx_request_packets++;
	if (ahead > 0) {
		stats->rx_out_of_sequence++;
		nak_sequence(qp);
	} else if (ahead < 0) {
		/* SEND and WRITE again: the effect is there, only the ACK was lost. */
		stats->rx_duplicate++;
		if (flags & (WIRE_IS_READ | WIRE_IS_ATOMIC))
			responder_fetch_again(qp, pkt);
		else
			acknowledge(qp);
	} else {
		receive_in_order(qp, pkt, flags);
	}
}
