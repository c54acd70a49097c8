/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an epoll set has to tell of its connections.
 */
#include "epoll_priv.h"

#include "ivshmem/shring_layout.h"
#include "ready.h"

#define ALWAYS	 (EPOLLERR | EPOLLHUP)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)

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

/* Most looks find nothing: told without locks. What is read is mapped as long as the
 * set's lock is held, since a descriptor leaves the set before it is closed.
 */
static bool is_unchanged(const struct member *m, uint32_t wanted)
{
	const struct conn *c = &conns[m->e.index];
	const struct shring_side *peer;
	uint32_t head, pos;

	if (!conn_is_ordinary(c))
		return false;
	peer = &c->ring.ctrl->side[!c->ring.side];
	head = atomic_load(&peer->head);
	pos = __atomic_load_n(&c->ring.end[SHRING_READ].pos, __ATOMIC_RELAXED);
	if (atomic_load(&peer->state) != SHRING_OPEN)
		return false;
	if (!(m->event.events & EPOLLET))
		return head == pos && !(wanted & WRITABLE);
	return !m->fresh && (head == pos || head == m->told_head) &&
	       !(wanted & WRITABLE & ~m->told_mask) &&
	       atomic_load(&c->n_full) == m->told_full;
}

uint32_t epoll_look_at(struct member *m)
{
	uint32_t wanted = m->event.events & ~EPOLL_FLAGS, mask;

	if (m->off)
		return 0;
	if (m->is_set)
		return epoll_nested_look(m);
	if (is_unchanged(m, wanted))
		return 0;
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

/* The kernel has no orphans that it was not told of in time. */
static bool is_kernels(const struct member *m)
{
	return m->is_conn && conn_state(&conns[m->e.index]) == CONN_KERNEL && !m->off &&
	       m->fd == m->key;
}

/* Behind all others, so that none is forgotten. */
static void make_last(struct set *s, struct member *m)
{
	struct member **end = &s->lists[MEMBER_HOT];

	epoll_move(s, m, MEMBER_COLD);
	while (*end)
		end = &(*end)->next;
	*end = m;
	m->link = end;
	m->next = NULL;
	m->heat = MEMBER_HOT;
}

int epoll_look(struct set *s, struct epoll_event *events, int max)
{
	struct member *m, *next, *last = NULL;
	uint64_t now = 0;
	uint32_t mask;
	int n = 0;

	for (m = s->lists[MEMBER_HOT]; m && n < max; m = next) {
		next = m->next;
		mask = epoll_look_at(m);
		if (mask) {
			now = now ? now : now_ns();
			m->told_ns = now;
			tell(m, mask, &events[n++]);
			last = m;
		}
		if (unlikely(is_kernels(m)))
			epoll_to_kernel(s, m);
	}
	if (n && m && last->heat == MEMBER_HOT)
		make_last(s, last);
	return n;
}
