/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory windows: what a peer may do with their keys and what it may not, their place in
 * the send queue, and invalidation from either side. End 1 has the memory; end 0 is the
 * peer that gets keys.
 */
#include "engine_world.h"

#include "lib/util.h"
#include "rdma/engine/mw.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SIZE	     8192
#define REGION_FLAGS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND)
#define ALL_REMOTE \
	(IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)
#define OTHER_PD (WORLD_PD + 1)

struct shown {
	struct world w;
	_Alignas(8) uint8_t memory[SIZE]; /* end 1's, without any remote access */
	_Alignas(8) uint8_t peer[SIZE];	  /* end 0's */
	struct ibv_mr mr;
	uint32_t peer_key;
};

static struct mr_table *mrs(struct shown *s)
{
	return engine_mrs(s->w.end[1].engine);
}

static void open_with(struct shown *s, const struct world_config *config, int flags)
{
	memset(s, 0, sizeof(*s));
	world_open(&s->w, config);
	s->mr.lkey = world_reg(&s->w.end[1], s->memory, SIZE, flags);
	s->peer_key = world_reg(&s->w.end[0], s->peer, SIZE, IBV_ACCESS_LOCAL_WRITE);
}

static void open_default(struct shown *s)
{
	open_with(s, &world_default, REGION_FLAGS);
}

static struct ibv_mw window(struct shown *s, enum ibv_mw_type type)
{
	struct ibv_mw mw = {.type = type};

	assert_int_equal(mw_alloc(mrs(s), WORLD_PD, type, &mw.rkey), 0);
	return mw;
}

