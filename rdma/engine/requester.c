/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The requester: the send queue, and how its messages become packets
 * (specification 9.7.3, 9.9.2). What the answers mean is the completer's part.
 *
 * Loss is repaired by going back to the oldest PSN that is not acknowledged. As a
 * receiver without a lossless network drops whatever overruns its buffers, a window
 * bounds the packets in flight (engine_priv.h).
 */
#include "engine_priv.h"

#include "lib/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_INITIAL_BYTES (128u << 10)
#define WINDOW_MAX_BYTES     (1u << 20)
#define WINDOW_MIN_PKTS	     2u
/* An ACK is asked for at least this often, so that the window keeps moving. */
#define ACK_REQUEST_PKTS 32u
/* One queue pair's share of a burst, so that a long message can't starve the others. */
#define OUTPUT_QUANTUM_PKTS (LINK_BURST / 2)

int requester_init(struct qp *qp)
{
	struct requester *req = &qp->req;
	const struct ibv_qp_cap *cap = &qp->config.cap;
	size_t data;

	if (cap->max_send_wr > ENGINE_SQ_MAX || cap->max_send_sge > ENGINE_SGE_MAX ||
		cap->max_inline_data > ENGINE_INLINE_MAX)
		return -EINVAL;
	req->depth = MAX(cap->max_send_wr, 1u);
	req->mask = round_up_pow2(req->depth) - 1;
	req->max_sge = MAX(cap->max_send_sge, 1u);
	req->max_inline = cap->max_inline_data;
	data = MAX(req->max_sge * sizeof(struct ibv_sge), (size_t)req->max_inline);
	req->stride = (sizeof(struct sq_wqe) + data + 7) & ~(size_t)7;
	req->ring = calloc(req->mask + 1ul, req->stride);
	return req->ring ? 0 : -ENOMEM;
}

void requester_destroy(struct qp *qp)
{
	free(qp->req.ring);
}

void requester_reset(struct qp *qp, uint32_t psn)
{
	struct requester *req = &qp->req;

	req->head = req->tail = 0;
	requester_seek(req, 0, 0);
	req->next_psn = req->una_psn = req->snd_max = psn & PSN_MASK;
	req->unrequested = 0;
	req->rnr_wait = false;
	req->in_recovery = false;
	req->cwnd_acked = 0;
	req->retry_left = qp->attr.retry_cnt;
	req->rnr_left = qp->attr.rnr_retry;
	if (qp->mtu) {
		req->cwnd_max = WINDOW_MAX_BYTES / qp->mtu;
		req->ssthresh = req->cwnd_max;
		req->cwnd = WINDOW_INITIAL_BYTES / qp->mtu;
	}
	engine_arm(qp, 0);
}

struct sq_wqe *requester_wqe(const struct requester *req, uint32_t index)
{
	return (struct sq_wqe *)(req->ring + (index & req->mask) * req->stride);
}

uint32_t requester_tx_psn(const struct requester *req)
{
	if (req->cur == req->head)
		return req->next_psn;
	return psn_add(requester_wqe(req, req->cur)->first_psn, req->cur_pkt);
}

void requester_seek(struct requester *req, uint32_t index, uint32_t pkt)
{
	req->cur = index;
	req->cur_pkt = pkt;
	req->cur_sge = 0;
	req->cur_sge_off = 0;
}

void requester_rewind(struct requester *req)
{
	uint32_t done = 0;

	if (req->tail != req->head)
		done = psn_add(req->una_psn, -requester_wqe(req, req->tail)->first_psn);
	requester_seek(req, req->tail, done);
}

void requester_loss(struct qp *qp)
{
	struct requester *req = &qp->req;

	if (!req->in_recovery) {
		req->in_recovery = true;
		req->recover_psn = req->snd_max;
		req->cwnd = MAX(req->cwnd / 2, WINDOW_MIN_PKTS);
		req->ssthresh = req->cwnd;
	}
	requester_rewind(req);
	engine_schedule(qp);
}

