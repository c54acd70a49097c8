/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The completer: what the peer's responses say about requests that were sent
 * (specification 9.7.5, 9.9.2).
 */
#include "engine_priv.h"

#include "lib/util.h"

#include <errno.h>

/* RNR NAK timer codes (table 46), in units of 10 us. */
static const uint32_t rnr_timer_10us[32] = {65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48,
	64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192,
	12288, 16384, 24576, 32768, 49152};

static const enum ibv_wc_opcode wc_opcodes[] = {
	[IBV_WR_RDMA_WRITE] = IBV_WC_RDMA_WRITE,
	[IBV_WR_RDMA_WRITE_WITH_IMM] = IBV_WC_RDMA_WRITE,
	[IBV_WR_SEND] = IBV_WC_SEND,
	[IBV_WR_SEND_WITH_IMM] = IBV_WC_SEND,
	[IBV_WR_SEND_WITH_INV] = IBV_WC_SEND,
	[IBV_WR_LOCAL_INV] = IBV_WC_LOCAL_INV,
	[IBV_WR_BIND_MW] = IBV_WC_BIND_MW,
	[IBV_WR_RDMA_READ] = IBV_WC_RDMA_READ,
	[IBV_WR_ATOMIC_CMP_AND_SWP] = IBV_WC_COMP_SWAP,
	[IBV_WR_ATOMIC_FETCH_AND_ADD] = IBV_WC_FETCH_ADD,
};

struct ibv_wc completer_wc(
	const struct qp *qp, const struct sq_wqe *wqe, enum ibv_wc_status status)
{
	return (struct ibv_wc){
		.wr_id = wqe->wr_id,
		.status = status,
		.opcode = wc_opcodes[wqe->opcode],
		.byte_len = wqe->length,
		.qp_num = qp->qpn,
	};
}

/** completer_retire() - take the oldest request off the send queue with @status */
void completer_retire(struct qp *qp, enum ibv_wc_status status)
{
	struct requester *req = &qp->req;
	const struct sq_wqe *wqe = requester_wqe(req, req->tail);
	struct ibv_wc wc = completer_wc(qp, wqe, status);
	bool wanted = wqe->signaled || status != IBV_WC_SUCCESS;

	if (req->cur == req->tail)
		requester_seek(req, req->cur + 1, 0);
	req->tail++;
	/* Last, as a full completion queue makes the queue pair fail and come here again.
	 */
	if (wanted)
		qp_complete_send(qp, &wc);
}

/* Retire what ends before @psn. A READ or atomic ends with its answer only: if one stands
 * in the way, its answers were lost.
 * Return: the PSN up to which all is acknowledged
 */
static uint32_t retire_until(struct qp *qp, uint32_t psn)
{
	struct requester *req = &qp->req;

	while (req->tail != req->head && qp->state != IBV_QPS_ERR) {
		const struct sq_wqe *wqe = requester_wqe(req, req->tail);

		if (sq_is_local(wqe) && !wqe->is_done)
			return psn;
		/* Not psn_diff(): one message may span half of all PSNs. */
		if (psn_add(psn, -wqe->first_psn) < wqe->n_pkts && !sq_is_fetch(wqe))
			return psn;
		if (sq_is_fetch(wqe)) {
			uint32_t due = psn_diff(req->una_psn, wqe->first_psn) > 0
					       ? req->una_psn
					       : wqe->first_psn;

			return psn_diff(psn, due) < 0 ? psn : due;
		}
		completer_retire(qp, IBV_WC_SUCCESS);
	}
	return psn;
}

static void forget_answered(struct asked *asked, uint32_t psn)
{
	while (asked->tail != asked->head &&
		psn_diff(asked->end[asked->tail % ENGINE_RD_MAX], psn) <= 0)
		asked->tail++;
}

