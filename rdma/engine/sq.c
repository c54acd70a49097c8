/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The send queue's near end: checking and posting work requests.
 */
#include "engine_priv.h"

#include <errno.h>
#include <string.h>

static bool is_atomic(enum ibv_wr_opcode opcode)
{
	return opcode == IBV_WR_ATOMIC_CMP_AND_SWP ||
	       opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
}

bool sq_is_fetch(const struct sq_wqe *wqe)
{
	return wqe->opcode == IBV_WR_RDMA_READ || is_atomic(wqe->opcode);
}

static int sum_lengths(const struct ibv_send_wr *wr, uint64_t *length)
{
	*length = 0;
	for (int i = 0; i < wr->num_sge; i++)
		*length += wr->sg_list[i].length;
	return *length <= ENGINE_MSG_MAX ? 0 : -EINVAL;
}

static bool opcode_allowed(const struct qp *qp, const struct ibv_send_wr *wr)
{
	switch (wr->opcode) {
	case IBV_WR_SEND:
	case IBV_WR_SEND_WITH_IMM:
		return true;
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
	case IBV_WR_LOCAL_INV:
		return qp->config.type != IBV_QPT_UD;
	case IBV_WR_BIND_MW:
		return qp->config.type != IBV_QPT_UD && wr->bind_mw.mw &&
		       (wr->bind_mw.bind_info.mr || !wr->bind_mw.bind_info.length) &&
		       !(wr->bind_mw.bind_info.mw_access_flags &
			       ~(unsigned int)MW_ACCESS);
	case IBV_WR_SEND_WITH_INV:
		return qp->config.type == IBV_QPT_RC;
	case IBV_WR_RDMA_READ:
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		return qp->config.type == IBV_QPT_RC && qp->attr.max_rd_atomic &&
		       !(wr->send_flags & IBV_SEND_INLINE);
	default:
		return false;
	}
}

