/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The extended posting API (ibv_wr_post(3)): work requests are put together between
 * wr_start and wr_complete, which posts all of them or, if one is wrong, none.
 *
 * They are kept aside until then, as ibv_send_wr in an array that grows to what the
 * application uses. The stage's lock is the critical section that the manual speaks of.
 */
#include "provider_priv.h"

#include "lib/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_AT_FIRST 8u

struct wr_stage {
	pthread_mutex_t lock;
	struct device_qp *qp;
	uint8_t *slots;
	size_t stride;
	uint32_t n_slots;
	uint32_t max_slots; /* depth of the send queue */
	uint32_t max_sge;
	uint32_t max_inline;
	uint32_t n; /* in use; the last is being put together */
	int rc;	    /* what went wrong first */
};

/* One work request. Its pieces or inline data follow, pointed to when it is posted. */
struct wr_slot {
	struct ibv_send_wr wr;
	struct ibv_sge sge[];
};

static struct wr_stage *to_stage(struct ibv_qp_ex *qpx)
{
	return container_of(qpx, struct device_qp, vqp.qp_ex)->stage;
}

static struct wr_slot *slot_at(const struct wr_stage *st, uint32_t i)
{
	return (struct wr_slot *)(st->slots + i * st->stride);
}

/* The one being put together. Before the first, what it gets is overwritten. */
static struct wr_slot *current(const struct wr_stage *st)
{
	return slot_at(st, st->n ? st->n - 1 : 0);
}

static void grow(struct wr_stage *st)
{
	uint32_t n = MIN(st->n_slots * 2, st->max_slots);
	uint8_t *slots = n > st->n_slots ? realloc(st->slots, n * st->stride) : NULL;

	if (!slots) {
		st->rc = ENOMEM;
		return;
	}
	st->slots = slots;
	st->n_slots = n;
}

static struct ibv_send_wr *begin(struct ibv_qp_ex *qpx, enum ibv_wr_opcode opcode)
{
	struct wr_stage *st = to_stage(qpx);
	struct ibv_send_wr *wr;

	if (st->n == st->n_slots)
		grow(st);
	/* After an error all is thrown away, so the last slot takes the rest. */
	if (st->n < st->n_slots)
		st->n++;
	wr = &current(st)->wr;
	*wr = (struct ibv_send_wr){
		.wr_id = qpx->wr_id,
		.opcode = opcode,
		.send_flags = qpx->wr_flags & ~(unsigned int)IBV_SEND_INLINE,
	};
	return wr;
}

static void wr_send(struct ibv_qp_ex *qpx)
{
	begin(qpx, IBV_WR_SEND);
}

static void wr_send_imm(struct ibv_qp_ex *qpx, __be32 imm)
{
	begin(qpx, IBV_WR_SEND_WITH_IMM)->imm_data = imm;
}

static void begin_invalidate(
	struct ibv_qp_ex *qpx, enum ibv_wr_opcode opcode, uint32_t rkey)
{
	begin(qpx, opcode)->invalidate_rkey = rkey;
}

static void wr_send_inv(struct ibv_qp_ex *qpx, uint32_t rkey)
{
	begin_invalidate(qpx, IBV_WR_SEND_WITH_INV, rkey);
}

static void wr_local_inv(struct ibv_qp_ex *qpx, uint32_t rkey)
{
	begin_invalidate(qpx, IBV_WR_LOCAL_INV, rkey);
}

static void wr_bind_mw(struct ibv_qp_ex *qpx, struct ibv_mw *mw, uint32_t rkey,
	const struct ibv_mw_bind_info *info)
{
	struct ibv_send_wr *wr = begin(qpx, IBV_WR_BIND_MW);

	wr->bind_mw.mw = mw;
	wr->bind_mw.rkey = rkey;
	wr->bind_mw.bind_info = *info;
}

static struct ibv_send_wr *begin_rdma(struct ibv_qp_ex *qpx, enum ibv_wr_opcode opcode,
	uint32_t rkey, uint64_t remote_addr)
{
	struct ibv_send_wr *wr = begin(qpx, opcode);

	wr->wr.rdma.rkey = rkey;
	wr->wr.rdma.remote_addr = remote_addr;
	return wr;
}

static void wr_rdma_write(struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t remote_addr)
{
	begin_rdma(qpx, IBV_WR_RDMA_WRITE, rkey, remote_addr);
}

static void wr_rdma_write_imm(
	struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t remote_addr, __be32 imm)
{
	begin_rdma(qpx, IBV_WR_RDMA_WRITE_WITH_IMM, rkey, remote_addr)->imm_data = imm;
}

