/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Modifying and querying queue pairs: every transition of every service with every
 * attribute, as the specification's table 91 has it (written here a second time, in
 * letters), and that a query gives back what was set. And the numbers that nobody may
 * guess: getrandom(2) goes through this file (ld --wrap).
 */
#include "engine_world.h"

#include "lib/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <cmocka.h>

static const struct {
	char letter; /* '-': allowed nowhere */
	int bit;
} attributes[] = {
	{'A', IBV_QP_ACCESS_FLAGS},
	{'K', IBV_QP_PKEY_INDEX},
	{'P', IBV_QP_PORT},
	{'Q', IBV_QP_QKEY},
	{'V', IBV_QP_AV},
	{'M', IBV_QP_PATH_MTU},
	{'T', IBV_QP_TIMEOUT},
	{'R', IBV_QP_RETRY_CNT},
	{'N', IBV_QP_RNR_RETRY},
	{'q', IBV_QP_RQ_PSN},
	{'s', IBV_QP_SQ_PSN},
	{'o', IBV_QP_MAX_QP_RD_ATOMIC},
	{'d', IBV_QP_MAX_DEST_RD_ATOMIC},
	{'m', IBV_QP_MIN_RNR_TIMER},
	{'D', IBV_QP_DEST_QPN},
	{'C', IBV_QP_CUR_STATE},
	{'E', IBV_QP_EN_SQD_ASYNC_NOTIFY},
	{'-', IBV_QP_ALT_PATH},
	{'-', IBV_QP_PATH_MIG_STATE},
	{'-', IBV_QP_CAP},
};

/* What must be given, and what may. */
static const struct rule {
	enum ibv_qp_type type;
	enum ibv_qp_state from, to;
	const char *req, *opt;
} rules[] = {
	{IBV_QPT_RC, IBV_QPS_RESET, IBV_QPS_INIT, "KPA", ""},
	{IBV_QPT_RC, IBV_QPS_INIT, IBV_QPS_INIT, "", "KPA"},
	{IBV_QPT_RC, IBV_QPS_INIT, IBV_QPS_RTR, "VMDqdm", "AK"},
	{IBV_QPT_RC, IBV_QPS_RTR, IBV_QPS_RTS, "TRNso", "CAm"},
	{IBV_QPT_RC, IBV_QPS_RTS, IBV_QPS_RTS, "", "CAm"},
	{IBV_QPT_RC, IBV_QPS_RTS, IBV_QPS_SQD, "", "E"},
	{IBV_QPT_RC, IBV_QPS_SQD, IBV_QPS_SQD, "", "VCAKPTRNodm"},
	{IBV_QPT_RC, IBV_QPS_SQD, IBV_QPS_RTS, "", "CAm"},
	{IBV_QPT_UC, IBV_QPS_RESET, IBV_QPS_INIT, "KPA", ""},
	{IBV_QPT_UC, IBV_QPS_INIT, IBV_QPS_INIT, "", "KPA"},
	{IBV_QPT_UC, IBV_QPS_INIT, IBV_QPS_RTR, "VMDq", "AK"},
	{IBV_QPT_UC, IBV_QPS_RTR, IBV_QPS_RTS, "s", "CA"},
	{IBV_QPT_UC, IBV_QPS_RTS, IBV_QPS_RTS, "", "CA"},
	{IBV_QPT_UC, IBV_QPS_RTS, IBV_QPS_SQD, "", "E"},
	{IBV_QPT_UC, IBV_QPS_SQD, IBV_QPS_SQD, "", "VCAK"},
	{IBV_QPT_UC, IBV_QPS_SQD, IBV_QPS_RTS, "", "CA"},
	{IBV_QPT_UC, IBV_QPS_SQE, IBV_QPS_RTS, "", "CA"},
	{IBV_QPT_UD, IBV_QPS_RESET, IBV_QPS_INIT, "KPQ", ""},
	{IBV_QPT_UD, IBV_QPS_INIT, IBV_QPS_INIT, "", "KPQ"},
	{IBV_QPT_UD, IBV_QPS_INIT, IBV_QPS_RTR, "", "KQ"},
	{IBV_QPT_UD, IBV_QPS_RTR, IBV_QPS_RTS, "s", "CQ"},
	{IBV_QPT_UD, IBV_QPS_RTS, IBV_QPS_RTS, "", "CQ"},
	{IBV_QPT_UD, IBV_QPS_RTS, IBV_QPS_SQD, "", "E"},
	{IBV_QPT_UD, IBV_QPS_SQD, IBV_QPS_SQD, "", "KQ"},
	{IBV_QPT_UD, IBV_QPS_SQD, IBV_QPS_RTS, "", "CQ"},
	{IBV_QPT_UD, IBV_QPS_SQE, IBV_QPS_RTS, "", "CQ"},
};

