/* SPDX-License-Identifier: BSD-3-Clause */
#include "verbs_objects.h"

#include <errno.h>
#include <string.h>

struct side sides[2];
uint8_t memory[2][BUF];

void make_pd(struct side *s, int i)
{
	if (s->pd[i])
		return;
	s->pd[i] = ibv_alloc_pd(s->ctx);
	must(s->pd[i]);
}

static bool pd_is_used(const struct side *s, const struct ibv_pd *pd)
{
	for (int i = 0; i < N_MRS; i++) {
		if (s->mr[i] && s->mr[i]->pd == pd)
			return true;
	}
	for (int i = 0; i < N_QPS; i++) {
		if (s->qp[i] && s->qp[i]->pd == pd)
			return true;
	}
	for (int i = 0; i < N_SRQS; i++) {
		if (s->srq[i] && s->srq[i]->pd == pd)
			return true;
	}
	for (int i = 0; i < N_MWS; i++) {
		if (s->mw[i] && s->mw[i]->pd == pd)
			return true;
	}
	return s->ah && s->ah->pd == pd;
}

void end_pd(struct side *s, int i)
{
	if (!s->pd[i])
		return;
	if (pd_is_used(s, s->pd[i])) {
		must(ibv_dealloc_pd(s->pd[i]) == EBUSY);
		return;
	}
	must(!ibv_dealloc_pd(s->pd[i]));
	s->pd[i] = NULL;
}

/* One that a window shows is busy. */
void end_mr(struct side *s, int i)
{
	int rc = s->mr[i] ? ibv_dereg_mr(s->mr[i]) : 0;

	must(!rc || rc == EBUSY);
	if (!rc)
		s->mr[i] = NULL;
}

void end_mw(struct side *s, int i)
{
	if (s->mw[i])
		must(!ibv_dealloc_mw(s->mw[i]));
	s->mw[i] = NULL;
}

void make_mw(struct side *s, int i)
{
	end_mw(s, i);
	make_pd(s, 0);
	s->mw[i] = ibv_alloc_mw(s->pd[0], i ? IBV_MW_TYPE_2 : IBV_MW_TYPE_1);
	must(s->mw[i]);
}

void make_mr(struct side *s, int i, struct input *in)
{
	uint8_t access = in_u8(in);

	end_mr(s, i);
	if (s->mr[i])
		return;
	make_pd(s, i % N_PDS);
	s->mr[i] = ibv_reg_mr(s->pd[i % N_PDS], memory[s - sides], i == 3 ? 100 : MEMORY,
		access < 0xc0 ? 0x1f : access);
	must(s->mr[i] || errno == EINVAL || errno == EOPNOTSUPP);
}

void make_ah(struct side *s, struct input *in)
{
	struct ibv_ah_attr attr = {.is_global = 1, .port_num = 1};

	uint8_t kind = in_u8(in);

	if (s->ah)
		must(!ibv_destroy_ah(s->ah));
	attr.grh.dgid = sides[(s == sides) ^ (kind >> 6 & 1)].gid;
	attr.grh.dgid.raw[15] ^= kind >> 7;
	if (kind & 0x20) { /* multicast */
		attr.grh.dgid.raw[12] = 239;
		attr.grh.dgid.raw[13] = attr.grh.dgid.raw[14] = 0;
		attr.grh.dgid.raw[15] = kind & 7;
	}
	make_pd(s, 0);
	s->ah = ibv_create_ah(s->pd[0], &attr);
	must(s->ah);
}

/* Completion queues. */

static bool cq_is_used(const struct side *s, const struct ibv_cq *cq)
{
	for (int i = 0; i < N_QPS; i++) {
		if (s->qp[i] && (s->qp[i]->send_cq == cq || s->qp[i]->recv_cq == cq))
			return true;
	}
	return false;
}

