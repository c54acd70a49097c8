/* SPDX-License-Identifier: BSD-3-Clause */
#include "verbs_input.h"

#include <string.h>

int input_attr(struct input *in, const uint8_t gid[16], uint32_t dest_qpn,
	struct ibv_qp_attr *attr)
{
	int mask = (int)in_u32(in);

	*attr = (struct ibv_qp_attr){
		.qp_state = (enum ibv_qp_state)in_u8(in),
		.cur_qp_state = (enum ibv_qp_state)in_u8(in),
		.qp_access_flags = in_u8(in),
		.path_mtu = (enum ibv_mtu)in_u8(in),
		.dest_qp_num = in_u8(in) ? dest_qpn : in_u32(in),
		.rq_psn = in_u32(in),
		.sq_psn = in_u32(in),
		.qkey = in_u8(in),
		.port_num = in_u8(in),
		.pkey_index = in_u8(in),
		.max_rd_atomic = in_u8(in),
		.max_dest_rd_atomic = in_u8(in),
		.min_rnr_timer = in_u8(in),
		.timeout = in_u8(in),
		.retry_cnt = in_u8(in),
		.rnr_retry = in_u8(in),
		.en_sqd_async_notify = in_u8(in),
		.ah_attr = {.is_global = in_u8(in), .port_num = 1},
	};
	memcpy(attr->ah_attr.grh.dgid.raw, gid, 16);
	attr->ah_attr.grh.dgid.raw[15] ^= in_u8(in);
	attr->ah_attr.grh.sgid_index = in_u8(in);
	return mask;
}

int input_step(struct input *in, enum ibv_qp_type type, enum ibv_qp_state next,
	const uint8_t gid[16], uint32_t dest_qpn, struct ibv_qp_attr *attr)
{
	const int init = IBV_QP_PKEY_INDEX | IBV_QP_PORT;
	const int rtr = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	uint8_t shape = in_u8(in);

	*attr = (struct ibv_qp_attr){
		.qp_state = next,
		.qkey = 1,
		.port_num = 1,
		.qp_access_flags = shape & 1 ? 0 : 0xf,
		.path_mtu = shape & 2 ? IBV_MTU_256 : IBV_MTU_1024,
		.dest_qp_num = dest_qpn,
		.rq_psn = shape & 4 ? 0xfffffe : 5,
		.sq_psn = shape & 4 ? 0xfffffe : 5,
		.max_rd_atomic = shape & 8 ? 1 : 16,
		.max_dest_rd_atomic = shape & 8 ? 1 : 16,
		.min_rnr_timer = 1,
		.timeout = shape & 16 ? 0 : 1,
		.retry_cnt = shape >> 5,
		.rnr_retry = shape >> 5,
		.ah_attr = {.is_global = 1, .port_num = 1},
	};
	memcpy(attr->ah_attr.grh.dgid.raw, gid, 16);
	switch (next) {
	case IBV_QPS_INIT:
		return IBV_QP_STATE | init |
		       (type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS);
	case IBV_QPS_RTR:
		if (type == IBV_QPT_UD)
			return IBV_QP_STATE;
		return IBV_QP_STATE | rtr |
		       (type == IBV_QPT_RC
				       ? IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER
				       : 0);
	default:
		return IBV_QP_STATE | IBV_QP_SQ_PSN |
		       (type == IBV_QPT_RC ? IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
						     IBV_QP_RNR_RETRY |
						     IBV_QP_MAX_QP_RD_ATOMIC
					   : 0);
	}
}

/* A length: small, of some packets, or any */
static uint32_t some_length(struct input *in)
{
	uint8_t kind = in_u8(in);

	if (kind < 0xa0)
		return kind;
	return kind < 0xfc ? in_u16(in) : in_u32(in);
}

static void some_sge(
	struct input *in, const struct input_memory *mem, struct ibv_sge *sge)
{
	uint8_t key = in_u8(in);

	sge->length = some_length(in);
	sge->addr = (uintptr_t)mem->buf + in_u16(in) % mem->size;
	sge->lkey = key < 0xf0 ? mem->lkey[key % IN_KEYS_MAX] : in_u32(in);
	if (key & 8) /* its beginning: most lengths fit then */
		sge->addr = (uintptr_t)mem->buf;
}

static int some_sges(
	struct input *in, const struct input_memory *mem, struct ibv_sge *sge)
{
	int n = in_u8(in) % (IN_SGE_MAX + 2) - 1; /* -1 too */

	for (int i = 0; i < n; i++)
		some_sge(in, mem, &sge[i]);
	return n;
}

static void some_binding(struct input *in, const struct input_memory *mem, uint8_t pick,
	struct ibv_send_wr *wr)
{
	struct ibv_mw *mw = mem->mw[pick % IN_MWS_MAX];

	wr->bind_mw.mw = mw;
	wr->bind_mw.rkey = mw ? ibv_inc_rkey(mw->rkey) : 0;
	wr->bind_mw.bind_info = (struct ibv_mw_bind_info){
		.mr = mem->mr[(pick >> 1) % IN_MRS_MAX],
		.addr = (uintptr_t)mem->buf + (pick & 0x80 ? in_u16(in) : 0),
		.length = some_length(in),
		.mw_access_flags = pick & 0x40 ? in_u8(in) : 0xe,
	};
}

void input_send_wr(struct input *in, const struct input_memory *mem, struct ibv_sge *sge,
	struct ibv_send_wr *wr)
{
	uint8_t opcode = in_u8(in), aim = in_u8(in);
	uint64_t va = mem->remote + (aim & 7) * 8;
	uint32_t rkey = aim < 0xf0 ? mem->rkey[(aim >> 3) % IN_KEYS_MAX] : in_u32(in);

	if (aim >= 0xf8)
		va += (int32_t)in_u32(in);
	*wr = (struct ibv_send_wr){
		.sg_list = sge,
		.num_sge = some_sges(in, mem, sge),
		.opcode =
			(enum ibv_wr_opcode)(opcode < 0xc0 ? opcode % 10 : opcode - 0xc0),
		.send_flags = in_u8(in),
		.imm_data = opcode,
	};
	switch (wr->opcode) {
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		wr->wr.atomic.remote_addr = va;
		wr->wr.atomic.rkey = rkey;
		wr->wr.atomic.compare_add = in_u8(in);
		wr->wr.atomic.swap = in_u8(in);
		if (wr->num_sge > 0 && aim & 0x80)
			sge[0].length = 8;
		break;
	case IBV_WR_BIND_MW:
		some_binding(in, mem, aim, wr);
		break;
	case IBV_WR_LOCAL_INV:
		wr->invalidate_rkey = mem->lkey[aim % IN_KEYS_MAX];
		break;
	case IBV_WR_SEND_WITH_INV:
		wr->invalidate_rkey = rkey;
		break;
	default:
		wr->wr.rdma.remote_addr = va;
		wr->wr.rdma.rkey = rkey;
	}
}

void input_recv_wr(struct input *in, const struct input_memory *mem, struct ibv_sge *sge,
	struct ibv_recv_wr *wr)
{
	*wr = (struct ibv_recv_wr){.sg_list = sge, .num_sge = some_sges(in, mem, sge)};
}
