/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two engines that are joined by the link in memory, and an application on each that does
 * what it wants: makes and ends queue pairs, gives them any attributes, posts anything,
 * resizes, polls or does not, and drops memory regions while they are in use. Packets go
 * between the two when the input says so.
 *
 * Input: operations, one byte each (its upper bit is the side) and what they need.
 *
 * Judged, besides by sanitizers: no work request completes that was not posted, or twice;
 * the requester's PSNs keep their order; and in the end both sides come to rest.
 */
#include "lib/util.h"
#include "rdma/engine/engine_priv.h"
#include "rdma/engine/mw.h"
#include "rdma/io/mem.h"
#include "verbs_input.h"

#include <errno.h>
#include <string.h>

#define N_QPS  4
#define N_CQS  3
#define N_SRQS 2
#define N_KEYS IN_MRS_MAX
#define N_MWS  IN_MWS_MAX
#define N_WRS  2048 /* of a side in all */
#define PD     1
#define BUF    (64u << 10)
#define MEMORY 8192u /* of it, that regions show */
/* An ACK timeout of 31 is 2.4 hours, and a stopped timer stays in the heap that long. */
#define LONGEST_TIMER_NS (24 * 3600 * NSEC_PER_SEC)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Work requests by wr_id. Of those that were posted and have not completed, some never
 * will: unsignaled ones, and what a queue pair forgets that is reset or destroyed.
 */
struct posted {
	bool waits;
	const struct qp *qp; /* or NULL: on a shared queue */
};

struct side {
	struct link *link;
	struct engine *engine;
	struct cq *cq[N_CQS];
	struct rq *srq[N_SRQS];
	struct qp *qp[N_QPS];
	enum ibv_qp_type type[N_QPS];
	struct ibv_mr mr[N_KEYS]; /* only their keys are used */
	struct ibv_mw mw[N_MWS];
	struct posted posted[N_WRS];
	uint64_t next_id;
};

struct pair {
	struct side side[2];
	struct link_burst burst;
	uint64_t now;
};

static uint8_t memory[2][BUF];

/* Memory. */

static void reg(struct pair *p, int s, int i, int access)
{
	struct mr mr = {.pd = i == 3 ? PD + 1 : PD,
		.access = access,
		.iova = (uintptr_t)memory[s],
		.length = i == 2 ? 100 : MEMORY,
		.addr = memory[s]};

	struct mr_table *mrs = engine_mrs(p->side[s].engine);
	uint32_t *key = &p->side[s].mr[i].lkey;

	if (*key && mr_deregister(mrs, *key)) /* a window shows it */
		return;
	*key = 0;
	if (access >= 0)
		must(!mr_register(mrs, &mr, key));
}

static void make_window(struct side *side, int i)
{
	struct mr_table *mrs = engine_mrs(side->engine);
	struct ibv_mw *mw = &side->mw[i];

	if (mw->rkey)
		mw_dealloc(mrs, mw->rkey);
	mw->type = i ? IBV_MW_TYPE_2 : IBV_MW_TYPE_1;
	must(!mw_alloc(mrs, PD, mw->type, &mw->rkey));
}

static uint32_t key_of(const struct side *side, int i)
{
	return i < N_KEYS ? side->mr[i].lkey : side->mw[i % N_MWS].rkey;
}

static struct input_memory memory_of(struct pair *p, int s)
{
	struct input_memory mem = {
		.buf = memory[s], .size = MEMORY, .remote = (uintptr_t)memory[!s]};

	for (int i = 0; i < IN_KEYS_MAX; i++) {
		mem.lkey[i] = key_of(&p->side[s], i);
		mem.rkey[i] = key_of(&p->side[!s], i);
	}
	for (int i = 0; i < N_KEYS; i++)
		mem.mr[i] = &p->side[s].mr[i];
	for (int i = 0; i < N_MWS; i++)
		mem.mw[i] = &p->side[s].mw[i];
	return mem;
}

/* Completions. */

