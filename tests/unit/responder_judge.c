/* SPDX-License-Identifier: BSD-3-Clause */
#include "responder_judge.h"

#include "lib/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define N_COUNTERS (sizeof(struct engine_stats) / sizeof(uint64_t))

static const char *const counter_names[N_COUNTERS] = {
#define X(name) #name,
	ENGINE_COUNTERS(X)
#undef X
};

void judge_open(struct judge *j, enum ibv_qp_type type, enum ibv_mtu mtu,
	bool shared_queue, uint32_t size, uint64_t seed)
{
	memset(j, 0, sizeof(*j));
	j->config = world_default;
	j->config.type = type;
	j->config.mtu = mtu;
	if (shared_queue) {
		assert_int_equal(
			rq_create(WORLD_PD, MODEL_BUFFERS, MODEL_PIECES, &j->srq), 0);
		j->config.srq[0] = j->srq;
	}
	world_open(&j->w, &j->config);
	j->end = &j->w.end[0];
	j->size = size;
	/* exactly as large, so that sanitizers see one byte too far; regions count on an
	 * address that is a multiple of 8 */
	j->memory = malloc(size);
	j->m = (struct model){.type = type,
		.pd = WORLD_PD,
		.qpn = qp_number(j->end->qp),
		.peer_qpn = qp_number(j->w.end[1].qp),
		.mtu = 128u << mtu,
		.qkey = WORLD_QKEY,
		.shared_queue = shared_queue,
		.rnr_timer = 1,
		.max_fetches = 4,
		.memory = malloc(size)};
	assert_non_null(j->memory);
	assert_non_null(j->m.memory);
	for (uint32_t i = 0; i < size; i++)
		j->memory[i] = (uint8_t)rng_next(&seed);
	memcpy(j->m.memory, j->memory, size);
	j->origin.from_peer = true;
	memcpy(j->origin.sgid, j->w.end[1].link->gid, 16);
	memcpy(j->origin.dgid, j->w.end[0].link->gid, 16);
}

void judge_close(struct judge *j)
{
	world_close(&j->w);
	rq_destroy(j->srq);
	free(j->memory);
	free(j->m.memory);
}

void judge_drop_region(struct judge *j, int i)
{
	struct mr_table *mrs = engine_mrs(j->end->engine);

	for (int k = 0; k < MODEL_REGIONS; k++) { /* those that keep it */
		if (j->window[k] && j->region_below[k] == i)
			judge_drop_region(j, k);
	}
	if (j->window[i])
		mw_dealloc(mrs, j->window[i]);
	else if (j->m.region[i].key)
		assert_int_equal(mr_deregister(mrs, j->m.region[i].key), 0);
	j->window[i] = 0;
	j->m.region[i].key = 0;
}

void judge_window(struct judge *j, int i, int type, bool for_own, int below, int access,
	uint32_t off, uint32_t length)
{
	struct mr_table *mrs = engine_mrs(j->end->engine);
	const struct model_region *region = &j->m.region[below];
	struct mw_user user = {
		WORLD_PD, j->m.qpn, for_own ? &j->windows_of_own : &j->windows_of_other};
	struct mw_binding binding = {.addr = region->va + off,
		.length = length,
		.new_key = off,
		.lkey = region->key,
		.access = access};

	user.qpn ^= !for_own;
	judge_drop_region(j, i);
	assert_int_equal(mw_alloc(mrs, WORLD_PD,
				 type == 1 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2, &binding.key),
		0);
	assert_int_equal(mw_bind(mrs, &binding, &user), 0);
	j->window[i] = binding.key;
	j->region_below[i] = below;
	j->m.region[i] = (struct model_region){.key = binding.key | (off & 0xff),
		.window = type,
		.qpn = user.qpn,
		.pd = WORLD_PD,
		.access = access & ~IBV_ACCESS_ZERO_BASED,
		.va = access & IBV_ACCESS_ZERO_BASED ? 0 : binding.addr,
		.length = length,
		.at = region->at + off};
}

void judge_region(struct judge *j, int i, uint32_t pd, int access, uint64_t va,
	uint32_t at, uint32_t length)
{
	struct mr mr = {.pd = pd,
		.access = access,
		.iova = va,
		.length = length,
		.addr = j->memory + at};
	struct model_region *r = &j->m.region[i];

	judge_drop_region(j, i);
	*r = (struct model_region){
		.pd = pd, .access = access, .va = va, .length = length, .at = at};
	assert_int_equal(mr_register(engine_mrs(j->end->engine), &mr, &r->key), 0);
}

