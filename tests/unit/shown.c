/* SPDX-License-Identifier: BSD-3-Clause */
#include "shown.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

struct mr_table *shown_mrs(struct shown *s)
{
	return engine_mrs(s->w.end[1].engine);
}

void shown_open_with(struct shown *s, const struct world_config *config, int flags)
{
	memset(s, 0, sizeof(*s));
	world_open(&s->w, config);
	s->mr.lkey = world_reg(&s->w.end[1], s->memory, SIZE, flags);
	s->peer_key = world_reg(&s->w.end[0], s->peer, SIZE, IBV_ACCESS_LOCAL_WRITE);
}

void shown_open(struct shown *s)
{
	shown_open_with(s, &world_default, REGION_FLAGS);
}

struct ibv_mw shown_window(struct shown *s, enum ibv_mw_type type)
{
	struct ibv_mw mw = {.type = type};

	assert_int_equal(mw_alloc(shown_mrs(s), WORLD_PD, type, &mw.rkey), 0);
	return mw;
}

struct ibv_send_wr shown_bind_wr(struct shown *s, struct ibv_mw *mw, uint64_t off,
	uint64_t length, unsigned int access)
{
	struct ibv_send_wr wr = {
		.wr_id = 1,
		.opcode = IBV_WR_BIND_MW,
		.send_flags = IBV_SEND_SIGNALED,
	};

	wr.bind_mw.mw = mw;
	wr.bind_mw.rkey = ibv_inc_rkey(mw->rkey);
	wr.bind_mw.bind_info = (struct ibv_mw_bind_info){
		.mr = &s->mr,
		.addr = (uintptr_t)s->memory + off,
		.length = length,
		.mw_access_flags = access,
	};
	return wr;
}

struct ibv_send_wr shown_inv_wr(enum ibv_wr_opcode opcode, uint32_t rkey)
{
	struct ibv_send_wr wr = {
		.wr_id = 2, .opcode = opcode, .send_flags = IBV_SEND_SIGNALED};

	wr.invalidate_rkey = rkey;
	return wr;
}

void shown_post(struct shown *s, int end, const struct ibv_send_wr *wr)
{
	assert_int_equal(qp_post_send(s->w.end[end].qp, wr, NULL), 0);
}

void shown_bind(struct shown *s, struct ibv_mw *mw, uint64_t off, uint64_t length,
	unsigned int access)
{
	struct ibv_send_wr wr = shown_bind_wr(s, mw, off, length, access);
	struct ibv_wc wc;

	shown_post(s, 1, &wr);
	world_run(&s->w, WORLD_FOREVER);
	wc = world_wc(s->w.end[1].scq);
	assert_int_equal(wc.status, IBV_WC_SUCCESS);
	assert_int_equal(wc.opcode, IBV_WC_BIND_MW);
	assert_int_equal(wc.wr_id, 1);
	mw->rkey = wr.bind_mw.rkey;
}

enum ibv_wc_status shown_use(struct shown *s, enum ibv_wr_opcode opcode, uint32_t rkey,
	uint64_t va, uint32_t len)
{
	struct ibv_sge sge = {(uintptr_t)s->peer, len, s->peer_key};
	struct ibv_send_wr wr = {
		.opcode = opcode,
		.send_flags = IBV_SEND_SIGNALED,
		.sg_list = &sge,
		.num_sge = 1,
	};

	if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = va;
		wr.wr.atomic.compare_add = 1;
		wr.wr.atomic.rkey = rkey;
	} else {
		wr.wr.rdma.remote_addr = va;
		wr.wr.rdma.rkey = rkey;
	}
	shown_post(s, 0, &wr);
	world_run(&s->w, WORLD_FOREVER);
	return world_wc(s->w.end[0].scq).status;
}

uint64_t shown_at(struct shown *s, uint64_t off)
{
	return (uintptr_t)s->memory + off;
}

void shown_send_inv(struct shown *s, uint32_t len, uint32_t rkey)
{
	struct ibv_sge sge = {(uintptr_t)s->peer, len, s->peer_key};
	struct ibv_send_wr wr = shown_inv_wr(IBV_WR_SEND_WITH_INV, rkey);

	wr.sg_list = &sge;
	wr.num_sge = 1;
	shown_post(s, 0, &wr);
}
