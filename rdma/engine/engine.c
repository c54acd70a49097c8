/* SPDX-License-Identifier: BSD-3-Clause */
#include "engine.h"
#include "engine_priv.h"

#include "lib/util.h"
#include "rdma/wire/gid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LINE_RATE_DEFAULT (10 * NSEC_PER_SEC / 8)

int engine_create(struct engine **out)
{
	struct engine *e = aligned_alloc(CACHE_LINE, sizeof(*e));
	int rc;

	if (!e)
		return -ENOMEM;
	memset(e, 0, sizeof(*e));
	rc = mr_table_create(&e->mrs);
	if (rc)
		goto err_free;
	rc = idtable_init(&e->qps, ENGINE_QP_MAX, 0);
	if (rc)
		goto err_mrs;
	TAILQ_INIT(&e->ready);
	LIST_INIT(&e->lanes);
	e->line_rate = LINE_RATE_DEFAULT;
	*out = e;
	return 0;

err_mrs:
	mr_table_destroy(e->mrs);
err_free:
	free(e);
	return rc;
}

void engine_destroy(struct engine *e)
{
	if (!e)
		return;
	idtable_destroy(&e->qps);
	mr_table_destroy(e->mrs);
	free(e);
}

struct mr_table *engine_mrs(struct engine *e)
{
	lanes_close_all(e);
	return e->mrs;
}

void engine_set_line_rate(struct engine *e, uint64_t rate)
{
	e->line_rate = rate;
}

const struct engine_stats *engine_stats(struct engine *e)
{
	lanes_close_all(e);
	return &e->stats;
}

void engine_schedule(struct qp *qp)
{
	if (qp->is_ready)
		return;
	qp->is_ready = true;
	TAILQ_INSERT_TAIL(&qp->engine->ready, qp, ready_entry);
}

void engine_arm(struct qp *qp, uint64_t due_ns)
{
	timer_set(&qp->engine->timers, &qp->req.timer, due_ns);
}

bool engine_pace_throttled(struct qp *qp, uint64_t now_ns)
{
	struct throttle *t = qp->throttle;
	uint64_t gate_ns = dcqcn_gate(&t->dcqcn, now_ns);

	if (!gate_ns)
		return false;
	timer_set(&qp->engine->gates, &t->gate, gate_ns);
	return true;
}

static const uint8_t no_gid[16];

void engine_set_gid(struct engine *e, uint8_t index, const uint8_t gid[16])
{
	lanes_close_all(e);
	memcpy(e->gid[index], gid ? gid : no_gid, sizeof(e->gid[index]));
	e->knows_gids = true;
}

bool engine_has_gid(const struct engine *e, uint8_t index)
{
	if (!e->knows_gids)
		return index == 0;
	return index < ENGINE_GID_MAX && memcmp(e->gid[index], no_gid, sizeof(no_gid));
}

uint8_t engine_gid_index(const struct engine *e, const uint8_t gid[16])
{
	uint8_t i = 0;

	while (i < ENGINE_GID_MAX && memcmp(e->gid[i], gid, sizeof(e->gid[i])) != 0)
		i++;
	return i;
}

uint64_t engine_deadline(const struct engine *e)
{
	return MIN(timers_deadline(&e->timers), timers_deadline(&e->gates));
}

void engine_expire(struct engine *e, uint64_t now_ns)
{
	struct timer *t;

	while ((t = timers_take(&e->timers, now_ns)))
		retry_timer(container_of(t, struct qp, req.timer), now_ns);
	while ((t = timers_take(&e->gates, now_ns)))
		engine_schedule(container_of(t, struct throttle, gate)->qp);
}

static bool came_from_peer(const struct qp *qp, const struct link_rx *rx)
{
	return !memcmp(rx->sgid, qp->attr.ah_attr.grh.dgid.raw, sizeof(rx->sgid));
}

/* To the address that the queue pair is connected from. */
static bool came_to_qp(const struct qp *qp, const struct link_rx *rx)
{
	const struct engine *e = qp->engine;

	return !e->knows_gids ||
	       !memcmp(rx->dgid, e->gid[qp->attr.ah_attr.grh.sgid_index],
		       sizeof(rx->dgid));
}

enum wire_service engine_service(const struct qp *qp)
{
	switch (qp->config.type) {
	case IBV_QPT_UC:
		return WIRE_UC;
	case IBV_QPT_UD:
		return WIRE_UD;
	default:
		return WIRE_RC;
	}
}