/* Return: the number for a new work request, or 0 if there were too many */
static uint64_t new_id(struct side *side, const struct qp *qp)
{
	if (side->next_id + 1 == N_WRS)
		return 0;
	side->posted[++side->next_id] = (struct posted){true, qp};
	return side->next_id;
}

static void poll_one(struct side *side, int cq)
{
	struct ibv_wc wc[4];
	int n = cq_poll(side->cq[cq], 4, wc);

	for (int i = 0; i < n; i++) {
		struct posted *posted = &side->posted[wc[i].wr_id];

		must(wc[i].wr_id && wc[i].wr_id <= side->next_id);
		must(posted->waits);
		must(!posted->qp || qp_number(posted->qp) == wc[i].qp_num);
		posted->waits = false;
	}
}

/* Queue pairs. */

static const struct qp *peer_of(const struct pair *p, int s, uint8_t pick)
{
	return p->side[!s].qp[pick % N_QPS];
}

static void destroy_qp(struct side *side, int i)
{
	if (!side->qp[i])
		return;
	qp_destroy(side->qp[i]);
	side->qp[i] = NULL;
}

static void create_qp(struct side *side, int i, struct input *in)
{
	static const enum ibv_qp_type types[] = {
		IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD, IBV_QPT_XRC_SEND};
	uint8_t kind = in_u8(in), queues = in_u8(in), size = in_u8(in);
	struct qp_config config = {.pd = PD,
		.type = types[kind & 3],
		.port_mtu = 4096,
		.sq_sig_all = kind >> 7,
		.send_cq = side->cq[queues % N_CQS],
		.recv_cq = side->cq[queues / N_CQS % N_CQS],
		.srq = kind & 0x40 ? side->srq[kind >> 5 & 1] : NULL,
		.cap = {.max_send_wr = size & 15,
			.max_recv_wr = size >> 4,
			.max_send_sge = 4,
			.max_recv_sge = 4,
			.max_inline_data = 64}};
	int rc;

	if (kind & 4) { /* any */
		config.cap.max_send_sge = in_u8(in);
		config.cap.max_recv_sge = in_u8(in);
		config.cap.max_inline_data = in_u16(in);
		config.cap.max_send_wr ^= (uint32_t)in_u8(in) << 24;
	}
	destroy_qp(side, i);
	rc = qp_create(side->engine, &config, &side->qp[i]);
	must(!rc || rc == -EINVAL || rc == -EOPNOTSUPP);
	side->type[i] = config.type;
	if (rc)
		side->qp[i] = NULL;
}

/* Two queue pairs become each other's peers, or not, as the input is. */
static void connect_both(struct pair *p, struct input *in)
{
	int slot[2] = {in_u8(in) % N_QPS, in_u8(in) % N_QPS};

	for (int s = 0; s < 2; s++) {
		const struct qp *peer = p->side[!s].qp[slot[!s]];
		struct qp *qp = p->side[s].qp[slot[s]];

		for (int step = IBV_QPS_INIT; qp && peer && step <= IBV_QPS_RTS; step++) {
			struct ibv_qp_attr attr;
			int mask = input_step(in, p->side[s].type[slot[s]],
				(enum ibv_qp_state)step, p->side[!s].link->gid,
				qp_number(peer), &attr);

			qp_modify(qp, &attr, mask);
		}
	}
}

static void modify_any(struct pair *p, int s, struct qp *qp, struct input *in)
{
	const struct qp *peer = peer_of(p, s, in_u8(in));
	struct ibv_qp_attr attr;
	int mask =
		input_attr(in, p->side[!s].link->gid, peer ? qp_number(peer) : 2, &attr);

	qp_modify(qp, &attr, mask);
	qp_query(qp, &attr);
	must((unsigned int)attr.qp_state <= IBV_QPS_ERR);
}

static void modify_state(struct qp *qp, struct input *in)
{
	struct ibv_qp_attr attr = {
		.qp_state = (enum ibv_qp_state)(in_u8(in) % 8), .en_sqd_async_notify = 1};

	qp_modify(qp, &attr,
		IBV_QP_STATE |
			(attr.qp_state == IBV_QPS_SQD ? IBV_QP_EN_SQD_ASYNC_NOTIFY : 0));
}

