/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages between queue pairs of one device, without packets, against the same by
 * packets: random scenarios, each played twice. All that a program can see must be equal:
 * completions, events, states, memory. Without packets, with and without the engine's
 * lock (lanes).
 *
 * Memory that READs see, that WRITEs change and that atomics change is apart, and one
 * side posts at a time; where a scenario would be a race on the wire, nothing can be
 * compared.
 */
#include "engine_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/util.h"

#define N_SCENARIOS 600
#define N_ROUNDS    12
#define AREA	    16384u
#define N_AREAS	    5 /* of one end */
#define MAX_SGE	    4
#define RQ_DEPTH    128 /* more than a scenario posts */

enum area { AREA_SEND, AREA_RECV, AREA_READ, AREA_WRITE, AREA_ATOMIC };

struct scenario {
	uint64_t rng;
	struct world world;
	struct world_config config;
	struct rq *srq[2];
	uint8_t *memory[2];
	uint32_t key[2];      /* of all of it, with all rights */
	uint32_t weak_key[2]; /* the same, to be read locally only */
	uint32_t other_pd_key[2];
	int n_told[2][2]; /* by scq and rcq */
	uint64_t n_by_lane;
	FILE *log;
};

static uint32_t rng(struct scenario *s, uint32_t below)
{
	s->rng ^= s->rng << 13;
	s->rng ^= s->rng >> 7;
	s->rng ^= s->rng << 17;
	return (uint32_t)((s->rng >> 11) % below);
}

static bool once_in(struct scenario *s, uint32_t n)
{
	return rng(s, n) == 0;
}

static void told(void *arg, enum cq_event event)
{
	++*(int *)arg;
}

static uint32_t reg(struct scenario *s, int i, uint32_t pd, int access)
{
	struct mr mr = {.pd = pd,
		.access = access,
		.iova = (uintptr_t)s->memory[i],
		.length = AREA * N_AREAS,
		.addr = s->memory[i]};
	uint32_t key;

	assert_int_equal(mr_register(engine_mrs(s->world.end[i].engine), &mr, &key), 0);
	return key;
}

static void choose_config(struct scenario *s)
{
	s->config = world_default;
	s->config.type = once_in(s, 4) ? IBV_QPT_UC : IBV_QPT_RC;
	s->config.mtu = IBV_MTU_256 + rng(s, 3);
	s->config.max_sge = MAX_SGE;
	s->config.sq_depth = 16;
	s->config.rq_depth = RQ_DEPTH;
	s->config.cq_depth = 256;
	s->config.retry_cnt = 2;
	s->config.rnr_retry = (uint8_t)rng(s, 3);
	s->config.timeout = 8;
	for (int i = 0; i < 2; i++) {
		s->srq[i] = NULL;
		if (once_in(s, 3))
			assert_int_equal(rq_create(WORLD_PD + once_in(s, 8), RQ_DEPTH,
						 MAX_SGE, &s->srq[i]),
				0);
		s->config.srq[i] = s->srq[i];
	}
}

static void open_scenario(struct scenario *s, uint64_t seed)
{
	s->rng = seed * 0x9e3779b97f4a7c15u + 1;
	choose_config(s);
	world_open(&s->world, &s->config);
	for (int i = 0; i < 2; i++) {
		struct world_end *end = &s->world.end[i];

		s->memory[i] =
			world_buf(AREA * N_AREAS, (unsigned int)seed + (unsigned int)i);
		s->key[i] = reg(s, i, WORLD_PD, WORLD_ALL_ACCESS);
		s->weak_key[i] = reg(s, i, WORLD_PD, 0);
		s->other_pd_key[i] = reg(s, i, WORLD_PD + 1, WORLD_ALL_ACCESS);
		s->n_told[i][0] = s->n_told[i][1] = 0;
		cq_set_notify(end->scq, told, &s->n_told[i][0]);
		cq_set_notify(end->rcq, told, &s->n_told[i][1]);
		if (once_in(s, 8)) /* soon full */
			assert_int_equal(cq_resize(end->rcq, 4), 0);
	}
}