/* Completions and events that are no packet's doing. */
static void settle(struct judge *j)
{
	struct ibv_wc wc;

	while (cq_poll(j->end->rcq, 1, &wc)) {
		/* of a change of state */
	}
	j->end->n_events = 0;
	j->before = *engine_stats(j->end->engine);
}

/* What posted buffers become, by the change of state itself. */
static void forget_posted(struct judge *j)
{
	if (!j->srq)
		j->m.n_posted = 0;
}

void judge_connect(struct judge *j, enum ibv_qp_state state, uint32_t psn)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};

	assert_int_equal(qp_modify(j->end->qp, &attr, IBV_QP_STATE), 0);
	forget_posted(j);
	j->config.psn = psn;
	for (int s = IBV_QPS_INIT; s <= (int)MIN(state, IBV_QPS_RTS); s++)
		world_step_state(&j->w, 0, &j->config, (enum ibv_qp_state)s);
	attr.qp_state = state;
	if (state == IBV_QPS_SQE) { /* where a request leads that can't be sent */
		struct ibv_sge nowhere = {.length = 1};
		struct ibv_send_wr wr = {.sg_list = &nowhere,
			.num_sge = 1,
			.opcode = IBV_WR_SEND,
			.wr.ud.remote_qkey = WORLD_QKEY};

		assert_int_equal(qp_post_send(j->end->qp, &wr, NULL), 0);
		assert_int_equal(engine_output(j->end->engine, &j->w.burst, j->w.now), 0);
		world_wc(j->end->scq);
	} else if (state > IBV_QPS_RTS) {
		assert_int_equal(qp_modify(j->end->qp, &attr, IBV_QP_STATE), 0);
	}
	assert_int_equal(qp_state(j->end->qp), state);
	model_connect(&j->m, psn);
	j->m.state = state;
	j->m.access = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
		      IBV_ACCESS_REMOTE_ATOMIC;
	settle(j);
}

void judge_set_access(struct judge *j, int access)
{
	struct ibv_qp_attr attr = {.qp_access_flags = (unsigned int)access};

	assert_int_equal(qp_modify(j->end->qp, &attr, IBV_QP_ACCESS_FLAGS), 0);
	j->m.access = access;
}

bool judge_post(struct judge *j, const struct model_buffer *buffer)
{
	struct ibv_sge sge[MODEL_PIECES];
	struct ibv_recv_wr wr = {
		.wr_id = buffer->id, .sg_list = sge, .num_sge = buffer->n};

	for (int i = 0; i < buffer->n; i++)
		sge[i] = (struct ibv_sge){buffer->piece[i].va, buffer->piece[i].length,
			buffer->piece[i].key};
	if (j->m.n_posted == MODEL_BUFFERS || rq_post(qp_rq(j->end->qp), &wr))
		return false;
	j->m.posted[j->m.n_posted++] = *buffer;
	return true;
}

struct mp judge_mp(const struct judge *j, uint8_t opcode, uint32_t psn)
{
	return (struct mp){.opcode = opcode,
		.form = mp_form(opcode),
		.pkey = 0xffff,
		.qpn = j->m.qpn,
		.psn = psn,
		.qkey = j->m.qkey,
		.src_qpn = j->m.peer_qpn};
}

/* Comparing. */

struct packet {
	const uint8_t *bytes;
	uint32_t size;
};

#define DIFFERS(j, pkt, ...)                                       \
	do {                                                       \
		show_packet(j, pkt);                               \
		fail_msg(__VA_ARGS__); /* which does not return */ \
	} while (0)

static void show_packet(const struct judge *j, const struct packet *pkt)
{
	print_error("packet %llu, expected PSN %06x, state %d, %u bytes:",
		(unsigned long long)j->n_packets, j->m.expected, j->m.state, pkt->size);
	for (uint32_t i = 0; i < MIN(pkt->size, 64u); i++)
		print_error("%s%02x", i % 4 ? "" : " ", pkt->bytes[i]);
	print_error("\nthe model: %d drops (%s), %d answers, %d completions, %d events\n",
		j->v.n_drops, j->v.n_drops ? j->v.drop[0] : "-", j->v.n_answers,
		j->v.n_wcs, j->v.n_events);
}

static bool may_drop_as(const struct model_verdict *v, const char *counter)
{
	for (int i = 0; i < v->n_drops; i++) {
		if (!strcmp(v->drop[i], counter))
			return true;
	}
	return false;
}

