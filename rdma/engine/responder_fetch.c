/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The responder's answers that carry data: READ and atomics (specification 9.4.4,
 * 9.4.5, 9.7.5.1).
 *
 * A READ's memory is read when its answer is sent, so a repetition may give newer data,
 * as the specification allows. An atomic is done once; its result is kept for
 * repetitions.
 */
#include "engine_priv.h"

#include "lib/util.h"

#include <stdlib.h>

/* PSNs that the answers to a READ of @length bytes take. */
static uint32_t n_answers(const struct qp *qp, uint64_t length)
{
	return length ? (uint32_t)((length + qp->mtu - 1) / qp->mtu) : 1;
}

static struct fetch *todo_at(struct fetches *f, uint32_t index)
{
	return &f->ring[index % f->depth];
}

static struct fetch *atomic_at(struct fetches *f, uint32_t index)
{
	return &f->ring[f->depth + index % f->depth];
}

/* Return: the queue pair's READs and atomics; NULL if there is no memory for them */
static struct fetches *fetches_get(struct qp *qp)
{
	uint32_t depth = qp->attr.max_dest_rd_atomic;
	struct fetches *f = qp->resp.fetches;

	if (f)
		return f;
	f = malloc(sizeof(*f) + 2 * depth * sizeof(f->ring[0]));
	if (!f)
		return NULL;
	*f = (struct fetches){.depth = depth};
	qp->resp.fetches = f;
	return f;
}

void responder_fetch_reset(struct qp *qp)
{
	free(qp->resp.fetches);
	qp->resp.fetches = NULL;
}

static bool is_full(const struct qp *qp)
{
	const struct fetches *f = qp->resp.fetches;

	return f ? f->head - f->tail == f->depth : !qp->attr.max_dest_rd_atomic;
}

/* A new request shows that the peer has the answer to the oldest of a full list, since it
 * has no more under way than there is room for. Where that answer was given and asked for
 * again nevertheless, as both crossed, the repetition is in vain.
 */
static void drop_vain_repeat(struct qp *qp)
{
	struct fetches *fs = qp->resp.fetches;

	if (fs && is_full(qp) && fs->head != fs->tail && todo_at(fs, fs->tail)->is_repeat)
		fs->tail++;
}

bool responder_fetch_is_due(const struct qp *qp)
{
	const struct fetches *fs = qp->resp.fetches;

	return fs && fs->head != fs->tail;
}

static void todo_add(struct qp *qp, struct fetches *fs, const struct fetch *f)
{
	*todo_at(fs, fs->head++) = *f;
	engine_schedule(qp);
}

/* Return: WIRE_SYN_ACK, or the NAK that says why a READ may not be */
static uint8_t check_read(const struct qp *qp, const struct wire_packet *pkt)
{
	if (pkt->dma_len > ENGINE_MSG_MAX)
		return WIRE_SYN_NAK_INVALID_REQUEST;
	if (!(qp->attr.qp_access_flags & IBV_ACCESS_REMOTE_READ))
		return WIRE_SYN_NAK_REMOTE_ACCESS;
	if (pkt->dma_len &&
		!mr_resolve_remote(qp->engine->mrs, pkt->rkey, qp->config.pd, qp->qpn,
			pkt->va, pkt->dma_len, IBV_ACCESS_REMOTE_READ))
		return WIRE_SYN_NAK_REMOTE_ACCESS;
	return WIRE_SYN_ACK;
}

static struct fetch read_of(const struct wire_packet *pkt)
{
	return (struct fetch){
		.psn = pkt->psn,
		.rkey = pkt->rkey,
		.va = pkt->va,
		.length = pkt->dma_len,
	};
}

static uint32_t fetch_read(
	struct qp *qp, struct fetches *fs, const struct wire_packet *pkt)
{
	struct fetch f = read_of(pkt);
	uint8_t syndrome = check_read(qp, pkt);

	if (syndrome != WIRE_SYN_ACK) {
		responder_nak_fatal(qp, syndrome);
		return 0;
	}
	qp->engine->stats.rx_read_requests++;
	todo_add(qp, fs, &f);
	return n_answers(qp, pkt->dma_len);
}