static struct ibv_send_wr bind_wr(struct shown *s, struct ibv_mw *mw, uint64_t off,
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

static struct ibv_send_wr inv_wr(enum ibv_wr_opcode opcode, uint32_t rkey)
{
	struct ibv_send_wr wr = {
		.wr_id = 2, .opcode = opcode, .send_flags = IBV_SEND_SIGNALED};

	wr.invalidate_rkey = rkey;
	return wr;
}

static void post(struct shown *s, int end, const struct ibv_send_wr *wr)
{
	assert_int_equal(qp_post_send(s->w.end[end].qp, wr, NULL), 0);
}

/* Bind by end 1's queue pair, with success. */
static void bind(struct shown *s, struct ibv_mw *mw, uint64_t off, uint64_t length,
	unsigned int access)
{
	struct ibv_send_wr wr = bind_wr(s, mw, off, length, access);
	struct ibv_wc wc;

	post(s, 1, &wr);
	world_run(&s->w, WORLD_FOREVER);
	wc = world_wc(s->w.end[1].scq);
	assert_int_equal(wc.status, IBV_WC_SUCCESS);
	assert_int_equal(wc.opcode, IBV_WC_BIND_MW);
	assert_int_equal(wc.wr_id, 1);
	mw->rkey = wr.bind_mw.rkey;
}

/* End 0 does something with a key. Return: how it ends */
static enum ibv_wc_status use(struct shown *s, enum ibv_wr_opcode opcode, uint32_t rkey,
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
	post(s, 0, &wr);
	world_run(&s->w, WORLD_FOREVER);
	return world_wc(s->w.end[0].scq).status;
}

static uint64_t at(struct shown *s, uint64_t off)
{
	return (uintptr_t)s->memory + off;
}

/* What every access through a window of 100..1100 gives, by its rights. */
static void rights_and_bounds(void **state)
{
	static const struct {
		enum ibv_wr_opcode opcode;
		int needs;
	} ops[] = {
		{IBV_WR_RDMA_WRITE, IBV_ACCESS_REMOTE_WRITE},
		{IBV_WR_RDMA_READ, IBV_ACCESS_REMOTE_READ},
		{IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_ACCESS_REMOTE_ATOMIC},
	};
	static const struct {
		uint64_t off;
		uint32_t len;
		bool inside;
	} ranges[] = {{104, 8, true}, {1088, 8, true}, {96, 8, false}, {1096, 8, false},
		{1104, 8, false}, {0, 8, false}};
	struct shown s;

	for (int rights = 0; rights <= ALL_REMOTE; rights += 2) {
		for (size_t op = 0; op < ARRAY_SIZE(ops); op++) {
			for (size_t r = 0; r < ARRAY_SIZE(ranges); r++) {
				bool ok = (rights & ops[op].needs) && ranges[r].inside;
				struct ibv_mw mw;

				open_default(&s);
				mw = window(&s, r % 2 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2);
				bind(&s, &mw, 100, 1000, (unsigned int)rights);
				assert_int_equal(
					use(&s, ops[op].opcode, mw.rkey,
						at(&s, ranges[r].off), ranges[r].len),
					ok ? IBV_WC_SUCCESS : IBV_WC_REM_ACCESS_ERR);
				assert_int_equal(qp_state(s.w.end[1].qp),
					ok ? IBV_QPS_RTS : IBV_QPS_ERR);
				world_close(&s.w);
			}
		}
	}
}

/* The data really goes to and comes from where the window shows. */
static void data_through_window(void **state)
{
	struct shown s;
	struct ibv_mw mw;

	for (int zero_based = 0; zero_based < 2; zero_based++) {
		open_default(&s);
		mw = window(&s, IBV_MW_TYPE_2);
		bind(&s, &mw, 2000, 3000,
			ALL_REMOTE | (zero_based ? IBV_ACCESS_ZERO_BASED : 0));
		memset(s.peer, 7, 3000);
		assert_int_equal(use(&s, IBV_WR_RDMA_WRITE, mw.rkey,
					 zero_based ? 0 : at(&s, 2000), 3000),
			IBV_WC_SUCCESS);
		assert_memory_equal(s.memory + 2000, s.peer, 3000);
		assert_int_equal(s.memory[1999] | s.memory[5000], 0);
		memset(s.memory + 2100, 9, 100);
		assert_int_equal(use(&s, IBV_WR_RDMA_READ, mw.rkey,
					 zero_based ? 100 : at(&s, 2100), 100),
			IBV_WC_SUCCESS);
		assert_memory_equal(s.memory + 2100, s.peer, 100);
		/* the other way of counting is out of bounds */
		assert_int_equal(use(&s, IBV_WR_RDMA_WRITE, mw.rkey,
					 zero_based ? at(&s, 2000) : 0, 8),
			IBV_WC_REM_ACCESS_ERR);
		world_close(&s.w);
	}
}

/* Keys that a peer must not get in with. */
enum bad_key {
	NEVER_BOUND,
	OLD_KEY,
	OLD_KEY_2,
	OTHER_DOMAIN,
	OTHER_QP,
	BOUND_TO_NOTHING,
	INVALIDATED,
	DEALLOCATED,
	OWNER_GONE,
	N_BAD_KEYS
};

static uint32_t make_bad_key(struct shown *s, enum bad_key which, struct mw_list *list)
{
	struct ibv_mw one = window(s, IBV_MW_TYPE_1), two = window(s, IBV_MW_TYPE_2);
	struct mw_binding b = {.addr = at(s, 0),
		.length = SIZE,
		.key = two.rkey,
		.new_key = two.rkey,
		.lkey = s->mr.lkey,
		.access = ALL_REMOTE};
	struct mw_user other = {WORLD_PD, qp_number(s->w.end[1].qp) ^ 1, list};
	struct ibv_send_wr wr;
	uint32_t old = one.rkey;

	switch (which) {
	case NEVER_BOUND:
		return two.rkey;
	case OLD_KEY:
		bind(s, &one, 0, SIZE, ALL_REMOTE);
		return old;
	case OLD_KEY_2:
		old = two.rkey;
		bind(s, &two, 0, SIZE, ALL_REMOTE);
		return old;
	case OTHER_DOMAIN:
		b.lkey = world_reg(&s->w.end[1], s->memory, SIZE, REGION_FLAGS);
		other.pd = OTHER_PD;
		assert_int_equal(mw_alloc(mrs(s), OTHER_PD, IBV_MW_TYPE_1, &b.key), 0);
		assert_int_equal(mw_bind(mrs(s), &b, &other), -EINVAL); /* its region's */
		b.length = 0;
		assert_int_equal(mw_bind(mrs(s), &b, &other), 0);
		return b.key;
	case OTHER_QP:
		assert_int_equal(mw_bind(mrs(s), &b, &other), 0);
		return b.key;
	case BOUND_TO_NOTHING:
		bind(s, &one, 0, SIZE, ALL_REMOTE);
		bind(s, &one, 0, 0, 0);
		return one.rkey;
	case INVALIDATED:
		bind(s, &two, 0, SIZE, ALL_REMOTE);
		wr = inv_wr(IBV_WR_LOCAL_INV, two.rkey);
		post(s, 1, &wr);
		world_run(&s->w, WORLD_FOREVER);
		assert_int_equal(world_wc(s->w.end[1].scq).opcode, IBV_WC_LOCAL_INV);
		return two.rkey;
	case DEALLOCATED:
		bind(s, &one, 0, SIZE, ALL_REMOTE);
		mw_dealloc(mrs(s), one.rkey);
		return one.rkey;
	default:
		assert_int_equal(mw_bind(mrs(s), &b, &other), 0);
		mw_unbind_all(list);
		return b.key;
	}
}

static void bad_keys(void **state)
{
	static const enum ibv_wr_opcode ops[] = {
		IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD};
	struct shown s;

	for (int which = 0; which < N_BAD_KEYS; which++) {
		for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
			struct mw_list list = LIST_HEAD_INITIALIZER(list);
			uint32_t key;

			open_default(&s);
			key = make_bad_key(&s, (enum bad_key)which, &list);
			assert_int_equal(use(&s, ops[i], key, at(&s, 0), 8),
				IBV_WC_REM_ACCESS_ERR);
			assert_int_equal(s.memory[0], 0);
			mw_unbind_all(&list);
			world_close(&s.w);
		}
	}
}