/* All counters moved as they should, and a packet that is dropped is in just one. */
static void compare_counters(struct judge *j, const struct packet *pkt)
{
	const uint64_t *before = (const uint64_t *)&j->before;
	const uint64_t *now = (const uint64_t *)engine_stats(j->end->engine);
	const uint64_t *want = (const uint64_t *)&j->v.counts;
	bool dropped = false;

	/* How fast the queue pair sends is not the responder's business. */
	if (j->v.counts.rx_cnps)
		j->before.rate_cuts = engine_stats(j->end->engine)->rate_cuts;
	for (size_t i = 0; i < N_COUNTERS; i++) {
		uint64_t moved = now[i] - before[i];

		if (moved == want[i])
			continue;
		if (moved == want[i] + 1 && !dropped &&
			may_drop_as(&j->v, counter_names[i]))
			dropped = true;
		else
			DIFFERS(j, pkt, "%s grew by %llu, not by %llu", counter_names[i],
				(unsigned long long)moved, (unsigned long long)want[i]);
	}
	if (!dropped && j->v.n_drops)
		DIFFERS(j, pkt, "not counted as dropped");
	j->before = *engine_stats(j->end->engine);
	if (!dropped)
		j->n_taken++;
}

static void flatten(const struct link_burst *burst, const struct link_tx *tx, uint8_t *to,
	uint32_t *size)
{
	uint8_t *p = to;

	memcpy(p, tx->hdr, tx->hdr_len);
	p += tx->hdr_len;
	for (int i = 0; i < tx->n_iov; i++) {
		const struct iovec *iov = &burst->iov[tx->iov_first + i];

		memcpy(p, iov->iov_base, iov->iov_len);
		p += iov->iov_len;
	}
	memset(p, 0, tx->pad);
	*size = (uint32_t)(p - to) + tx->pad;
}

static void compare_answer(struct judge *j, const struct packet *pkt, int k,
	const struct link_burst *burst, const struct link_tx *tx)
{
	const struct model_answer *want = &j->v.answer[k];
	uint8_t bytes[MP_MAX];
	uint32_t size;
	struct mp got;

	if (k >= j->v.n_answers)
		DIFFERS(j, pkt, "more answers than %d", j->v.n_answers);
	flatten(burst, tx, bytes, &size);
	if (!mp_parse(bytes, size, &got) || size % 4)
		DIFFERS(j, pkt, "answer %d is no packet", k);
	if (got.opcode != want->opcode || got.psn != want->psn ||
		got.qpn != j->m.peer_qpn || got.pkey != 0xffff ||
		memcmp(tx->dgid, j->w.end[1].link->gid, 16))
		DIFFERS(j, pkt, "answer %d: opcode %02x PSN %06x, not %02x %06x", k,
			got.opcode, got.psn, want->opcode, want->psn);
	if (want->has_aeth && (got.syndrome != want->syndrome || got.msn != want->msn))
		DIFFERS(j, pkt, "answer %d: syndrome %02x MSN %u, not %02x %u", k,
			got.syndrome, got.msn, want->syndrome, want->msn);
	if (got.original != want->original)
		DIFFERS(j, pkt, "answer %d: result %llx, not %llx", k,
			(unsigned long long)got.original,
			(unsigned long long)want->original);
	if (got.n_data != want->n_data ||
		(got.n_data && memcmp(got.data, j->m.memory + want->at, got.n_data)))
		DIFFERS(j, pkt, "answer %d: other data", k);
}

/* The next packets to be sent, which may have to wait for their time. Return: how many */
static int next_answers(struct judge *j)
{
	struct engine *engine = j->end->engine;

	while (!engine_output(engine, &j->w.burst, j->w.now)) {
		if (engine_deadline(engine) == ENGINE_NO_DEADLINE)
			return 0;
		j->w.now = MAX(j->w.now, engine_deadline(engine));
		engine_expire(engine, j->w.now);
	}
	return j->w.burst.n_pkts;
}

static void compare_notification(
	struct judge *j, const struct packet *pkt, const struct link_tx *tx)
{
	struct mp got;

	if (!mp_parse(tx->hdr, tx->hdr_len, &got) || !got.becn ||
		got.qpn != j->v.notified_qpn || memcmp(tx->dgid, j->origin.sgid, 16))
		DIFFERS(j, pkt, "a wrong congestion notification");
}