static const enum ibv_qp_type types[] = {IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD};

static int mask_of(const char *letters)
{
	int mask = 0;

	for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
		if (strchr(letters, attributes[i].letter))
			mask |= attributes[i].bit;
	}
	return mask;
}

static const struct rule *rule_for(
	enum ibv_qp_type type, enum ibv_qp_state from, enum ibv_qp_state to)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		if (rules[i].type == type && rules[i].from == from && rules[i].to == to)
			return &rules[i];
	}
	return NULL;
}

/* A request that can't be sent leads to SQE. */
static void spoil(struct world *w)
{
	struct ibv_ah_attr ah = {.is_global = 1, .port_num = 1};
	struct ibv_sge nowhere = {.length = 1};
	struct ibv_send_wr wr = {
		.sg_list = &nowhere, .num_sge = 1, .opcode = IBV_WR_SEND};

	assert_int_equal(qp_post_send(w->end[0].qp, &wr, &ah), 0);
	engine_output(w->end[0].engine, &w->burst, w->now);
	world_wc(w->end[0].scq);
}

static void bring_to(
	struct world *w, const struct world_config *config, enum ibv_qp_state state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};

	assert_int_equal(qp_modify(w->end[0].qp, &attr, IBV_QP_STATE), 0);
	for (int s = IBV_QPS_INIT; s <= (int)MIN(state, IBV_QPS_RTS); s++)
		world_step_state(w, 0, config, (enum ibv_qp_state)s);
	attr.qp_state = state;
	if (state == IBV_QPS_SQE)
		spoil(w);
	else if (state > IBV_QPS_RTS)
		assert_int_equal(qp_modify(w->end[0].qp, &attr, IBV_QP_STATE), 0);
	assert_int_equal(qp_state(w->end[0].qp), state);
}

/* Values that differ from those that bring_to() sets. */
static struct ibv_qp_attr some_attr(enum ibv_qp_state from, enum ibv_qp_state to)
{
	return (struct ibv_qp_attr){
		.qp_state = to,
		.cur_qp_state = from,
		.port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
		.qkey = 0x22222222,
		.path_mtu = IBV_MTU_512,
		.dest_qp_num = 0x123456,
		.rq_psn = 0x111111,
		.sq_psn = 0x222222,
		.min_rnr_timer = 9,
		.timeout = 19,
		.retry_cnt = 3,
		.rnr_retry = 2,
		.max_rd_atomic = 7,
		.max_dest_rd_atomic = 8,
		.ah_attr = {.is_global = 1,
			.port_num = 1,
			.sl = 3,
			.grh = {.hop_limit = 77, .dgid.raw = {[15] = 9}}},
	};
}

