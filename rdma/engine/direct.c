/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queue pairs of one device that are connected to each other: a message goes from the
 * sender's memory to the receiver's by one copy, without packets.
 *
 * Only what will succeed goes this way, and as a whole. Everything is looked at first:
 * states, PSNs, the receive buffer, keys, rights, lengths. Where that finds something,
 * nothing has happened yet and the message goes as packets like any other, so that all
 * refusals, retries and errors are those of the wire, by the wire's code. Both sides'
 * PSNs move as if packets had been exchanged; each message may go either way.
 *
 * Nothing overtakes: this way is taken when all earlier messages have arrived, which the
 * PSN that the receiver expects tells.
 *
 * All this with the engine's lock; without it in lane.c, by the same steps.
 */
#include "direct.h"

#include "lib/util.h"

#include <string.h>

bool direct_is_possible(const struct qp *qp)
{
	const struct engine *e = qp->engine;

	return e->knows_gids && qp->config.type != IBV_QPT_UD &&
	       engine_gid_index(e, qp->attr.ah_attr.grh.dgid.raw) < ENGINE_GID_MAX;
}

/* Is @to connected from the address that @from is connected to? */
static bool leads_to(const struct qp *from, const struct qp *to)
{
	const uint8_t *gid = to->engine->gid[to->attr.ah_attr.grh.sgid_index];

	return !memcmp(from->attr.ah_attr.grh.dgid.raw, gid, 16);
}

/* The responder, if it would take the next message's first packet. */
static struct qp *ready_peer(const struct qp *qp)
{
	const struct requester *req = &qp->req;
	struct qp *peer = idtable_find(&qp->engine->qps, qp->attr.dest_qp_num);

	if (!peer || peer == qp || peer->config.type != qp->config.type ||
		!leads_to(qp, peer) || !leads_to(peer, qp) ||
		peer->attr.dest_qp_num != qp->qpn || peer->mtu != qp->mtu)
		return NULL;
	if (peer->state < IBV_QPS_RTR || peer->state > IBV_QPS_SQE)
		return NULL;
	if (req->cur != req->tail || req->cur_pkt || peer->resp.in_message ||
		peer->resp.have_wqe || peer->resp.epsn != requester_tx_psn(req))
		return NULL;
	return peer;
}

/* The peer's memory that the request names. Return: whether it may be accessed */
static bool remote_memory(
	const struct direct *d, uint32_t len, int access, struct iovec *iov)
{
	const struct qp *to = d->to;
	uint8_t *p;

	if (!(to->attr.qp_access_flags & access))
		return false;
	p = mr_resolve_remote(to->engine->mrs, d->wqe->rkey, to->config.pd, to->qpn,
		d->wqe->remote_addr, len, access);
	*iov = (struct iovec){p, len};
	return p;
}

/* The first @len bytes of a list. Return: pieces, or a negative errno */
static int local_memory(
	const struct sge_list *list, uint32_t len, int access, struct iovec *iov, int max)
{
	struct sge_cursor at = {0};

	return sge_gather(list, &at, len, access, iov, max);
}

static bool own_memory(const struct direct *d, int access, struct iovec *iov, int *n)
{
	struct sge_list list = requester_sges(d->from, d->wqe);

	*n = local_memory(&list, d->wqe->length, access, iov, ENGINE_SGE_MAX);
	return *n >= 0;
}

static bool find_source(struct direct *d)
{
	if (!d->wqe->is_inline)
		return own_memory(d, 0, d->src, &d->n_src);
	d->n_src = 1;
	d->src[0] = (struct iovec){(void *)(uintptr_t)d->wqe->sge, d->wqe->length};
	return true;
}

static bool find_send(struct direct *d)
{
	struct sge_list list = {.mrs = d->to->engine->mrs, .pd = rq_pd(d->to->rq)};

	d->buffer = rq_peek(d->to->rq);
	if (!d->buffer)
		return false;
	list.n = d->buffer->n_sge;
	list.sge = d->buffer->sge;
	d->n_dst = local_memory(
		&list, d->wqe->length, IBV_ACCESS_LOCAL_WRITE, d->dst, RQ_SGE_MAX);
	return d->n_dst >= 0 && find_source(d);
}

static bool find_write(struct direct *d)
{
	if (d->wqe->opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
		d->buffer = rq_peek(d->to->rq);
		if (!d->buffer)
			return false;
	}
	if (!(d->to->attr.qp_access_flags & IBV_ACCESS_REMOTE_WRITE))
		return false;
	if (!d->wqe->length)
		return true;
	d->n_dst = 1;
	return remote_memory(d, d->wqe->length, IBV_ACCESS_REMOTE_WRITE, d->dst) &&
	       find_source(d);
}