/* What is unacknowledged begins at @psn, which moves on from una_psn. */
static void progressed(struct qp *qp, uint32_t psn, uint64_t now_ns)
{
	struct requester *req = &qp->req;
	int32_t n = psn_diff(psn, req->una_psn);

	req->una_psn = psn;
	if (req->asked)
		forget_answered(req->asked, psn);
	/* After a rewind the place of sending may lie behind what has now arrived. */
	if (psn_diff(requester_tx_psn(req), psn) < 0) {
		requester_rewind(req);
		if (qp->congestion.undo_cwnd)
			congestion_undo(&qp->congestion);
	}
	rtt_acked(&qp->rtt, psn, now_ns);

	congestion_acked(&qp->congestion, psn, (uint32_t)n, !qp_is_limited(qp));
	req->retry_left = qp->attr.retry_cnt;
	req->rnr_left = qp->attr.rnr_retry;
	req->rnr_wait = false;
	retry_await(qp, now_ns);
	requester_check_drained(qp);
	engine_schedule(qp);
}

/* The peer has all PSNs before @psn. Return: false if that ended the queue pair, or
 * showed that answers were lost.
 */
static bool acknowledge(struct qp *qp, uint32_t psn, uint64_t now_ns)
{
	struct requester *req = &qp->req;
	uint32_t upto = retire_until(qp, psn);

	/* A full completion queue ends the queue pair and its requests. */
	if (qp->state == IBV_QPS_ERR)
		return false;
	if (psn_diff(upto, req->una_psn) > 0)
		progressed(qp, upto, now_ns);
	if (psn_diff(psn, upto) <= 0)
		return true;
	/* All that was sent behind the lost answer tells of it; it is asked for once. */
	if (!req->in_repair || req->repair_psn != upto) {
		req->in_repair = true;
		req->repair_psn = upto;
		qp->engine->stats.rx_answers_lost++;
		retry_lost(qp, now_ns);
	}
	return false;
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
	/* It answers: losses before that are no sign that it is gone, and while it lets
	 * this side wait, which may be long, there are always some. */
	req->retry_left = qp->attr.retry_cnt;
	requester_rewind(req);
	/* Try with little: what follows a refused packet is in vain. */
	congestion_restart(&qp->congestion);
	req->rnr_wait = true;
	engine_arm(qp, now_ns + rnr_timer_10us[timer] * 10 * NSEC_PER_USEC);
}

