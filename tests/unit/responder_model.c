/* SPDX-License-Identifier: BSD-3-Clause */
#include "responder_model.h"
#include "model_priv.h"

#include <string.h>

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

/* What is wrong with the packet whatever it asks for (9.6). */
static void judge_headers(struct model *m, struct model_verdict *v, const struct mp *p,
	const struct model_origin *origin)
{
	static const int services[] = {
		[IBV_QPT_RC] = 0, [IBV_QPT_UC] = 1, [IBV_QPT_UD] = 3};

	if (p->qpn != m->qpn) {
		model_drop(v, "rx_drop_no_qp");
		return;
	}
	if (m->state == IBV_QPS_RESET || m->state == IBV_QPS_INIT ||
		m->state == IBV_QPS_ERR)
		model_drop(v, "rx_drop_qp_state");
	if (mp_service(p) != services[m->type] && p->opcode != MP_CNP)
		model_drop(v, "rx_drop_unsupported");
	if (m->type != IBV_QPT_UD && !origin->from_peer)
		model_drop(v, "rx_drop_source");
	/* Bit 15 is the membership's kind. */
	if ((p->pkey | 0x8000) != 0xffff)
		model_drop(v, "rx_drop_pkey");
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
		model_drop(v, "rx_drop_malformed");
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
		model_receive_reliable(m, v, &p);
	else if (m->type == IBV_QPT_UC)
		model_receive_unreliable(m, v, &p);
	else
		model_receive_datagram(m, v, &p, size, origin);
}
