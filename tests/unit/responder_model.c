/* SPDX-License-Identifier: BSD-3-Clause */
#include "responder_model.h"

#include <string.h>

/* AETH syndromes (9.7.5.2.1) */
enum {
	ACK = 0x1f, /* credits are not counted */
	RNR = 0x20,
	NAK_SEQUENCE = 0x60,
	NAK_INVALID = 0x61,
	NAK_ACCESS = 0x62,
	NAK_OPERATION = 0x63,
};

enum {
	OP_RESP_FIRST = 0x0d,
	OP_RESP_MIDDLE,
	OP_RESP_LAST,
	OP_RESP_ONLY,
	OP_ACK,
	OP_ATOMIC_ACK
};

static uint32_t after(uint32_t psn, uint32_t n)
{
	return (psn + n) % (1u << 24);
}

/* Of all 2^24 PSNs the half behind the expected one are duplicates (9.7.1). */
static bool is_behind(uint32_t psn, uint32_t expected)
{
	return after(psn, (1u << 24) - expected) >= 1u << 23;
}

void model_connect(struct model *m, uint32_t psn)
{
	m->expected = psn;
	m->last_data_psn = after(psn, 0xffffff);
	m->msn = 0;
	m->told_of_hole = false;
	m->message = 0;
	m->holds = false;
	m->n_atomics = 0;
	m->n_fetches = 0;
}

int64_t model_find(const struct model *m, uint32_t key, uint32_t pd, uint64_t va,
	uint64_t length, int access)
{
	for (int i = 0; i < MODEL_REGIONS; i++) {
		const struct model_region *r = &m->region[i];

		if (!r->key || r->key != key)
			continue;
		if (r->pd != pd || (r->access & access) != access)
			return -1;
		if (r->window == 2 && r->qpn != m->qpn)
			return -1;
		if (va < r->va || va - r->va > r->length ||
			r->length - (va - r->va) < length)
			return -1;
		return (int64_t)(r->at + (va - r->va));
	}
	return -1;
}

/* Verdicts. */