/* No window reaches further than its region. */
static void bad_binds(void **state)
{
	static const struct {
		int region_flags;
		enum ibv_mw_type type;
		int64_t off;
		uint64_t length;
		unsigned int access;
	} cases[] = {
		{IBV_ACCESS_LOCAL_WRITE | ALL_REMOTE, IBV_MW_TYPE_1, 0, 8, 0},
		{IBV_ACCESS_MW_BIND, IBV_MW_TYPE_1, 0, 8, IBV_ACCESS_REMOTE_WRITE},
		{IBV_ACCESS_MW_BIND, IBV_MW_TYPE_2, 0, 8, IBV_ACCESS_REMOTE_ATOMIC},
		{REGION_FLAGS, IBV_MW_TYPE_1, -1, 8, 0},
		{REGION_FLAGS, IBV_MW_TYPE_2, SIZE - 7, 8, 0},
		{REGION_FLAGS, IBV_MW_TYPE_2, SIZE + 1, 1, 0},
		{REGION_FLAGS, IBV_MW_TYPE_1, 8, UINT64_MAX, 0},
		{REGION_FLAGS, IBV_MW_TYPE_2, 8, UINT64_MAX - 7, IBV_ACCESS_ZERO_BASED},
		{REGION_FLAGS, IBV_MW_TYPE_2, 0, 0, 0}, /* type 1 only */
	};
	struct shown s;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ibv_send_wr wr;
		struct ibv_mw mw;

		open_with(&s, &world_default, cases[i].region_flags);
		mw = window(&s, cases[i].type);
		wr = bind_wr(&s, &mw, (uint64_t)cases[i].off, cases[i].length,
			cases[i].access);
		post(&s, 1, &wr);
		world_run(&s.w, WORLD_FOREVER);
		assert_int_equal(world_wc(s.w.end[1].scq).status, IBV_WC_MW_BIND_ERR);
		assert_int_equal(qp_state(s.w.end[1].qp), IBV_QPS_ERR);
		world_close(&s.w);
	}
}

/* A region without remote rights can be shown to be read, if it may be bound to. */
static void read_only_region(void **state)
{
	struct shown s;
	struct ibv_mw mw;

	open_with(&s, &world_default, IBV_ACCESS_MW_BIND);
	mw = window(&s, IBV_MW_TYPE_2);
	bind(&s, &mw, 0, SIZE, IBV_ACCESS_REMOTE_READ);
	assert_int_equal(use(&s, IBV_WR_RDMA_READ, mw.rkey, at(&s, 0), 8), 0);
	assert_int_equal(use(&s, IBV_WR_RDMA_READ, s.mr.lkey, at(&s, 0), 8),
		IBV_WC_REM_ACCESS_ERR);
	world_close(&s.w);
}