/* Posting. */

static void post_send(struct pair *p, int s, int i, struct input *in)
{
	struct input_memory mem = memory_of(p, s);
	struct side *side = &p->side[s];
	const struct qp *peer = peer_of(p, s, (uint8_t)i);
	struct ibv_ah_attr ah = {.is_global = 1};
	struct ibv_sge sge[IN_SGE_MAX];
	struct ibv_send_wr wr;
	bool is_ud = side->type[i] == IBV_QPT_UD;

	input_send_wr(in, &mem, sge, &wr);
	memcpy(ah.grh.dgid.raw, p->side[!s].link->gid, 16);
	if (is_ud && wr.opcode != IBV_WR_BIND_MW) {
		wr.wr.ud.remote_qpn = peer ? qp_number(peer) : 3;
		wr.wr.ud.remote_qkey = 1;
	}
	wr.wr_id = new_id(side, side->qp[i]);
	if (!wr.wr_id)
		return;
	if (qp_post_send(side->qp[i], &wr, is_ud ? &ah : NULL))
		side->posted[wr.wr_id].waits = false;
	else if (wr.opcode == IBV_WR_BIND_MW)
		wr.bind_mw.mw->rkey = wr.bind_mw.rkey;
}

/* None of a list, if one of them can't be. */
static void post_and_roll_back(struct pair *p, int s, int i, struct input *in)
{
	struct side *side = &p->side[s];
	struct qp *qp = side->qp[i];
	struct qp_sq_mark mark = qp_sq_mark(qp);
	uint64_t first = side->next_id;

	post_send(p, s, i, in);
	post_send(p, s, i, in);
	qp_sq_rollback(qp, mark);
	while (first != side->next_id)
		side->posted[++first].waits = false;
}

static void post_recv(
	struct pair *p, int s, struct rq *rq, struct qp *qp, struct input *in)
{
	struct input_memory mem = memory_of(p, s);
	struct side *side = &p->side[s];
	struct ibv_sge sge[IN_SGE_MAX];
	struct ibv_recv_wr wr;

	input_recv_wr(in, &mem, sge, &wr);
	wr.wr_id = new_id(side, qp);
	if (wr.wr_id && rq_post(rq, &wr))
		side->posted[wr.wr_id].waits = false;
	else if (qp)
		qp_flush_rq(qp);
}

/* Moving. */

static void check_qp(const struct qp *qp)
{
	const struct requester *req = &qp->req;

	must(req->head - req->tail <= req->depth);
	must(req->cur - req->tail <= req->head - req->tail);
	/* messages of more than half of all PSNs can't be told by serial numbers */
	if (psn_add(req->next_psn, -req->una_psn) < 1u << 22) {
		must(psn_diff(req->snd_max, req->una_psn) >= 0);
		must(psn_diff(req->next_psn, req->snd_max) >= 0);
	}
}

/* Return: whether anything moved */
static bool move(struct pair *p, int s)
{
	struct side *side = &p->side[s];
	struct link_rx rx[LINK_BURST];
	bool moved = false;
	int n = side->link->ops->recv(side->link, rx, LINK_BURST);

	if (n) {
		engine_input(side->engine, rx, n, p->now);
		moved = true;
	}
	while (engine_output(side->engine, &p->burst, p->now)) {
		side->link->ops->send(side->link, &p->burst);
		moved = true;
	}
	for (int i = 0; i < N_QPS; i++) {
		if (side->qp[i])
			check_qp(side->qp[i]);
	}
	return moved;
}

static bool move_both(struct pair *p)
{
	bool first = move(p, 0);

	return move(p, 1) || first;
}

static void wait(struct pair *p, uint64_t ns)
{
	p->now += ns;
	for (int s = 0; s < 2; s++)
		engine_expire(p->side[s].engine, p->now);
}

