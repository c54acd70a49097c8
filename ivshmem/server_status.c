/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's state as text, for people and scripts: see server_status() and
 * docs/ivshmem.md section 5.
 */
#include "ivshmem/server_priv.h"

#include <inttypes.h>

#include "ivshmem/status.h"

#define COUNTER(name) STATUS_COUNTER(struct region_stats, name)

static const struct status_counter counters[] = {
	COUNTER(joined),
	COUNTER(left),
	COUNTER(refused_access),
	COUNTER(refused_full),
	COUNTER(refused_half_open),
	COUNTER(refused_rate),
	COUNTER(refused_resources),
	COUNTER(dropped_garbage),
	COUNTER(dropped_stalled),
	COUNTER(dropped_error),
	COUNTER(sent),
};

static void region_status(const struct region *r, FILE *to)
{
	const struct region_config *config = &r->config;

	fprintf(to,
		"region name=%s tenant=%s size=%" PRIu64 " huge=%d vectors=%u "
		"max_peers=%u peers=%u half_open=%u",
		config->name, config->tenant, config->size, r->stats.is_huge,
		config->n_vectors, config->max_peers, r->stats.n_peers,
		r->stats.n_half_open);
	status_counters(to, counters, ARRAY_SIZE(counters), &r->stats);
	if (r->sockets.directory) {
		fprintf(to, " sockets=%u", config->n_processes);
		directory_status(r->sockets.directory, to);
	}
	if (r->guests.uplinks)
		uplinks_totals(r->guests.uplinks, to);
	/* last, as it may have blanks in it */
	fprintf(to, " socket=%s\n", config->socket);
	if (r->guests.uplinks)
		uplinks_status(r->guests.uplinks, to);
	for (uint32_t id = 0; id < config->max_peers; id++) {
		const struct peer *p = r->peers[id];

		if (p)
			fprintf(to,
				"client region=%s id=%u pid=%d uid=%u half_open=%d "
				"waiting=%u\n",
				config->name, p->id, (int)p->pid, p->uid, p->half_open,
				p->out.n);
	}
}

void server_status(const struct server *s, FILE *to)
{
	fprintf(to, "server regions=%u memory=%" PRIu64 " memory_max=%" PRIu64 "\n",
		s->n_regions, s->memory, s->config.memory_max);
	for (uint32_t i = 0; i < s->n_regions; i++)
		region_status(s->regions[i], to);
	fflush(to);
}