/* Requests that can't be posted at all. */
static void refused_requests(void **state)
{
	struct world_config config = world_default;
	struct shown s;
	struct ibv_send_wr wr;
	struct ibv_mw mw;

	open_default(&s);
	mw = window(&s, IBV_MW_TYPE_2);
	wr = bind_wr(&s, &mw, 0, 8, IBV_ACCESS_LOCAL_WRITE);
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	wr = bind_wr(&s, &mw, 0, 8, 0);
	wr.bind_mw.mw = NULL;
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	wr = bind_wr(&s, &mw, 0, 8, 0);
	wr.bind_mw.bind_info.mr = NULL;
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	assert_int_equal(
		mw_alloc(mrs(&s), WORLD_PD, (enum ibv_mw_type)3, &mw.rkey), -EINVAL);
	world_close(&s.w);

	config.type = IBV_QPT_UD;
	open_with(&s, &config, REGION_FLAGS);
	mw = window(&s, IBV_MW_TYPE_2);
	wr = bind_wr(&s, &mw, 0, 8, 0);
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	wr = inv_wr(IBV_WR_LOCAL_INV, mw.rkey);
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	world_close(&s.w);

	config.type = IBV_QPT_UC; /* has no opcode for it */
	open_with(&s, &config, REGION_FLAGS);
	wr = inv_wr(IBV_WR_SEND_WITH_INV, mw.rkey);
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	world_close(&s.w);
}

/* A region stays as long as a window is bound to it. */
static void region_in_use(void **state)
{
	struct shown s;
	struct ibv_mw one, two;
	struct ibv_send_wr wr;

	open_default(&s);
	one = window(&s, IBV_MW_TYPE_1);
	two = window(&s, IBV_MW_TYPE_2);
	bind(&s, &one, 0, 8, 0);
	bind(&s, &one, 8, 8, 0);
	bind(&s, &two, 0, 8, 0);
	assert_int_equal(mr_deregister(mrs(&s), s.mr.lkey), -EBUSY);
	mw_dealloc(mrs(&s), one.rkey);
	assert_int_equal(mr_deregister(mrs(&s), s.mr.lkey), -EBUSY);
	wr = inv_wr(IBV_WR_LOCAL_INV, two.rkey);
	post(&s, 1, &wr);
	world_run(&s.w, WORLD_FOREVER);
	assert_int_equal(mr_deregister(mrs(&s), s.mr.lkey), 0);
	world_close(&s.w);
}

/* A window of type 2 is free again when its queue pair is gone. */
static void queue_pair_gone(void **state)
{
	struct shown s;
	struct ibv_mw mw;

	open_default(&s);
	mw = window(&s, IBV_MW_TYPE_2);
	bind(&s, &mw, 0, SIZE, ALL_REMOTE);
	qp_destroy(world_new_qp(&s.w, 1, &world_default));
	bind(&s, &mw, 0, SIZE, ALL_REMOTE);
	assert_int_equal(mr_deregister(mrs(&s), s.mr.lkey), -EBUSY);
	world_close(&s.w);
}

/* A window's key is for peers, not for lists of pieces. */
static void not_a_local_key(void **state)
{
	struct shown s;
	struct ibv_mw mw;

	open_default(&s);
	mw = window(&s, IBV_MW_TYPE_1);
	bind(&s, &mw, 0, SIZE, ALL_REMOTE);
	assert_int_equal(world_send(&s.w.end[1], 5, s.memory, 8, mw.rkey, 0), 0);
	world_run(&s.w, WORLD_FOREVER);
	assert_int_equal(world_wc(s.w.end[1].scq).status, IBV_WC_LOC_PROT_ERR);
	world_close(&s.w);
}

/* SEND with invalidate. */

