/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * epoll sets and what is in them.
 */
#include "epoll.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "conn.h"
#include "epoll_priv.h"
#include "real.h"
#include "setup.h"

#define SETS_MAX 1024

static struct set *sets[SETS_MAX];
static _Atomic uint32_t n_sets; /* ever used */
static pthread_mutex_t sets_lock = PTHREAD_MUTEX_INITIALIZER;

/* -- members */

struct member *epoll_member(const struct set *s, int fd)
{
	return fd >= 0 && fd < s->n_members ? s->members[fd] : NULL;
}

void epoll_move(struct set *s, struct member *m, enum heat to)
{
	if (m->heat == to)
		return;
	if (m->heat != MEMBER_COLD) {
		*m->link = m->next;
		if (m->next)
			m->next->link = m->link;
	}
	m->heat = to;
	if (to == MEMBER_COLD)
		return;
	m->next = s->lists[to];
	if (m->next)
		m->next->link = &m->next;
	m->link = &s->lists[to];
	s->lists[to] = m;
}

void epoll_unwatch(struct member *m)
{
	if (m->armed)
		atomic_fetch_sub(&conns[m->e.index].watched, 1);
	m->armed = false;
}

struct member *epoll_member_add(struct set *s, int fd)
{
	struct member *m;

	if (fd >= s->n_members) {
		int n = MAX(fd + 1, s->n_members * 2);
		struct member **more = reallocarray(s->members, (size_t)n, sizeof(*more));

		if (!more)
			return NULL;
		memset(more + s->n_members, 0,
			(size_t)(n - s->n_members) * sizeof(*more));
		s->members = more;
		s->n_members = n;
	}
	m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->fd = m->key = m->tag = fd;
	s->members[fd] = m;
	return m;
}

void epoll_member_remove(struct set *s, struct member *m)
{
	struct member **orphan = &s->orphans;

	epoll_move(s, m, MEMBER_COLD);
	epoll_unwatch(m);
	while (*orphan && *orphan != m)
		orphan = &(*orphan)->next_orphan;
	if (*orphan)
		*orphan = m->next_orphan;
	else
		s->members[m->key] = NULL;
	free(m);
}

/* -- sets */

struct set *epoll_set(struct fdent e)
{
	return sets[e.index];
}

static void inner_add(const struct set *s, int fd, uint32_t events, int tag)
{
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)(int64_t)tag};

	real.epoll_ctl(s->inner, EPOLL_CTL_ADD, fd, &event);
}

int epoll_inner_control(
	const struct set *s, int op, const struct member *m, uint32_t events)
{
	struct epoll_event event = {
		.events = events, .data.u64 = (uint64_t)(int64_t)m->tag};
	int fd = m->is_set ? epoll_set(m->e)->inner : m->key;

	return real.epoll_ctl(s->inner, op, fd, &event) ? -errno : 0;
}

/* Bells, and the shadow's end. Until it has a ring also what makes it writable: that it
 * is connected, or for when it has to do without a ring.
 */
static void inner_add_conn(const struct set *s, const struct member *m)
{
	uint32_t events = EPOLLIN | EPOLLRDHUP | EPOLLET;

	if (conn_state(&conns[m->e.index]) != CONN_RING)
		events |= EPOLLOUT;
	epoll_inner_control(s, EPOLL_CTL_ADD, m, events);
}

/* Threads that wait for the program's set alone have to change over. What tells them is
 * an event that the program cannot have put there: our own record's address.
 */
static void direct_kick(struct set *s)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
	uint64_t one = 1;

	real.epoll_ctl(s->outer, EPOLL_CTL_ADD, s->kick, &event);
	if (real.write(s->kick, &one, sizeof(one)) < 0)
		return; /* full: it wakes them anyway */
}

int epoll_inner_make(struct set *s)
{
	int fd;

	if (s->inner >= 0)
		return 0;
	fd = real.epoll_create1(EPOLL_CLOEXEC);
	s->inner = fd < 0 ? -1 : fdtab_protect(fd);
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->kick = fd < 0 ? -1 : fdtab_protect(fd);
	if (s->inner < 0 || s->kick < 0)
		return -ENOMEM;
	inner_add(s, s->outer, EPOLLIN, EPOLL_TAG_PROGRAM);
	inner_add(s, s->kick, EPOLLIN | EPOLLET, EPOLL_TAG_KICK);
	if (s->direct)
		direct_kick(s);
	return 0;
}

