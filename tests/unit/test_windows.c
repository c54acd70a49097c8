/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory windows: what a peer may do with their keys and what it may not, what can be
 * bound, what is refused, and invalidation by the peer.
 */
#include "shown.h"

#include "lib/util.h"
#include "rdma/engine/mw.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define OTHER_PD (WORLD_PD + 1)

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

				shown_open(&s);
				mw = shown_window(
					&s, r % 2 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2);
				shown_bind(&s, &mw, 100, 1000, (unsigned int)rights);
				assert_int_equal(shown_use(&s, ops[op].opcode, mw.rkey,
							 shown_at(&s, ranges[r].off),
							 ranges[r].len),
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
		shown_open(&s);
		mw = shown_window(&s, IBV_MW_TYPE_2);
		shown_bind(&s, &mw, 2000, 3000,
			ALL_REMOTE | (zero_based ? IBV_ACCESS_ZERO_BASED : 0));
		memset(s.peer, 7, 3000);
		assert_int_equal(shown_use(&s, IBV_WR_RDMA_WRITE, mw.rkey,
					 zero_based ? 0 : shown_at(&s, 2000), 3000),
			IBV_WC_SUCCESS);
		assert_memory_equal(s.memory + 2000, s.peer, 3000);
		assert_int_equal(s.memory[1999] | s.memory[5000], 0);
		memset(s.memory + 2100, 9, 100);
		assert_int_equal(shown_use(&s, IBV_WR_RDMA_READ, mw.rkey,
					 zero_based ? 100 : shown_at(&s, 2100), 100),
			IBV_WC_SUCCESS);
		assert_memory_equal(s.memory + 2100, s.peer, 100);
		/* the other way of counting is out of bounds */
		assert_int_equal(shown_use(&s, IBV_WR_RDMA_WRITE, mw.rkey,
					 zero_based ? shown_at(&s, 2000) : 0, 8),
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
	struct ibv_mw one = shown_window(s, IBV_MW_TYPE_1),
		      two = shown_window(s, IBV_MW_TYPE_2);
	struct mw_binding b = {.addr = shown_at(s, 0),
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
		shown_bind(s, &one, 0, SIZE, ALL_REMOTE);
		return old;
	case OLD_KEY_2:
		old = two.rkey;
		shown_bind(s, &two, 0, SIZE, ALL_REMOTE);
		return old;
	case OTHER_DOMAIN:
		b.lkey = world_reg(&s->w.end[1], s->memory, SIZE, REGION_FLAGS);
		other.pd = OTHER_PD;
		assert_int_equal(
			mw_alloc(shown_mrs(s), OTHER_PD, IBV_MW_TYPE_1, &b.key), 0);
		assert_int_equal(
			mw_bind(shown_mrs(s), &b, &other), -EINVAL); /* its region's */
		b.length = 0;
		assert_int_equal(mw_bind(shown_mrs(s), &b, &other), 0);
		return b.key;
	case OTHER_QP:
		assert_int_equal(mw_bind(shown_mrs(s), &b, &other), 0);
		return b.key;
	case BOUND_TO_NOTHING:
		shown_bind(s, &one, 0, SIZE, ALL_REMOTE);
		shown_bind(s, &one, 0, 0, 0);
		return one.rkey;
	case INVALIDATED:
		shown_bind(s, &two, 0, SIZE, ALL_REMOTE);
		wr = shown_inv_wr(IBV_WR_LOCAL_INV, two.rkey);
		shown_post(s, 1, &wr);
		world_run(&s->w, WORLD_FOREVER);
		assert_int_equal(world_wc(s->w.end[1].scq).opcode, IBV_WC_LOCAL_INV);
		return two.rkey;
	case DEALLOCATED:
		shown_bind(s, &one, 0, SIZE, ALL_REMOTE);
		mw_dealloc(shown_mrs(s), one.rkey);
		return one.rkey;
	default:
		assert_int_equal(mw_bind(shown_mrs(s), &b, &other), 0);
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

			shown_open(&s);
			key = make_bad_key(&s, (enum bad_key)which, &list);
			assert_int_equal(shown_use(&s, ops[i], key, shown_at(&s, 0), 8),
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

		shown_open_with(&s, &world_default, cases[i].region_flags);
		mw = shown_window(&s, cases[i].type);
		wr = shown_bind_wr(&s, &mw, (uint64_t)cases[i].off, cases[i].length,
			cases[i].access);
		shown_post(&s, 1, &wr);
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

	shown_open_with(&s, &world_default, IBV_ACCESS_MW_BIND);
	mw = shown_window(&s, IBV_MW_TYPE_2);
	shown_bind(&s, &mw, 0, SIZE, IBV_ACCESS_REMOTE_READ);
	assert_int_equal(shown_use(&s, IBV_WR_RDMA_READ, mw.rkey, shown_at(&s, 0), 8), 0);
	assert_int_equal(shown_use(&s, IBV_WR_RDMA_READ, s.mr.lkey, shown_at(&s, 0), 8),
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

	shown_open(&s);
	mw = shown_window(&s, IBV_MW_TYPE_2);
	wr = shown_bind_wr(&s, &mw, 0, 8, IBV_ACCESS_LOCAL_WRITE);
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	wr = shown_bind_wr(&s, &mw, 0, 8, 0);
	wr.bind_mw.mw = NULL;
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	wr = shown_bind_wr(&s, &mw, 0, 8, 0);
	wr.bind_mw.bind_info.mr = NULL;
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	assert_int_equal(mw_alloc(shown_mrs(&s), WORLD_PD, (enum ibv_mw_type)3, &mw.rkey),
		-EINVAL);
	world_close(&s.w);

	config.type = IBV_QPT_UD;
	shown_open_with(&s, &config, REGION_FLAGS);
	mw = shown_window(&s, IBV_MW_TYPE_2);
	wr = shown_bind_wr(&s, &mw, 0, 8, 0);
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	wr = shown_inv_wr(IBV_WR_LOCAL_INV, mw.rkey);
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	world_close(&s.w);

	config.type = IBV_QPT_UC; /* has no opcode for it */
	shown_open_with(&s, &config, REGION_FLAGS);
	wr = shown_inv_wr(IBV_WR_SEND_WITH_INV, mw.rkey);
	assert_int_equal(qp_post_send(s.w.end[1].qp, &wr, NULL), -EINVAL);
	world_close(&s.w);
}

/* A region stays as long as a window is bound to it. */
static void region_in_use(void **state)
{
	struct shown s;
	struct ibv_mw one, two;
	struct ibv_send_wr wr;

	shown_open(&s);
	one = shown_window(&s, IBV_MW_TYPE_1);
	two = shown_window(&s, IBV_MW_TYPE_2);
	shown_bind(&s, &one, 0, 8, 0);
	shown_bind(&s, &one, 8, 8, 0);
	shown_bind(&s, &two, 0, 8, 0);
	assert_int_equal(mr_deregister(shown_mrs(&s), s.mr.lkey), -EBUSY);
	mw_dealloc(shown_mrs(&s), one.rkey);
	assert_int_equal(mr_deregister(shown_mrs(&s), s.mr.lkey), -EBUSY);
	wr = shown_inv_wr(IBV_WR_LOCAL_INV, two.rkey);
	shown_post(&s, 1, &wr);
	world_run(&s.w, WORLD_FOREVER);
	assert_int_equal(mr_deregister(shown_mrs(&s), s.mr.lkey), 0);
	world_close(&s.w);
}

/* A window of type 2 is free again when its queue pair is gone. */
static void queue_pair_gone(void **state)
{
	struct shown s;
	struct ibv_mw mw;

	shown_open(&s);
	mw = shown_window(&s, IBV_MW_TYPE_2);
	shown_bind(&s, &mw, 0, SIZE, ALL_REMOTE);
	qp_destroy(world_new_qp(&s.w, 1, &world_default));
	shown_bind(&s, &mw, 0, SIZE, ALL_REMOTE);
	assert_int_equal(mr_deregister(shown_mrs(&s), s.mr.lkey), -EBUSY);
	world_close(&s.w);
}

/* A window's key is for peers, not for lists of pieces. */
static void not_a_local_key(void **state)
{
	struct shown s;
	struct ibv_mw mw;

	shown_open(&s);
	mw = shown_window(&s, IBV_MW_TYPE_1);
	shown_bind(&s, &mw, 0, SIZE, ALL_REMOTE);
	assert_int_equal(world_send(&s.w.end[1], 5, s.memory, 8, mw.rkey, 0), 0);
	world_run(&s.w, WORLD_FOREVER);
	assert_int_equal(world_wc(s.w.end[1].scq).status, IBV_WC_LOC_PROT_ERR);
	world_close(&s.w);
}

/* SEND with invalidate. */

static void remote_invalidate(void **state)
{
	static const uint32_t lengths[] = {0, 1, 1024, 5000};
	struct shown s;
	struct ibv_wc wc;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct ibv_mw mw;
		uint8_t dst[SIZE] = {0};
		uint32_t key;

		shown_open(&s);
		key = world_reg(&s.w.end[1], dst, SIZE, IBV_ACCESS_LOCAL_WRITE);
		mw = shown_window(&s, IBV_MW_TYPE_2);
		shown_bind(&s, &mw, 0, SIZE, ALL_REMOTE);
		memset(s.peer, 3, SIZE);
		assert_int_equal(world_recv(&s.w.end[1], 9, dst, SIZE, key), 0);
		shown_send_inv(&s, lengths[i], mw.rkey);
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
		shown_bind(&s, &mw, 0, SIZE, ALL_REMOTE);
		assert_int_equal(
			shown_use(&s, IBV_WR_RDMA_WRITE, mw.rkey, shown_at(&s, 0), 8), 0);
		assert_int_equal(
			shown_use(&s, IBV_WR_RDMA_WRITE, mw.rkey - 1, shown_at(&s, 0), 8),
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

		shown_open(&s);
		if (which < N_BAD_KEYS) {
			key = make_bad_key(&s, (enum bad_key)which, &list);
		} else if (which == N_BAD_KEYS) {
			key = s.mr.lkey;
		} else {
			one = shown_window(&s, IBV_MW_TYPE_1);
			shown_bind(&s, &one, 0, SIZE, ALL_REMOTE);
			key = one.rkey;
		}
		for (uint64_t id = 0; id < 2; id++)
			world_recv(&s.w.end[1], id, s.memory, SIZE, s.mr.lkey);
		shown_send_inv(&s, 8, key);
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
	};

	world_main_args(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
