/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reliable connections, as the model has them (9.7.4, 9.7.5).
 */
#include "model_priv.h"

#include <string.h>

enum {
	OP_RESP_FIRST = 0x0d,
	OP_RESP_MIDDLE,
	OP_RESP_LAST,
	OP_RESP_ONLY,
	OP_ACK,
	OP_ATOMIC_ACK
};

/* Of all 2^24 PSNs the half behind the expected one are duplicates (9.7.1). */
static bool is_behind(uint32_t psn, uint32_t expected)
{
	return after(psn, (1u << 24) - expected) >= 1u << 23;
}

static void event(struct model_verdict *v, enum ibv_event_type type)
{
	v->n_events++;
	v->last_event = type;
}

static struct model_answer *answer(
	struct model *m, struct model_verdict *v, uint8_t opcode, uint32_t psn)
{
	struct model_answer *a = &v->answer[v->n_answers++];

	*a = (struct model_answer){.opcode = opcode,
		.psn = psn,
		.has_aeth = opcode != OP_RESP_MIDDLE,
		.syndrome = ACK,
		.msn = m->msn};
	return a;
}

static void acknowledge(struct model *m, struct model_verdict *v)
{
	answer(m, v, OP_ACK, m->last_data_psn);
	v->counts.tx_acks++;
}

static void nak(struct model *m, struct model_verdict *v, int syndrome)
{
	answer(m, v, OP_ACK, m->expected)->syndrome = (uint8_t)syndrome;
	if (syndrome == NAK_SEQUENCE)
		v->counts.tx_naks_sequence++;
	else if (syndrome < NAK_SEQUENCE)
		v->counts.tx_naks_rnr++;
	else
		v->counts.tx_naks_fatal++;
}

/* The end of the queue pair: what was to be received is given back (10.3.1). */
static void fail(struct model *m, struct model_verdict *v)
{
	m->state = IBV_QPS_ERR;
	v->counts.qp_errors++;
	do {
		if (m->holds)
			model_complete(m, v, IBV_WC_WR_FLUSH_ERR);
	} while (!m->shared_queue && model_take_buffer(m));
	if (m->shared_queue)
		event(v, IBV_EVENT_QP_LAST_WQE_REACHED);
}

/* A NAK after which there is nothing more; no receive tells of it, so an event does. */
static void refuse(struct model *m, struct model_verdict *v, int syndrome)
{
	nak(m, v, syndrome);
	event(v, syndrome == NAK_ACCESS ? IBV_EVENT_QP_ACCESS_ERR : IBV_EVENT_QP_REQ_ERR);
	fail(m, v);
}

/* A peer may invalidate the windows of type 2 that were bound for it. The specification
 * gives the error no NAK (9.9.3, class J); the device has one, so that the peer gives up.
 */
static enum ibv_wc_status invalidate(
	struct model *m, struct model_verdict *v, uint32_t key)
{
	for (int i = 0; i < MODEL_REGIONS; i++) {
		struct model_region *r = &m->region[i];

		if (!key || r->key != key || r->window != 2 || r->qpn != m->qpn ||
			r->pd != m->pd)
			continue;
		r->key = 0;
		v->counts.rx_invalidates++;
		return IBV_WC_SUCCESS;
	}
	return IBV_WC_REM_INV_REQ_ERR;
}

static enum ibv_wc_status receive_send(
	struct model *m, struct model_verdict *v, const struct mp *p)
{
	enum ibv_wc_status status = model_fill_buffer(m, v, p->data, p->n_data);

	if (status == IBV_WC_SUCCESS && mp_has(p, 'K'))
		status = invalidate(m, v, p->to_invalidate);
	return status;
}

static int nak_for(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_LOC_LEN_ERR:
		return NAK_INVALID;
	case IBV_WC_REM_INV_REQ_ERR:
		return NAK_ACCESS;
	default:
		return NAK_OPERATION;
	}
}

static void receive_data(struct model *m, struct model_verdict *v, const struct mp *p)
{
	enum ibv_wc_status status;
	int syndrome;

	if (!model_is_in_order(m, p)) {
		refuse(m, v, NAK_INVALID);
		return;
	}
	/* Whether there is a buffer is asked before whether the key is right. */
	if (model_wants_buffer(m, p) && !model_take_buffer(m)) {
		nak(m, v, RNR | (int)m->rnr_timer);
		m->told_of_hole = true;
		return;
	}
	if (mp_has(p, '('))
		model_begin_message(m, p);
	if (mp_has(p, 'S')) {
		status = receive_send(m, v, p);
		if (status != IBV_WC_SUCCESS) {
			model_complete(m, v, status);
			nak(m, v, nak_for(status));
			fail(m, v);
			return;
		}
	} else {
		syndrome = model_write_memory(m, p);
		if (syndrome) {
			refuse(m, v, syndrome);
			return;
		}
	}
	m->told_of_hole = false;
	m->last_data_psn = m->expected;
	m->expected = after(m->expected, 1);
	if (mp_has(p, ')'))
		model_end_message(m, v, p);
	if (p->ack_req)
		acknowledge(m, v);
}

static uint32_t packets_for(const struct model *m, uint32_t n_bytes)
{
	return n_bytes > m->mtu ? (uint32_t)(((uint64_t)n_bytes + m->mtu - 1) / m->mtu)
				: 1;
}