static void kick(struct set *s)
{
	uint64_t one = 1;

	if (!s->sleepers && !s->looked_at)
		return;
	s->looked_at = false;
	if (real.write(s->kick, &one, sizeof(one)) < 0)
		return; /* full: it wakes them anyway */
}

static int set_new(int outer)
{
	uint32_t i;
	int rc = -1;

	pthread_mutex_lock(&sets_lock);
	for (i = 0; i < SETS_MAX && sets[i] && sets[i]->n_fds; i++)
		;
	if (i < SETS_MAX && !sets[i]) {
		sets[i] = calloc(1, sizeof(*sets[i]));
		if (sets[i])
			pthread_mutex_init(&sets[i]->lock, NULL);
	}
	if (i < SETS_MAX && sets[i]) {
		sets[i]->outer = outer;
		sets[i]->inner = sets[i]->kick = -1;
		sets[i]->n_fds = 1;
		sets[i]->generation++;
		sets[i]->spin_ns = 0;
		if (i >= n_sets)
			n_sets = i + 1;
		fdtab_set(outer, (struct fdent){.kind = FD_EPOLL,
					 .index = i,
					 .generation = sets[i]->generation});
		rc = 0;
	}
	pthread_mutex_unlock(&sets_lock);
	return rc;
}

void epoll_set_dup(struct fdent e, int to)
{
	struct set *s = epoll_set(e);

	pthread_mutex_lock(&s->lock);
	s->n_fds++;
	pthread_mutex_unlock(&s->lock);
	fdtab_set(to, e);
}

void epoll_set_closed(int fd, struct fdent e)
{
	struct set *s = epoll_set(e);

	fdtab_set(fd, (struct fdent){.kind = FD_KERNEL});
	pthread_mutex_lock(&s->lock);
	if (s->n_fds > 1) {
		s->n_fds--;
		pthread_mutex_unlock(&s->lock);
		return;
	}
	for (int i = 0; i < s->n_members; i++) {
		if (s->members[i])
			epoll_member_remove(s, s->members[i]);
	}
	while (s->orphans)
		epoll_member_remove(s, s->orphans);
	free(s->members);
	s->members = NULL;
	s->n_members = 0;
	if (s->inner >= 0)
		fdtab_release(s->inner);
	if (s->kick >= 0)
		fdtab_release(s->kick);
	s->inner = s->kick = -1;
	s->n_fds = 0;
	pthread_mutex_unlock(&s->lock);
}

/* -- what becomes of descriptors */

void epoll_each_set(
	void (*call)(struct set *s, int fd, struct fdent e), int fd, struct fdent e)
{
	for (uint32_t i = 0; i < n_sets; i++) {
		struct set *s = sets[i];

		pthread_mutex_lock(&s->lock);
		if (s->n_fds)
			call(s, fd, e);
		pthread_mutex_unlock(&s->lock);
	}
}

static void become_conn(struct set *s, int fd, struct fdent e)
{
	struct member *m = epoll_member(s, fd);

	if (!m || m->is_conn || epoll_inner_make(s))
		return;
	real.epoll_ctl(s->outer, EPOLL_CTL_DEL, m->fd, NULL);
	m->is_conn = true;
	m->fresh = true;
	m->e = e;
	inner_add_conn(s, m);
	epoll_move(s, m, MEMBER_HOT);
	kick(s);
}

void epoll_to_kernel(struct set *s, struct member *m)
{
	epoll_move(s, m, MEMBER_COLD);
	epoll_unwatch(m);
	m->is_conn = false;
	epoll_inner_control(s, EPOLL_CTL_DEL, m, 0);
	real.epoll_ctl(s->outer, EPOLL_CTL_ADD, m->key, &m->event);
}

void epoll_fd_is_conn(int fd)
{
	epoll_each_set(become_conn, fd, fdtab_get(fd));
}

static void heat_up(struct set *s, int fd, struct fdent e)
{
	struct member *m = epoll_member(s, fd);

	(void)e;
	if (!m || !m->is_conn || m->absent)
		return;
	epoll_move(s, m, MEMBER_HOT);
	kick(s);
}

