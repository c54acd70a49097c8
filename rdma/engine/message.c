/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages that come in, SEND and WRITE, as RC, UC and UD have them in common: the buffer
 * they take, where their bytes go, how they complete. What a service makes of PSNs and
 * errors is in responder.c (RC) and unreliable.c (UC, UD).
 */
#include "engine_priv.h"

#include <errno.h>
#include <string.h>

bool message_take_wqe(struct qp *qp)
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
	return true;
}

void message_complete(
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
		.src_qp = flags & WIRE_HAS_DETH ? pkt->src_qpn : qp->attr.dest_qp_num,
	};

	if (flags & WIRE_HAS_IMM) {
		wc.wc_flags |= IBV_WC_WITH_IMM;
		wc.imm_data = pkt->imm_be;
	}
	if (flags & WIRE_HAS_IETH) {
		wc.wc_flags |= IBV_WC_WITH_INV;
		wc.invalidated_rkey = pkt->rkey;
	}
	if (flags & WIRE_HAS_DETH) {
		wc.wc_flags |= IBV_WC_GRH;
		wc.sl = resp->sl;
	}
	resp->have_wqe = false;
	qp_complete_recv(qp, &wc, pkt && pkt->solicited ? CQ_SOLICITED : 0);
}

void message_flush(struct qp *qp)
{
	struct responder *resp = &qp->resp;

	if (resp->have_wqe)
		message_complete(qp, NULL, IBV_WC_WR_FLUSH_ERR);
	resp->received = 0;
	while (!qp->config.srq && message_take_wqe(qp))
		message_complete(qp, NULL, IBV_WC_WR_FLUSH_ERR);
}

bool message_fits(const struct qp *qp, const struct wire_packet *pkt, uint32_t flags)
{
	const struct responder *resp = &qp->resp;
	uint32_t class = flags & WIRE_IS_REQUEST;

	if (!(class & (WIRE_IS_SEND | WIRE_IS_WRITE)))
		return false;
	if (flags & WIRE_IS_FIRST ? resp->in_message != 0 : resp->in_message != class)
		return false;
	if (!(flags & WIRE_IS_LAST))
		return pkt->payload_len == qp->mtu;
	if (!(flags & WIRE_IS_FIRST) && pkt->payload_len == 0)
		return false;
	return pkt->payload_len <= qp->mtu;
}

bool message_needs_wqe(const struct responder *resp, uint32_t flags)
{
	if (resp->have_wqe)
		return false;
	return flags & WIRE_IS_SEND ? flags & WIRE_IS_FIRST : flags & WIRE_HAS_IMM;
}

void message_begin(struct responder *resp, const struct wire_packet *pkt, uint32_t flags)
{
	resp->received = 0;
	resp->at = (struct sge_cursor){0};
	resp->in_message = flags & WIRE_IS_REQUEST;
	resp->write_va = pkt->va;
	resp->write_rkey = pkt->rkey;
	resp->write_len = pkt->dma_len;
}

enum ibv_wc_status message_scatter(struct qp *qp, const void *data, uint32_t len)
{
	struct responder *resp = &qp->resp;
	struct sge_list list = {
		.mrs = qp->engine->mrs,
		.pd = rq_pd(qp->rq),
		.n = resp->wqe->n_sge,
		.sge = resp->wqe->sge,
	};

	switch (sge_scatter(&list, &resp->at, data, len)) {
	case 0:
		resp->received += len;
		return IBV_WC_SUCCESS;
	case -EMSGSIZE:
		return IBV_WC_LOC_LEN_ERR;
	default:
		return IBV_WC_LOC_PROT_ERR;
	}
}

static uint8_t store_write(struct qp *qp, const struct wire_packet *pkt, uint32_t flags)
{
	struct responder *resp = &qp->resp;
	uint64_t end = resp->received + pkt->payload_len;
	uint8_t *p;

	if (resp->write_len > ENGINE_MSG_MAX || end > resp->write_len ||
		((flags & WIRE_IS_LAST) && end != resp->write_len))
		return WIRE_SYN_NAK_INVALID_REQUEST;
	/* The queue pair must allow it as well as the region (10.6.3.2). A write of no
	 * bytes touches no memory, so its key is not looked at (9.7.4.1.5). */
	if (!(qp->attr.qp_access_flags & IBV_ACCESS_REMOTE_WRITE))
		return WIRE_SYN_NAK_REMOTE_ACCESS;
	if (resp->write_len) {
		/* All of it, so that nothing is written of what is refused later; with
		 * each packet, as the region may go in between. */
		p = mr_resolve_remote(qp->engine->mrs, resp->write_rkey, qp->config.pd,
			qp->qpn, resp->write_va, resp->write_len,
			IBV_ACCESS_REMOTE_WRITE);
		if (!p)
			return WIRE_SYN_NAK_REMOTE_ACCESS;
		memcpy(p + resp->received, pkt->payload, pkt->payload_len);
	}
	resp->received = end;
	return WIRE_SYN_ACK;
}

/* The specification's answer to a key that can't be invalidated is none (9.9.3, class J),
 * which leaves the peer to send again and again; rdma_rxe does so for ever.
 */
static enum ibv_wc_status invalidate(struct qp *qp, uint32_t rkey)
{
	struct mw_user user = qp_mw_user(qp);

	lanes_close_all(qp->engine);
	if (mw_invalidate(qp->engine->mrs, rkey, &user))
		return IBV_WC_REM_INV_REQ_ERR;
	qp->engine->stats.rx_invalidates++;
	return IBV_WC_SUCCESS;
}

uint8_t message_store(struct qp *qp, const struct wire_packet *pkt, uint32_t flags)
{
	enum ibv_wc_status status;

	if (flags & WIRE_IS_WRITE)
		return store_write(qp, pkt, flags);
	status = message_scatter(qp, pkt->payload, pkt->payload_len);
	if (status == IBV_WC_SUCCESS && (flags & WIRE_HAS_IETH))
		status = invalidate(qp, pkt->rkey);
	if (status == IBV_WC_SUCCESS)
		return WIRE_SYN_ACK;
	message_complete(qp, NULL, status);
	switch (status) {
	case IBV_WC_LOC_LEN_ERR:
		return WIRE_SYN_NAK_INVALID_REQUEST;
	case IBV_WC_REM_INV_REQ_ERR:
		return WIRE_SYN_NAK_REMOTE_ACCESS;
	default:
		return WIRE_SYN_NAK_REMOTE_OPERATION;
	}
}

void message_end(struct qp *qp, const struct wire_packet *pkt, uint32_t flags)
{
	struct responder *resp = &qp->resp;

	resp->in_message = 0;
	resp->msn = psn_add(resp->msn, 1);
	if (flags & WIRE_IS_SEND)
		qp->engine->stats.rx_send_messages++;
	else
		qp->engine->stats.rx_write_messages++;
	if (resp->have_wqe && (flags & (WIRE_IS_SEND | WIRE_HAS_IMM)))
		message_complete(qp, pkt, IBV_WC_SUCCESS);
}