static int judge_read(const struct model *m, const struct mp *p, int64_t *at)
{
	*at = 0;
	if (p->length > MODEL_MSG_MAX)
		return NAK_INVALID;
	if (!(m->access & IBV_ACCESS_REMOTE_READ))
		return NAK_ACCESS;
	/* of no bytes: none of them is read, whatever the key (9.7.4.1.5) */
	if (p->length)
		*at = model_find(
			m, p->key, m->pd, p->va, p->length, IBV_ACCESS_REMOTE_READ);
	return *at < 0 ? NAK_ACCESS : 0;
}

static void answer_read(
	struct model *m, struct model_verdict *v, const struct mp *p, int64_t at)
{
	uint32_t n = packets_for(m, p->length), left = p->length;

	for (uint32_t i = 0; i < n; i++) {
		bool first = i == 0, last = i == n - 1;
		struct model_answer *a = answer(m, v,
			first ? (last ? OP_RESP_ONLY : OP_RESP_FIRST)
			      : (last ? OP_RESP_LAST : OP_RESP_MIDDLE),
			after(p->psn, i));

		a->at = (uint32_t)at + i * m->mtu;
		a->n_data = left < m->mtu ? left : m->mtu;
		left -= a->n_data;
	}
	v->counts.tx_read_responses++;
}

static void answer_atomic(
	struct model *m, struct model_verdict *v, uint32_t psn, uint64_t value)
{
	answer(m, v, OP_ATOMIC_ACK, psn)->original = value;
	v->counts.tx_atomic_responses++;
}

static void took_fetch(struct model *m, uint32_t n_psns)
{
	m->expected = after(m->expected, n_psns);
	m->msn = after(m->msn, 1);
	m->told_of_hole = false;
	m->n_fetches++;
}

static void receive_read(struct model *m, struct model_verdict *v, const struct mp *p)
{
	int64_t at;
	int syndrome = judge_read(m, p, &at);

	if (syndrome) {
		refuse(m, v, syndrome);
		return;
	}
	took_fetch(m, packets_for(m, p->length));
	v->counts.rx_read_requests++;
	answer_read(m, v, p, at);
}

static void receive_atomic(struct model *m, struct model_verdict *v, const struct mp *p)
{
	uint64_t old, new;
	int64_t at;

	if (p->va % 8) {
		refuse(m, v, NAK_INVALID);
		return;
	}
	at = model_find(m, p->key, m->pd, p->va, 8, IBV_ACCESS_REMOTE_ATOMIC);
	/* A region may be known by addresses that its memory does not lie at. */
	if (at < 0 || at % 8 || !(m->access & IBV_ACCESS_REMOTE_ATOMIC)) {
		refuse(m, v, NAK_ACCESS);
		return;
	}
	memcpy(&old, m->memory + at, 8);
	new = mp_has(p, 'F') ? old + p->swap_add : old == p->compare ? p->swap_add : old;
	memcpy(m->memory + at, &new, 8);
	m->atomic[m->n_atomics++ % MODEL_RESULTS] =
		(struct model_atomic){p->psn, old, m->n_fetches};
	took_fetch(m, 1);
	v->counts.rx_atomic_requests++;
	answer_atomic(m, v, p->psn, old);
}

/* The result of an earlier atomic; those that the peer may still wait for must be there,
 * older ones may be.
 */
static void repeat_atomic(struct model *m, struct model_verdict *v, const struct mp *p)
{
	uint32_t n = m->n_atomics < MODEL_RESULTS ? m->n_atomics : MODEL_RESULTS;

	for (uint32_t i = 1; i <= n; i++) {
		const struct model_atomic *a =
			&m->atomic[(m->n_atomics - i) % MODEL_RESULTS];

		if (a->psn != p->psn)
			continue;
		answer_atomic(m, v, p->psn, a->value);
		v->may_be_silent = m->n_fetches - a->n_fetches > m->max_fetches;
		return;
	}
}

/* What comes again is answered again, and not done again (9.7.5.1.4). */
static void receive_again(struct model *m, struct model_verdict *v, const struct mp *p)
{
	int64_t at;

	v->counts.rx_duplicate++;
	if (mp_has(p, 'C') || mp_has(p, 'F')) {
		repeat_atomic(m, v, p);
	} else if (!mp_has(p, 'R')) {
		acknowledge(m, v);
	} else if (!judge_read(m, p, &at)) {
		uint32_t end = after(p->psn, packets_for(m, p->length));

		/* not beyond what was asked for before */
		if (end == m->expected || is_behind(end, m->expected))
			answer_read(m, v, p, at);
	}
}

void model_receive_reliable(struct model *m, struct model_verdict *v, const struct mp *p)
{
	if (strchr("rax", p->form[0])) {
		model_drop(v, "rx_drop_stale_ack"); /* nothing was asked */
		return;
	}
	v->counts.rx_request_packets++;
	if (is_behind(p->psn, m->expected)) {
		receive_again(m, v, p);
	} else if (p->psn != m->expected) {
		v->counts.rx_out_of_sequence++;
		if (!m->told_of_hole)
			nak(m, v, NAK_SEQUENCE);
		m->told_of_hole = true;
	} else if (!strchr("RCF", p->form[0])) {
		receive_data(m, v, p);
	} else if (m->message) {
		refuse(m, v, NAK_INVALID);
	} else if (p->form[0] == 'R') {
		receive_read(m, v, p);
	} else {
		receive_atomic(m, v, p);
	}
}
