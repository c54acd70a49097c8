/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Congestion notification packets (annex A17.9.3): sent for packets that a switch has
 * marked, and what one that comes does. dcqcn.h has the arithmetic.
 */
#include "engine_priv.h"

#include "lib/util.h"

#include <stdlib.h>
#include <string.h>

/* At most one per queue pair in this time, as NICs do. */
#define INTERVAL_NS (50 * NSEC_PER_USEC)

static struct throttle *throttle_get(struct qp *qp)
{
	struct throttle *t = qp->throttle;

	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (!t) {
		qp->engine->stats.cnps_no_memory++;
		return NULL;
	}
	t->qp = qp;
	dcqcn_reset(&t->dcqcn, qp->engine->line_rate);
	qp->throttle = t;
	return t;
}

void cnp_reset(struct qp *qp)
{
	if (!qp->throttle)
		return;
	timer_remove(&qp->engine->gates, &qp->throttle->gate);
	free(qp->throttle);
	qp->throttle = NULL;
}

/* A notification comes from the address that the marked packet was sent to. */
static uint8_t source_index(const struct qp *qp, const struct link_rx *rx)
{
	if (qp->config.type != IBV_QPT_UD || !qp->engine->knows_gids)
		return qp->attr.ah_attr.grh.sgid_index;
	return engine_gid_index(qp->engine, rx->dgid);
}

void cnp_marked(struct qp *qp, const struct wire_packet *pkt, const struct link_rx *rx,
	uint64_t now_ns)
{
	struct throttle *throttle;
	struct cnp *cnp;

	qp->engine->stats.rx_ecn_marked++;
	/* Slowing down who sends ACKs only would not help. */
	if (!(wire_opcodes[pkt->opcode].flags & WIRE_HAS_PAYLOAD))
		return;
	throttle = throttle_get(qp);
	if (!throttle)
		return;
	cnp = &throttle->cnp;
	if (cnp->is_due || now_ns < cnp->next_ns)
		return;
	cnp->is_due = true;
	cnp->next_ns = now_ns + INTERVAL_NS;
	cnp->qpn = qp->config.type == IBV_QPT_UD ? pkt->src_qpn : qp->attr.dest_qp_num;
	memcpy(cnp->gid, rx->sgid, sizeof(cnp->gid));
	cnp->sgid_index = source_index(qp, rx);
	engine_schedule(qp);
}

bool cnp_output(struct qp *qp, struct link_burst *burst)
{
	struct cnp *cnp = &qp->throttle->cnp;
	struct wire_packet pkt = {
		.opcode = WIRE_OPCODE_CNP,
		.becn = true,
		.pkey = WIRE_PKEY_DEFAULT,
		.dest_qpn = cnp->qpn,
	};
	struct link_tx *tx;

	if (!cnp->is_due)
		return true;
	tx = engine_emit(qp, burst, &pkt, cnp->gid);
	if (!tx)
		return false;
	tx->sgid_index = cnp->sgid_index;
	cnp->is_due = false;
	qp->engine->stats.tx_cnps++;
	return true;
}

void cnp_input(struct qp *qp, uint64_t now_ns)
{
	struct engine_stats *stats = &qp->engine->stats;
	struct throttle *throttle = throttle_get(qp);

	stats->rx_cnps++;
	if (throttle && dcqcn_notified(&throttle->dcqcn, now_ns, qp->rtt.mean_ns))
		stats->rate_cuts++;
}