void engine_input_to(struct qp *qp, const struct wire_packet *pkt,
	const struct link_rx *rx, uint64_t now_ns)
{
	uint32_t flags = wire_opcodes[pkt->opcode].flags;
	struct engine *e = qp->engine;

	lanes_close(qp);
	if (qp->state < IBV_QPS_RTR || qp->state > IBV_QPS_SQE) {
		e->stats.rx_drop_qp_state++;
		return;
	}
	if (pkt->opcode >> 5 != engine_service(qp) && !(flags & WIRE_IS_CNP)) {
		e->stats.rx_drop_unsupported++;
		return;
	}
	if (qp->config.type != IBV_QPT_UD && !came_from_peer(qp, rx)) {
		e->stats.rx_drop_source++;
		return;
	}
	if (qp->config.type != IBV_QPT_UD && !came_to_qp(qp, rx)) {
		e->stats.rx_drop_destination++;
		return;
	}
	/* Bit 15 tells full from limited membership; the rest must be equal (10.9.3). */
	if ((pkt->pkey & 0x7fff) != (WIRE_PKEY_DEFAULT & 0x7fff)) {
		e->stats.rx_drop_pkey++;
		return;
	}
	if (unlikely(flags & WIRE_IS_CNP)) {
		cnp_input(qp, now_ns);
		return;
	}
	/* Members of a group would all tell its sender. */
	if (unlikely(rx->ecn == LINK_ECN_CE && pkt->dest_qpn != WIRE_QPN_MULTICAST))
		cnp_marked(qp, pkt, rx, now_ns);
	if (qp->config.type != IBV_QPT_RC)
		unreliable_input(qp, pkt, rx);
	else if (flags & WIRE_IS_RESPONSE)
		completer_input(qp, pkt, now_ns);
	else
		responder_input(qp, pkt);
}

static void input_one(struct engine *e, const struct link_rx *rx, uint64_t now_ns)
{
	struct wire_packet pkt;
	struct qp *qp;

	if (wire_parse(rx->data, rx->len, &pkt)) {
		e->stats.rx_drop_malformed++;
		return;
	}
	if (unlikely(gid_is_multicast(rx->dgid))) {
		mcast_input(e, &pkt, rx, now_ns);
		return;
	}
	qp = idtable_find(&e->qps, pkt.dest_qpn);
	if (!qp) {
		e->stats.rx_drop_no_qp++;
		return;
	}
	engine_input_to(qp, &pkt, rx, now_ns);
}

void engine_input(struct engine *e, const struct link_rx *pkts, int n, uint64_t now_ns)
{
	for (int i = 0; i < n; i++)
		input_one(e, &pkts[i], now_ns);
}

struct link_tx *engine_emit(struct qp *qp, struct link_burst *burst,
	const struct wire_packet *pkt, const uint8_t dgid[16])
{
	struct link_tx *tx;

	if (burst->n_pkts == LINK_BURST)
		return NULL;
	tx = &burst->pkt[burst->n_pkts++];
	tx->hdr_len = (uint8_t)wire_build(pkt, tx->hdr);
	tx->pad = pkt->pad;
	tx->iov_first = (uint16_t)burst->n_iovs;
	tx->n_iov = 0;
	tx->sport_hash = qp->sport_hash;
	tx->sgid_index = qp->attr.ah_attr.grh.sgid_index;
	tx->payload_len = pkt->payload_len;
	memcpy(tx->dgid, dgid, sizeof(tx->dgid));
	if (qp->throttle)
		dcqcn_sent(&qp->throttle->dcqcn, tx->hdr_len + tx->payload_len);
	return tx;
}

/* Requests go before the answer: a short packet behind longer ones can share their system
 * call (UDP GSO), and in a ping-pong the pong is what is waited for.
 * Return: true if the queue pair has more to send than it got room for.
 */
static bool qp_output(struct qp *qp, struct link_burst *burst, uint64_t now_ns)
{
	bool more;

	lane_close(qp);
	more = qp->throttle && !cnp_output(qp, burst);
	more |= requester_output(qp, burst, now_ns);
	if (lane_comes_in(qp))
		return more;
	return !responder_output(qp, burst, now_ns) || more;
}

int engine_output(struct engine *e, struct link_burst *burst, uint64_t now_ns)
{
	struct qp *qp;

	e->n_bursts++;
	burst->n_pkts = 0;
	burst->n_iovs = 0;
	while ((qp = TAILQ_FIRST(&e->ready)) && burst->n_pkts < LINK_BURST) {
		uint64_t direct = e->stats.direct_messages;
		int before = burst->n_pkts;

		TAILQ_REMOVE(&e->ready, qp, ready_entry);
		qp->is_ready = false;
		if (!qp_output(qp, burst, now_ns))
			continue;
		engine_schedule(qp);
		/* no room for another payload piece */
		if (burst->n_pkts == before && e->stats.direct_messages == direct)
			break;
	}
	return burst->n_pkts;
}
