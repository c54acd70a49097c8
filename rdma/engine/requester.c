/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The requester: the send queue, and how its messages become packets
 * (specification 9.7.3, 9.9.2). What the answers mean is the completer's part.
 *
 * Loss is repaired by going back to the oldest PSN that is not acknowledged. As a
 * receiver without a lossless network drops whatever overruns its buffers, a window
 * bounds the packets in flight (congestion.h), and a rate what goes out (dcqcn.h).
 */
#include "engine_priv.h"

#include "lib/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_PART_PKTS 16u
/* An ACK is asked for at least this often, so that the window keeps moving. */
#define ACK_REQUEST_PKTS 32u

int requester_init(struct qp *qp)
{
	struct requester *req = &qp->req;
	const struct ibv_qp_cap *cap = &qp->config.cap;
	size_t data;

	if (cap->max_send_wr > ENGINE_WR_MAX || cap->max_send_sge > ENGINE_SGE_MAX ||
		cap->max_inline_data > ENGINE_INLINE_MAX)
		return -EINVAL;
	req->depth = MAX(cap->max_send_wr, 1u);
	req->mask = round_up_pow2(req->depth) - 1;
	req->max_sge = (uint16_t)MAX(cap->max_send_sge, 1u);
	req->max_inline = (uint16_t)cap->max_inline_data;
	data = MAX(req->max_sge * sizeof(struct ibv_sge), (size_t)req->max_inline);
	req->stride = (uint32_t)(sizeof(struct sq_wqe) + data + 7) & ~7u;
	req->ring = calloc(req->mask + 1ul, req->stride);
	return req->ring ? 0 : -ENOMEM;
}

void requester_destroy(struct qp *qp)
{
	free(qp->req.asked);
	free(qp->req.ring);
}

void requester_reset(struct qp *qp, uint32_t psn)
{
	struct requester *req = &qp->req;

	req->head = req->tail = 0;
	free(req->asked);
	req->asked = NULL;
	requester_seek(req, 0, 0);
	req->next_psn = req->una_psn = req->snd_max = psn & PSN_MASK;
	req->unrequested = 0;
	req->rnr_wait = false;
	req->in_repair = false;
	req->retry_left = qp->attr.retry_cnt;
	req->rnr_left = qp->attr.rnr_retry;
	congestion_reset(&qp->congestion, qp->mtu);
	qp->rtt = (struct rtt){0};
	engine_arm(qp, 0);
}

struct sge_list requester_sges(const struct qp *qp, const struct sq_wqe *wqe)
{
	return (struct sge_list){
		.mrs = qp->engine->mrs,
		.pd = qp->config.pd,
		.n = wqe->n_sge,
		.sge = wqe->sge,
	};
}

struct sq_wqe *requester_wqe(const struct requester *req, uint32_t index)
{
	return (struct sq_wqe *)(req->ring + (size_t)(index & req->mask) * req->stride);
}

uint32_t requester_tx_psn(const struct requester *req)
{
	if (req->cur == req->head)
		return req->next_psn;
	return psn_add(requester_wqe(req, req->cur)->first_psn, req->cur_pkt);
}

int requester_prepare_fetch(struct requester *req)
{
	if (!req->asked)
		req->asked = calloc(1, sizeof(*req->asked));
	return req->asked ? 0 : -ENOMEM;
}

void requester_seek(struct requester *req, uint32_t index, uint32_t pkt)
{
	req->cur = index;
	req->cur_pkt = pkt;
	req->cur_sge = (struct sge_cursor){0};
	req->cur_off = 0;
}

void requester_rewind(struct requester *req)
{
	uint32_t done = 0;

	if (req->asked)
		req->asked->head = req->asked->tail;
	if (req->tail != req->head)
		done = psn_add(req->una_psn, -requester_wqe(req, req->tail)->first_psn);
	requester_seek(req, req->tail, done);
}

void requester_arrived(struct qp *qp, uint32_t psn)
{
	struct requester *req = &qp->req;

	req->una_psn = psn;
	if (psn_diff(psn, req->snd_max) > 0)
		req->snd_max = psn;
	req->retry_left = qp->attr.retry_cnt;
	req->rnr_left = qp->attr.rnr_retry;
	req->in_repair = false;
	engine_arm(qp, 0);
}

void requester_check_drained(struct qp *qp)
{
	struct requester *req = &qp->req;

	if (!req->tell_drained || req->una_psn != req->snd_max || req->cur_pkt)
		return;
	req->tell_drained = false;
	qp_raise(qp, IBV_EVENT_SQ_DRAINED);
}

