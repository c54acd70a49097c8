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
 */
#include "engine_priv.h"

#include "lib/util.h"

#include <string.h>

/* One message. */
struct direct {
	struct qp *from, *to; /* requester and responder; of a READ, data go back */
	const struct sq_wqe *wqe;
	/* what to copy */
	int n_src, n_dst;
	struct iovec src[ENGINE_SGE_MAX], dst[MAX(ENGINE_SGE_MAX, RQ_SGE_MAX)];
	uint64_t old; /* what an atomic finds */
};

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
	const struct rq_wqe *buffer = rq_peek(d->to->rq);
	struct sge_list list = {.mrs = d->to->engine->mrs, .pd = rq_pd(d->to->rq)};

	if (!buffer)
		return false;
	list.n = buffer->n_sge;
	list.sge = buffer->sge;
	d->n_dst = local_memory(
		&list, d->wqe->length, IBV_ACCESS_LOCAL_WRITE, d->dst, RQ_SGE_MAX);
	return d->n_dst >= 0 && find_source(d);
}

static bool find_write(struct direct *d)
{
	if (d->wqe->opcode == IBV_WR_RDMA_WRITE_WITH_IMM && !rq_peek(d->to->rq))
		return false;
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

/* The last step is the atomic itself: it is done once nothing can fail any more. */
static bool find_atomic(struct direct *d)
{
	struct iovec target;

	if (!d->to->attr.max_dest_rd_atomic || d->wqe->remote_addr % sizeof(uint64_t) ||
		!own_memory(d, IBV_ACCESS_LOCAL_WRITE, d->dst, &d->n_dst) ||
		!remote_memory(d, sizeof(uint64_t), IBV_ACCESS_REMOTE_ATOMIC, &target) ||
		(uintptr_t)target.iov_base % sizeof(uint64_t))
		return false;
	d->old = responder_do_atomic(target.iov_base,
		d->wqe->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD, d->wqe->swap_add,
		d->wqe->compare);
	d->n_src = 1;
	d->src[0] = (struct iovec){&d->old, sizeof(d->old)};
	return true;
}

/* Find out what to copy where. Return: false if anything is in the way */
static bool find_memory(struct direct *d)
{
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

static void copy(const struct direct *d)
{
	struct iovec src = {0};
	int s = 0;

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

/* The message as its receiver's completion tells of it: in one packet. */
static void receive_message(struct direct *d)
{
	const struct sq_wqe *wqe = d->wqe;
	struct responder *resp = &d->to->resp;
	struct wire_packet pkt = {
		.opcode = WIRE_OPCODE(
			engine_service(d->to), requester_opcode_only(wqe->opcode)),
		.solicited = wqe->solicited,
		.imm_be = wqe->imm_be,
	};
	uint32_t flags = wire_opcodes[pkt.opcode].flags;

	if (message_needs_wqe(resp, flags))
		message_take_wqe(d->to);
	message_begin(resp, &pkt, flags);
	resp->received = wqe->length;
	message_end(d->to, &pkt, flags);
}

static void receive_fetch(struct direct *d)
{
	struct engine_stats *stats = &d->to->engine->stats;
	struct responder *resp = &d->to->resp;

	resp->msn = psn_add(resp->msn, 1);
	if (d->wqe->opcode == IBV_WR_RDMA_READ)
		stats->rx_read_requests++;
	else
		stats->rx_atomic_requests++;
}

bool direct_message(struct qp *qp)
{
	struct requester *req = &qp->req;
	struct direct d; /* large: the lists are left as they are */
	uint32_t end;

	d.from = qp;
	d.to = ready_peer(qp);
	if (!d.to)
		return false;
	d.wqe = requester_wqe(req, req->cur);
	d.n_src = d.n_dst = 0;
	if (!find_memory(&d))
		return false;
	copy(&d);
	end = psn_add(d.wqe->first_psn, d.wqe->n_pkts);
	responder_accepted(&d.to->resp, end, !sq_is_fetch(d.wqe));
	requester_arrived(qp, end);
	qp->engine->stats.direct_messages++;
	requester_count_message(&qp->engine->stats, d.wqe->opcode);
	if (sq_is_fetch(d.wqe))
		receive_fetch(&d);
	else
		receive_message(&d);
	completer_retire(qp, IBV_WC_SUCCESS);
	requester_check_drained(qp);
	return true;
}