/* When both end all their queue pairs' work, there is no more to be sent. */
static void come_to_rest(struct pair *p)
{
	const struct ibv_qp_attr error = {.qp_state = IBV_QPS_ERR};
	int rounds = 0;

	for (int s = 0; s < 2; s++) {
		for (int i = 0; i < N_QPS; i++) {
			if (p->side[s].qp[i])
				qp_modify(p->side[s].qp[i], &error, IBV_QP_STATE);
		}
	}
	while (move_both(p))
		must(rounds++ < 1000);
	wait(p, LONGEST_TIMER_NS);
	must(!move_both(p));
	for (int s = 0; s < 2; s++)
		must(engine_deadline(p->side[s].engine) == ENGINE_NO_DEADLINE);
}

/* One operation. Return: whether there was one */
static bool operate(struct pair *p, struct input *in)
{
	uint8_t op = in_u8(in), which = in_u8(in);
	int s = op >> 7, i = which % N_QPS;
	struct side *side = &p->side[s];
	struct qp *qp = side->qp[i];

	switch (op & 15) {
	case 0:
		create_qp(side, i, in);
		break;
	case 1:
		destroy_qp(side, i);
		break;
	case 2:
		connect_both(p, in);
		break;
	case 3:
		if (qp)
			modify_any(p, s, qp, in);
		break;
	case 4:
		if (qp)
			modify_state(qp, in);
		break;
	case 5:
	case 6:
		if (qp)
			post_send(p, s, i, in);
		break;
	case 7:
		if (qp)
			post_and_roll_back(p, s, i, in);
		break;
	case 8:
		if (qp && !qp->config.srq)
			post_recv(p, s, qp_rq(qp), qp, in);
		break;
	case 9:
		post_recv(p, s, side->srq[which % N_SRQS], NULL, in);
		break;
	case 10:
		rq_set_limit(side->srq[which % N_SRQS], in_u8(in));
		break;
	case 11:
		cq_resize(side->cq[which % N_CQS], in_u8(in));
		break;
	case 12:
		poll_one(side, which % N_CQS);
		break;
	case 13:
		if (which & 0x80)
			make_window(side, which % N_MWS);
		else
			reg(p, s, which % N_KEYS, in_u8(in) < 0xf0 ? which : -1);
		break;
	case 14:
		wait(p, (uint64_t)which * NSEC_PER_MSEC);
		break;
	default:
		for (int n = 0; n <= which % 8; n++) {
			move(p, s);
			move(p, !s);
		}
	}
	return in->left;
}

static void open_side(struct pair *p, int s)
{
	struct side *side = &p->side[s];

	must(!engine_create(&side->engine));
	for (int i = 0; i < N_CQS; i++)
		must(!cq_create(8u << 2 * i, &side->cq[i]));
	for (int i = 0; i < N_SRQS; i++)
		must(!rq_create(PD, 8, 4, &side->srq[i]));
	for (int i = 0; i < N_KEYS; i++)
		reg(p, s, i, 0x1f);
	for (int i = 0; i < N_MWS; i++)
		make_window(side, i);
}

static void close_side(struct side *side)
{
	for (int i = 0; i < N_QPS; i++)
		qp_destroy(side->qp[i]);
	for (int i = 0; i < N_CQS; i++)
		cq_destroy(side->cq[i]);
	for (int i = 0; i < N_SRQS; i++)
		rq_destroy(side->srq[i]);
	engine_destroy(side->engine);
	link_close(side->link);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct link_mem_script script = {.seed = 1};
	struct link *link[2];
	static struct pair p;
	uint8_t wire = in_u8(&in);

	p = (struct pair){.now = NSEC_PER_SEC};
	if (wire & 1)
		script.loss_ppm = script.duplicate_ppm = script.reorder_ppm = 100000;
	must(!link_mem_pair(&script, 9000, link));
	for (int s = 0; s < 2; s++) {
		p.side[s].link = link[s];
		open_side(&p, s);
	}
	while (operate(&p, &in)) {
		/* go on */
	}
	come_to_rest(&p);
	for (int s = 0; s < 2; s++)
		close_side(&p.side[s]);
	return 0;
}