void requester_flush(struct qp *qp)
{
	while (qp->req.tail != qp->req.head)
		completer_retire(qp, IBV_WC_WR_FLUSH_ERR);
	engine_arm(qp, 0);
}

void requester_fail(struct qp *qp, uint32_t index, enum ibv_wc_status status)
{
	struct requester *req = &qp->req;

	while (req->tail != req->head && req->tail != index)
		completer_retire(qp, IBV_WC_WR_FLUSH_ERR);
	if (req->tail != req->head)
		completer_retire(qp, status);
	qp_fail_send(qp);
}

/* Sending. */

/* Opcodes by work request and place in the message: middle, first, last, only. */
enum { MIDDLE = 0, FIRST = 1, LAST = 2, ONLY = FIRST | LAST };

static const uint8_t data_opcodes[][4] = {
	[IBV_WR_SEND] = {WIRE_SEND_MIDDLE, WIRE_SEND_FIRST, WIRE_SEND_LAST,
		WIRE_SEND_ONLY},
	[IBV_WR_SEND_WITH_IMM] = {WIRE_SEND_MIDDLE, WIRE_SEND_FIRST, WIRE_SEND_LAST_IMM,
		WIRE_SEND_ONLY_IMM},
	[IBV_WR_SEND_WITH_INV] = {WIRE_SEND_MIDDLE, WIRE_SEND_FIRST, WIRE_SEND_LAST_INV,
		WIRE_SEND_ONLY_INV},
	[IBV_WR_RDMA_WRITE] = {WIRE_WRITE_MIDDLE, WIRE_WRITE_FIRST, WIRE_WRITE_LAST,
		WIRE_WRITE_ONLY},
	[IBV_WR_RDMA_WRITE_WITH_IMM] = {WIRE_WRITE_MIDDLE, WIRE_WRITE_FIRST,
		WIRE_WRITE_LAST_IMM, WIRE_WRITE_ONLY_IMM},
};

static uint8_t fetch_opcode(uint8_t wr_opcode)
{
	switch (wr_opcode) {
	case IBV_WR_ATOMIC_CMP_AND_SWP:
		return WIRE_COMPARE_SWAP;
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		return WIRE_FETCH_ADD;
	default:
		return WIRE_READ_REQUEST;
	}
}

static bool is_reliable(const struct qp *qp)
{
	return qp->config.type == IBV_QPT_RC;
}

/* Point @tx's payload at bytes @off to @off + @len of the request.
 * Return: 0, -ENOBUFS (the burst has no room), -EFAULT (no such memory)
 */
static int attach_payload(struct qp *qp, struct sq_wqe *wqe, uint64_t off, uint32_t len,
	struct link_burst *burst, struct link_tx *tx)
{
	struct requester *req = &qp->req;
	struct iovec *iov = &burst->iov[burst->n_iovs];
	int room = LINK_BURST_IOVS - burst->n_iovs;
	struct sge_list list = requester_sges(qp, wqe);
	int n = 0;

	if (len && wqe->is_inline) {
		if (!room)
			return -ENOBUFS;
		*iov = (struct iovec){(uint8_t *)wqe->sge + off, len};
		n = 1;
	} else if (len) {
		if (req->cur_off != off) /* after a rewind */
			req->cur_sge = sge_seek(&list, off);
		n = sge_gather(&list, &req->cur_sge, len, 0, iov, room);
		if (n < 0)
			return n;
	}
	req->cur_off = off + len;
	burst->n_iovs += n;
	tx->n_iov = (uint16_t)n;
	return 0;
}

/* AckReq: where the message ends, and often enough before for the window to move; and in
 * the very first packet, which no queue of our own delays yet, so that it tells the round
 * trip.
 * @pauses: nothing follows for now
 */
static bool wants_ack(struct qp *qp, bool last, bool pauses)
{
	struct requester *req = &qp->req;
	bool is_first = !qp->rtt.begin_ns && !qp->rtt.mean_ns;

	if (!last && !pauses && !is_first && ++req->unrequested < ACK_REQUEST_PKTS)
		return false;
	req->unrequested = 0;
	return true;
}

void requester_count_messages(struct engine_stats *stats, uint8_t opcode, uint64_t n)
{
	switch (opcode) {
	case IBV_WR_SEND:
	case IBV_WR_SEND_WITH_IMM:
	case IBV_WR_SEND_WITH_INV:
		stats->tx_send_messages += n;
		break;
	case IBV_WR_RDMA_READ:
		stats->tx_read_requests += n;
		break;
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		stats->tx_atomic_requests += n;
		break;
	default:
		stats->tx_write_messages += n;
	}
}