uint64_t responder_do_atomic(
	uint64_t *p, bool is_add, uint64_t swap_add, uint64_t compare)
{
	if (is_add)
		return __atomic_fetch_add(p, swap_add, __ATOMIC_SEQ_CST);
	__atomic_compare_exchange_n(
		p, &compare, swap_add, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	return compare;
}

static uint32_t fetch_atomic(
	struct qp *qp, struct fetches *fs, const struct wire_packet *pkt)
{
	struct fetch f = {.is_atomic = true, .psn = pkt->psn};
	uint8_t *p;

	if (pkt->va % sizeof(uint64_t)) {
		responder_nak_fatal(qp, WIRE_SYN_NAK_INVALID_REQUEST);
		return 0;
	}
	p = mr_resolve_remote(qp->engine->mrs, pkt->rkey, qp->config.pd, qp->qpn, pkt->va,
		sizeof(uint64_t), IBV_ACCESS_REMOTE_ATOMIC);
	/* A region may lie at any address here, whatever address the peer knows it by. */
	if (!p || (uintptr_t)p % sizeof(uint64_t) ||
		!(qp->attr.qp_access_flags & IBV_ACCESS_REMOTE_ATOMIC)) {
		responder_nak_fatal(qp, WIRE_SYN_NAK_REMOTE_ACCESS);
		return 0;
	}
	f.value = responder_do_atomic((uint64_t *)(void *)p,
		(pkt->opcode & 0x1f) == WIRE_FETCH_ADD, pkt->swap_add, pkt->compare);
	*atomic_at(fs, fs->n_atomics++) = f;
	qp->engine->stats.rx_atomic_requests++;
	todo_add(qp, fs, &f);
	return 1;
}

uint32_t responder_fetch(struct qp *qp, const struct wire_packet *pkt)
{
	struct fetches *fs;

	drop_vain_repeat(qp);
	/* more than max_dest_rd_atomic (9.7.4.1.4) */
	if (is_full(qp)) {
		responder_nak_fatal(qp, WIRE_SYN_NAK_INVALID_REQUEST);
		return 0;
	}
	fs = fetches_get(qp);
	if (!fs) { /* as if it had been lost */
		qp->engine->stats.rx_drop_no_memory++;
		return 0;
	}
	if (wire_opcodes[pkt->opcode].flags & WIRE_IS_ATOMIC)
		return fetch_atomic(qp, fs, pkt);
	return fetch_read(qp, fs, pkt);
}

static const struct fetch *find_atomic(struct fetches *fs, uint32_t psn)
{
	uint32_t n = MIN(fs->n_atomics, fs->depth);

	for (uint32_t i = 1; i <= n; i++) {
		const struct fetch *f = atomic_at(fs, fs->n_atomics - i);

		if (f->psn == psn)
			return f;
	}
	return NULL;
}

/* The peer went back to @psn, so it no longer waits for what is due behind that. */
static void todo_go_back(struct fetches *fs, uint32_t psn)
{
	while (fs->head != fs->tail && psn_diff(todo_at(fs, fs->head - 1)->psn, psn) >= 0)
		fs->head--;
}

static void read_again(struct qp *qp, struct fetches *fs, const struct wire_packet *pkt)
{
	struct fetch f = read_of(pkt);

	/* First, as the answers to more than any message would wrap around all PSNs. */
	if (check_read(qp, pkt) != WIRE_SYN_ACK)
		return;
	if (psn_diff(psn_add(f.psn, n_answers(qp, f.length)), qp->resp.epsn) > 0)
		return; /* beyond what was asked for before */
	f.is_repeat = true;
	todo_add(qp, fs, &f);
}

static void atomic_again(struct qp *qp, struct fetches *fs, uint32_t psn)
{
	const struct fetch *done = find_atomic(fs, psn);
	struct fetch f;

	if (!done)
		return;
	f = *done;
	f.is_repeat = true;
	todo_add(qp, fs, &f);
}

void responder_fetch_again(struct qp *qp, const struct wire_packet *pkt)
{
	struct fetches *fs;

	if (qp->resp.fetches)
		todo_go_back(qp->resp.fetches, pkt->psn);
	if (is_full(qp))
		return;
	fs = fetches_get(qp);
	if (!fs)
		qp->engine->stats.rx_drop_no_memory++;
	else if (wire_opcodes[pkt->opcode].flags & WIRE_IS_ATOMIC)
		atomic_again(qp, fs, pkt->psn);
	else
		read_again(qp, fs, pkt);
}

static struct wire_packet answer_to(
	const struct qp *qp, const struct fetch *f, uint8_t operation)
{
	return (struct wire_packet){
		.opcode = WIRE_OPCODE(WIRE_RC, operation),
		.mig_req = true,
		.pkey = WIRE_PKEY_DEFAULT,
		.dest_qpn = qp->attr.dest_qp_num,
		.psn = f->psn,
		.syndrome = WIRE_SYN_ACK_NO_CREDIT_LIMIT,
		.msn = qp->resp.msn,
		.orig_data = f->value,
	};
}

static bool emit_atomic(struct qp *qp, const struct fetch *f, struct link_burst *burst)
{
	struct wire_packet pkt = answer_to(qp, f, WIRE_ATOMIC_ACK);

	if (!engine_emit(qp, burst, &pkt, qp->attr.ah_attr.grh.dgid.raw))
		return false;
	qp->engine->stats.tx_atomic_responses++;
	qp->resp.fetches->tail++;
	return true;
}

/* One packet of a READ's answer. Return: false if there is no room */
static bool emit_read(struct qp *qp, struct fetch *f, struct link_burst *burst)
{
	uint32_t len = MIN(f->length, qp->mtu);
	bool last = len == f->length;
	uint8_t operation = f->begun
				    ? (last ? WIRE_READ_RESP_LAST : WIRE_READ_RESP_MIDDLE)
				    : (last ? WIRE_READ_RESP_ONLY : WIRE_READ_RESP_FIRST);
	struct wire_packet pkt = answer_to(qp, f, operation);
	struct link_tx *tx;
	uint8_t *p = NULL;

	if (burst->n_iovs == LINK_BURST_IOVS)
		return false;
	if (len) {
		p = mr_resolve_remote(qp->engine->mrs, f->rkey, qp->config.pd, qp->qpn,
			f->va, len, IBV_ACCESS_REMOTE_READ);
		if (!p) { /* deregistered in the meantime */
			qp->resp.fetches->tail = qp->resp.fetches->head;
			qp->resp.epsn = f->psn; /* it is this that is refused */
			responder_nak_fatal(qp, WIRE_SYN_NAK_REMOTE_ACCESS);
			return true;
		}
	}
	pkt.pad = -len & 3;
	pkt.payload_len = len;
	tx = engine_emit(qp, burst, &pkt, qp->attr.ah_attr.grh.dgid.raw);
	if (!tx)
		return false;
	if (len) {
		burst->iov[burst->n_iovs++] = (struct iovec){p, len};
		tx->n_iov = 1;
	}
	f->begun = true;
	f->psn = psn_add(f->psn, 1);
	f->va += len;
	f->length -= len;
	if (last) {
		qp->resp.fetches->tail++;
		qp->engine->stats.tx_read_responses++;
	}
	return true;
}

enum fetch_output responder_fetch_output(
	struct qp *qp, struct link_burst *burst, uint64_t now_ns)
{
	struct fetches *fs = qp->resp.fetches;

	if (!fs)
		return FETCH_OUTPUT_ALL;
	for (int n = 0; fs->tail != fs->head; n++) {
		struct fetch *f = todo_at(fs, fs->tail);

		if (engine_pace(qp, now_ns))
			return FETCH_OUTPUT_PACED;
		if (n == ENGINE_QUANTUM_PKTS)
			return FETCH_OUTPUT_FULL;
		if (f->is_atomic ? !emit_atomic(qp, f, burst) : !emit_read(qp, f, burst))
			return FETCH_OUTPUT_FULL;
	}
	if (!fs->n_atomics)
		responder_fetch_reset(qp);
	return FETCH_OUTPUT_ALL;
}