static void expect_queried(struct world *w, const struct ibv_qp_attr *want, int mask)
{
	struct ibv_qp_attr got;

	qp_query(w->end[0].qp, &got);
	assert_int_equal(got.qp_state, qp_state(w->end[0].qp));
	assert_int_equal(got.cur_qp_state, got.qp_state);
#define SAME(bit, field)  \
	if (mask & (bit)) \
	assert_int_equal(got.field, want->field)
	SAME(IBV_QP_ACCESS_FLAGS, qp_access_flags);
	SAME(IBV_QP_PORT, port_num);
	SAME(IBV_QP_QKEY, qkey);
	SAME(IBV_QP_PATH_MTU, path_mtu);
	SAME(IBV_QP_DEST_QPN, dest_qp_num);
	SAME(IBV_QP_RQ_PSN, rq_psn);
	SAME(IBV_QP_SQ_PSN, sq_psn);
	SAME(IBV_QP_MIN_RNR_TIMER, min_rnr_timer);
	SAME(IBV_QP_TIMEOUT, timeout);
	SAME(IBV_QP_RETRY_CNT, retry_cnt);
	SAME(IBV_QP_RNR_RETRY, rnr_retry);
	SAME(IBV_QP_MAX_QP_RD_ATOMIC, max_rd_atomic);
	SAME(IBV_QP_MAX_DEST_RD_ATOMIC, max_dest_rd_atomic);
	SAME(IBV_QP_AV, ah_attr.sl);
	SAME(IBV_QP_AV, ah_attr.grh.hop_limit);
	SAME(IBV_QP_AV, ah_attr.grh.dgid.raw[15]);
#undef SAME
}

/* Give @mask in the transition; it must come out as @ok says, all of it or nothing. */
static void try(struct world *w, const struct world_config *config,
	enum ibv_qp_state from, enum ibv_qp_state to, int mask, bool ok)
{
	struct ibv_qp_attr attr = some_attr(from, to), before;

	bring_to(w, config, from);
	qp_query(w->end[0].qp, &before);
	if (qp_modify(w->end[0].qp, &attr, IBV_QP_STATE | mask) != (ok ? 0 : -EINVAL))
		fail_msg("type %d, %d to %d, mask %x: %s", config->type, from, to, mask,
			ok ? "refused" : "accepted");
	assert_int_equal(qp_state(w->end[0].qp), ok ? to : from);
	if (ok)
		expect_queried(w, &attr, mask);
	else
		expect_queried(w, &before, ~0);
}

static void try_each_attribute(struct world *w, const struct world_config *config,
	enum ibv_qp_state from, enum ibv_qp_state to)
{
	const struct rule *rule = rule_for(config->type, from, to);
	int req = rule ? mask_of(rule->req) : 0, opt = rule ? mask_of(rule->opt) : 0;
	/* Whatever was before, it ends or begins anew, without attributes. */
	bool always = to == IBV_QPS_RESET || to == IBV_QPS_ERR;

	if (always)
		opt = IBV_QP_CUR_STATE;
	try(w, config, from, to, req, rule || always);
	try(w, config, from, to, req | opt, rule || always);
	for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
		int bit = attributes[i].bit;

		if (req & bit)
			try(w, config, from, to, req & ~bit, false);
		else
			try(w, config, from, to, req | bit,
				(rule || always) && (opt & bit));
	}
}

static void every_transition(void **state)
{
	for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
		struct world_config config = world_default;
		struct world w;

		config.type = types[t];
		world_open(&w, &config);
		for (int from = IBV_QPS_RESET; from <= IBV_QPS_ERR; from++) {
			if (from == IBV_QPS_SQE && types[t] == IBV_QPT_RC)
				continue; /* RC has no such state */
			for (int to = IBV_QPS_RESET; to <= IBV_QPS_ERR; to++)
				try_each_attribute(&w, &config, (enum ibv_qp_state)from,
					(enum ibv_qp_state)to);
		}
		world_close(&w);
	}
}

/* Without IBV_QP_STATE: as from a state to itself. */
static void state_not_given(void **state)
{
	struct ibv_qp_attr attr = some_attr(IBV_QPS_RTS, IBV_QPS_RTS);
	struct world w;

	world_open(&w, &world_default);
	assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_MIN_RNR_TIMER), 0);
	expect_queried(&w, &attr, IBV_QP_MIN_RNR_TIMER);
	assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_TIMEOUT), -EINVAL);
	attr.cur_qp_state = IBV_QPS_SQD;
	assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_CUR_STATE), -EINVAL);
	world_close(&w);
}