void end_cq(struct side *s, int i)
{
	if (!s->cq[i])
		return;
	if (cq_is_used(s, s->cq[i])) {
		must(ibv_destroy_cq(s->cq[i]) == EBUSY);
		return;
	}
	must(!ibv_destroy_cq(s->cq[i]));
	s->cq[i] = NULL;
}

void make_cq(struct side *s, int i, struct input *in)
{
	uint8_t kind = in_u8(in);
	struct ibv_cq_init_attr_ex init = {.cqe = in_u8(in),
		.channel = kind & 1 ? s->channel : NULL,
		.wc_flags = IBV_WC_STANDARD_FLAGS};
	struct ibv_cq_ex *ex;

	end_cq(s, i);
	if (s->cq[i])
		return;
	s->cq_is_ex[i] = kind & 2;
	if (kind & 2) {
		ex = ibv_create_cq_ex(s->ctx, &init);
		s->cq[i] = ex ? ibv_cq_ex_to_cq(ex) : NULL;
	} else {
		s->cq[i] = ibv_create_cq(s->ctx, (int)init.cqe, NULL, init.channel, 0);
	}
	must(s->cq[i] || !init.cqe);
}

/* Shared receive queues. */

static bool srq_is_used(const struct side *s, const struct ibv_srq *srq)
{
	for (int i = 0; i < N_QPS; i++) {
		if (s->qp[i] && s->qp[i]->srq == srq)
			return true;
	}
	return false;
}

void end_srq(struct side *s, int i)
{
	if (!s->srq[i])
		return;
	if (srq_is_used(s, s->srq[i])) {
		must(ibv_destroy_srq(s->srq[i]) == EBUSY);
		return;
	}
	must(!ibv_destroy_srq(s->srq[i]));
	s->srq[i] = NULL;
}

void make_srq(struct side *s, int i, struct input *in)
{
	struct ibv_srq_init_attr init = {
		.attr = {.max_wr = in_u8(in), .max_sge = in_u8(in)}};

	end_srq(s, i);
	if (s->srq[i])
		return;
	make_pd(s, 0);
	s->srq[i] = ibv_create_srq(s->pd[0], &init);
}

void modify_srq(struct side *s, int i, struct input *in)
{
	struct ibv_srq_attr attr = {.srq_limit = in_u8(in)};

	if (!s->srq[i])
		return;
	ibv_modify_srq(s->srq[i], &attr, in_u8(in));
	must(!ibv_query_srq(s->srq[i], &attr));
	must(attr.srq_limit <= attr.max_wr);
}

/* Queue pairs. */

void end_qp(struct side *s, int i)
{
	if (!s->qp[i])
		return;
	if (s->groups[i]) {
		must(ibv_destroy_qp(s->qp[i]) == EBUSY);
		return;
	}
	must(!ibv_destroy_qp(s->qp[i]));
	s->qp[i] = NULL;
}

static uint64_t all_ops(enum ibv_qp_type type)
{
	const uint64_t ud = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;
	const uint64_t uc = ud | IBV_QP_EX_WITH_RDMA_WRITE |
			    IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | IBV_QP_EX_WITH_BIND_MW |
			    IBV_QP_EX_WITH_LOCAL_INV;
	const uint64_t rc =
		uc | IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
		IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD | IBV_QP_EX_WITH_SEND_WITH_INV;

	return type == IBV_QPT_UD ? ud : type == IBV_QPT_UC ? uc : rc;
}