void requester_await_ack(struct qp *qp, uint64_t now_ns)
{
	struct requester *req = &qp->req;

	if (req->una_psn == req->snd_max || !qp->attr.timeout)
		engine_arm(qp, 0);
	else /* 4.096 us * 2^timeout (11.2.4.2) */
		engine_arm(qp, now_ns + (4096ull << qp->attr.timeout));
}

void requester_timeout(struct qp *qp, uint64_t now_ns)
{
	struct requester *req = &qp->req;

	if (req->rnr_wait) {
		req->rnr_wait = false;
		engine_arm(qp, 0);
		engine_schedule(qp);
		return;
	}
	qp->engine->stats.ack_timeouts++;
	if (req->retry_left == 0) {
		requester_fail(qp, req->tail, IBV_WC_RETRY_EXC_ERR);
		return;
	}
	req->retry_left--;
	requester_loss(qp);
	/* All in flight is taken for lost: start anew with the smallest window. */
	req->cwnd = WINDOW_MIN_PKTS;
	requester_await_ack(qp, now_ns);
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
	qp_fail(qp);
}

/* Posting. */

static int sum_lengths(const struct ibv_send_wr *wr, uint64_t *length)
{
	*length = 0;
	for (int i = 0; i < wr->num_sge; i++)
		*length += wr->sg_list[i].length;
	return *length <= ENGINE_MSG_MAX ? 0 : -EINVAL;
}

static int check_wr(
	const struct requester *req, const struct ibv_send_wr *wr, uint64_t *length)
{
	switch (wr->opcode) {
	case IBV_WR_SEND:
	case IBV_WR_SEND_WITH_IMM:
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		break;
	default:
		return -EINVAL;
	}
	if (wr->num_sge < 0 || (uint32_t)wr->num_sge > req->max_sge)
		return -EINVAL;
	if (sum_lengths(wr, length))
		return -EINVAL;
	if ((wr->send_flags & IBV_SEND_INLINE) && *length > req->max_inline)
		return -EINVAL;
	return 0;
}

static void copy_inline(struct sq_wqe *wqe, const struct ibv_send_wr *wr)
{
	uint8_t *p = (uint8_t *)wqe->sge;

	for (int i = 0; i < wr->num_sge; i++) {
		memcpy(p, (const void *)(uintptr_t)wr->sg_list[i].addr,
			wr->sg_list[i].length);
		p += wr->sg_list[i].length;
	}
}

int qp_post_send(struct qp *qp, const struct ibv_send_wr *wr)
{
	struct requester *req = &qp->req;
	struct sq_wqe *wqe;
	uint64_t length;
	int rc;

	if (qp->state < IBV_QPS_RTS)
		return -EINVAL;
	rc = check_wr(req, wr, &length);
	if (rc)
		return rc;
	if (req->head - req->tail >= req->depth)
		return -ENOMEM;

	wqe = requester_wqe(req, req->head);
	wqe->wr_id = wr->wr_id;
	wqe->opcode = (uint8_t)wr->opcode;
	wqe->length = (uint32_t)length;
	wqe->imm_be = wr->imm_data;
	wqe->remote_addr = wr->wr.rdma.remote_addr;
	wqe->rkey = wr->wr.rdma.rkey;
	wqe->signaled = qp->config.sq_sig_all || (wr->send_flags & IBV_SEND_SIGNALED);
	wqe->solicited = wr->send_flags & IBV_SEND_SOLICITED;
	wqe->is_inline = wr->send_flags & IBV_SEND_INLINE;
	wqe->n_sge = (uint8_t)wr->num_sge;
	if (wqe->is_inline)
		copy_inline(wqe, wr);
	else if (wqe->n_sge)
		memcpy(wqe->sge, wr->sg_list, wqe->n_sge * sizeof(*wqe->sge));
	wqe->first_psn = req->next_psn;
	wqe->n_pkts = length ? (uint32_t)((length + qp->mtu - 1) / qp->mtu) : 1;
	req->next_psn = psn_add(req->next_psn, wqe->n_pkts);
	req->head++;

	if (qp->state == IBV_QPS_ERR)
		requester_flush(qp);
	else
		engine_schedule(qp);
	return 0;
}

