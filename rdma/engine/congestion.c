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
	if (c->in_recovery) {
		if (psn_diff(una_psn, c->recover_psn) < 0)
			return;
		c->in_recovery = false;
	}
	if (!grow)
		return;
	if (c->cwnd < c->ssthresh) {
		c->cwnd += n;
	} else {
		c->cwnd_acked += n;
		if (c->cwnd_acked >= c->cwnd) {
			c->cwnd_acked -= c->cwnd;
			c->cwnd++;
		}
	}
	c->cwnd = MIN(c->cwnd, c->cwnd_max);
}

void congestion_lost(struct congestion *c, uint32_t snd_max)
{
	if (c->in_recovery)
		return;
	c->in_recovery = true;
	c->recover_psn = snd_max;
	c->cwnd = MAX(c->cwnd / 2, CONGESTION_WINDOW_MIN_PKTS);
	c->ssthresh = c->cwnd;
}

void congestion_restart(struct congestion *c)
{
	c->cwnd = CONGESTION_WINDOW_MIN_PKTS;
}
