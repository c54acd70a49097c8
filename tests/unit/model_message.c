/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model's memory, receive buffers and messages of SEND and WRITE, as all services
 * have them.
 */
#include "model_priv.h"

#include <string.h>

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

/* Receive queues. */

void model_complete(struct model *m, struct model_verdict *v, enum ibv_wc_status status)
{
	v->wc[v->n_wcs++] =
		(struct ibv_wc){.wr_id = m->held.id, .status = status, .qp_num = m->qpn};
	m->holds = false;
}

static void complete_message(struct model *m, struct model_verdict *v, const struct mp *p)
{
	struct ibv_wc *wc;

	model_complete(m, v, IBV_WC_SUCCESS);
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

bool model_take_buffer(struct model *m)
{
	if (!m->n_posted)
		return false;
	m->held = m->posted[0];
	m->holds = true;
	memmove(&m->posted[0], &m->posted[1], --m->n_posted * sizeof(m->posted[0]));
	return true;
}

/* Put @n bytes behind those that the held buffer has got already. */
enum ibv_wc_status model_fill_buffer(
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

/* Messages of SEND and WRITE. */

/* Is it the packet that comes next in a message, and as long as one there must be
 * (9.7.4.1.1, 9.7.4.1.3)?
 */
bool model_is_in_order(const struct model *m, const struct mp *p)
{
	bool begins = mp_has(p, '('), ends = mp_has(p, ')');

	if (begins ? m->message != 0 : m->message != p->form[0])
		return false;
	if (!ends)
		return p->n_data == m->mtu;
	return p->n_data <= m->mtu && (begins || p->n_data);
}

bool model_wants_buffer(const struct model *m, const struct mp *p)
{
	if (m->holds)
		return false;
	return mp_has(p, 'S') ? mp_has(p, '(') : mp_has(p, 'I');
}

void model_begin_message(struct model *m, const struct mp *p)
{
	m->message = p->form[0];
	m->got = 0;
	m->to_va = p->va;
	m->to_key = p->key;
	m->to_length = p->length;
}

/* Return: 0, or the NAK that the packet's data deserves */
int model_write_memory(struct model *m, const struct mp *p)
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

void model_end_message(struct model *m, struct model_verdict *v, const struct mp *p)
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
