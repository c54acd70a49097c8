/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state of a region's guests as text: docs/ivshmem.md section 5.
 */
#include "ivshmem/guest/uplinks_priv.h"

#include <inttypes.h>

#include "ivshmem/status.h"
#include "lib/util.h"

#define COUNTER(name) STATUS_COUNTER(struct guest_stats, name)

static const struct status_counter counters[] = {
	COUNTER(sessions),
	COUNTER(frames),
	COUNTER(published),
	COUNTER(offered),
	COUNTER(accepted),
	COUNTER(cancelled),
	COUNTER(no_listener),
	COUNTER(no_offer),
	COUNTER(no_memory),
	COUNTER(limited),
	COUNTER(addr_refused),
	COUNTER(throttled),
	COUNTER(dropped_garbage),
	COUNTER(dropped_stalled),
	COUNTER(refused_access),
	COUNTER(refused_busy),
};

void uplinks_totals(const struct uplinks *u, FILE *to)
{
	uint64_t all = u->config.size > AREA_PAGE ? u->config.size - AREA_PAGE : 0;

	fprintf(to, " guests=%u rings=%u ring_memory=%" PRIu64 " ring_no_memory=%" PRIu64,
		u->config.n_guests, u->n_rings, all - u->areas.free, u->native_no_memory);
}

static void guest_status(const struct guest *g, FILE *to)
{
	fprintf(to,
		"guest region=%s name=%s uplink=%d session=%d listeners=%u ends=%u "
		"orphans=%u",
		g->uplinks->config.region, g->config->name, g->sock >= 0, g->in_session,
		g->n_published, g->n_ends, g->n_orphans);
	status_counters(to, counters, ARRAY_SIZE(counters), &g->stats);
	/* last, as it may have blanks in it */
	fprintf(to, " socket=%s\n", g->listener.path);
}

void uplinks_status(const struct uplinks *u, FILE *to)
{
	for (uint32_t i = 0; i < u->config.n_guests; i++)
		guest_status(&u->guests[i], to);
}