static void drop(struct model_verdict *v, const char *counter)
{
	v->drop[v->n_drops++] = counter;
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

/* Receive queues. */

static void complete(struct model *m, struct model_verdict *v, enum ibv_wc_status status)
{
	v->wc[v->n_wcs++] =
		(struct ibv_wc){.wr_id = m->held.id, .status = status, .qp_num = m->qpn};
	m->holds = false;
}

static void complete_message(struct model *m, struct model_verdict *v, const struct mp *p)
{
	struct ibv_wc *wc;

	complete(m, v, IBV_WC_SUCCESS);
	wc = &v->wc[v->n_wcs - 1];
	wc->opcode = mp_has(p, 'W') ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV;
	wc->byte_len = (uint32_t)m->got;
	wc->src_qp = m->peer_qpn;
	if (mp_has(p, 'I')) {
		wc->wc_flags |= IBV_WC_WITH_IMM;
		memcpy(&wc->imm_data, p->imm, 4);
	}
	if (mp_has(p, 'K')) {
		wc->wc_flags |= IBV_WC_WITH_INV;
		wc->invalidated_rkey = p->to_invalidate;
	}
	if (mp_has(p, 'D')) {
		wc->wc_flags |= IBV_WC_GRH;
		wc->src_qp = p->src_qpn;
	}
}

/* The held buffer's receive ends in an error. */
static enum ibv_wc_status spoil(
	struct model *m, struct model_verdict *v, enum ibv_wc_status status)
{
	v->is_spoiled = true;
	v->spoiled = m->held;
	return status;
}

static bool take_buffer(struct model *m)
{
	if (!m->n_posted)
		return false;
	m->held = m->posted[0];
	m->holds = true;
	memmove(&m->posted[0], &m->posted[1], --m->n_posted * sizeof(m->posted[0]));
	return true;
}

/* Put @n bytes behind those that the held buffer has got already. */
static enum ibv_wc_status fill_buffer(
	struct model *m, struct model_verdict *v, const uint8_t *data, uint32_t n)
{
	uint64_t skip = m->got;

	m->got += n;
	for (int i = 0; i < m->held.n && n; i++) {
		const struct model_piece *piece = &m->held.piece[i];
		uint64_t room = piece->length;
		int64_t at;

		if (skip >= room) {
			skip -= room;
			continue;
		}
		room -= skip;
		if (room > n)
			room = n;
		at = model_find(m, piece->key, m->pd, piece->va + skip, room,
			IBV_ACCESS_LOCAL_WRITE);
		if (at < 0)
			return spoil(m, v, IBV_WC_LOC_PROT_ERR);
		memcpy(m->memory + at, data, room);
		data += room;
		n -= (uint32_t)room;
		skip = 0;
	}
	return n ? spoil(m, v, IBV_WC_LOC_LEN_ERR) : IBV_WC_SUCCESS;
}

/* The end of the queue pair: what was to be received is given back (10.3.1). */
static void fail(struct model *m, struct model_verdict *v)
{
	m->state = IBV_QPS_ERR;
	v->counts.qp_errors++;
	do {
		if (m->holds)
			complete(m, v, IBV_WC_WR_FLUSH_ERR);
	} while (!m->shared_queue && take_buffer(m));
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

/* Messages of SEND and WRITE. */

/* Is it the packet that comes next in a message, and as long as one there must be
 * (9.7.4.1.1, 9.7.4.1.3)?
 */
static bool is_in_order(const struct model *m, const struct mp *p)
{
	bool begins = mp_has(p, '('), ends = mp_has(p, ')');

	if (begins ? m->message != 0 : m->message != p->form[0])
		return false;
	if (!ends)
		return p->n_data == m->mtu;
	return p->n_data <= m->mtu && (begins || p->n_data);
}

static bool wants_buffer(const struct model *m, const struct mp *p)
{
	if (m->holds)
		return false;
	return mp_has(p, 'S') ? mp_has(p, '(') : mp_has(p, 'I');
}

static void begin_message(struct model *m, const struct mp *p)
{
	m->message = p->form[0];
	m->got = 0;
	m->to_va = p->va;
	m->to_key = p->key;
	m->to_length = p->length;
}

/* Return: 0, or the NAK that the packet's data deserves */
static int write_memory(struct model *m, const struct mp *p)
{
	uint64_t end = m->got + p->n_data;
	int64_t at;

	if (m->to_length > MODEL_MSG_MAX || end > m->to_length)
		return NAK_INVALID;
	if (mp_has(p, ')') && end < m->to_length)
		return NAK_INVALID;
	if (!(m->access & IBV_ACCESS_REMOTE_WRITE))
		return NAK_ACCESS;
	if (m->to_length) {
		/* all of it, from the first packet on: nothing of a WRITE is done that
		 * can't be done whole */
		at = model_find(m, m->to_key, m->pd, m->to_va, m->to_length,
			IBV_ACCESS_REMOTE_WRITE);
		if (at < 0)
			return NAK_ACCESS;
		memcpy(m->memory + at + m->got, p->data, p->n_data);
	}
	m->got = end;
	return 0;
}

static void end_message(struct model *m, struct model_verdict *v, const struct mp *p)
{
	m->message = 0;
	m->msn = after(m->msn, 1);
	if (mp_has(p, 'S'))
		v->counts.rx_send_messages++;
	else
		v->counts.rx_write_messages++;
	if (mp_has(p, 'S') || mp_has(p, 'I'))
		complete_message(m, v, p);
}

/* Reliable connections. */

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
	enum ibv_wc_status status = fill_buffer(m, v, p->data, p->n_data);

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

	if (!is_in_order(m, p)) {
		refuse(m, v, NAK_INVALID);
		return;
	}
	/* Whether there is a buffer is asked before whether the key is right. */
	if (wants_buffer(m, p) && !take_buffer(m)) {
		nak(m, v, RNR | (int)m->rnr_timer);
		m->told_of_hole = true;
		return;
	}
	if (mp_has(p, '('))
		begin_message(m, p);
	if (mp_has(p, 'S')) {
		status = receive_send(m, v, p);
		if (status != IBV_WC_SUCCESS) {
			complete(m, v, status);
			nak(m, v, nak_for(status));
			fail(m, v);
			return;
		}
	} else {
		syndrome = write_memory(m, p);
		if (syndrome) {
			refuse(m, v, syndrome);
			return;
		}
	}
	m->told_of_hole = false;
	m->last_data_psn = m->expected;
	m->expected = after(m->expected, 1);
	if (mp_has(p, ')'))
		end_message(m, v, p);
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

static void receive_reliable(struct model *m, struct model_verdict *v, const struct mp *p)
{
	if (strchr("rax", p->form[0])) {
		drop(v, "rx_drop_stale_ack"); /* nothing was asked */
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

/* Unreliable connections: a message that lacks a packet is lost, without a word; its
 * buffer waits for the next (9.8.2.2).
 */

static void lose(struct model *m, struct model_verdict *v)
{
	if (m->message)
		v->counts.rx_messages_cut_off++;
	m->message = 0;
}

static bool receive_part(struct model *m, struct model_verdict *v, const struct mp *p)
{
	enum ibv_wc_status status;

	if (!is_in_order(m, p)) {
		v->counts.rx_out_of_sequence++;
		return false;
	}
	if (wants_buffer(m, p) && !take_buffer(m)) {
		v->counts.rx_drop_no_buffer++;
		return false;
	}
	if (mp_has(p, '('))
		begin_message(m, p);
	if (mp_has(p, 'W')) {
		if (!write_memory(m, p))
			return true;
	} else {
		status = fill_buffer(m, v, p->data, p->n_data);
		if (status == IBV_WC_SUCCESS)
			return true;
		complete(m, v, status);
	}
	v->counts.rx_drop_access++;
	return false;
}

static void receive_unreliable(
	struct model *m, struct model_verdict *v, const struct mp *p)
{
	v->counts.rx_request_packets++;
	if (p->psn != m->expected || mp_has(p, '('))
		lose(m, v);
	m->expected = after(p->psn, 1);
	if (!receive_part(m, v, p))
		lose(m, v);
	else if (mp_has(p, ')'))
		end_message(m, v, p);
}

/* Datagrams. */

/* The header in front of the data (A17.4.5.2). Lengths count from UDP to ICRC. */
static void make_grh(
	const struct model_origin *o, uint32_t size, uint8_t grh[MODEL_GRH_SIZE])
{
	static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	uint32_t length = 8 + size + 4, sum = 0;

	memset(grh, 0, MODEL_GRH_SIZE);
	if (memcmp(o->sgid, v4_prefix, 12)) {
		const uint8_t ip[8] = {
			0x60, 0, 0, 0, (uint8_t)(length >> 8), (uint8_t)length, 17, 64};

		memcpy(grh, ip, 8);
		memcpy(grh + 8, o->sgid, 16);
		memcpy(grh + 24, o->dgid, 16);
		return;
	}
	length += 20;
	grh[20] = 0x45;
	grh[21] = o->ecn;
	grh[22] = (uint8_t)(length >> 8);
	grh[23] = (uint8_t)length;
	grh[26] = 0x40;
	grh[28] = 64;
	grh[29] = 17;
	memcpy(grh + 32, o->sgid + 12, 4);
	memcpy(grh + 36, o->dgid + 12, 4);
	for (int i = 20; i < 40; i++)
		sum += i % 2 ? grh[i] : grh[i] * 256u;
	while (sum > 0xffff)
		sum = (sum & 0xffff) + (sum >> 16);
	grh[30] = (uint8_t)(~sum >> 8);
	grh[31] = (uint8_t)~sum;
}

static void receive_datagram(struct model *m, struct model_verdict *v, const struct mp *p,
	uint32_t size, const struct model_origin *origin)
{
	uint8_t bytes[MODEL_GRH_SIZE + MP_MAX];
	enum ibv_wc_status status;

	v->counts.rx_request_packets++;
	if (p->n_data > m->mtu)
		drop(v, "rx_drop_malformed"); /* 9.8.3: no more than the port's MTU */
	if (p->qkey != m->qkey)
		drop(v, "rx_drop_qkey");
	if (!m->n_posted)
		drop(v, "rx_drop_no_buffer");
	if (v->n_drops)
		return;
	take_buffer(m);
	m->got = 0;
	make_grh(origin, size, bytes);
	memcpy(bytes + MODEL_GRH_SIZE, p->data, p->n_data);
	status = fill_buffer(m, v, bytes, MODEL_GRH_SIZE + p->n_data);
	if (status == IBV_WC_SUCCESS) {
		end_message(m, v, p);
		/* as Mellanox' devices tell: UDP, and over which IP */
		v->wc[v->n_wcs - 1].sl = bytes[0] ? 9 : 10;
	} else {
		complete(m, v, status);
		v->counts.rx_drop_access++;
	}
}

/* What is wrong with the packet whatever it asks for (9.6). */
static void judge_headers(struct model *m, struct model_verdict *v, const struct mp *p,
	const struct model_origin *origin)
{
	static const int services[] = {
		[IBV_QPT_RC] = 0, [IBV_QPT_UC] = 1, [IBV_QPT_UD] = 3};

	if (p->qpn != m->qpn) {
		drop(v, "rx_drop_no_qp");
		return;
	}
	if (m->state == IBV_QPS_RESET || m->state == IBV_QPS_INIT ||
		m->state == IBV_QPS_ERR)
		drop(v, "rx_drop_qp_state");
	if (mp_service(p) != services[m->type] && p->opcode != MP_CNP)
		drop(v, "rx_drop_unsupported");
	if (m->type != IBV_QPT_UD && !origin->from_peer)
		drop(v, "rx_drop_source");
	/* Bit 15 is the membership's kind. */
	if ((p->pkey | 0x8000) != 0xffff)
		drop(v, "rx_drop_pkey");
}

/* A switch has marked the packet (IP's ECN bits are 3): who sends data is told, whatever
 * becomes of it (A17.9.3).
 */
static void judge_mark(struct model *m, struct model_verdict *v, const struct mp *p,
	const struct model_origin *origin)
{
	if (origin->ecn != 3)
		return;
	v->counts.rx_ecn_marked++;
	if (!mp_has(p, '.'))
		return;
	v->notifies = true;
	v->notified_qpn = m->type == IBV_QPT_UD ? p->src_qpn : m->peer_qpn;
	v->counts.tx_cnps++;
}

void model_receive(struct model *m, const uint8_t *bytes, uint32_t size,
	const struct model_origin *origin, struct model_verdict *v)
{
	struct mp p;

	v->n_drops = v->n_answers = v->n_wcs = v->n_events = 0;
	v->may_be_silent = v->notifies = false;
	v->is_spoiled = false;
	memset(&v->counts, 0, sizeof(v->counts));
	if (!mp_parse(bytes, size, &p)) {
		drop(v, "rx_drop_malformed");
		return;
	}
	judge_headers(m, v, &p, origin);
	if (v->n_drops)
		return;
	if (p.opcode == MP_CNP) {
		v->counts.rx_cnps++;
		return;
	}
	judge_mark(m, v, &p, origin);
	if (m->type == IBV_QPT_RC)
		receive_reliable(m, v, &p);
	else if (m->type == IBV_QPT_UC)
		receive_unreliable(m, v, &p);
	else
		receive_datagram(m, v, &p, size, origin);
}
