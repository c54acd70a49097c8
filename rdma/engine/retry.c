/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Retries of RC: what is done when the peer tells of a loss, and when it says nothing.
 *
 * A receiver tells of a hole once. Nothing tells of the loss of the last packet, or of
 * one that was sent again. Then the local ACK timeout is to help, which most programs set
 * to 67 ms or more, as their networks lose nothing. So where the round trip is known,
 * what is not acknowledged is sent again sooner, and ever less often until the timeout;
 * that is not counted as a retry, and the peer passes over what it has.
 */
#include "engine_priv.h"

#include "lib/util.h"

/* A peer may have to wake up first; but one that has just told of a loss is awake. */
#define HASTY_NS       (1 * NSEC_PER_MSEC)
#define HASTY_AWAKE_NS (200 * NSEC_PER_USEC)

static void go_back(struct qp *qp, uint64_t now_ns)
{
	rtt_lost(&qp->rtt, now_ns);
	requester_rewind(&qp->req);
	engine_schedule(qp);
}

/* Set the timer: for what the configured timeout leaves, or sooner. */
static void arm(struct qp *qp, uint64_t now_ns)
{
	uint64_t min_ns = qp->congestion.in_recovery ? HASTY_AWAKE_NS : HASTY_NS;
	uint64_t patience_ns = rtt_patience_ns(&qp->rtt, min_ns) << qp->req.n_hasty;
	uint64_t due_ns = qp->req.timeout_ns;

	if (patience_ns)
		due_ns = MIN(due_ns, now_ns + patience_ns);
	engine_arm(qp, due_ns);
}

void retry_await(struct qp *qp, uint64_t now_ns)
{
	struct requester *req = &qp->req;

	if (req->una_psn == req->snd_max || !qp->attr.timeout) {
		engine_arm(qp, 0);
		return;
	}
	/* 4.096 us * 2^timeout (11.2.4.2) */
	req->timeout_ns = now_ns + (4096ull << qp->attr.timeout);
	req->n_hasty = 0;
	arm(qp, now_ns);
}

static void hasten(struct qp *qp, uint64_t now_ns)
{
	qp->engine->stats.hasty_retries++;
	qp->req.in_repair = false;
	congestion_doubt(&qp->congestion, qp->req.snd_max, qp->rtt.path_pkts);
	go_back(qp, now_ns);
	qp->req.n_hasty++;
	arm(qp, now_ns);
}

void retry_lost(struct qp *qp, uint64_t now_ns)
{
	struct requester *req = &qp->req;

	if (req->retry_left == 0) {
		requester_fail(qp, req->tail, IBV_WC_RETRY_EXC_ERR);
		return;
	}
	req->retry_left--;
	req->rewound_ns = now_ns;
	congestion_lost(&qp->congestion, req->snd_max, qp->rtt.path_pkts);
	go_back(qp, now_ns);
	retry_await(qp, now_ns);
}

bool retry_is_under_way(const struct qp *qp, uint64_t now_ns)
{
	const struct requester *req = &qp->req;

	return qp->congestion.in_recovery &&
	       now_ns < req->rewound_ns + qp->rtt.min_ns / 8 * 7 &&
	       psn_diff(requester_tx_psn(req), req->una_psn) > 0;
}

void retry_timer(struct qp *qp, uint64_t now_ns)
{
	struct requester *req = &qp->req;

	if (req->rnr_wait) {
		req->rnr_wait = false;
		engine_arm(qp, 0);
		engine_schedule(qp);
	} else if (now_ns < req->timeout_ns) {
		hasten(qp, now_ns);
	} else {
		qp->engine->stats.ack_timeouts++;
		req->in_repair = false;
		retry_lost(qp, now_ns);
		congestion_restart(&qp->congestion);
	}
}
