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
#include "verbs_objects.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define N_LIST 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
