/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The responder: requests that come in, and their answers (specification 9.7.4, 9.7.5).
 *
 * Answers are not sent one by one: all packets that came in together are answered by
 * one coalesced ACK, when engine_output() next asks.
 */
#include "engine_priv.h"

void responder_reset(struct qp *qp, uint32_t psn)
{
	responder_fetch_reset(qp);
	qp->resp = (struct responder){
		.wqe = qp->resp.wqe,
		.epsn = psn & PSN_MASK,
		.data_psn = psn_add(psn, PSN_MASK),
	};
}

/* Answers. */

/* What is due, if it weighs more than what is due already: a NAK says all that an ACK
 * does, and one that ends the queue pair must be told.
 */
static void answer(struct qp *qp, uint8_t syndrome)
{
	struct responder *resp = &qp->resp;

	if (resp->ack_pending && syndrome == WIRE_SYN_ACK_NO_CREDIT_LIMIT)
		return;
	resp->ack_pending = true;
	resp->syndrome = syndrome;
	engine_schedule(qp);
}

static void acknowledge(struct qp *qp)
{
	answer(qp, WIRE_SYN_ACK_NO_CREDIT_LIMIT);
}

static void nak_sequence(struct qp *qp)
{
	if (qp->resp.nak_sent)
		return;
	qp->resp.nak_sent = true;
	answer(qp, WIRE_SYN_NAK_PSN);
}

static void fail_with_nak(struct qp *qp, uint8_t syndrome)
{
	answer(qp, syndrome);
	qp_fail(qp);
}

/* Without a completion that could tell the error, an event does (10.10.2.3). */
void responder_nak_fatal(struct qp *qp, uint8_t syndrome)
{
	qp_raise(qp, syndrome == WIRE_SYN_NAK_REMOTE_ACCESS ? IBV_EVENT_QP_ACCESS_ERR
							    : IBV_EVENT_QP_REQ_ERR);
	fail_with_nak(qp, syndrome);
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

/* The PSN is that of now: a hole may have been filled since the answer became due. An ACK
 * goes no further than to the last SEND or WRITE: rdma_rxe (Linux 6.1) takes one with the
 * PSN of a READ or atomic for its answer, which may have been lost.
 */
static struct wire_packet due_answer(const struct qp *qp)
{
	const struct responder *resp = &qp->resp;
	bool is_ack = WIRE_SYN_CLASS(resp->syndrome) == WIRE_SYN_ACK;

	return (struct wire_packet){
		.opcode = WIRE_OPCODE(WIRE_RC, WIRE_ACK),
		.mig_req = true,
		.pkey = WIRE_PKEY_DEFAULT,
		.dest_qpn = qp->attr.dest_qp_num,
		.psn = is_ack ? resp->data_psn : resp->epsn,
		.syndrome = resp->syndrome,
		.msn = resp->msn,
	};
}

bool responder_output(struct qp *qp, struct link_burst *burst, uint64_t now_ns)
{
	enum fetch_output fetches = responder_fetch_output(qp, burst, now_ns);
	struct responder *resp = &qp->resp;
	struct wire_packet pkt;

	/* An ACK behind a READ would tell the peer that the READ's answers were lost. */
	if (fetches != FETCH_OUTPUT_ALL)
		return fetches == FETCH_OUTPUT_PACED;
	if (!resp->ack_pending)
		return true;
	pkt = due_answer(qp);
	if (!engine_emit(qp, burst, &pkt, qp->attr.ah_attr.grh.dgid.raw))
		return false;
	resp->ack_pending = false;
	if (resp->syndrome == WIRE_SYN_NAK_PSN)
		resp->nak_sent = true;
	count_answer(&qp->engine->stats, resp->syndrome);
	return true;
}

/* Requests. */

void responder_accepted(struct responder *resp, uint32_t end, bool is_data)
{
	resp->epsn = end;
	if (is_data)
		resp->data_psn = psn_add(end, PSN_MASK);
	resp->nak_sent = false;
	/* A buffer came in time: the refusal that is still due would be of another PSN.
	 */
	if (WIRE_SYN_CLASS(resp->syndrome) == WIRE_SYN_RNR_NAK)
		resp->syndrome = WIRE_SYN_ACK_NO_CREDIT_LIMIT;
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
	responder_accepted(resp, psn_add(resp->epsn, n_psns), false);
	resp->msn = psn_add(resp->msn, 1);
}

static bool is_ready_for(struct qp *qp, uint32_t flags)
{
	/* The peer may have asked for what lies behind the key that it now gives back. It
	 * should have waited for that, but NICs answer in order. */
	if ((flags & WIRE_HAS_IETH) && responder_fetch_is_due(qp))
		return false;
	return !message_needs_wqe(&qp->resp, flags) || message_take_wqe(qp);
}

static void receive_in_order(struct qp *qp, const struct wire_packet *pkt, uint32_t flags)
{
	struct responder *resp = &qp->resp;
	uint8_t syndrome;

	if (flags & (WIRE_IS_READ | WIRE_IS_ATOMIC)) {
		receive_fetch(qp, pkt);
		return;
	}
	if (!message_fits(qp, pkt, flags)) {
		responder_nak_fatal(qp, WIRE_SYN_NAK_INVALID_REQUEST);
		return;
	}
	if (!is_ready_for(qp, flags)) {
		/* Each try is answered; what follows the refused packet is not. */
		resp->nak_sent = true;
		answer(qp, WIRE_SYN_RNR_NAK | qp->attr.min_rnr_timer);
		return;
	}
	if (flags & WIRE_IS_FIRST)
		message_begin(resp, pkt, flags);
	syndrome = message_store(qp, pkt, flags);
	if (syndrome != WIRE_SYN_ACK) {
		if (flags & WIRE_IS_SEND) /* its receive completed with the error */
			fail_with_nak(qp, syndrome);
		else
			responder_nak_fatal(qp, syndrome);
		return;
	}
	responder_accepted(resp, psn_add(resp->epsn, 1), true);
	if (flags & WIRE_IS_LAST)
		message_end(qp, pkt, flags);
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