static void post_send_inv(struct shown *s, uint32_t len, uint32_t rkey)
{
	struct ibv_sge sge = {(uintptr_t)s->peer, len, s->peer_key};
	struct ibv_send_wr wr = inv_wr(IBV_WR_SEND_WITH_INV, rkey);

	wr.sg_list = &sge;
	wr.num_sge = 1;
	post(s, 0, &wr);
}

static void remote_invalidate(void **state)
{
	static const uint32_t lengths[] = {0, 1, 1024, 5000};
	struct shown s;
	struct ibv_wc wc;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct ibv_mw mw;
		uint8_t dst[SIZE] = {0};
		uint32_t key;

		open_default(&s);
		key = world_reg(&s.w.end[1], dst, SIZE, IBV_ACCESS_LOCAL_WRITE);
		mw = window(&s, IBV_MW_TYPE_2);
		bind(&s, &mw, 0, SIZE, ALL_REMOTE);
		memset(s.peer, 3, SIZE);
		assert_int_equal(world_recv(&s.w.end[1], 9, dst, SIZE, key), 0);
		post_send_inv(&s, lengths[i], mw.rkey);
		world_run(&s.w, WORLD_FOREVER);
		wc = world_wc(s.w.end[0].scq);
		assert_int_equal(wc.status, IBV_WC_SUCCESS);
		assert_int_equal(wc.opcode, IBV_WC_SEND);
		wc = world_wc(s.w.end[1].rcq);
		assert_int_equal(wc.status, IBV_WC_SUCCESS);
		assert_int_equal(wc.opcode, IBV_WC_RECV);
		assert_int_equal(wc.wc_flags, IBV_WC_WITH_INV);
		assert_int_equal(wc.invalidated_rkey, mw.rkey);
		assert_int_equal(wc.byte_len, lengths[i]);
		assert_memory_equal(dst, s.peer, lengths[i]);
		/* free to be bound again; the old key no longer lets in */
		bind(&s, &mw, 0, SIZE, ALL_REMOTE);
		assert_int_equal(use(&s, IBV_WR_RDMA_WRITE, mw.rkey, at(&s, 0), 8), 0);
		assert_int_equal(use(&s, IBV_WR_RDMA_WRITE, mw.rkey - 1, at(&s, 0), 8),
			IBV_WC_REM_ACCESS_ERR);
		world_close(&s.w);
	}
}

/* What can't be invalidated by this peer ends the connection, and is not. */
static void remote_invalidate_refused(void **state)
{
	struct shown s;

	for (int which = 0; which < N_BAD_KEYS + 2; which++) {
		struct mw_list list = LIST_HEAD_INITIALIZER(list);
		struct ibv_mw one;
		uint32_t key;

		open_default(&s);
		if (which < N_BAD_KEYS) {
			key = make_bad_key(&s, (enum bad_key)which, &list);
		} else if (which == N_BAD_KEYS) {
			key = s.mr.lkey;
		} else {
			one = window(&s, IBV_MW_TYPE_1);
			bind(&s, &one, 0, SIZE, ALL_REMOTE);
			key = one.rkey;
		}
		for (uint64_t id = 0; id < 2; id++)
			world_recv(&s.w.end[1], id, s.memory, SIZE, s.mr.lkey);
		post_send_inv(&s, 8, key);
		world_run(&s.w, WORLD_FOREVER);
		assert_int_equal(world_wc(s.w.end[0].scq).status, IBV_WC_REM_ACCESS_ERR);
		assert_int_equal(world_wc(s.w.end[1].rcq).status, IBV_WC_REM_INV_REQ_ERR);
		assert_int_equal(world_wc(s.w.end[1].rcq).status, IBV_WC_WR_FLUSH_ERR);
		assert_int_equal(qp_state(s.w.end[1].qp), IBV_QPS_ERR);
		assert_int_equal(LIST_EMPTY(&list), which != OTHER_QP);
		mw_unbind_all(&list);
		world_close(&s.w);
	}
}

/* Places in the send queue. */

static void post_signaled_send(struct shown *s, int end, uint64_t id)
{
	assert_int_equal(world_send(&s->w.end[end], id, end ? s->memory : s->peer, 8,
				 end ? s->mr.lkey : s->peer_key, IBV_SEND_SIGNALED),
		0);
}

