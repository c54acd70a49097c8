/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unreliable connections and datagrams, as the model has them (9.8).
 */
#include "model_priv.h"

#include <string.h>

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

	if (!model_is_in_order(m, p)) {
		v->counts.rx_out_of_sequence++;
		return false;
	}
	if (model_wants_buffer(m, p) && !model_take_buffer(m)) {
		v->counts.rx_drop_no_buffer++;
		return false;
	}
	if (mp_has(p, '('))
		model_begin_message(m, p);
	if (mp_has(p, 'W')) {
		if (!model_write_memory(m, p))
			return true;
	} else {
		status = model_fill_buffer(m, v, p->data, p->n_data);
		if (status == IBV_WC_SUCCESS)
			return true;
		model_complete(m, v, status);
	}
	v->counts.rx_drop_access++;
	return false;
}

void model_receive_unreliable(
	struct model *m, struct model_verdict *v, const struct mp *p)
{
	v->counts.rx_request_packets++;
	if (p->psn != m->expected || mp_has(p, '('))
		lose(m, v);
	m->expected = after(p->psn, 1);
	if (!receive_part(m, v, p))
		lose(m, v);
	else if (mp_has(p, ')'))
		model_end_message(m, v, p);
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

void model_receive_datagram(struct model *m, struct model_verdict *v, const struct mp *p,
	uint32_t size, const struct model_origin *origin)
{
	uint8_t bytes[MODEL_GRH_SIZE + MP_MAX];
	enum ibv_wc_status status;

	v->counts.rx_request_packets++;
	if (p->n_data > m->mtu)
		model_drop(
			v, "rx_drop_malformed"); /* 9.8.3: no more than the port's MTU */
	if (p->qkey != m->qkey)
		model_drop(v, "rx_drop_qkey");
	if (!m->n_posted)
		model_drop(v, "rx_drop_no_buffer");
	if (v->n_drops)
		return;
	model_take_buffer(m);
	m->got = 0;
	make_grh(origin, size, bytes);
	memcpy(bytes + MODEL_GRH_SIZE, p->data, p->n_data);
	status = model_fill_buffer(m, v, bytes, MODEL_GRH_SIZE + p->n_data);
	if (status == IBV_WC_SUCCESS) {
		model_end_message(m, v, p);
		/* as Mellanox' devices tell: UDP, and over which IP */
		v->wc[v->n_wcs - 1].sl = bytes[0] ? 9 : 10;
	} else {
		model_complete(m, v, status);
		v->counts.rx_drop_access++;
	}
}