void epoll_bell_taken(int fd, struct fdent e)
{
	epoll_each_set(heat_up, fd, e);
}

/* -- epoll_ctl() */

void epoll_wanted(struct set *s, struct member *m, const struct epoll_event *event)
{
	m->event = *event;
	m->absent = m->off = false;
	m->fresh = true;
	epoll_move(s, m, MEMBER_HOT);
	kick(s);
}

static int add(struct set *s, int fd, struct fdent e, const struct epoll_event *event)
{
	struct member *m;
	int rc;

	if (e.kind == FD_EPOLL)
		return epoll_nested_add(s, fd, e, event);
	if (e.kind == FD_TCP || e.kind == FD_LISTENER) {
		if (real.epoll_ctl(s->outer, EPOLL_CTL_ADD, fd, (void *)event))
			return -errno;
	}
	/* The parent that published it may have gone. */
	if (e.kind == FD_LISTENER)
		setup_republish(fd, e);
	rc = e.kind == FD_CONN ? epoll_inner_make(s) : 0;
	m = rc ? NULL : epoll_member_add(s, fd);
	if (!m)
		return -ENOMEM;
	m->event = *event;
	m->e = e;
	m->fresh = true;
	if (e.kind == FD_CONN) {
		m->is_conn = true;
		inner_add_conn(s, m);
		epoll_wanted(s, m, event);
	}
	return 0;
}

static int change(struct set *s, struct member *m, const struct epoll_event *event)
{
	if (event->events & EPOLLEXCLUSIVE || m->event.events & EPOLLEXCLUSIVE)
		return -EINVAL;
	if (m->is_conn || m->is_set) {
		epoll_wanted(s, m, event);
		return 0;
	}
	m->event = *event;
	return real.epoll_ctl(s->outer, EPOLL_CTL_MOD, m->fd, (void *)event) ? -errno : 0;
}

static int discard(struct set *s, struct member *m)
{
	int fd = m->fd;

	if (m->is_conn) {
		epoll_move(s, m, MEMBER_COLD);
		epoll_unwatch(m);
		m->absent = true;
		return 0;
	}
	if (m->is_set) {
		epoll_forget(s, m);
		return 0;
	}
	epoll_member_remove(s, m);
	return real.epoll_ctl(s->outer, EPOLL_CTL_DEL, fd, NULL) ? -errno : 0;
}

void epoll_forget(struct set *s, struct member *m)
{
	epoll_inner_control(s, EPOLL_CTL_DEL, m, 0);
	epoll_member_remove(s, m);
}

static int control(
	struct set *s, int op, int fd, struct fdent e, struct epoll_event *event)
{
	struct member *m = epoll_member(s, fd);

	if (unlikely(!m && s->orphans))
		m = epoll_bring_home(s, fd, e);
	if (m && m->absent) {
		if (op != EPOLL_CTL_ADD)
			return -ENOENT;
		epoll_wanted(s, m, event);
		return 0;
	}
	if (op == EPOLL_CTL_ADD)
		return m ? -EEXIST : add(s, fd, e, event);
	if (!m)
		return real.epoll_ctl(s->outer, op, fd, event) ? -errno : 0;
	return op == EPOLL_CTL_MOD ? change(s, m, event) : discard(s, m);
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct fdent set = fdtab_get(epfd), e = fdtab_get(fd);
	struct set *s;
	int rc;

	if (set.kind != FD_EPOLL || e.kind == FD_KERNEL ||
		(!event && op != EPOLL_CTL_DEL) ||
		(op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL))
		return real.epoll_ctl(epfd, op, fd, event);
	s = epoll_set(set);
	pthread_mutex_lock(&s->lock);
	rc = control(s, op, fd, e, event);
	pthread_mutex_unlock(&s->lock);
	if (!rc)
		return 0;
	errno = -rc;
	return -1;
}

EXPORT int epoll_create1(int flags)
{
	int fd = real.epoll_create1(flags);

	if (fd >= 0)
		set_new(fd);
	return fd;
}

EXPORT int epoll_create(int size)
{
	if (size <= 0) {
		errno = EINVAL;
		return -1;
	}
	return epoll_create1(0);
}