static void wr_rdma_read(struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t remote_addr)
{
	begin_rdma(qpx, IBV_WR_RDMA_READ, rkey, remote_addr);
}

static void begin_atomic(struct ibv_qp_ex *qpx, enum ibv_wr_opcode opcode, uint32_t rkey,
	uint64_t remote_addr, uint64_t compare_add, uint64_t swap)
{
	struct ibv_send_wr *wr = begin(qpx, opcode);

	wr->wr.atomic.rkey = rkey;
	wr->wr.atomic.remote_addr = remote_addr;
	wr->wr.atomic.compare_add = compare_add;
	wr->wr.atomic.swap = swap;
}

static void wr_atomic_cmp_swp(struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t remote_addr,
	uint64_t compare, uint64_t swap)
{
	begin_atomic(qpx, IBV_WR_ATOMIC_CMP_AND_SWP, rkey, remote_addr, compare, swap);
}

static void wr_atomic_fetch_add(
	struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t remote_addr, uint64_t add)
{
	begin_atomic(qpx, IBV_WR_ATOMIC_FETCH_AND_ADD, rkey, remote_addr, add, 0);
}

/* Setters. */

static void wr_set_ud_addr(
	struct ibv_qp_ex *qpx, struct ibv_ah *ah, uint32_t remote_qpn, uint32_t qkey)
{
	struct ibv_send_wr *wr = &current(to_stage(qpx))->wr;

	wr->wr.ud.ah = ah;
	wr->wr.ud.remote_qpn = remote_qpn;
	wr->wr.ud.remote_qkey = qkey;
}

static void wr_set_sge_list(struct ibv_qp_ex *qpx, size_t n, const struct ibv_sge *list)
{
	struct wr_stage *st = to_stage(qpx);
	struct wr_slot *slot = current(st);

	if (n > st->max_sge) {
		st->rc = EINVAL;
		return;
	}
	slot->wr.num_sge = (int)n;
	memcpy(slot->sge, list, n * sizeof(*list));
}

static void wr_set_sge(
	struct ibv_qp_ex *qpx, uint32_t lkey, uint64_t addr, uint32_t length)
{
	struct ibv_sge sge = {addr, length, lkey};

	wr_set_sge_list(qpx, 1, &sge);
}

/* As one piece that points behind itself. */
static void wr_set_inline_data_list(
	struct ibv_qp_ex *qpx, size_t n, const struct ibv_data_buf *list)
{
	struct wr_stage *st = to_stage(qpx);
	struct wr_slot *slot = current(st);
	uint8_t *data = (uint8_t *)&slot->sge[1];
	size_t length = 0;

	for (size_t i = 0; i < n; i++) {
		if (list[i].length > st->max_inline - length) {
			st->rc = EINVAL;
			return;
		}
		memcpy(data + length, list[i].addr, list[i].length);
		length += list[i].length;
	}
	slot->wr.send_flags |= IBV_SEND_INLINE;
	slot->wr.num_sge = 1;
	slot->sge[0].length = (uint32_t)length;
}

static void wr_set_inline_data(struct ibv_qp_ex *qpx, void *addr, size_t length)
{
	struct ibv_data_buf buf = {addr, length};

	wr_set_inline_data_list(qpx, 1, &buf);
}

/* The critical section. */

static void wr_start(struct ibv_qp_ex *qpx)
{
	struct wr_stage *st = to_stage(qpx);

	pthread_mutex_lock(&st->lock);
	st->n = 0;
	st->rc = 0;
}

/* Now that the slots stay where they are: point to pieces, and to the next one. */
static struct ibv_send_wr *link_slots(struct wr_stage *st)
{
	struct ibv_send_wr *next = NULL;

	for (uint32_t i = st->n; i-- > 0;) {
		struct wr_slot *slot = slot_at(st, i);

		slot->wr.sg_list = slot->sge;
		if (slot->wr.send_flags & IBV_SEND_INLINE)
			slot->sge[0].addr = (uintptr_t)&slot->sge[1];
		slot->wr.next = next;
		next = &slot->wr;
	}
	return next;
}

static int wr_complete(struct ibv_qp_ex *qpx)
{
	struct wr_stage *st = to_stage(qpx);
	int rc = st->rc;

	if (!rc)
		rc = device_post_all(st->qp, link_slots(st));
	pthread_mutex_unlock(&st->lock);
	return rc;
}

static void wr_abort(struct ibv_qp_ex *qpx)
{
	pthread_mutex_unlock(&to_stage(qpx)->lock);
}

/* Life. */