static int check_wr(const struct qp *qp, const struct ibv_send_wr *wr, uint64_t *length)
{
	const struct requester *req = &qp->req;

	if (!opcode_allowed(qp, wr))
		return -EINVAL;
	*length = 0;
	if (wr->opcode == IBV_WR_BIND_MW || wr->opcode == IBV_WR_LOCAL_INV)
		return 0;
	if (wr->num_sge < 0 || (uint32_t)wr->num_sge > req->max_sge)
		return -EINVAL;
	if (sum_lengths(wr, length))
		return -EINVAL;
	if ((wr->send_flags & IBV_SEND_INLINE) && *length > req->max_inline)
		return -EINVAL;
	if (qp->config.type == IBV_QPT_UD && *length > qp->mtu)
		return -EINVAL;
	if (is_atomic(wr->opcode) && *length != sizeof(uint64_t))
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

static void set_ud(
	struct sq_wqe *wqe, const struct ibv_send_wr *wr, const struct ibv_ah_attr *ah)
{
	memcpy(wqe->dgid, ah->grh.dgid.raw, sizeof(wqe->dgid));
	wqe->sgid_index = ah->grh.sgid_index;
	wqe->dest_qpn = wr->wr.ud.remote_qpn & WIRE_24BIT;
	wqe->qkey = wr->wr.ud.remote_qkey;
}

static void set_atomic(struct sq_wqe *wqe, const struct ibv_send_wr *wr)
{
	bool swap = wr->opcode == IBV_WR_ATOMIC_CMP_AND_SWP;

	wqe->remote_addr = wr->wr.atomic.remote_addr;
	wqe->rkey = wr->wr.atomic.rkey;
	wqe->swap_add = swap ? wr->wr.atomic.swap : wr->wr.atomic.compare_add;
	wqe->compare = swap ? wr->wr.atomic.compare_add : 0;
}

static void set_binding(struct sq_wqe *wqe, const struct ibv_send_wr *wr)
{
	const struct ibv_mw_bind_info *info = &wr->bind_mw.bind_info;

	wqe->bind = (struct mw_binding){
		.addr = info->addr,
		.length = info->length,
		.key = wr->bind_mw.mw->rkey,
		.new_key = wr->bind_mw.rkey,
		.lkey = info->mr ? info->mr->lkey : 0,
		.access = (int)info->mw_access_flags,
	};
}

/* What the request is about, here or at the peer. */
static void set_object(
	struct sq_wqe *wqe, const struct ibv_send_wr *wr, const struct ibv_ah_attr *ah)
{
	switch (wr->opcode) {
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		set_atomic(wqe, wr);
		break;
	case IBV_WR_BIND_MW:
		set_binding(wqe, wr);
		break;
	case IBV_WR_LOCAL_INV:
	case IBV_WR_SEND_WITH_INV:
		wqe->rkey = wr->invalidate_rkey;
		break;
	default:
		wqe->remote_addr = wr->wr.rdma.remote_addr;
		wqe->rkey = wr->wr.rdma.rkey;
	}
	if (ah)
		set_ud(wqe, wr, ah);
}

static void set_data(struct sq_wqe *wqe, const struct ibv_send_wr *wr)
{
	wqe->is_inline = wr->send_flags & IBV_SEND_INLINE;
	wqe->n_sge = (uint8_t)wr->num_sge;
	if (wqe->is_inline)
		copy_inline(wqe, wr);
	else if (wqe->n_sge)
		memcpy(wqe->sge, wr->sg_list, wqe->n_sge * sizeof(*wqe->sge));
}

static uint32_t count_psns(const struct qp *qp, uint64_t length)
{
	if (length <= qp->mtu)
		return 1;
	return (uint32_t)((length + qp->mtu - 1) / qp->mtu);
}

int sq_fill(struct qp *qp, const struct ibv_send_wr *wr, const struct ibv_ah_attr *ah,
	struct sq_wqe **out)
{
	struct requester *req = &qp->req;
	struct sq_wqe *wqe;
	uint64_t length;
	int rc;

	if (qp->state < IBV_QPS_RTS)
		return -EINVAL;
	rc = check_wr(qp, wr, &length);
	if (rc)
		return rc;
	if (req->head - req->tail >= req->depth)
		return -ENOMEM;

	wqe = requester_wqe(req, req->head);
	wqe->wr_id = wr->wr_id;
	wqe->opcode = (uint8_t)wr->opcode;
	if (sq_is_fetch(wqe) && requester_prepare_fetch(req))
		return -ENOMEM;
	wqe->length = (uint32_t)length;
	wqe->imm_be = wr->imm_data;
	set_object(wqe, wr, ah);
	wqe->signaled = qp->config.sq_sig_all || (wr->send_flags & IBV_SEND_SIGNALED);
	wqe->solicited = wr->send_flags & IBV_SEND_SOLICITED;
	wqe->fence = wr->send_flags & IBV_SEND_FENCE;
	wqe->is_done = false;
	wqe->first_psn = req->next_psn;
	wqe->n_pkts = 0;
	if (!sq_is_local(wqe)) {
		set_data(wqe, wr);
		wqe->n_pkts = count_psns(qp, length);
	}
	*out = wqe;
	return 0;
}

int qp_post_send(
	struct qp *qp, const struct ibv_send_wr *wr, const struct ibv_ah_attr *ah)
{
	struct requester *req = &qp->req;
	struct sq_wqe *wqe;
	int rc;

	lane_close(qp);
	rc = sq_fill(qp, wr, ah, &wqe);
	if (rc)
		return rc;
	req->next_psn = psn_add(req->next_psn, wqe->n_pkts);
	req->head++;
	engine_schedule(qp);
	return 0;
}

struct qp_sq_mark qp_sq_mark(struct qp *qp)
{
	lane_close(qp);
	return (struct qp_sq_mark){qp->req.head, qp->req.next_psn};
}

void qp_sq_rollback(struct qp *qp, struct qp_sq_mark mark)
{
	qp->req.head = mark.head;
	qp->req.next_psn = mark.next_psn;
}
