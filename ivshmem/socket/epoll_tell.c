/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an epoll set has to tell of its connections.
 */
#include "epoll_priv.h"

#include "ivshmem/shring_layout.h"
#include "ready.h"

#define ALWAYS (EPOLLERR | EPOLLHUP)

/* What the peer did: bytes, and its end. */
static uint32_t peer_head(const struct member *m, uint32_t *end)
{
	const struct conn *c = &conns[m->e.index];
	const struct shring_side *peer;
	struct conn *locked;
	uint32_t head = 0;
	int rc;

	*end = 0;
	locked = conn_lock(m->fd, m->e, SHRING_READ, &rc);
	if (locked) {
		peer = &c->ring.ctrl->side[!c->ring.side];
		head = atomic_load(&peer->head);
		*end = (atomic_load(&peer->state) & ~SHRING_OPEN) << 1 |
		       atomic_load(&c->shadow_ended);
		conn_unlock(locked, SHRING_READ);
	}
	return head;
}

uint32_t epoll_stamp(const struct set *s)
{
	uint32_t sum = 0, end;

	for (int i = 0; i < s->n_members; i++) {
		if (s->members[i] && s->members[i]->is_conn)
			sum += peer_head(s->members[i], &end) + end;
	}
	return sum;
}

bool epoll_is_news(const struct member *m, uint32_t mask)
{
	uint32_t end, head = peer_head(m, &end);

	return mask & ~m->told_mask ||
	       (mask & EPOLLIN && (head != m->told_head || end != m->told_end)) ||
	       (mask & EPOLLOUT &&
		       atomic_load(&conns[m->e.index].n_full) != m->told_full);
}

/* Did something happen since it was told? */
static bool is_edge(struct member *m, uint32_t mask)
{
	bool edge = m->fresh || epoll_is_news(m, mask);

	if (edge) {
		m->told_head = peer_head(m, &m->told_end);
		if (mask & EPOLLOUT)
			m->told_full = atomic_load(&conns[m->e.index].n_full);
	}
	/* What has ceased may come again. */
	m->told_mask = mask;
	m->fresh = false;
	return edge;
}

uint32_t epoll_look_at(struct member *m)
{
	uint32_t wanted = m->event.events & ~EPOLL_FLAGS, mask;

	if (m->off)
		return 0;
	if (m->is_set)
		return epoll_nested_look(m);
	mask = ready_mask(m->fd, m->e, wanted) & (wanted | ALWAYS);
	if (m->event.events & EPOLLET && (m->told_mask || m->fresh || mask)) {
		if (!mask) {
			m->told_mask = 0;
			m->fresh = false;
		} else if (!is_edge(m, mask)) {
			mask = 0;
		}
	}
	return mask;
}

static void tell(struct member *m, uint32_t mask, struct epoll_event *event)
{
	event->events = mask;
	event->data = m->event.data;
	if (m->event.events & EPOLLONESHOT)
		m->off = true;
}

/* The hot ones. Who is told goes to the end, so that none is forgotten. */
int epoll_look(struct set *s, struct epoll_event *events, int max)
{
	struct member *m, *next, *told = NULL;
	uint32_t mask;
	int n = 0;

	for (m = s->hot; m && n < max; m = next) {
		next = m->next_hot;
		mask = epoll_look_at(m);
		if (!mask)
			continue;
		tell(m, mask, &events[n++]);
		if (n == max && next) {
			/* More may be ready than fit: begin behind next time. */
			epoll_make_cold(m);
			m->next_hot = told;
			told = m;
		}
	}
	for (m = told; m; m = next) {
		struct member **end = &s->hot;

		next = m->next_hot;
		while (*end)
			end = &(*end)->next_hot;
		m->next_hot = NULL;
		m->hot_link = end;
		*end = m;
	}
	return n;
}