/* Sending. */

/* Opcodes by work request and place in the message: middle, first, last, only. */
enum { MIDDLE = 0, FIRST = 1, LAST = 2, ONLY = FIRST | LAST };

static const uint8_t request_opcodes[][4] = {
	[IBV_WR_SEND] = {WIRE_SEND_MIDDLE, WIRE_SEND_FIRST, WIRE_SEND_LAST,
		WIRE_SEND_ONLY},
	[IBV_WR_SEND_WITH_IMM] = {WIRE_SEND_MIDDLE, WIRE_SEND_FIRST, WIRE_SEND_LAST_IMM,
		WIRE_SEND_ONLY_IMM},
	[IBV_WR_RDMA_WRITE] = {WIRE_WRITE_MIDDLE, WIRE_WRITE_FIRST, WIRE_WRITE_LAST,
		WIRE_WRITE_ONLY},
	[IBV_WR_RDMA_WRITE_WITH_IMM] = {WIRE_WRITE_MIDDLE, WIRE_WRITE_FIRST,
		WIRE_WRITE_LAST_IMM, WIRE_WRITE_ONLY_IMM},
};

/* Bring the place inside the scatter/gather list to byte @off: after a rewind only. */
static void seek_sge(struct requester *req, const struct sq_wqe *wqe, uint64_t off)
{
	req->cur_sge = 0;
	while (req->cur_sge < wqe->n_sge && off >= wqe->sge[req->cur_sge].length)
		off -= wqe->sge[req->cur_sge++].length;
	req->cur_sge_off = (uint32_t)off;
}

/* Point @tx's payload at the next @len bytes of the request, checking keys on the way.
 * Return: 0, -ENOBUFS (the burst has no room), -EFAULT (no such memory)
 */
static int gather(struct qp *qp, const struct sq_wqe *wqe, uint32_t len,
	struct link_burst *burst, struct link_tx *tx)
{
	struct requester *req = &qp->req;
	const struct mr_table *mrs = qp->engine->mrs;
	uint32_t sge = req->cur_sge, off = req->cur_sge_off;

	while (len) {
		const struct ibv_sge *s = &wqe->sge[sge];
		uint32_t n = MIN(len, s->length - off);

		if (n) {
			uint8_t *p = mr_resolve(
				mrs, s->lkey, qp->config.pd, s->addr + off, n, 0);

			if (!p)
				return -EFAULT;
			if (burst->n_iovs == LINK_BURST_IOVS)
				return -ENOBUFS;
			burst->iov[burst->n_iovs++] = (struct iovec){p, n};
			tx->n_iov++;
		}
		len -= n;
		off += n;
		if (off == s->length) {
			sge++;
			off = 0;
		}
	}
	req->cur_sge = sge;
	req->cur_sge_off = off;
	return 0;
}

static int attach_payload(struct qp *qp, struct sq_wqe *wqe, uint64_t off, uint32_t len,
	struct link_burst *burst, struct link_tx *tx)
{
	struct requester *req = &qp->req;

	if (!len)
		return 0;
	if (wqe->is_inline) {
		if (burst->n_iovs == LINK_BURST_IOVS)
			return -ENOBUFS;
		burst->iov[burst->n_iovs++] =
			(struct iovec){(uint8_t *)wqe->sge + off, len};
		tx->n_iov = 1;
		return 0;
	}
	if (off && !req->cur_sge && !req->cur_sge_off)
		seek_sge(req, wqe, off);
	return gather(qp, wqe, len, burst, tx);
}