static void close_scenario(struct scenario *s)
{
	world_close(&s->world);
	for (int i = 0; i < 2; i++) {
		rq_destroy(s->srq[i]);
		free(s->memory[i]);
	}
}

static uint32_t some_key(struct scenario *s, int i)
{
	switch (rng(s, 40)) {
	case 0:
		return s->weak_key[i];
	case 1:
		return s->other_pd_key[i];
	case 2:
		return s->key[i] ^ 0x100;
	default:
		return s->key[i];
	}
}

static uint64_t area(const struct scenario *s, int i, enum area a)
{
	return (uintptr_t)s->memory[i] + a * AREA;
}

/* Pieces of @len bytes in all, at some place of an area of end @i; with @good, of memory
 * that may be used
 */
static int some_pieces(struct scenario *s, int i, enum area a, uint32_t len, bool good,
	struct ibv_sge sge[MAX_SGE])
{
	uint32_t n = 1 + rng(s, MAX_SGE), at = rng(s, 64);

	for (uint32_t k = 0; k < n; k++) {
		uint32_t piece = k == n - 1 ? len : rng(s, len + 1);

		sge[k] = (struct ibv_sge){
			area(s, i, a) + at, piece, good ? s->key[i] : some_key(s, i)};
		at += piece;
		len -= piece;
	}
	return (int)n;
}

static void post_recvs(struct scenario *s, int i)
{
	uint32_t n = rng(s, 8);

	for (uint32_t k = 0; k < n; k++) {
		struct ibv_sge sge[MAX_SGE];
		struct ibv_recv_wr wr = {.wr_id = k, .sg_list = sge};
		uint32_t len = once_in(s, 12) ? rng(s, 2000) : 6000;

		wr.num_sge = some_pieces(s, i, AREA_RECV, len, false, sge);
		fprintf(s->log, "recv %d\n", rq_post(qp_rq(s->world.end[i].qp), &wr));
	}
	qp_flush_rq(s->world.end[i].qp);
}

static const enum ibv_wr_opcode opcodes[] = {IBV_WR_SEND, IBV_WR_SEND_WITH_IMM,
	IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_RDMA_READ,
	IBV_WR_ATOMIC_CMP_AND_SWP, IBV_WR_ATOMIC_FETCH_AND_ADD};

static void aim(struct scenario *s, int i, struct ibv_send_wr *wr)
{
	enum area a = wr->opcode == IBV_WR_RDMA_READ ? AREA_READ : AREA_WRITE;

	if (wr->opcode == IBV_WR_ATOMIC_CMP_AND_SWP ||
		wr->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr->wr.atomic.remote_addr =
			area(s, !i, AREA_ATOMIC) + 8 * rng(s, 2) + once_in(s, 40);
		wr->wr.atomic.rkey = some_key(s, !i);
		wr->wr.atomic.compare_add = rng(s, 3);
		wr->wr.atomic.swap = rng(s, 3);
		return;
	}
	wr->wr.rdma.remote_addr = area(s, !i, a) + rng(s, 1000);
	if (once_in(s, 40))
		wr->wr.rdma.remote_addr += AREA * N_AREAS;
	wr->wr.rdma.rkey = some_key(s, !i);
}

static int post(struct scenario *s, struct qp *qp, struct ibv_send_wr *wr)
{
	if (qp_post_lane(qp, wr))
		return qp_post_send(qp, wr, NULL);
	s->n_by_lane++;
	return 0;
}