static bool find_read(struct direct *d)
{
	if (!d->to->attr.max_dest_rd_atomic ||
		!(d->to->attr.qp_access_flags & IBV_ACCESS_REMOTE_READ))
		return false;
	if (!d->wqe->length)
		return true;
	d->n_src = 1;
	return remote_memory(d, d->wqe->length, IBV_ACCESS_REMOTE_READ, d->src) &&
	       own_memory(d, IBV_ACCESS_LOCAL_WRITE, d->dst, &d->n_dst);
}

static bool find_atomic(struct direct *d)
{
	struct iovec target;

	if (!d->to->attr.max_dest_rd_atomic || d->wqe->remote_addr % sizeof(uint64_t) ||
		!own_memory(d, IBV_ACCESS_LOCAL_WRITE, d->dst, &d->n_dst) ||
		!remote_memory(d, sizeof(uint64_t), IBV_ACCESS_REMOTE_ATOMIC, &target) ||
		(uintptr_t)target.iov_base % sizeof(uint64_t))
		return false;
	d->atomic = target.iov_base;
	d->n_src = 1;
	d->src[0] = (struct iovec){&d->old, sizeof(d->old)};
	return true;
}

bool direct_find(struct direct *d)
{
	d->n_src = d->n_dst = 0;
	d->buffer = NULL;
	d->atomic = NULL;
	switch (d->wqe->opcode) {
	case IBV_WR_SEND:
	case IBV_WR_SEND_WITH_IMM:
		return find_send(d);
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		return find_write(d);
	case IBV_WR_RDMA_READ:
		return find_read(d);
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		return find_atomic(d);
	default:
		return false;
	}
}

void direct_copy(struct direct *d)
{
	struct iovec src = {0};
	int s = 0;

	if (d->atomic)
		d->old = responder_do_atomic(d->atomic,
			d->wqe->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD, d->wqe->swap_add,
			d->wqe->compare);
	for (int i = 0; i < d->n_dst; i++) {
		uint8_t *to = d->dst[i].iov_base;
		size_t left = d->dst[i].iov_len;

		while (left) {
			size_t n;

			if (!src.iov_len)
				src = d->src[s++];
			n = MIN(left, src.iov_len);
			/* One process: the two may overlap. */
			memmove(to, src.iov_base, n);
			src.iov_base = (uint8_t *)src.iov_base + n;
			src.iov_len -= n;
			to += n;
			left -= n;
		}
	}
}

struct ibv_wc direct_wc(const struct direct *d)
{
	const struct sq_wqe *wqe = d->wqe;
	bool is_write = wqe->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
	bool has_imm = is_write || wqe->opcode == IBV_WR_SEND_WITH_IMM;

	return (struct ibv_wc){
		.wr_id = d->buffer->wr_id,
		.opcode = is_write ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV,
		.byte_len = wqe->length,
		.qp_num = d->to->qpn,
		.src_qp = d->from->qpn,
		.wc_flags = has_imm ? IBV_WC_WITH_IMM : 0,
		.imm_data = has_imm ? wqe->imm_be : 0,
	};
}

uint32_t direct_accept(struct direct *d)
{
	struct responder *resp = &d->to->resp;
	uint32_t end = psn_add(d->wqe->first_psn, d->wqe->n_pkts);

	responder_accepted(resp, end, !sq_is_fetch(d->wqe));
	resp->msn = psn_add(resp->msn, 1);
	if (d->buffer)
		rq_pop(d->to->rq);
	return end;
}

void direct_count(struct engine_stats *stats, uint8_t opcode, uint64_t n)
{
	stats->direct_messages += n;
	switch (opcode) {
	case IBV_WR_SEND:
	case IBV_WR_SEND_WITH_IMM:
		stats->rx_send_messages += n;
		break;
	case IBV_WR_RDMA_READ:
		stats->rx_read_requests += n;
		break;
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		stats->rx_atomic_requests += n;
		break;
	default:
		stats->rx_write_messages += n;
	}
}

bool direct_message(struct qp *qp)
{
	struct requester *req = &qp->req;
	struct direct d; /* large: the lists are left as they are */
	struct ibv_wc wc;
	uint32_t end;

	d.from = qp;
	d.to = ready_peer(qp);
	if (!d.to)
		return false;
	d.wqe = requester_wqe(req, req->cur);
	if (!direct_find(&d))
		return false;
	direct_copy(&d);
	if (d.buffer)
		wc = direct_wc(&d);
	end = direct_accept(&d);
	/* It may have gone as packets that the receiver did not want. */
	if (psn_diff(end, req->snd_max) > 0)
		requester_count_messages(&qp->engine->stats, d.wqe->opcode, 1);
	requester_arrived(qp, end);
	direct_count(&qp->engine->stats, d.wqe->opcode, 1);
	if (d.buffer)
		qp_complete_recv(
			d.to, &wc, CQ_DIRECT | (d.wqe->solicited ? CQ_SOLICITED : 0));
	completer_retire(qp, IBV_WC_SUCCESS);
	requester_check_drained(qp);
	lane_open(qp, d.to);
	return true;
}