#define OPS_UD (IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM)
#define OPS_UC                                                                     \
	(OPS_UD | IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | \
		IBV_QP_EX_WITH_BIND_MW | IBV_QP_EX_WITH_LOCAL_INV)
#define OPS_RC                                                              \
	(OPS_UC | IBV_QP_EX_WITH_SEND_WITH_INV | IBV_QP_EX_WITH_RDMA_READ | \
		IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP | IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD)

static uint64_t supported_ops(enum ibv_qp_type type)
{
	switch (type) {
	case IBV_QPT_RC:
		return OPS_RC;
	case IBV_QPT_UC:
		return OPS_UC;
	default:
		return OPS_UD;
	}
}

static void set_functions(struct ibv_qp_ex *qpx, uint64_t ops)
{
#define SET(op, function) qpx->function = ops & IBV_QP_EX_WITH_##op ? function : NULL
	SET(SEND, wr_send);
	SET(SEND_WITH_IMM, wr_send_imm);
	SET(SEND_WITH_INV, wr_send_inv);
	SET(LOCAL_INV, wr_local_inv);
	SET(BIND_MW, wr_bind_mw);
	SET(RDMA_WRITE, wr_rdma_write);
	SET(RDMA_WRITE_WITH_IMM, wr_rdma_write_imm);
	SET(RDMA_READ, wr_rdma_read);
	SET(ATOMIC_CMP_AND_SWP, wr_atomic_cmp_swp);
	SET(ATOMIC_FETCH_AND_ADD, wr_atomic_fetch_add);
#undef SET
	qpx->wr_set_ud_addr = wr_set_ud_addr;
	qpx->wr_set_sge = wr_set_sge;
	qpx->wr_set_sge_list = wr_set_sge_list;
	qpx->wr_set_inline_data = wr_set_inline_data;
	qpx->wr_set_inline_data_list = wr_set_inline_data_list;
	qpx->wr_start = wr_start;
	qpx->wr_complete = wr_complete;
	qpx->wr_abort = wr_abort;
}

static struct wr_stage *stage_create(struct device_qp *qp, const struct ibv_qp_cap *cap)
{
	struct wr_stage *st = calloc(1, sizeof(*st));
	size_t data = MAX(cap->max_send_sge * sizeof(struct ibv_sge),
		sizeof(struct ibv_sge) + cap->max_inline_data);

	if (!st)
		return NULL;
	st->qp = qp;
	st->stride = (sizeof(struct wr_slot) + data + 7) & ~(size_t)7;
	st->max_slots = cap->max_send_wr;
	st->n_slots = MIN(SLOTS_AT_FIRST, st->max_slots);
	st->max_sge = cap->max_send_sge;
	st->max_inline = cap->max_inline_data;
	st->slots = malloc(st->n_slots * st->stride);
	if (!st->slots) {
		free(st);
		return NULL;
	}
	pthread_mutex_init(&st->lock, NULL);
	return st;
}

void qp_ex_destroy(struct device_qp *qp)
{
	if (!qp->stage)
		return;
	pthread_mutex_destroy(&qp->stage->lock);
	free(qp->stage->slots);
	free(qp->stage);
}

static struct ibv_qp *create_qp_ex(
	struct ibv_context *ctx, struct ibv_qp_init_attr_ex *init)
{
	const uint32_t known = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS |
			       IBV_QP_INIT_ATTR_CREATE_FLAGS;
	bool with_ops = init->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
	struct device_qp *qp;
	struct ibv_qp *ibqp;

	if (!(init->comp_mask & IBV_QP_INIT_ATTR_PD)) {
		errno = EINVAL;
		return NULL;
	}
	if ((init->comp_mask & ~known) ||
		(init->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS && init->create_flags) ||
		(with_ops && init->send_ops_flags & ~supported_ops(init->qp_type))) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	/* It begins as the plain one does; libibverbs relies on that as well. */
	ibqp = object_ops.create_qp(init->pd, (struct ibv_qp_init_attr *)init);
	if (!ibqp || !with_ops)
		return ibqp;
	qp = container_of(ibqp, struct device_qp, vqp.qp);
	qp->stage = stage_create(qp, &init->cap);
	if (!qp->stage) {
		object_ops.destroy_qp(ibqp);
		errno = ENOMEM;
		return NULL;
	}
	set_functions(&qp->vqp.qp_ex, init->send_ops_flags);
	qp->vqp.comp_mask |= VERBS_QP_EX;
	return ibqp;
}

const struct verbs_context_ops qp_ex_ops = {
	.create_qp_ex = create_qp_ex,
};
