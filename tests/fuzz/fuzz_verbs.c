/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Any sequence of verbs, through libibverbs, on two devices that are joined in memory:
 * objects made and ended in any order, both posting and both polling APIs, events,
 * attributes and work requests that are wrong. fuzz_requests.c does the same to the
 * engine below, where a run costs less.
 *
 * Judged, besides by sanitizers: an object that others are built on is busy, and no other
 * is; nothing completes that was not posted, or twice; of a list that is refused, what
 * the API says is posted; and in the end everything can be ended.
 */
#include "lib/util.h"
#include "quiet_devices.h"
#include "verbs_input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_PDS  2
#define N_CQS  3
#define N_SRQS 2
#define N_QPS  3
#define N_MRS  IN_MRS_MAX
#define N_MWS  IN_MWS_MAX
#define N_WRS  1024 /* of a side in all */
#define N_LIST 3
#define BUF    (64u << 10)
#define MEMORY 8192u /* of it, that regions show */

#define must(ok)                                                         \
	do {                                                             \
		if (!(ok)) {                                             \
			fprintf(stderr, "line %d: %s\n", __LINE__, #ok); \
			abort();                                         \
		}                                                        \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct side {
	/* for ever */
	struct ibv_context *ctx;
	struct ibv_comp_channel *channel;
	union ibv_gid gid;
	/* by run */
	struct ibv_pd *pd[N_PDS];
	struct ibv_cq *cq[N_CQS];
	bool cq_is_ex[N_CQS];
	struct ibv_srq *srq[N_SRQS];
	struct ibv_qp *qp[N_QPS];
	bool qp_is_ex[N_QPS];
	bool qp_is_near[N_QPS]; /* its peer is on the same device */
	uint8_t groups[N_QPS];	/* that the queue pair is attached to, bit by bit */
	struct ibv_mr *mr[N_MRS];
	struct ibv_mw *mw[N_MWS];
	struct ibv_ah *ah;
	bool waits[N_WRS]; /* posted, and not complete; by wr_id */
	uint64_t next_id;
};

static struct side sides[2];
static uint8_t memory[2][BUF];

/* Objects below others. */

static void make_pd(struct side *s, int i)
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

static void end_pd(struct side *s, int i)
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
static void end_mr(struct side *s, int i)
{
	int rc = s->mr[i] ? ibv_dereg_mr(s->mr[i]) : 0;

	must(!rc || rc == EBUSY);
	if (!rc)
		s->mr[i] = NULL;
}

static void end_mw(struct side *s, int i)
{
	if (s->mw[i])
		must(!ibv_dealloc_mw(s->mw[i]));
	s->mw[i] = NULL;
}

static void make_mw(struct side *s, int i)
{
	end_mw(s, i);
	make_pd(s, 0);
	s->mw[i] = ibv_alloc_mw(s->pd[0], i ? IBV_MW_TYPE_2 : IBV_MW_TYPE_1);
	must(s->mw[i]);
}

static void make_mr(struct side *s, int i, struct input *in)
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

static void make_ah(struct side *s, struct input *in)
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

static void end_cq(struct side *s, int i)
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

static void make_cq(struct side *s, int i, struct input *in)
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

static void completed(struct side *s, uint64_t id)
{
	must(id && id <= s->next_id && s->waits[id]);
	s->waits[id] = false;
}

static void poll_ex(struct side *s, struct ibv_cq_ex *cq)
{
	struct ibv_poll_cq_attr attr = {0};

	if (ibv_start_poll(cq, &attr))
		return;
	do {
		completed(s, cq->wr_id);
		ibv_wc_read_opcode(cq);
		ibv_wc_read_byte_len(cq);
	} while (!ibv_next_poll(cq));
	ibv_end_poll(cq);
}

static void poll_cq(struct side *s, int i)
{
	struct ibv_wc wc[4];
	int n;

	if (!s->cq[i])
		return;
	if (s->cq_is_ex[i]) {
		poll_ex(s, container_of(s->cq[i], struct ibv_cq_ex, context));
		return;
	}
	n = ibv_poll_cq(s->cq[i], ARRAY_SIZE(wc), wc);
	for (int k = 0; k < n; k++)
		completed(s, wc[k].wr_id);
}

static void take_events(struct side *s)
{
	struct ibv_async_event event;
	struct ibv_cq *cq;
	void *context;

	while (!ibv_get_cq_event(s->channel, &cq, &context))
		ibv_ack_cq_events(cq, 1);
	while (!ibv_get_async_event(s->ctx, &event))
		ibv_ack_async_event(&event);
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

static void end_srq(struct side *s, int i)
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

static void make_srq(struct side *s, int i, struct input *in)
{
	struct ibv_srq_init_attr init = {
		.attr = {.max_wr = in_u8(in), .max_sge = in_u8(in)}};

	end_srq(s, i);
	if (s->srq[i])
		return;
	make_pd(s, 0);
	s->srq[i] = ibv_create_srq(s->pd[0], &init);
}

static void modify_srq(struct side *s, int i, struct input *in)
{
	struct ibv_srq_attr attr = {.srq_limit = in_u8(in)};

	if (!s->srq[i])
		return;
	ibv_modify_srq(s->srq[i], &attr, in_u8(in));
	must(!ibv_query_srq(s->srq[i], &attr));
	must(attr.srq_limit <= attr.max_wr);
}

/* Queue pairs. */

static void end_qp(struct side *s, int i)
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

static void make_qp(struct side *s, int i, struct input *in)
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

static uint32_t qpn_of(const struct ibv_qp *qp)
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

static void connect_both(struct input *in)
{
	int slot[2] = {in_u8(in) % N_QPS, in_u8(in) % N_QPS};

	for (int k = 0; k < 2; k++) {
		sides[k].qp_is_near[slot[k]] = false;
		connect_one(&sides[!k], sides[k].qp[slot[k]], sides[!k].qp[slot[!k]], in);
	}
}

/* Two of one device, or one with itself. */
static void connect_alike(struct side *s, struct input *in)
{
	int a = in_u8(in) % N_QPS, b = in_u8(in) % N_QPS;

	connect_one(s, s->qp[a], s->qp[b], in);
	connect_one(s, s->qp[b], s->qp[a], in);
	s->qp_is_near[a] = s->qp_is_near[b] = true;
}

static void join(struct side *s, int i, int group)
{
	union ibv_gid gid = {.raw = {[10] = 0xff, [11] = 0xff, [12] = 239}};

	gid.raw[15] = (uint8_t)group;
	if (s->qp[i] && !ibv_attach_mcast(s->qp[i], &gid, 0))
		s->groups[i] |= 1 << group;
}

static void leave(struct side *s, int i, int group)
{
	union ibv_gid gid = {.raw = {[10] = 0xff, [11] = 0xff, [12] = 239}};
	bool is_in = s->groups[i] >> group & 1;

	gid.raw[15] = (uint8_t)group;
	if (s->qp[i])
		must(ibv_detach_mcast(s->qp[i], &gid, 0) == (is_in ? 0 : EINVAL));
	s->groups[i] &= ~(1 << group);
}

static void modify_qp(struct side *s, struct ibv_qp *qp, struct input *in)
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

static void set_state(struct ibv_qp *qp, struct input *in)
{
	struct ibv_qp_attr attr = {.qp_state = (enum ibv_qp_state)(in_u8(in) % 8)};

	ibv_modify_qp(qp, &attr, IBV_QP_STATE);
}

/* Posting. */

static uint32_t key_of(const struct side *s, int i)
{
	if (i >= N_MRS)
		return s->mw[i % N_MWS] ? s->mw[i % N_MWS]->rkey : 1;
	return s->mr[i] ? s->mr[i]->rkey : 1;
}

/* @far: where requests go */
static struct input_memory memory_of(const struct side *s, const struct side *far)
{
	struct input_memory mem = {.buf = memory[s - sides],
		.size = MEMORY,
		.remote = (uintptr_t)memory[far - sides]};
	for (int i = 0; i < IN_KEYS_MAX; i++) {
		mem.lkey[i] = key_of(s, i);
		mem.rkey[i] = key_of(far, i);
	}
	memcpy(mem.mr, s->mr, sizeof(mem.mr));
	memcpy(mem.mw, s->mw, sizeof(mem.mw));
	return mem;
}

/* Return: the number for a new work request, or 0 if there were too many */
static uint64_t new_id(struct side *s)
{
	if (s->next_id + 1 == N_WRS)
		return 0;
	s->waits[++s->next_id] = true;
	return s->next_id;
}

/* Those from @id on were not posted. */
static void take_back(struct side *s, uint64_t id)
{
	for (; id && id <= s->next_id; id++)
		s->waits[id] = false;
}

/* Return: a list of one to N_LIST, or NULL if there were too many in all */
static struct ibv_send_wr *make_list(struct side *s, int q, struct input *in,
	struct ibv_send_wr wr[N_LIST], struct ibv_sge sge[N_LIST][IN_SGE_MAX])
{
	const struct side *far = s->qp_is_near[q] ? s : &sides[s == sides];
	struct input_memory mem = memory_of(s, far);
	int n = in_u8(in) % N_LIST + 1;

	for (int i = 0; i < n; i++) {
		input_send_wr(in, &mem, sge[i], &wr[i]);
		if (s->qp[q]->qp_type == IBV_QPT_UD && wr[i].opcode != IBV_WR_BIND_MW) {
			wr[i].wr.ud.ah = s->ah;
			wr[i].wr.ud.remote_qpn = qpn_of(far->qp[in_u8(in) % N_QPS]);
			wr[i].wr.ud.remote_qkey = 1;
		}
		wr[i].next = i + 1 < n ? &wr[i + 1] : NULL;
		wr[i].wr_id = new_id(s);
		if (!wr[i].wr_id)
			return NULL;
	}
	return wr;
}

static void post_send(struct side *s, int q, struct input *in)
{
	struct ibv_send_wr wr[N_LIST], *bad = NULL;
	struct ibv_sge sge[N_LIST][IN_SGE_MAX];

	if (!make_list(s, q, in, wr, sge))
		return;
	if (ibv_post_send(s->qp[q], wr, &bad)) {
		must(bad >= wr && bad < wr + N_LIST);
		take_back(s, bad->wr_id);
	}
	for (struct ibv_send_wr *at = wr; at != bad; at = at->next) {
		if (at->opcode == IBV_WR_BIND_MW)
			at->bind_mw.mw->rkey = at->bind_mw.rkey;
	}
}

/* The other way to bind, for windows of type 1. */
static void bind_mw(struct side *s, struct ibv_qp *qp, struct input *in)
{
	struct ibv_mw_bind bind = {
		.bind_info = {.mr = s->mr[in_u8(in) % N_MRS],
			.addr = (uintptr_t)memory[s - sides] + in_u8(in),
			.length = in_u16(in),
			.mw_access_flags = in_u8(in)},
		.send_flags = in_u8(in)};

	bind.wr_id = new_id(s);
	if (!s->mw[0] || !bind.wr_id || ibv_bind_mw(qp, s->mw[0], &bind))
		take_back(s, bind.wr_id);
}

/* Begin a request by the other API. Those that the type of queue pair does not have are
 * SENDs. Return: whether it has data
 */
static bool stage(struct ibv_qp_ex *qpx, const struct ibv_send_wr *wr)
{
	uint32_t rkey = wr->wr.rdma.rkey;
	uint64_t va = wr->wr.rdma.remote_addr;

	if (wr->opcode == IBV_WR_SEND_WITH_IMM) {
		ibv_wr_send_imm(qpx, wr->imm_data);
	} else if (wr->opcode == IBV_WR_RDMA_WRITE && qpx->wr_rdma_write) {
		ibv_wr_rdma_write(qpx, rkey, va);
	} else if (wr->opcode == IBV_WR_RDMA_WRITE_WITH_IMM && qpx->wr_rdma_write_imm) {
		ibv_wr_rdma_write_imm(qpx, rkey, va, wr->imm_data);
	} else if (wr->opcode == IBV_WR_RDMA_READ && qpx->wr_rdma_read) {
		ibv_wr_rdma_read(qpx, rkey, va);
	} else if (wr->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD &&
		   qpx->wr_atomic_fetch_add) {
		ibv_wr_atomic_fetch_add(
			qpx, wr->wr.atomic.rkey, wr->wr.atomic.remote_addr, 1);
	} else if (wr->opcode == IBV_WR_ATOMIC_CMP_AND_SWP && qpx->wr_atomic_cmp_swp) {
		ibv_wr_atomic_cmp_swp(
			qpx, wr->wr.atomic.rkey, wr->wr.atomic.remote_addr, 0, 1);
	} else if (wr->opcode == IBV_WR_SEND_WITH_INV && qpx->wr_send_inv) {
		ibv_wr_send_inv(qpx, wr->invalidate_rkey);
	} else if (wr->opcode == IBV_WR_LOCAL_INV && qpx->wr_local_inv) {
		ibv_wr_local_inv(qpx, wr->invalidate_rkey);
		return false;
	} else if (wr->opcode == IBV_WR_BIND_MW && qpx->wr_bind_mw) {
		ibv_wr_bind_mw(
			qpx, wr->bind_mw.mw, wr->bind_mw.rkey, &wr->bind_mw.bind_info);
		return false;
	} else {
		ibv_wr_send(qpx);
	}
	return true;
}

static void stage_one(struct ibv_qp_ex *qpx, const struct ibv_send_wr *wr, bool is_ud)
{
	qpx->wr_id = wr->wr_id;
	qpx->wr_flags = wr->send_flags;
	if (!stage(qpx, wr))
		return;
	if (is_ud)
		ibv_wr_set_ud_addr(
			qpx, wr->wr.ud.ah, wr->wr.ud.remote_qpn, wr->wr.ud.remote_qkey);
	if (wr->send_flags & IBV_SEND_INLINE)
		ibv_wr_set_inline_data(
			qpx, memory, wr->num_sge > 0 ? wr->sg_list->length % BUF : 0);
	else if (wr->num_sge >= 0)
		ibv_wr_set_sge_list(qpx, (size_t)wr->num_sge, wr->sg_list);
}

/* All of a list or none. */
static void post_ex(struct side *s, int q, struct input *in)
{
	struct ibv_qp_ex *qpx = ibv_qp_to_qp_ex(s->qp[q]);
	struct ibv_sge sge[N_LIST][IN_SGE_MAX];
	struct ibv_send_wr wr[N_LIST], *at;
	bool abort_it = in_u8(in) & 1;

	if (!make_list(s, q, in, wr, sge))
		return;
	ibv_wr_start(qpx);
	for (at = wr; at; at = at->next)
		stage_one(qpx, at, s->qp[q]->qp_type == IBV_QPT_UD);
	if (abort_it) {
		ibv_wr_abort(qpx);
		take_back(s, wr->wr_id);
	} else if (ibv_wr_complete(qpx)) {
		take_back(s, wr->wr_id);
	}
}

static void post_recv(
	struct side *s, struct ibv_qp *qp, struct ibv_srq *srq, struct input *in)
{
	struct input_memory mem = memory_of(s, s);
	struct ibv_sge sge[IN_SGE_MAX];
	struct ibv_recv_wr wr, *bad;

	if (!qp && !srq)
		return;
	input_recv_wr(in, &mem, sge, &wr);
	wr.wr_id = new_id(s);
	if (wr.wr_id &&
		(srq ? ibv_post_srq_recv(srq, &wr, &bad) : ibv_post_recv(qp, &wr, &bad)))
		take_back(s, wr.wr_id);
}

/* One operation. Return: whether there is more */
static bool operate(struct input *in)
{
	uint8_t op = in_u8(in), which = in_u8(in);
	struct side *s = &sides[op >> 7];
	int q = which % N_QPS, c = which % N_CQS, r = which % N_SRQS;
	struct ibv_qp *qp = s->qp[q];

	switch (op & 31) {
	case 0:
		make_cq(s, c, in);
		break;
	case 1:
		end_cq(s, c);
		break;
	case 2:
		if (s->cq[c])
			ibv_resize_cq(s->cq[c], in_u8(in));
		break;
	case 3:
		if (s->cq[c])
			ibv_req_notify_cq(s->cq[c], which >> 7);
		break;
	case 4:
		take_events(s);
		break;
	case 5:
		make_qp(s, q, in);
		break;
	case 6:
		end_qp(s, q);
		break;
	case 7:
		connect_both(in);
		break;
	case 8:
		if (qp)
			modify_qp(s, qp, in);
		break;
	case 9:
		if (qp)
			set_state(qp, in);
		break;
	case 10:
	case 11:
		if (qp)
			post_send(s, q, in);
		break;
	case 12:
		if (qp && s->qp_is_ex[q])
			post_ex(s, q, in);
		break;
	case 13:
		post_recv(s, qp, NULL, in);
		break;
	case 14:
		post_recv(s, NULL, s->srq[r], in);
		break;
	case 15:
		make_srq(s, r, in);
		break;
	case 16:
		end_srq(s, r);
		break;
	case 17:
		modify_srq(s, r, in);
		break;
	case 18:
		make_mr(s, which % N_MRS, in);
		break;
	case 19:
		end_mr(s, which % N_MRS);
		break;
	case 20:
		make_ah(s, in);
		break;
	case 21:
		end_pd(s, which % N_PDS);
		break;
	case 22:
		quiet_now_ns += which * NSEC_PER_MSEC;
		break;
	case 23:
		make_mw(s, which % N_MWS);
		break;
	case 24:
		end_mw(s, which % N_MWS);
		break;
	case 25:
		if (qp)
			bind_mw(s, qp, in);
		break;
	case 26:
		connect_alike(s, in);
		break;
	case 27:
		join(s, q, in_u8(in) & 7);
		break;
	case 28:
		leave(s, q, in_u8(in) & 7);
		break;
	default: /* a poll that finds nothing makes progress */
		poll_cq(s, c);
		poll_cq(&sides[s == sides], c);
	}
	return in->left;
}

static void end_all(struct side *s)
{
	for (int i = 0; i < N_QPS; i++) {
		for (int group = 0; group < 8; group++)
			leave(s, i, group);
		end_qp(s, i);
	}
	for (int i = 0; i < N_SRQS; i++)
		end_srq(s, i);
	for (int i = 0; i < N_CQS; i++)
		end_cq(s, i);
	for (int i = 0; i < N_MWS; i++)
		end_mw(s, i);
	for (int i = 0; i < N_MRS; i++) {
		end_mr(s, i);
		must(!s->mr[i]);
	}
	if (s->ah)
		must(!ibv_destroy_ah(s->ah));
	s->ah = NULL;
	for (int i = 0; i < N_PDS; i++) {
		end_pd(s, i);
		must(!s->pd[i]);
	}
	take_events(s);
	memset(s->waits, 0, sizeof(s->waits));
	s->next_id = 0;
}

/* Packets that are still under way belong to queue pairs that are gone. */
static void drain(struct side *s)
{
	struct ibv_cq *cq = ibv_create_cq(s->ctx, 1, NULL, NULL, 0);
	struct ibv_wc wc;

	must(cq);
	for (int i = 0; i < 8; i++)
		must(!ibv_poll_cq(cq, 1, &wc));
	must(!ibv_destroy_cq(cq));
}

static void open_once(void)
{
	struct ibv_context *ctx[2];

	quiet_open(ctx);
	for (int k = 0; k < 2; k++) {
		struct side *s = &sides[k];

		s->ctx = ctx[k];
		s->channel = vrdma_create_comp_channel(ctx[k]);
		must(s->channel && !ibv_query_gid(ctx[k], 1, 0, &s->gid));
		must(!fcntl(s->channel->fd, F_SETFL, O_NONBLOCK));
		must(!fcntl(ctx[k]->async_fd, F_SETFL, O_NONBLOCK));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	if (!sides[0].ctx)
		open_once();
	while (operate(&in)) {
		/* go on */
	}
	for (int k = 0; k < 2; k++)
		end_all(&sides[k]);
	for (int k = 0; k < 2; k++)
		drain(&sides[k]);
	return 0;
}