/* @alone: no other request is under way */
static void post_send(struct scenario *s, int i, uint64_t id, bool alone)
{
	static const unsigned int flags[] = {IBV_SEND_SIGNALED, IBV_SEND_SIGNALED,
		IBV_SEND_SIGNALED | IBV_SEND_SOLICITED, 0,
		IBV_SEND_SIGNALED | IBV_SEND_FENCE};
	struct ibv_sge sge[MAX_SGE];
	struct ibv_send_wr wr = {
		.wr_id = id,
		.sg_list = sge,
		.opcode = opcodes[rng(s, ARRAY_SIZE(opcodes))],
		.send_flags = flags[rng(s, ARRAY_SIZE(flags))],
		.imm_data = (uint32_t)id * 77,
	};
	bool is_atomic = wr.opcode == IBV_WR_ATOMIC_CMP_AND_SWP ||
			 wr.opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
	bool fetches = is_atomic || wr.opcode == IBV_WR_RDMA_READ;
	uint32_t len = is_atomic ? 8 : once_in(s, 6) ? 0 : rng(s, 5000);

	if (!fetches && once_in(s, 3)) {
		wr.send_flags |= IBV_SEND_INLINE;
		len = rng(s, 65);
	}
	/* What a READ brings must not be what another request sends. And on the wire,
	 * what is under way when memory turns out to be bad may have arrived or not. */
	wr.num_sge = some_pieces(s, i, fetches ? AREA_RECV : AREA_SEND, len, !alone, sge);
	aim(s, i, &wr);
	fprintf(s->log, "%d %s %u: %d\n", i, fetches ? "fetch" : "send", len,
		post(s, s->world.end[i].qp, &wr));
}

static void log_cq(struct scenario *s, int i, const char *name, struct cq *cq)
{
	struct ibv_wc wc;

	while (cq_poll(cq, 1, &wc)) {
		fprintf(s->log, "%d %s %u %s mine %d", i, name, (uint32_t)wc.wr_id,
			ibv_wc_status_str(wc.status),
			wc.qp_num == qp_number(s->world.end[i].qp));
		if (wc.status == IBV_WC_SUCCESS)
			fprintf(s->log, " opcode %d len %u flags %x", wc.opcode,
				wc.byte_len, wc.wc_flags);
		if (wc.wc_flags & IBV_WC_WITH_IMM)
			fprintf(s->log, " imm %x", wc.imm_data);
		fprintf(s->log, "\n");
	}
}

static void log_all(struct scenario *s)
{
	for (int i = 0; i < 2; i++) {
		struct world_end *end = &s->world.end[i];
		struct ibv_qp_attr attr;
		uint64_t sum = 0;

		log_cq(s, i, "sent", end->scq);
		log_cq(s, i, "received", end->rcq);
		qp_query(end->qp, &attr);
		for (size_t k = 0; k < AREA * N_AREAS; k++)
			sum = sum * 31 + s->memory[i][k];
		fprintf(s->log,
			"%d state %d psns %x %x events %d %d told %d %d memory %llx\n", i,
			attr.qp_state, attr.sq_psn, attr.rq_psn, end->n_events,
			end->last_event, s->n_told[i][0], s->n_told[i][1],
			(unsigned long long)sum);
	}
}

/* Both anew from RESET, now and then with fewer rights, or not fitting each other. */
static void reconnect(struct scenario *s)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};
	static const unsigned int rights[] = {IBV_ACCESS_REMOTE_WRITE,
		IBV_ACCESS_REMOTE_READ, IBV_ACCESS_REMOTE_ATOMIC, 0};

	for (int i = 0; i < 2; i++)
		assert_int_equal(qp_modify(s->world.end[i].qp, &attr, IBV_QP_STATE), 0);
	for (int i = 0; i < 2; i++) {
		struct world_config config = s->config;

		if (once_in(s, 10))
			config.mtu = IBV_MTU_256 + rng(s, s->config.mtu);
		if (once_in(s, 10))
			config.psn += rng(s, 20);
		world_connect(&s->world, i, &config);
	}
	if (once_in(s, 3)) {
		attr.qp_access_flags = rights[rng(s, ARRAY_SIZE(rights))];
		assert_int_equal(
			qp_modify(s->world.end[rng(s, 2)].qp, &attr, IBV_QP_ACCESS_FLAGS),
			0);
	}
}