static void expect(struct shown *s, uint64_t id, enum ibv_wc_status status)
{
	struct ibv_wc wc = world_wc(s->w.end[1].scq);

	assert_int_equal(wc.wr_id, id);
	assert_int_equal(wc.status, status);
}

static void take_receives(struct shown *s)
{
	for (int i = 0; i < 8; i++)
		world_recv(&s->w.end[0], 0, s->peer, SIZE, s->peer_key);
}

/* A bind that fails does so in its turn: what is before it completes, what is behind it
 * does not begin.
 */
static void error_in_order(void **state)
{
	struct shown s;
	struct ibv_send_wr wr;
	struct ibv_mw mw;

	open_default(&s);
	take_receives(&s);
	mw = window(&s, IBV_MW_TYPE_1);
	post_signaled_send(&s, 1, 10);
	wr = bind_wr(&s, &mw, SIZE, 1, 0);
	post(&s, 1, &wr);
	post_signaled_send(&s, 1, 11);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 10, IBV_WC_SUCCESS);
	expect(&s, 1, IBV_WC_MW_BIND_ERR);
	expect(&s, 11, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(engine_stats(s.w.end[1].engine)->tx_send_messages, 1);
	/* nor afterwards */
	wr = bind_wr(&s, &mw, 0, 1, 0);
	post(&s, 1, &wr);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 1, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(engine_stats(s.w.end[1].engine)->mw_binds, 0);
	world_close(&s.w);
}

/* As many windows as the device says, and regions beside them. */
static void limits(void **state)
{
	struct mr_table *t;
	struct mr mr = {.pd = WORLD_PD, .length = 1};
	uint32_t *keys = calloc(MW_MAX, sizeof(*keys)), key;

	assert_non_null(keys);
	assert_int_equal(mr_table_create(&t), 0);
	for (uint32_t i = 0; i < MW_MAX; i++)
		assert_int_equal(mw_alloc(t, WORLD_PD, IBV_MW_TYPE_2, &keys[i]), 0);
	assert_int_equal(mw_alloc(t, WORLD_PD, IBV_MW_TYPE_2, &key), -ENOMEM);
	assert_int_equal(mr_register(t, &mr, &key), 0);
	for (uint32_t i = 0; i < MW_MAX; i++)
		mw_dealloc(t, keys[i]);
	assert_int_equal(mw_alloc(t, WORLD_PD, IBV_MW_TYPE_2, &key), 0);
	mr_table_destroy(t);
	free(keys);
}

/* While nothing gets through: a bind is done although what is before it is not complete,
 * but waits for a READ with the fence; an invalidation waits for anything. All complete
 * in order once the wire is whole.
 */
static void fences(void **state)
{
	struct shown s;
	struct ibv_send_wr wr;
	struct ibv_mw a, b;
	struct ibv_sge sge = {0};
	const struct engine_stats *stats;
	uint32_t rkey;

	if (world_direct) /* there is no wire to be cut */
		return;
	open_default(&s);
	take_receives(&s);
	stats = engine_stats(s.w.end[1].engine);
	sge = (struct ibv_sge){(uintptr_t)s.memory, 8, s.mr.lkey};
	rkey = world_reg(&s.w.end[0], s.peer, SIZE, IBV_ACCESS_REMOTE_READ);
	a = window(&s, IBV_MW_TYPE_2);
	b = window(&s, IBV_MW_TYPE_1);
	link_mem_set_filter(s.w.end[0].link, world_drop_all, NULL);

	post_signaled_send(&s, 1, 10);
	wr = bind_wr(&s, &a, 0, 8, 0);
	wr.wr_id = 11;
	post(&s, 1, &wr);
	wr = (struct ibv_send_wr){.wr_id = 12,
		.opcode = IBV_WR_RDMA_READ,
		.sg_list = &sge,
		.num_sge = 1,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = {(uintptr_t)s.peer, rkey}};
	post(&s, 1, &wr);
	wr = bind_wr(&s, &b, 0, 8, 0);
	wr.wr_id = 13;
	wr.send_flags |= IBV_SEND_FENCE;
	post(&s, 1, &wr);
	world_run(&s.w, s.w.now + 100000);
	assert_int_equal(stats->mw_binds, 1);
	assert_true(cq_is_empty(s.w.end[1].scq));

	link_mem_set_filter(s.w.end[0].link, NULL, NULL);
	world_run(&s.w, WORLD_FOREVER);
	assert_int_equal(stats->mw_binds, 2);
	for (uint64_t id = 10; id <= 13; id++)
		expect(&s, id, IBV_WC_SUCCESS);

	link_mem_set_filter(s.w.end[0].link, world_drop_all, NULL);
	post_signaled_send(&s, 1, 10);
	wr = inv_wr(IBV_WR_LOCAL_INV, ibv_inc_rkey(a.rkey));
	wr.wr_id = 11;
	post(&s, 1, &wr);
	post_signaled_send(&s, 1, 12);
	world_run(&s.w, s.w.now + 100000);
	assert_int_equal(stats->mw_invalidates, 0);
	link_mem_set_filter(s.w.end[0].link, NULL, NULL);
	world_run(&s.w, WORLD_FOREVER);
	assert_int_equal(stats->mw_invalidates, 1);
	for (uint64_t id = 10; id <= 12; id++)
		expect(&s, id, IBV_WC_SUCCESS);
	world_close(&s.w);
}