/* A queue pair drains: a query tells; what is changed meanwhile holds from then on. */
static void draining(void **state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_SQD}, got;
	uint8_t buf[4] = "abc", dst[4] = {0};
	struct world w;
	uint32_t sk, rk;

	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], buf, 4, 0);
	rk = world_reg(&w.end[1], dst, 4, IBV_ACCESS_LOCAL_WRITE);
	link_mem_set_filter(w.end[0].link, world_drop_all, NULL);
	assert_int_equal(world_send(&w.end[0], 1, buf, 4, sk, IBV_SEND_SIGNALED), 0);
	world_run(&w, w.now + NSEC_PER_USEC);
	assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_STATE), 0);
	qp_query(w.end[0].qp, &got);
	assert_int_equal(got.qp_state, IBV_QPS_SQD);
	assert_true(got.sq_draining);

	attr.retry_cnt = 5;
	attr.timeout = 10;
	assert_int_equal(
		qp_modify(w.end[0].qp, &attr, IBV_QP_RETRY_CNT | IBV_QP_TIMEOUT), 0);
	link_mem_set_filter(w.end[0].link, NULL, NULL);
	world_recv(&w.end[1], 1, dst, 4, rk);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_SUCCESS);
	qp_query(w.end[0].qp, &got);
	assert_false(got.sq_draining);
	assert_int_equal(got.retry_cnt, 5);
	assert_int_equal(got.timeout, 10);
	attr.qp_state = IBV_QPS_RTS;
	assert_int_equal(qp_modify(w.end[0].qp, &attr, IBV_QP_STATE), 0);
	qp_query(w.end[0].qp, &got);
	assert_int_equal(got.qp_state, IBV_QPS_RTS);
	world_close(&w);
}

/* Numbers. */

#define N_NUMBERS 512

static int n_drawn; /* calls */

ssize_t __real_getrandom(void *buf, size_t size, unsigned int flags);
ssize_t __wrap_getrandom(void *buf, size_t size, unsigned int flags);

/* As the kernel may, it is interrupted now and then. */
ssize_t __wrap_getrandom(void *buf, size_t size, unsigned int flags)
{
	if (n_drawn++ % 7 == 3) {
		errno = EINTR;
		return -1;
	}
	return __real_getrandom(buf, size, flags);
}

/* Each bit is set in about half of them, and none follows from the one before. */
static void expect_random(const uint32_t number[N_NUMBERS], int n_bits)
{
	for (int bit = 0; bit < n_bits; bit++) {
		int n = 0;

		for (int i = 0; i < N_NUMBERS; i++)
			n += number[i] >> bit & 1;
		/* 8 standard deviations: it fails once in 10^15 runs */
		assert_in_range(n, N_NUMBERS / 2 - 90, N_NUMBERS / 2 + 90);
	}
	for (int i = 2; i < N_NUMBERS; i++)
		assert_int_not_equal(
			number[i] - number[i - 1], number[i - 1] - number[i - 2]);
}

static void numbers_are_random(void **state)
{
	uint32_t qpn[N_NUMBERS], key[N_NUMBERS];
	static uint8_t memory[64];
	struct qp *qp[N_NUMBERS];
	struct world w;

	world_open(&w, &world_default);
	n_drawn = 0;
	for (int i = 0; i < N_NUMBERS; i++) {
		struct qp_config config = {.pd = WORLD_PD,
			.type = IBV_QPT_RC,
			.port_mtu = 1024,
			.send_cq = w.end[0].scq,
			.recv_cq = w.end[0].rcq};

		assert_int_equal(qp_create(w.end[0].engine, &config, &qp[i]), 0);
		qpn[i] = qp_number(qp[i]);
		assert_in_range(qpn[i], 2, 0xfffffe);
		key[i] = world_reg(&w.end[0], memory, sizeof(memory), 0);
	}
	assert_true(n_drawn >= 2 * N_NUMBERS);
	expect_random(qpn, 24);
	expect_random(key, 32);
	for (int i = 0; i < N_NUMBERS; i++)
		qp_destroy(qp[i]);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_transition),
		cmocka_unit_test(state_not_given),
		cmocka_unit_test(draining),
		cmocka_unit_test(numbers_are_random),
	};

	return cmocka_run_group_tests_name("modify", tests, NULL, NULL);
}