static void change_state(struct scenario *s, int i, enum ibv_qp_state to)
{
	struct ibv_qp_attr attr = {.qp_state = to, .en_sqd_async_notify = 1};
	int mask = IBV_QP_STATE | (to == IBV_QPS_SQD ? IBV_QP_EN_SQD_ASYNC_NOTIFY : 0);

	fprintf(s->log, "to %d: %d\n", to, qp_modify(s->world.end[i].qp, &attr, mask));
}

static void settle(struct scenario *s)
{
	world_run(&s->world, s->world.now + WORLD_FOREVER);
}

static void play_round(struct scenario *s)
{
	int i = (int)rng(s, 2);
	uint32_t n = once_in(s, 4) ? 1 : 1 + rng(s, 10);
	bool late =
		once_in(s, 6) && s->config.rnr_retry > 1 && s->config.type == IBV_QPT_RC;
	bool drained = once_in(s, 8);
	bool pauses = once_in(s, 2); /* so that a lane may open for the rest */

	for (int k = 0; k < 2; k++) {
		cq_arm(s->world.end[k].scq, once_in(s, 2));
		cq_arm(s->world.end[k].rcq, once_in(s, 2));
	}
	if (s->srq[!i])
		rq_set_limit(s->srq[!i], rng(s, 4));
	if (!late)
		post_recvs(s, !i);
	if (drained)
		change_state(s, i, IBV_QPS_SQD);
	for (uint32_t k = 0; k < n; k++) {
		post_send(s, i, k, n == 1);
		if (pauses && !k && !drained && !late)
			settle(s);
	}
	if (drained) {
		settle(s);
		change_state(s, i, IBV_QPS_RTS);
	}
	if (late) {
		world_run(&s->world, s->world.now + 2000);
		post_recvs(s, !i);
	}
	settle(s);
	log_all(s);
	if (once_in(s, 12))
		change_state(s, (int)rng(s, 2), IBV_QPS_ERR);
	if (qp_state(s->world.end[0].qp) != IBV_QPS_RTS ||
		qp_state(s->world.end[1].qp) != IBV_QPS_RTS)
		reconnect(s);
}

/* How messages went, in all scenarios. */
struct ways {
	uint64_t direct, by_lane, packets;
};

/* Return: the log, to be freed */
static char *play(uint64_t seed, bool is_direct, struct ways *ways)
{
	struct scenario s = {0};
	size_t size;
	char *text;

	world_direct = is_direct;
	s.log = open_memstream(&text, &size);
	open_scenario(&s, seed);
	for (int k = 0; k < N_ROUNDS; k++)
		play_round(&s);
	ways->direct += engine_stats(s.world.end[0].engine)->direct_messages;
	ways->by_lane += s.n_by_lane;
	ways->packets += engine_stats(s.world.end[0].engine)->tx_request_packets;
	close_scenario(&s);
	fclose(s.log);
	return text;
}

/* What came before, and how it went on either way. */
static void print_from_difference(const char *a, const char *b)
{
	size_t same = 0, line;

	while (a[same] && a[same] == b[same])
		same++;
	for (line = same; line && a[line - 1] != '\n'; line--) {
	}
	fprintf(stderr, "...%.*s--- by packets:\n%.400s\n--- direct:\n%.400s\n",
		(int)MIN(line, 1500u), a + line - MIN(line, 1500u), a + line, b + line);
}

static void as_by_packets(void **state)
{
	struct ways wire = {0}, direct = {0};

	for (uint64_t seed = 1; seed <= N_SCENARIOS; seed++) {
		char *a = play(seed, false, &wire);
		char *b = play(seed, true, &direct);

		if (strcmp(a, b)) {
			print_from_difference(a, b);
			fail_msg("scenario %llu", (unsigned long long)seed);
		}
		free(a);
		free(b);
	}
	/* All ways were gone. */
	assert_int_equal(wire.direct, 0);
	assert_true(direct.direct > 10 * N_SCENARIOS && direct.packets > N_SCENARIOS);
	assert_true(direct.by_lane > N_SCENARIOS);
	assert_true(direct.direct > direct.by_lane);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_by_packets),
	};

	return cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}