/* Nothing that comes later tells that a bind is complete whose READ before it is. */
static void bind_behind_read(void **state)
{
	struct shown s;
	struct ibv_mw mw;
	struct ibv_sge sge;
	struct ibv_send_wr read = {.wr_id = 10,
				   .opcode = IBV_WR_RDMA_READ,
				   .sg_list = &sge,
				   .num_sge = 1,
				   .send_flags = IBV_SEND_SIGNALED},
			   wr;

	open_default(&s);
	sge = (struct ibv_sge){(uintptr_t)s.memory, 8, s.mr.lkey};
	read.wr.rdma.remote_addr = (uintptr_t)s.peer;
	read.wr.rdma.rkey = world_reg(&s.w.end[0], s.peer, SIZE, IBV_ACCESS_REMOTE_READ);
	mw = window(&s, IBV_MW_TYPE_2);
	wr = bind_wr(&s, &mw, 0, SIZE, ALL_REMOTE);
	post(&s, 1, &read);
	post(&s, 1, &wr);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 10, IBV_WC_SUCCESS);
	expect(&s, 1, IBV_WC_SUCCESS);
	world_close(&s.w);
}

/* In SQD a bind does not begin. */
static void drained(void **state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_SQD};
	struct shown s;
	struct ibv_send_wr wr;
	struct ibv_mw mw;

	open_default(&s);
	mw = window(&s, IBV_MW_TYPE_1);
	wr = bind_wr(&s, &mw, 0, 8, 0);
	assert_int_equal(qp_modify(s.w.end[1].qp, &attr, IBV_QP_STATE), 0);
	post(&s, 1, &wr);
	world_run(&s.w, WORLD_FOREVER);
	assert_true(cq_is_empty(s.w.end[1].scq));
	attr.qp_state = IBV_QPS_RTS;
	assert_int_equal(qp_modify(s.w.end[1].qp, &attr, IBV_QP_STATE), 0);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 1, IBV_WC_SUCCESS);
	world_close(&s.w);
}

/* Over a wire that loses packets: bind, tell the peer, be written to and be invalidated;
 * each is done once, whatever is sent again.
 */
