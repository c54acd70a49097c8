/* SPDX-License-Identifier: BSD-3-Clause */
#include "rtt.h"

#include "lib/util.h"
#include "rdma/wire/psn.h"

void rtt_sent(struct rtt *r, uint32_t psn, uint32_t una_psn, uint64_t now_ns)
{
	if (r->begin_ns)
		return;
	r->begin_ns = now_ns;
	r->psn = psn;
	r->una_psn = una_psn;
}

static void measured(struct rtt *r, uint32_t ns)
{
	int64_t off = (int64_t)ns - r->mean_ns;

	if (!r->mean_ns) {
		r->mean_ns = ns;
		r->var_ns = ns / 2;
		r->min_ns = ns;
		return;
	}
	r->var_ns = (uint32_t)(r->var_ns + ((off < 0 ? -off : off) - r->var_ns) / 4);
	r->mean_ns = (uint32_t)(r->mean_ns + off / 8);
	/* It is forgotten in time, as the path may change. */
	r->min_ns = MIN(ns, r->min_ns + r->min_ns / 4096);
}

static uint32_t duration(const struct rtt *r, uint64_t now_ns)
{
	return (uint32_t)MIN(MAX(now_ns - r->begin_ns, 1u), UINT32_MAX / 2);
}

void rtt_acked(struct rtt *r, uint32_t una_psn, uint64_t now_ns)
{
	uint32_t delivered, ns;

	if (!r->begin_ns || psn_diff(una_psn, r->psn) <= 0)
		return;
	ns = duration(r, now_ns);
	r->begin_ns = 0;
	measured(r, ns);
	/* So many in one round trip, of which a part was spent in queues. */
	delivered = (uint32_t)((uint64_t)psn_add(una_psn, -r->una_psn) * r->min_ns / ns);
	r->path_pkts = MAX(delivered, r->path_pkts - r->path_pkts / 64);
}

void rtt_lost(struct rtt *r, uint64_t now_ns)
{
	/* The answer that told of the loss is better than nothing. */
	if (r->begin_ns && !r->mean_ns)
		measured(r, duration(r, now_ns));
	r->begin_ns = 0;
	/* Perhaps it holds less. */
	r->path_pkts -= r->path_pkts / 32;
}

uint64_t rtt_patience_ns(const struct rtt *r, uint64_t min_ns)
{
	return r->mean_ns ? MAX(2ull * r->mean_ns + 4ull * r->var_ns, min_ns) : 0;
}
