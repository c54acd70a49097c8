/* SPDX-License-Identifier: BSD-3-Clause */
#include "congestion.h"

#include "lib/util.h"
#include "rdma/wire/psn.h"

#define WINDOW_INITIAL_BYTES (128u << 10)
#define WINDOW_MAX_BYTES     (1u << 20)

void congestion_reset(struct congestion *c, uint32_t mtu)
{
	*c = (struct congestion){
		.cwnd = WINDOW_INITIAL_BYTES / mtu,
		.cwnd_max = WINDOW_MAX_BYTES / mtu,
		.ssthresh = WINDOW_MAX_BYTES / mtu,
	};
}

void congestion_acked(struct congestion *c, uint32_t una_psn, uint32_t n, bool grow)
{
	c->undo_cwnd = 0;
	if (c->in_recovery && psn_diff(una_psn, c->recover_psn) >= 0)
		c->in_recovery = false;
	if (!grow)
		return;
	if (c->cwnd < c->ssthresh) {
		c->cwnd += MIN(n, c->ssthresh - c->cwnd);
	} else if (!c->in_recovery) {
		c->cwnd_acked += n;
		if (c->cwnd_acked >= c->cwnd) {
			c->cwnd_acked -= c->cwnd;
			c->cwnd++;
		}
	}
	c->cwnd = MIN(c->cwnd, c->cwnd_max);
}

void congestion_lost(struct congestion *c, uint32_t snd_max, uint32_t path_pkts)
{
	if (c->in_recovery)
		return;
	c->in_recovery = true;
	c->recover_psn = snd_max;
	c->cwnd = MAX(c->cwnd / 2, MIN(c->cwnd - c->cwnd / 8, path_pkts));
	c->cwnd = MAX(c->cwnd, CONGESTION_WINDOW_MIN_PKTS);
	c->ssthresh = c->cwnd;
}

void congestion_restart(struct congestion *c)
{
	c->cwnd = CONGESTION_WINDOW_MIN_PKTS;
}

void congestion_doubt(struct congestion *c, uint32_t snd_max, uint32_t path_pkts)
{
	uint32_t before = c->cwnd;

	congestion_lost(c, snd_max, path_pkts);
	congestion_restart(c);
	c->undo_cwnd = MAX(c->undo_cwnd, before);
}

void congestion_undo(struct congestion *c)
{
	c->cwnd = MAX(c->cwnd, c->undo_cwnd);
	c->ssthresh = MAX(c->ssthresh, c->cwnd);
	c->in_recovery = false;
	c->undo_cwnd = 0;
}