/* A packet that takes @n_psns was emitted. */
static void advance(struct qp *qp, const struct sq_wqe *wqe, uint32_t n_psns)
{
	struct requester *req = &qp->req;
	struct engine_stats *stats = &qp->engine->stats;
	uint32_t psn = psn_add(wqe->first_psn, req->cur_pkt);
	bool last = req->cur_pkt + n_psns == wqe->n_pkts;

	stats->tx_request_packets++;
	if (psn_diff(psn, req->snd_max) < 0)
		stats->tx_retransmitted++;
	else if (last)
		requester_count_messages(stats, wqe->opcode, 1);
	if (psn_diff(psn_add(psn, n_psns), req->snd_max) > 0)
		req->snd_max = psn_add(psn, n_psns);
	if (last)
		requester_seek(req, req->cur + 1, 0);
	else
		req->cur_pkt += n_psns;
}

static bool is_ud(const struct qp *qp)
{
	return qp->config.type == IBV_QPT_UD;
}

static struct wire_packet request_packet(
	const struct qp *qp, const struct sq_wqe *wqe, uint8_t operation)
{
	return (struct wire_packet){
		.opcode = WIRE_OPCODE(engine_service(qp), operation),
		.mig_req = true, /* as hardware sends it (facts) */
		.pkey = WIRE_PKEY_DEFAULT,
		.dest_qpn = is_ud(qp) ? wqe->dest_qpn : qp->attr.dest_qp_num,
		.src_qpn = qp->qpn,
		/* a Q_Key with the highest bit set stands for the queue pair's own
		   (10.2.5) */
		.qkey = wqe->qkey >> 31 ? qp->attr.qkey : wqe->qkey,
		.psn = psn_add(wqe->first_psn, qp->req.cur_pkt),
		.va = wqe->remote_addr,
		.rkey = wqe->rkey,
		.dma_len = wqe->length,
		.imm_be = wqe->imm_be,
		.swap_add = wqe->swap_add,
		.compare = wqe->compare,
	};
}

/* The next packet of a SEND or WRITE. Return: 0, or as attach_payload() */
static int emit_data(
	struct qp *qp, struct sq_wqe *wqe, struct link_burst *burst, bool pauses)
{
	struct requester *req = &qp->req;
	uint64_t off = (uint64_t)req->cur_pkt * qp->mtu;
	bool last = req->cur_pkt + 1 == wqe->n_pkts;
	uint32_t len = last ? (uint32_t)(wqe->length - off) : qp->mtu;
	int place = (req->cur_pkt == 0 ? FIRST : 0) | (last ? LAST : 0);
	struct wire_packet pkt =
		request_packet(qp, wqe, data_opcodes[wqe->opcode][place]);
	struct link_tx *tx;
	int rc;

	pkt.solicited = last && wqe->solicited;
	pkt.pad = -len & 3;
	pkt.payload_len = len;
	pkt.ack_req = is_reliable(qp) && wants_ack(qp, last, pauses);
	tx = engine_emit(
		qp, burst, &pkt, is_ud(qp) ? wqe->dgid : qp->attr.ah_attr.grh.dgid.raw);
	if (!tx)
		return -ENOBUFS;
	if (is_ud(qp))
		tx->sgid_index = wqe->sgid_index;
	rc = attach_payload(qp, wqe, off, len, burst, tx);
	if (rc) {
		burst->n_pkts--;
		return rc;
	}
	advance(qp, wqe, 1);
	return 0;
}

/*
 * A request that is answered with data: READ or atomic. The answers to a READ have a PSN
 * each, and come as fast as the peer can send; so that they too keep to the window, a
 * long READ is asked for in parts, which on the wire are like the repetition of a READ
 * whose first answers have arrived (9.7.5.1.2). Parts have fixed borders, as a repetition
 * may not reach beyond what the peer was asked for before.
 */
static int emit_fetch(struct qp *qp, struct sq_wqe *wqe, struct link_burst *burst)
{
	struct requester *req = &qp->req;
	uint64_t off = (uint64_t)req->cur_pkt * qp->mtu;
	uint32_t n_psns = MIN(wqe->n_pkts - req->cur_pkt,
		READ_PART_PKTS - req->cur_pkt % READ_PART_PKTS);
	struct wire_packet pkt = request_packet(qp, wqe, fetch_opcode(wqe->opcode));

	pkt.ack_req = true;
	pkt.va = wqe->remote_addr + off;
	pkt.dma_len = (uint32_t)MIN((uint64_t)n_psns * qp->mtu, wqe->length - off);
	if (!engine_emit(qp, burst, &pkt, qp->attr.ah_attr.grh.dgid.raw))
		return -ENOBUFS;
	req->asked->end[req->asked->head++ % ENGINE_RD_MAX] = psn_add(pkt.psn, n_psns);
	advance(qp, wqe, n_psns);
	return 0;
}

