/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections with guests, and their memory. A ring is freed when neither end is
 * anybody's: not before, since a process that has it mapped may write.
 */
#include "ivshmem/guest/uplinks_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "ivshmem/guest/channel.h"
#include "ivshmem/guest/lifetime.h"
#include "ivshmem/sockaddr.h"

int ring_new(struct ring **out, struct uplinks *u, uint64_t size)
{
	struct ring *r;
	int rc;

	if (u->n_rings == UPLINKS_RINGS_MAX)
		return -ENOSPC;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	rc = areas_take(&u->areas, size, &r->offset);
	if (rc) {
		free(r);
		return rc;
	}
	r->uplinks = u;
	r->size = size;
	r->open = true;
	for (int i = 0; i < 2; i++) {
		r->ends[i].source = UPLINKS_END;
		r->ends[i].ring = r;
		r->ends[i].lifetime_fd = -1;
	}
	LIST_INSERT_HEAD(&u->open, r, links);
	u->n_rings++;
	*out = r;
	return 0;
}

void ring_drop(struct ring *r)
{
	LIST_REMOVE(r, links);
	areas_give(&r->uplinks->areas, r->offset, r->size);
	r->uplinks->n_rings--;
	free(r);
}

void ring_close_offer(struct ring *r)
{
	if (!r->open)
		return;
	r->open = false;
	LIST_REMOVE(r, links);
	LIST_INSERT_HEAD(&r->uplinks->paired, r, links);
}

struct ring *ring_open_find(const struct uplinks *u, const struct dir_addr *src,
	const struct dir_addr *dst, const struct guest *to, uint64_t to_netns)
{
	struct ring *r;

	LIST_FOREACH(r, &u->open, links)
	{
		if (r->to == to && (to || r->to_netns == to_netns) &&
			dir_addr_same(&r->src, src) && dir_addr_same(&r->dst, dst))
			return r;
	}
	return NULL;
}

struct channel ring_channel(const struct ring *r)
{
	return channel_at(
		r->uplinks->config.memory_fd, r->uplinks->map_unit, r->offset, r->size);
}

/* -- ends */

void end_take_guest(struct ring_end *e, struct guest *g, uint64_t id)
{
	e->holder = END_GUEST;
	e->guest = g;
	e->id = id;
	g->n_ends++;
	LIST_INSERT_HEAD(&g->ends[id % END_BUCKETS], e, links);
}

int end_take_native(struct ring_end *e, uint64_t id, int *theirs)
{
	int fd = lifetime_open(theirs, e->ring->uplinks->epoll, e);

	if (fd < 0)
		return fd;
	e->holder = END_NATIVE;
	e->id = id;
	e->lifetime_fd = fd;
	return 0;
}

struct ring_end *end_find(const struct guest *g, uint64_t id)
{
	struct ring_end *e;

	LIST_FOREACH(e, &g->ends[id % END_BUCKETS], links)
	{
		if (e->id == id)
			return e;
	}
	return NULL;
}

/* An offer whose client's end is gone is none. */
void end_release(struct ring_end *e)
{
	struct ring *r = e->ring;

	switch (e->holder) {
	case END_NOBODY:
		return;
	case END_NATIVE:
		close(e->lifetime_fd); /* and epoll forgets it */
		e->lifetime_fd = -1;
		break;
	case END_GUEST:
		LIST_REMOVE(e, links);
		e->guest->n_ends--;
		break;
	case END_ORPHAN:
		LIST_REMOVE(e, links);
		e->guest->n_orphans--;
		break;
	}
	e->holder = END_NOBODY;
	ring_close_offer(r);
	if (r->ends[0].holder == END_NOBODY && r->ends[1].holder == END_NOBODY)
		ring_drop(r);
}

void ends_close_offers(struct guest *g)
{
	struct ring_end *e;

	for (int i = 0; i < END_BUCKETS; i++) {
		LIST_FOREACH(e, &g->ends[i], links)
		{
			g->stats.cancelled += e->ring->open;
			ring_close_offer(e->ring);
		}
	}
}

void ends_orphan(struct guest *g)
{
	struct ring_end *e;

	for (int i = 0; i < END_BUCKETS; i++) {
		while ((e = LIST_FIRST(&g->ends[i]))) {
			LIST_REMOVE(e, links);
			g->n_ends--;
			e->holder = END_ORPHAN;
			g->n_orphans++;
			LIST_INSERT_HEAD(&g->orphans, e, links);
		}
	}
}

void ends_release_orphans(struct guest *g)
{
	while (!LIST_EMPTY(&g->orphans))
		end_release(LIST_FIRST(&g->orphans));
}