static void input_nak(struct qp *qp, uint8_t syndrome, uint64_t now_ns)
{
	enum ibv_wc_status status;

	switch (syndrome) {
	case WIRE_SYN_NAK_PSN:
		qp->engine->stats.rx_naks_sequence++;
		if (!retry_is_under_way(qp, now_ns))
			retry_lost(qp, now_ns);
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

/* Does an answer belong to the oldest request, and to the place where its last one ended?
 * If it is ahead of that, answers before it were lost.
 */
static struct sq_wqe *awaited(
	struct qp *qp, const struct wire_packet *pkt, uint64_t now_ns)
{
	struct requester *req = &qp->req;
	struct sq_wqe *wqe;

	if (!acknowledge(qp, pkt->psn, now_ns))
		return NULL;
	wqe = requester_wqe(req, req->tail);
	if (req->una_psn != pkt->psn || req->tail == req->head || !sq_is_fetch(wqe)) {
		qp->engine->stats.rx_drop_stale_ack++;
		return NULL;
	}
	return wqe;
}

static void fail_local(struct qp *qp, int rc)
{
	requester_fail(qp, qp->req.tail,
		rc == -EMSGSIZE ? IBV_WC_LOC_LEN_ERR : IBV_WC_LOC_PROT_ERR);
}

/* @len bytes arrived for the request at tail; they were the last of it or not. */
static void deliver(struct qp *qp, struct sq_wqe *wqe, const void *data, uint32_t len,
	uint64_t now_ns)
{
	struct requester *req = &qp->req;
	struct asked *asked = req->asked;
	uint32_t index = psn_add(req->una_psn, -wqe->first_psn);
	uint64_t off = (uint64_t)index * qp->mtu;
	struct sge_list list = requester_sges(qp, wqe);
	int rc;

	if (asked->got_off != off || !off)
		asked->got_sge = sge_seek(&list, off);
	rc = sge_scatter(&list, &asked->got_sge, data, len);
	if (rc) {
		fail_local(qp, rc);
		return;
	}
	asked->got_off = off + len;
	if (index + 1 == wqe->n_pkts) {
		completer_retire(qp, IBV_WC_SUCCESS);
		retire_until(qp, psn_add(req->una_psn, 1)); /* local ones behind it */
	}
	if (qp->state != IBV_QPS_ERR)
		progressed(qp, psn_add(req->una_psn, 1), now_ns);
}

static void input_read_response(
	struct qp *qp, const struct wire_packet *pkt, uint64_t now_ns)
{
	struct sq_wqe *wqe = awaited(qp, pkt, now_ns);
	uint64_t left;

	if (!wqe)
		return;
	left = wqe->length - (uint64_t)psn_add(pkt->psn, -wqe->first_psn) * qp->mtu;
	if (wqe->opcode != IBV_WR_RDMA_READ || pkt->payload_len != MIN(left, qp->mtu)) {
		/* 9.9.2.4.2: a response that can't be is a bad response error */
		requester_fail(qp, qp->req.tail, IBV_WC_BAD_RESP_ERR);
		return;
	}
	qp->engine->stats.rx_read_responses++;
	deliver(qp, wqe, pkt->payload, pkt->payload_len, now_ns);
}

static void input_atomic_ack(
	struct qp *qp, const struct wire_packet *pkt, uint64_t now_ns)
{
	struct sq_wqe *wqe = awaited(qp, pkt, now_ns);

	if (!wqe)
		return;
	if (wqe->opcode == IBV_WR_RDMA_READ) {
		requester_fail(qp, qp->req.tail, IBV_WC_BAD_RESP_ERR);
		return;
	}
	qp->engine->stats.rx_atomic_responses++;
	deliver(qp, wqe, &pkt->orig_data, sizeof(pkt->orig_data), now_ns);
}

static void input_ack(struct qp *qp, const struct wire_packet *pkt, uint64_t now_ns)
{
	struct engine_stats *stats = &qp->engine->stats;

	switch (WIRE_SYN_CLASS(pkt->syndrome)) {
	case WIRE_SYN_ACK:
		stats->rx_acks++;
		acknowledge(qp, psn_add(pkt->psn, 1), now_ns);
		return;
	case WIRE_SYN_RNR_NAK:
		/* A NAK acknowledges all before it (9.7.5.1.1). */
		if (acknowledge(qp, pkt->psn, now_ns))
			wait_for_receiver(qp, pkt->syndrome & 0x1f, now_ns);
		return;
	case WIRE_SYN_NAK_PSN:
		if (acknowledge(qp, pkt->psn, now_ns))
			input_nak(qp, pkt->syndrome, now_ns);
		return;
	default:
		stats->rx_drop_malformed++;
	}
}

void completer_input(struct qp *qp, const struct wire_packet *pkt, uint64_t now_ns)
{
	struct requester *req = &qp->req;
	uint32_t flags = wire_opcodes[pkt->opcode].flags;

	/* Not of a PSN in flight: an old answer that was overtaken, or forged. */
	if (psn_diff(pkt->psn, req->una_psn) < 0 ||
		psn_diff(pkt->psn, req->snd_max) >= 0) {
		qp->engine->stats.rx_drop_stale_ack++;
		return;
	}
	if (flags & WIRE_IS_READ_RESP)
		input_read_response(qp, pkt, now_ns);
	else if (flags & WIRE_IS_ATOMIC_ACK)
		input_atomic_ack(qp, pkt, now_ns);
	else
		input_ack(qp, pkt, now_ns);
}
