/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The completer: what the peer's responses say about requests that were sent
 * (specification 9.7.5, 9.9.2).
 */
#include "engine_priv.h"

#include "lib/util.h"

/* RNR NAK timer codes (table 46), in units of 10 us. */
static const uint32_t rnr_timer_10us[32] = {65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48,
	64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192,
	12288, 16384, 24576, 32768, 49152};

static const enum ibv_wc_opcode wc_opcodes[] = {
	[IBV_WR_RDMA_WRITE] = IBV_WC_RDMA_WRITE,
	[IBV_WR_RDMA_WRITE_WITH_IMM] = IBV_WC_RDMA_WRITE,
	[IBV_WR_SEND] = IBV_WC_SEND,
	[IBV_WR_SEND_WITH_IMM] = IBV_WC_SEND,
};

/** completer_retire() - take the oldest request off the send queue with @status */
void completer_retire(struct qp *qp, enum ibv_wc_status status)
{
	struct requester *req = &qp->req;
	const struct sq_wqe *wqe = requester_wqe(req, req->tail);
	struct ibv_wc wc = {
		.wr_id = wqe->wr_id,
		.status = status,
		.opcode = wc_opcodes[wqe->opcode],
		.byte_len = wqe->length,
		.qp_num = qp->qpn,
	};
	bool wanted = wqe->signaled || status != IBV_WC_SUCCESS;

	if (req->cur == req->tail)
		requester_seek(req, req->cur + 1, 0);
	req->tail++;
	/* Last, as a full completion queue makes the queue pair fail and come here again.
	 */
	if (wanted)
		qp_complete_send(qp, &wc);
}

static void grow_window(struct requester *req, uint32_t n_acked)
{
	if (req->in_recovery) {
		if (psn_diff(req->una_psn, req->recover_psn) < 0)
			return;
		req->in_recovery = false;
	}
	if (req->cwnd < req->ssthresh) {
		req->cwnd += n_acked;
	} else {
		req->cwnd_acked += n_acked;
		if (req->cwnd_acked >= req->cwnd) {
			req->cwnd_acked -= req->cwnd;
			req->cwnd++;
		}
	}
	req->cwnd = MIN(req->cwnd, req->cwnd_max);
}

/* All PSNs before @psn have arrived. */
static void acknowledge(struct qp *qp, uint32_t psn, uint64_t now_ns)
{
	struct requester *req = &qp->req;
	int32_t n = psn_diff(psn, req->una_psn);

	if (n <= 0)
		return;

	req->una_psn = psn;
	while (req->tail != req->head) {
		const struct sq_wqe *wqe = requester_wqe(req, req->tail);

		/* Not psn_diff(): one message may span half of all PSNs. */
		if (psn_add(psn, -wqe->first_psn) < wqe->n_pkts)
			break;
		completer_retire(qp, IBV_WC_SUCCESS);
		/* a full completion queue ends the queue pair and its requests */
		if (qp->state == IBV_QPS_ERR)
			return;
	}
	/* After a rewind the place of sending may lie behind what has now arrived. */
	if (psn_diff(requester_tx_psn(req), psn) < 0)
		requester_rewind(req);

	grow_window(req, (uint32_t)n);
	req->retry_left = qp->attr.retry_cnt;
	req->rnr_left = qp->attr.rnr_retry;
	req->rnr_wait = false;
	requester_await_ack(qp, now_ns);
	engine_schedule(qp);
}

static void wait_for_receiver(struct qp *qp, uint8_t timer, uint64_t now_ns)
{
	struct requester *req = &qp->req;

	qp->engine->stats.rx_naks_rnr++;
	if (req->rnr_left == 0) {
		requester_fail(qp, req->tail, IBV_WC_RNR_RETRY_EXC_ERR);
		return;
	}
	if (req->rnr_left != 7) /* 7 means for ever */
		req->rnr_left--;
	requester_rewind(req);
	req->rnr_wait = true;
	engine_arm(qp, now_ns + rnr_timer_10us[timer] * 10 * NSEC_PER_USEC);
}

static void resend(struct qp *qp, uint64_t now_ns)
{
	struct requester *req = &qp->req;

	qp->engine->stats.rx_naks_sequence++;
	if (req->retry_left == 0) {
		requester_fail(qp, req->tail, IBV_WC_RETRY_EXC_ERR);
		return;
	}
	req->retry_left--;
	requester_loss(qp);
	requester_await_ack(qp, now_ns);
}

static void input_nak(struct qp *qp, uint8_t syndrome, uint64_t now_ns)
{
	enum ibv_wc_status status;

	switch (syndrome) {
	case WIRE_SYN_NAK_PSN:
		resend(qp, now_ns);
		return;
	case WIRE_SYN_NAK_INVALID_REQUEST:
		status = IBV_WC_REM_INV_REQ_ERR;
		break;
	case WIRE_SYN_NAK_REMOTE_ACCESS:
		status = IBV_WC_REM_ACCESS_ERR;
		break;
	case WIRE_SYN_NAK_REMOTE_OPERATION:
		status = IBV_WC_REM_OP_ERR;
		break;
	default:
		qp->engine->stats.rx_drop_malformed++;
		return;
	}
	qp->engine->stats.rx_naks_fatal++;
	requester_fail(qp, qp->req.tail, status);
}

void completer_input(struct qp *qp, const struct wire_packet *pkt, uint64_t now_ns)
{
	struct requester *req = &qp->req;
	struct engine_stats *stats = &qp->engine->stats;

	if (!(wire_opcodes[pkt->opcode].flags & WIRE_IS_ACK)) {
		stats->rx_drop_unsupported++;
		return;
	}
	/* Not of a PSN in flight: an old answer that was overtaken, or forged. */
	if (psn_diff(pkt->psn, req->una_psn) < 0 ||
		psn_diff(pkt->psn, req->snd_max) >= 0) {
		stats->rx_drop_stale_ack++;
		return;
	}
	switch (WIRE_SYN_CLASS(pkt->syndrome)) {
	case WIRE_SYN_ACK:
		stats->rx_acks++;
		acknowledge(qp, psn_add(pkt->psn, 1), now_ns);
		return;
	case WIRE_SYN_RNR_NAK:
		/* A NAK acknowledges all before it (9.7.5.1.1). */
		acknowledge(qp, pkt->psn, now_ns);
		if (qp->state != IBV_QPS_ERR)
			wait_for_receiver(qp, pkt->syndrome & 0x1f, now_ns);
		return;
	case WIRE_SYN_NAK_PSN:
		acknowledge(qp, pkt->psn, now_ns);
		if (qp->state != IBV_QPS_ERR)
			input_nak(qp, pkt->syndrome, now_ns);
		return;
	default:
		stats->rx_drop_malformed++;
	}
}
