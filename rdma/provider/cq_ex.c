/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The extended polling API (ibv_create_cq_ex(3)): a completion at a time, field by field.
 * From start_poll to end_poll the caller holds the queue's lock.
 */
#include "provider_priv.h"

#include "lib/util.h"

#include <errno.h>

static struct device_cq *to_cq(struct ibv_cq_ex *ibcq)
{
	return container_of(ibcq, struct device_cq, vcq.cq_ex);
}

static int take_next(struct device_cq *cq)
{
	if (!cq_poll(cq->cq, 1, &cq->wc))
		return ENOENT;
	cq->vcq.cq_ex.status = cq->wc.status;
	cq->vcq.cq_ex.wr_id = cq->wc.wr_id;
	return 0;
}

static int start_poll(struct ibv_cq_ex *ibcq, struct ibv_poll_cq_attr *attr)
{
	struct device_cq *cq = to_cq(ibcq);
	int rc;

	if (attr->comp_mask)
		return EINVAL;
	cq_lock(cq->cq);
	rc = take_next(cq);
	if (rc) {
		progress_for(to_device(ibcq->context), cq->cq);
		rc = take_next(cq);
	}
	if (rc) /* nothing is there, so end_poll won't be called */
		cq_unlock(cq->cq);
	return rc;
}

static int next_poll(struct ibv_cq_ex *ibcq)
{
	return take_next(to_cq(ibcq));
}

static void end_poll(struct ibv_cq_ex *ibcq)
{
	cq_unlock(to_cq(ibcq)->cq);
}

/* Fields. */

static enum ibv_wc_opcode read_opcode(struct ibv_cq_ex *ibcq)
{
	return to_cq(ibcq)->wc.opcode;
}

static uint32_t read_vendor_err(struct ibv_cq_ex *ibcq)
{
	return to_cq(ibcq)->wc.vendor_err;
}

static uint32_t read_byte_len(struct ibv_cq_ex *ibcq)
{
	return to_cq(ibcq)->wc.byte_len;
}

/* Also the key of a SEND with invalidate: it is the same word. */
static __be32 read_imm_data(struct ibv_cq_ex *ibcq)
{
	return to_cq(ibcq)->wc.imm_data;
}

static uint32_t read_qp_num(struct ibv_cq_ex *ibcq)
{
	return to_cq(ibcq)->wc.qp_num;
}

static uint32_t read_src_qp(struct ibv_cq_ex *ibcq)
{
	return to_cq(ibcq)->wc.src_qp;
}

static unsigned int read_wc_flags(struct ibv_cq_ex *ibcq)
{
	return to_cq(ibcq)->wc.wc_flags;
}

static uint32_t read_slid(struct ibv_cq_ex *ibcq)
{
	return to_cq(ibcq)->wc.slid;
}

static uint8_t read_sl(struct ibv_cq_ex *ibcq)
{
	return to_cq(ibcq)->wc.sl;
}

static uint8_t read_dlid_path_bits(struct ibv_cq_ex *ibcq)
{
	return to_cq(ibcq)->wc.dlid_path_bits;
}

static void set_functions(struct ibv_cq_ex *cq)
{
	cq->start_poll = start_poll;
	cq->next_poll = next_poll;
	cq->end_poll = end_poll;
	cq->read_opcode = read_opcode;
	cq->read_vendor_err = read_vendor_err;
	cq->read_byte_len = read_byte_len;
	cq->read_imm_data = read_imm_data;
	cq->read_qp_num = read_qp_num;
	cq->read_src_qp = read_src_qp;
	cq->read_wc_flags = read_wc_flags;
	cq->read_slid = read_slid;
	cq->read_sl = read_sl;
	cq->read_dlid_path_bits = read_dlid_path_bits;
}

static struct ibv_cq_ex *create_cq_ex(
	struct ibv_context *ctx, struct ibv_cq_init_attr_ex *init)
{
	uint32_t flags = init->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS ? init->flags : 0;
	struct ibv_cq *ibcq;
	struct ibv_cq_ex *cq;

	/* No time stamps, and no parent domains as there are no thread domains. One
	 * thread alone takes the lock as well: nobody else wants it, so it costs little.
	 */
	if (init->wc_flags & ~(uint64_t)IBV_WC_STANDARD_FLAGS ||
		init->comp_mask & ~IBV_CQ_INIT_ATTR_MASK_FLAGS ||
		flags & ~IBV_CREATE_CQ_ATTR_SINGLE_THREADED || init->cqe > CQ_DEPTH_MAX) {
		errno = init->cqe > CQ_DEPTH_MAX ? EINVAL : EOPNOTSUPP;
		return NULL;
	}
	ibcq = object_ops.create_cq(
		ctx, (int)init->cqe, init->channel, (int)init->comp_vector);
	if (!ibcq)
		return NULL;
	cq = &container_of(ibcq, struct verbs_cq, cq)->cq_ex;
	set_functions(cq);
	return cq;
}

struct ibv_cq_ex *device_create_cq_ex(
	struct ibv_context *ctx, struct ibv_cq_init_attr_ex *init)
{
	struct ibv_cq_ex *cq = create_cq_ex(ctx, init);

	if (cq)
		verbs_init_cq(ibv_cq_ex_to_cq(cq), ctx, init->channel, init->cq_context);
	return cq;
}

const struct verbs_context_ops cq_ex_ops = {
	.create_cq_ex = create_cq_ex,
};