/* AckReq: where the message ends, and often enough before for the window to move. */
static bool wants_ack(struct requester *req, bool last, uint32_t in_flight)
{
	if (!last && ++req->unrequested < ACK_REQUEST_PKTS && in_flight + 1 < req->cwnd)
		return false;
	req->unrequested = 0;
	return true;
}

static void count_request(
	struct qp *qp, const struct sq_wqe *wqe, uint32_t psn, bool last)
{
	struct requester *req = &qp->req;
	struct engine_stats *stats = &qp->engine->stats;

	stats->tx_request_packets++;
	if (psn_diff(psn, req->snd_max) < 0) {
		stats->tx_retransmitted++;
		return;
	}
	req->snd_max = psn_add(psn, 1);
	if (!last)
		return;
	if (wqe->opcode == IBV_WR_SEND || wqe->opcode == IBV_WR_SEND_WITH_IMM)
		stats->tx_send_messages++;
	else
		stats->tx_write_messages++;
}

/* Emit the next packet. Return: 0, or as gather() */
static int emit_request(struct qp *qp, struct link_burst *burst, uint32_t in_flight)
{
	struct requester *req = &qp->req;
	struct sq_wqe *wqe = requester_wqe(req, req->cur);
	uint64_t off = (uint64_t)req->cur_pkt * qp->mtu;
	bool last = req->cur_pkt + 1 == wqe->n_pkts;
	uint32_t len = last ? (uint32_t)(wqe->length - off) : qp->mtu;
	int place = (req->cur_pkt == 0 ? FIRST : 0) | (last ? LAST : 0);
	uint32_t psn = psn_add(wqe->first_psn, req->cur_pkt);
	int iovs_before = burst->n_iovs;
	struct wire_packet pkt = {
		.opcode = WIRE_OPCODE(WIRE_RC, request_opcodes[wqe->opcode][place]),
		.solicited = last && wqe->solicited,
		.mig_req = true, /* as hardware sends it (facts) */
		.pad = -len & 3,
		.pkey = WIRE_PKEY_DEFAULT,
		.dest_qpn = qp->attr.dest_qp_num,
		.psn = psn,
		.va = wqe->remote_addr,
		.rkey = wqe->rkey,
		.dma_len = wqe->length,
		.imm_be = wqe->imm_be,
		.payload_len = len,
	};
	struct link_tx *tx;
	int rc;

	pkt.ack_req = wants_ack(req, last, in_flight);
	tx = engine_emit(qp, burst, &pkt);
	if (!tx)
		return -ENOBUFS;
	rc = attach_payload(qp, wqe, off, len, burst, tx);
	if (rc) {
		burst->n_pkts--;
		burst->n_iovs = iovs_before;
		return rc;
	}
	count_request(qp, wqe, psn, last);
	if (last)
		requester_seek(req, req->cur + 1, 0);
	else
		req->cur_pkt++;
	return 0;
}

/* Drained (SQD): what was begun is finished and sent again, nothing new begins. */
static bool has_work(const struct qp *qp)
{
	const struct requester *req = &qp->req;

	if (req->rnr_wait || req->cur == req->head)
		return false;
	if (qp->state == IBV_QPS_SQD)
		return psn_diff(requester_tx_psn(req), req->snd_max) < 0 || req->cur_pkt;
	return qp->state == IBV_QPS_RTS;
}

bool requester_output(struct qp *qp, struct link_burst *burst, uint64_t now_ns)
{
	struct requester *req = &qp->req;

	for (int n = 0; has_work(qp); n++) {
		uint32_t in_flight = psn_add(requester_tx_psn(req), -req->una_psn);
		int rc;

		if (in_flight >= req->cwnd)
			return false;
		if (n == OUTPUT_QUANTUM_PKTS)
			return true;
		rc = emit_request(qp, burst, in_flight);
		if (rc == -ENOBUFS)
			return true;
		if (rc) {
			requester_fail(qp, req->cur, IBV_WC_LOC_PROT_ERR);
			return false;
		}
		if (!req->deadline_ns)
			requester_await_ack(qp, now_ns);
	}
	return false;
}