static int emit_request(struct qp *qp, struct link_burst *burst, bool pauses)
{
	struct sq_wqe *wqe = requester_wqe(&qp->req, qp->req.cur);

	return sq_is_fetch(wqe) ? emit_fetch(qp, wqe, burst)
				: emit_data(qp, wqe, burst, pauses);
}

/* READs and atomics that are not answered: no more than the peer can keep (9.4.4), and
 * none when a fence asks for that.
 */
static bool fetch_allows(const struct qp *qp, const struct sq_wqe *wqe)
{
	uint32_t n = requester_n_asked(&qp->req);

	if (wqe->fence && n && qp->req.cur_pkt == 0)
		return false;
	return !sq_is_fetch(wqe) || n < MIN(qp->attr.max_rd_atomic, ENGINE_RD_MAX);
}

/* Is there a packet to be sent? What is to be done here before it is done then. Drained
 * (SQD): what was begun is finished and sent again, nothing new begins.
 */
static bool has_work(struct qp *qp)
{
	const struct requester *req = &qp->req;
	const struct sq_wqe *wqe;

	if (req->rnr_wait || req->cur == req->head)
		return false;
	wqe = requester_wqe(req, req->cur);
	if (unlikely(sq_is_local(wqe)))
		return local_ops_run(qp) && has_work(qp);
	if (qp->state == IBV_QPS_SQD)
		return psn_diff(requester_tx_psn(req), req->snd_max) < 0 || req->cur_pkt;
	return qp->state == IBV_QPS_RTS && fetch_allows(qp, wqe);
}

/* UC and UD: what went out in an earlier burst is sent, so it is complete. */
static void retire_sent(struct qp *qp)
{
	struct requester *req = &qp->req;

	if (req->last_burst == qp->engine->n_bursts)
		return;
	while (req->tail != req->cur)
		completer_retire(qp, IBV_WC_SUCCESS);
	req->una_psn = req->snd_max;
	requester_check_drained(qp);
}

static bool output_unreliable(struct qp *qp, struct link_burst *burst, uint64_t now_ns)
{
	struct requester *req = &qp->req;

	retire_sent(qp);
	for (int n = 0; has_work(qp) && n < ENGINE_QUANTUM_PKTS; n++) {
		int rc;

		if (qp->is_direct && direct_message(qp))
			continue;
		if (engine_pace(qp, now_ns))
			return req->tail != req->cur;
		rc = emit_request(qp, burst, false);

		if (rc == -ENOBUFS)
			break;
		if (rc) {
			requester_fail(qp, req->cur, IBV_WC_LOC_PROT_ERR);
			return false;
		}
		req->last_burst = qp->engine->n_bursts;
	}
	return req->tail != req->cur || has_work(qp);
}

bool requester_output(struct qp *qp, struct link_burst *burst, uint64_t now_ns)
{
	struct requester *req = &qp->req;

	/* What was posted in an error state; not as it was posted, since what is refused
	 * later may take it back (qp_sq_rollback()). */
	if (unlikely(qp->state == IBV_QPS_ERR || qp->state == IBV_QPS_SQE)) {
		requester_flush(qp);
		return false;
	}
	if (!is_reliable(qp))
		return output_unreliable(qp, burst, now_ns);

	for (int n = 0; has_work(qp); n++) {
		uint32_t in_flight = psn_add(requester_tx_psn(req), -req->una_psn);
		uint32_t snd_max;
		bool pauses;
		int rc;

		if (n == ENGINE_QUANTUM_PKTS)
			return true;
		if (qp->is_direct && direct_message(qp))
			continue;
		if (in_flight >= qp->congestion.cwnd || engine_pace(qp, now_ns))
			return false;
		pauses = in_flight + 1 >= qp->congestion.cwnd ||
			 (qp->throttle &&
				 dcqcn_is_last(&qp->throttle->dcqcn, qp->mtu, now_ns));
		snd_max = req->snd_max;
		rc = emit_request(qp, burst, pauses);
		if (rc == -ENOBUFS)
			return true;
		if (rc) {
			requester_fail(qp, req->cur, IBV_WC_LOC_PROT_ERR);
			return false;
		}
		if (req->snd_max != snd_max && !req->unrequested)
			rtt_sent(&qp->rtt, snd_max, req->una_psn, now_ns);
		if (!req->timer.due_ns)
			retry_await(qp, now_ns);
	}
	return false;
}