static void compare_answers(struct judge *j, const struct packet *pkt)
{
	const struct link_burst *burst = &j->w.burst;
	int k = 0, n_notifications = 0;

	while (next_answers(j)) {
		for (int i = 0; i < burst->n_pkts; i++) {
			if (burst->pkt[i].hdr[0] != MP_CNP) {
				compare_answer(j, pkt, k++, burst, &burst->pkt[i]);
				continue;
			}
			compare_notification(j, pkt, &burst->pkt[i]);
			n_notifications++;
		}
	}
	if (n_notifications != j->v.notifies)
		DIFFERS(j, pkt, "%d congestion notifications, not %d", n_notifications,
			j->v.notifies);
	if (!k && j->v.may_be_silent) {
		j->v.n_answers = 0;
		j->v.counts.tx_atomic_responses = 0;
	}
	if (k != j->v.n_answers)
		DIFFERS(j, pkt, "%d answers, not %d", k, j->v.n_answers);
}

static void compare_completions(struct judge *j, const struct packet *pkt)
{
	struct ibv_wc wc;
	int k;

	for (k = 0; cq_poll(j->end->rcq, 1, &wc); k++) {
		const struct ibv_wc *want = &j->v.wc[k];

		if (k == j->v.n_wcs)
			DIFFERS(j, pkt, "more completions than %d", k);
		if (wc.wr_id != want->wr_id || wc.status != want->status ||
			wc.qp_num != want->qp_num)
			DIFFERS(j, pkt, "completion %d: id %llu status %d, not %llu %d",
				k, (unsigned long long)wc.wr_id, wc.status,
				(unsigned long long)want->wr_id, want->status);
		if (wc.status != IBV_WC_SUCCESS)
			continue;
		if (wc.opcode != want->opcode || wc.byte_len != want->byte_len ||
			wc.wc_flags != want->wc_flags || wc.imm_data != want->imm_data ||
			wc.src_qp != want->src_qp || wc.sl != want->sl)
			DIFFERS(j, pkt,
				"completion %d: opcode %d length %u flags %x immediate "
				"%x "
				"from %u sl %u, not %d %u %x %x %u %u",
				k, wc.opcode, wc.byte_len, wc.wc_flags, wc.imm_data,
				wc.src_qp, wc.sl, want->opcode, want->byte_len,
				want->wc_flags, want->imm_data, want->src_qp, want->sl);
	}
	if (k != j->v.n_wcs)
		DIFFERS(j, pkt, "%d completions, not %d", k, j->v.n_wcs);
}

/* What a buffer shows of the memory may be anything, as far as its keys allow. */
static void accept_spoiled(struct judge *j)
{
	for (int i = 0; i < j->v.spoiled.n; i++) {
		const struct model_piece *piece = &j->v.spoiled.piece[i];
		uint32_t length = piece->length;
		int64_t at = -1;

		while (length && at < 0)
			at = model_find(&j->m, piece->key, j->m.pd, piece->va, length--,
				IBV_ACCESS_LOCAL_WRITE);
		if (at >= 0)
			memcpy(j->m.memory + at, j->memory + at, length + 1);
	}
}

static void compare_memory(struct judge *j, const struct packet *pkt)
{
	if (j->v.is_spoiled)
		accept_spoiled(j);
	for (uint32_t i = 0; memcmp(j->memory, j->m.memory, j->size); i++) {
		if (j->memory[i] != j->m.memory[i])
			DIFFERS(j, pkt, "memory at %u: %02x, not %02x", i, j->memory[i],
				j->m.memory[i]);
	}
}

void judge_packet(struct judge *j, const uint8_t *bytes, uint32_t size)
{
	struct packet pkt = {bytes, size};
	struct link_rx rx = {.data = bytes, .len = size, .ecn = j->origin.ecn};

	/* Long enough that each mark is worth a notification */
	j->w.now += NSEC_PER_MSEC;
	memcpy(rx.sgid, j->origin.sgid, 16);
	memcpy(rx.dgid, j->origin.dgid, 16);
	engine_input(j->end->engine, &rx, 1, j->w.now);
	j->n_packets++;
	model_receive(&j->m, bytes, size, &j->origin, &j->v);
	compare_answers(j, &pkt);
	compare_counters(j, &pkt);
	compare_completions(j, &pkt);
	if (!j->v.n_drops || j->n_packets % 64 == 0)
		compare_memory(j, &pkt);
	if (qp_state(j->end->qp) != j->m.state)
		DIFFERS(j, &pkt, "state %d, not %d", qp_state(j->end->qp), j->m.state);
	if (j->end->n_events != j->v.n_events ||
		(j->v.n_events && j->end->last_event != j->v.last_event))
		DIFFERS(j, &pkt, "%d events (%d), not %d (%d)", j->end->n_events,
			j->end->last_event, j->v.n_events, j->v.last_event);
	j->end->n_events = 0;
}