static void life_over_a_bad_wire(void **state)
{
	struct world_config config = world_default;
	struct shown s;
	struct ibv_mw mw;
	const int rounds = 200;

	config.timeout = 8;
	config.script = (struct link_mem_script){.seed = 5,
		.loss_ppm = 50000,
		.reorder_ppm = 30000,
		.duplicate_ppm = 30000};
	open_with(&s, &config, REGION_FLAGS);
	mw = window(&s, IBV_MW_TYPE_2);
	for (int i = 0; i < rounds; i++) {
		struct ibv_send_wr wr = bind_wr(&s, &mw, 0, SIZE, ALL_REMOTE);

		for (int k = 0; k < 2; k++)
			world_recv(
				&s.w.end[0], 0, s.peer + SIZE / 2, SIZE / 2, s.peer_key);
		world_recv(&s.w.end[1], 0, s.memory + SIZE / 2, SIZE / 2, s.mr.lkey);
		post_signaled_send(&s, 1, 0);
		post(&s, 1, &wr);
		mw.rkey = wr.bind_mw.rkey;
		post_signaled_send(&s, 1, 2);
		world_run(&s.w, WORLD_FOREVER);
		expect(&s, 0, IBV_WC_SUCCESS);
		expect(&s, 1, IBV_WC_SUCCESS);
		expect(&s, 2, IBV_WC_SUCCESS);
		assert_int_equal(use(&s, IBV_WR_RDMA_WRITE, mw.rkey, at(&s, 0), 3000), 0);
		post_send_inv(&s, 2000, mw.rkey);
		world_run(&s.w, WORLD_FOREVER);
		assert_int_equal(world_wc(s.w.end[0].scq).status, IBV_WC_SUCCESS);
		assert_int_equal(world_wc(s.w.end[1].rcq).invalidated_rkey, mw.rkey);
		for (int k = 0; k < 2; k++)
			world_wc(s.w.end[0].rcq);
	}
	assert_int_equal(engine_stats(s.w.end[1].engine)->mw_binds, rounds);
	assert_int_equal(engine_stats(s.w.end[1].engine)->rx_invalidates, rounds);
	/* with one engine, the peer's are among them */
	assert_int_equal(engine_stats(s.w.end[1].engine)->tx_send_messages,
		(world_direct ? 3 : 2) * rounds);
	world_close(&s.w);
}

/* UC binds and invalidates as well. */
static void unreliable(void **state)
{
	struct world_config config = world_default;
	struct shown s;
	struct ibv_send_wr wr;
	struct ibv_mw mw;

	config.type = IBV_QPT_UC;
	open_with(&s, &config, REGION_FLAGS);
	mw = window(&s, IBV_MW_TYPE_2);
	post_signaled_send(&s, 1, 10);
	wr = bind_wr(&s, &mw, 0, SIZE, ALL_REMOTE);
	post(&s, 1, &wr);
	post_signaled_send(&s, 1, 11);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 10, IBV_WC_SUCCESS);
	expect(&s, 1, IBV_WC_SUCCESS);
	expect(&s, 11, IBV_WC_SUCCESS);
	mw.rkey = wr.bind_mw.rkey;
	s.peer[0] = 77;
	assert_int_equal(use(&s, IBV_WR_RDMA_WRITE, mw.rkey, at(&s, 0), 1), 0);
	assert_int_equal(s.memory[0], 77);
	post_signaled_send(&s, 1, 10);
	wr = inv_wr(IBV_WR_LOCAL_INV, mw.rkey);
	post(&s, 1, &wr);
	world_run(&s.w, WORLD_FOREVER);
	expect(&s, 10, IBV_WC_SUCCESS);
	expect(&s, 2, IBV_WC_SUCCESS);
	s.peer[0] = 78;
	assert_int_equal(use(&s, IBV_WR_RDMA_WRITE, mw.rkey, at(&s, 0), 1), 0);
	assert_int_equal(s.memory[0], 77);
	world_close(&s.w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rights_and_bounds),
		cmocka_unit_test(data_through_window),
		cmocka_unit_test(bad_keys),
		cmocka_unit_test(bad_binds),
		cmocka_unit_test(read_only_region),
		cmocka_unit_test(refused_requests),
		cmocka_unit_test(region_in_use),
		cmocka_unit_test(queue_pair_gone),
		cmocka_unit_test(not_a_local_key),
		cmocka_unit_test(remote_invalidate),
		cmocka_unit_test(remote_invalidate_refused),
		cmocka_unit_test(error_in_order),
		cmocka_unit_test(limits),
		cmocka_unit_test(fences),
		cmocka_unit_test(bind_behind_read),
		cmocka_unit_test(drained),
		cmocka_unit_test(life_over_a_bad_wire),
		cmocka_unit_test(unreliable),
	};

	world_main_args(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