void make_qp(struct side *s, int i, struct input *in)
{
	static const enum ibv_qp_type types[] = {
		IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD, IBV_QPT_RAW_PACKET};
	uint8_t kind = in_u8(in), queues = in_u8(in), size = in_u8(in);
	struct ibv_qp_init_attr_ex init = {.qp_type = types[kind & 3],
		.send_cq = s->cq[queues % N_CQS],
		.recv_cq = s->cq[queues / N_CQS % N_CQS],
		.srq = kind & 0x40 ? s->srq[queues >> 7] : NULL,
		.sq_sig_all = kind >> 7,
		.cap = {.max_send_wr = size & 15,
			.max_recv_wr = size >> 4,
			.max_send_sge = 4,
			.max_recv_sge = 4,
			.max_inline_data = 64},
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.send_ops_flags = all_ops(types[kind & 3])};

	end_qp(s, i);
	if (s->qp[i])
		return;
	make_pd(s, 0);
	init.pd = s->pd[0];
	if (kind & 4)
		init.cap.max_send_sge = in_u8(in);
	s->qp_is_ex[i] = kind & 8;
	if (kind & 8)
		s->qp[i] = ibv_create_qp_ex(s->ctx, &init);
	else
		s->qp[i] = ibv_create_qp(s->pd[0], (struct ibv_qp_init_attr *)&init);
}

uint32_t qpn_of(const struct ibv_qp *qp)
{
	return qp ? qp->qp_num : 2;
}

/* @far: where the peer is */
static void connect_one(const struct side *far, struct ibv_qp *qp,
	const struct ibv_qp *peer, struct input *in)
{
	for (int step = IBV_QPS_INIT; qp && step <= IBV_QPS_RTS; step++) {
		struct ibv_qp_attr attr;
		int mask = input_step(in, qp->qp_type, (enum ibv_qp_state)step,
			far->gid.raw, qpn_of(peer), &attr);

		ibv_modify_qp(qp, &attr, mask);
	}
}

void connect_both(struct input *in)
{
	int slot[2] = {in_u8(in) % N_QPS, in_u8(in) % N_QPS};

	for (int k = 0; k < 2; k++) {
		sides[k].qp_is_near[slot[k]] = false;
		connect_one(&sides[!k], sides[k].qp[slot[k]], sides[!k].qp[slot[!k]], in);
	}
}

/* Two of one device, or one with itself. */
void connect_alike(struct side *s, struct input *in)
{
	int a = in_u8(in) % N_QPS, b = in_u8(in) % N_QPS;

	connect_one(s, s->qp[a], s->qp[b], in);
	connect_one(s, s->qp[b], s->qp[a], in);
	s->qp_is_near[a] = s->qp_is_near[b] = true;
}

void join(struct side *s, int i, int group)
{
	union ibv_gid gid = {.raw = {[10] = 0xff, [11] = 0xff, [12] = 239}};

	gid.raw[15] = (uint8_t)group;
	if (s->qp[i] && !ibv_attach_mcast(s->qp[i], &gid, 0))
		s->groups[i] |= 1 << group;
}

void leave(struct side *s, int i, int group)
{
	union ibv_gid gid = {.raw = {[10] = 0xff, [11] = 0xff, [12] = 239}};
	bool is_in = s->groups[i] >> group & 1;

	gid.raw[15] = (uint8_t)group;
	if (s->qp[i])
		must(ibv_detach_mcast(s->qp[i], &gid, 0) == (is_in ? 0 : EINVAL));
	s->groups[i] &= ~(1 << group);
}

void modify_qp(struct side *s, struct ibv_qp *qp, struct input *in)
{
	struct side *other = &sides[s == sides];
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	int mask = input_attr(
		in, other->gid.raw, qpn_of(other->qp[in_u8(in) % N_QPS]), &attr);
	int rc = ibv_modify_qp(qp, &attr, mask);

	must(!rc || rc == EINVAL);
	must(!ibv_query_qp(qp, &attr, mask, &init));
	must(attr.qp_state == qp->state || qp->state != IBV_QPS_RESET);
	must(init.qp_type == qp->qp_type && init.srq == qp->srq);
}

void set_state(struct ibv_qp *qp, struct input *in)
{
	struct ibv_qp_attr attr = {.qp_state = (enum ibv_qp_state)(in_u8(in) % 8)};

	ibv_modify_qp(qp, &attr, IBV_QP_STATE);
}
