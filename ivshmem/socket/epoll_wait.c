/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waiting for an epoll set with connections in it.
 */
#include "epoll.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

#include "epoll_priv.h"
#include "ready.h"
#include "real.h"
#include "setup.h"

#define EVENTS	       64
#define KERNEL_EACH_NS (20 * NSEC_PER_USEC) /* meanwhile ours alone may be told */
#define KERNEL_BUSY_NS NSEC_PER_MSEC	    /* after an event of the kernel's: not so */
#define BUSY_NS	       (10 * NSEC_PER_MSEC) /* who told something is busy so long */

static void arm_dir(struct conn *c, int fd, struct fdent e, enum shring_dir dir)
{
	struct conn *locked;
	int rc;

	locked = conn_lock(fd, e, dir, &rc);
	if (!locked)
		return;
	shring_arm_anyway(&c->ring, dir);
	conn_unlock(locked, dir);
}

/* A bell for @m from now on. Return: false if something is to be told */
static bool arm_member(struct member *m)
{
	struct conn *c = &conns[m->e.index];
	uint32_t mask;

	if (!m->armed)
		atomic_fetch_add(&c->watched, 1);
	m->armed = true;
	if (conn_state(c) == CONN_RING || conn_state(c) == CONN_OFFERED) {
		arm_dir(c, m->fd, m->e, SHRING_READ);
		if (m->event.events & EPOLLOUT)
			arm_dir(c, m->fd, m->e, SHRING_WRITE);
	}
	if (!(m->event.events & EPOLLET))
		return !epoll_look_at(m);
	/* An edge between the last look and the ticket. */
	mask = ready_mask(m->fd, m->e, m->event.events & ~EPOLL_FLAGS);
	if (epoll_is_news(m, mask))
		return false;
	m->told_mask = mask;
	return true;
}

static bool is_busy(const struct member *m, uint64_t now)
{
	return now - m->told_ns < BUSY_NS;
}

/* Make all hot ones cold that can be. Return: false if something is to be told */
static bool arm(struct set *s, uint64_t *until)
{
	uint64_t now = now_ns();
	struct member *m, *next;

	for (m = s->lists[MEMBER_HOT]; m; m = next) {
		struct conn *c;
		uint64_t limit;

		next = m->next;
		if (m->off) {
			epoll_move(s, m, MEMBER_COLD);
			continue;
		}
		if (m->is_set) {
			if (epoll_nested_is_news(m, until))
				return false;
			continue;
		}
		c = &conns[m->e.index];
		limit = conn_limit(c);
		if (limit) {
			if (now >= limit) {
				conn_revert(c, m->fd);
				return false;
			}
			if (!*until || limit < *until)
				*until = limit;
		}
		if (!arm_member(m))
			return false;
		if (!limit)
			epoll_move(s, m, is_busy(m, now) ? MEMBER_RESTING : MEMBER_COLD);
	}
	return true;
}

static void disarm_dir(struct conn *c, int fd, struct fdent e, enum shring_dir dir)
{
	struct conn *locked;
	int rc;

	locked = conn_lock(fd, e, dir, &rc);
	if (!locked)
		return;
	/* Who else sleeps on it has counted itself before it armed, under this lock. */
	if (atomic_load(&c->watched) == 1 && !c->asleep)
		shring_disarm(&c->ring, dir);
	conn_unlock(locked, dir);
}

/* Unless others sleep. */
static void wake_resting(struct set *s)
{
	struct member *m;

	if (s->sleepers || s->looked_at)
		return;
	while ((m = s->lists[MEMBER_RESTING])) {
		struct conn *c = &conns[m->e.index];

		disarm_dir(c, m->fd, m->e, SHRING_READ);
		if (m->event.events & EPOLLOUT)
			disarm_dir(c, m->fd, m->e, SHRING_WRITE);
		epoll_unwatch(m);
		epoll_move(s, m, MEMBER_HOT);
	}
}

/* A set that never sleeps must not look for ever at those that once were hot. */
static void cool(struct set *s, uint64_t now)
{
	struct member *m, *next;

	if (now - s->cooled_ns < BUSY_NS)
		return;
	s->cooled_ns = now;
	for (m = s->lists[MEMBER_HOT]; m; m = next) {
		next = m->next;
		if (m->off || (m->is_conn && !is_busy(m, now) &&
				      !conn_limit(&conns[m->e.index]) && arm_member(m)))
			epoll_move(s, m, MEMBER_COLD);
	}
}

/* A connection's bell, or the end of its shadow, or it has connected. */
static void bell_came(struct set *s, struct member *m, uint32_t events)
{
	struct conn *c;
	bool forsaken;
	int rc;

	if (m && m->is_set)
		m->fresh = true;
	if (!m || !m->is_conn)
		return;
	if (m->absent) {
		epoll_forget(s, m);
		return;
	}
	epoll_move(s, m, MEMBER_HOT);
	if (!(events & ~(uint32_t)EPOLLOUT))
		return;
	c = conn_lock(m->fd, m->e, SHRING_READ, &rc);
	if (!c)
		return;
	conn_advance(c, m->fd);
	forsaken = conn_is_forsaken(c, m->fd);
	/* Who relies on a bell has counted itself before it armed, under this lock. */
	if (!forsaken)
		doze_bell(c, m->fd, atomic_load(&c->watched) > m->armed);
	conn_unlock(c, SHRING_READ);
	if (forsaken)
		conn_revert(c, m->fd);
}

/* Wait in the kernel. Return: the program's events, or a negative errno */
static int kernel_wait(struct set *s, struct epoll_event *events, int max, int timeout,
	const sigset_t *mask)
{
	struct epoll_event inner[EVENTS];
	bool program = false;
	int n = real.epoll_pwait(s->inner, inner, EVENTS, timeout, mask), tag;
	uint64_t count;

	if (n < 0)
		return -errno;
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < n; i++) {
		tag = (int)(int64_t)inner[i].data.u64;
		if (tag == EPOLL_TAG_PROGRAM)
			program = true;
		else if (tag == EPOLL_TAG_KICK)
			count = real.read(s->kick, &count, sizeof(count)) > 0;
		else
			bell_came(s, epoll_by_tag(s, tag), inner[i].events);
	}
	pthread_mutex_unlock(&s->lock);
	if (!program || !max)
		return 0;
	n = real.epoll_pwait(s->outer, events, max, 0, NULL);
	if (n > 0)
		s->found_ns = now_ns();
	return n < 0 ? -errno : n;
}

static int timeout_of(uint64_t until)
{
	uint64_t now = now_ns();

	if (!until)
		return -1;
	if (until <= now)
		return 0;
	return (int)MIN(
		(until - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, (uint64_t)INT32_MAX);
}

static int sleep_once(struct set *s, struct epoll_event *events, int max, uint64_t until,
	const sigset_t *mask)
{
	uint64_t start = now_ns();
	bool may_sleep;
	int n = 0;

	pthread_mutex_lock(&s->lock);
	may_sleep = arm(s, &until);
	s->sleepers += may_sleep;
	if (may_sleep) {
		pthread_mutex_unlock(&s->lock);
		n = kernel_wait(s, events, max, timeout_of(until), mask);
		pthread_mutex_lock(&s->lock);
		s->sleepers--;
		s->spin_ns = wait_spin_next(s->spin_ns, now_ns() - start);
	}
	wake_resting(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}

static int look_locked(struct set *s, struct epoll_event *events, int max)
{
	int n;

	pthread_mutex_lock(&s->lock);
	n = epoll_look(s, events, max);
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* The kernel's events, and then ours: bells may have come with these. */
static int ask_and_look(
	struct set *s, struct epoll_event *events, int max, const sigset_t *mask)
{
	int n = kernel_wait(s, events, max, 0, mask);

	s->asked_ns = now_ns();
	if (n < 0)
		return n;
	pthread_mutex_lock(&s->lock);
	cool(s, s->asked_ns);
	n += epoll_look(s, events + n, max - n);
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* What there is to tell. To ask the kernel each time would double the cost of a call that
 * is busy with connections alone.
 * @all: it must be asked if there is nothing else
 */
static int tell(struct set *s, struct epoll_event *events, int max, bool all,
	const sigset_t *mask)
{
	uint64_t now = now_ns();
	int n;

	if (now - s->asked_ns < KERNEL_EACH_NS) {
		n = look_locked(s, events, max);
		if (n || (!all && now - s->found_ns > KERNEL_BUSY_NS))
			return n;
	}
	return ask_and_look(s, events, max, mask);
}

static int wait_until(struct set *s, struct epoll_event *events, int max, bool look_only,
	uint64_t until, const sigset_t *mask)
{
	uint64_t now = now_ns();
	uint64_t spin_end = now + (s->lists[MEMBER_HOT] ? s->spin_ns : 0);
	int n;

	for (;;) {
		n = tell(s, events, max, look_only, mask);
		if (n || look_only)
			return n;
		now = now_ns();
		if (until && now >= until)
			return tell(s, events, max, true, mask);
		if (now < spin_end) {
			sched_yield();
			continue;
		}
		n = sleep_once(s, events, max, until, mask);
		if (n)
			return n;
	}
}

/* As long as no connection was ever in the set it's all the kernel's.
 * Return: was it, also in the end? Then @out is what epoll_pwait() returns
 */
static bool wait_direct(struct set *s, struct epoll_event *events, int max,
	int timeout_ms, const sigset_t *mask, int *out)
{
	int n = -1;
	bool is_direct;

	pthread_mutex_lock(&s->lock);
	is_direct = s->inner < 0;
	s->direct += is_direct;
	pthread_mutex_unlock(&s->lock);
	if (!is_direct)
		return false;
	n = real.epoll_pwait(s->outer, events, max, timeout_ms, mask);
	pthread_mutex_lock(&s->lock);
	is_direct = s->inner < 0;
	if (--s->direct == 0 && !is_direct)
		real.epoll_ctl(s->outer, EPOLL_CTL_DEL, s->kick, NULL);
	pthread_mutex_unlock(&s->lock);
	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr == s)
			events[i--] = events[--n];
	}
	*out = n;
	return is_direct || n;
}

static int wait_for(int epfd, struct epoll_event *events, int max, int timeout_ms,
	uint64_t until, const sigset_t *mask)
{
	struct fdent e = fdtab_get(epfd);
	struct set *s = e.kind == FD_EPOLL ? epoll_set(e) : NULL;
	int n;

	if (!s || max <= 0)
		return real.epoll_pwait(epfd, events, max, timeout_ms, mask);
	if (wait_direct(s, events, max, timeout_ms, mask, &n))
		return n;
	n = wait_until(s, events, max, timeout_ms == 0, until, mask);
	if (n >= 0)
		return n;
	errno = -n;
	return -1;
}

static uint64_t until_of(int timeout)
{
	return timeout > 0 ? now_ns() + (uint64_t)timeout * NSEC_PER_MSEC : 0;
}

EXPORT int epoll_pwait(
	int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
	return wait_for(epfd, events, max, timeout, until_of(timeout), mask);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	return wait_for(epfd, events, max, timeout, until_of(timeout), NULL);
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
	const struct timespec *timeout, const sigset_t *mask)
{
	uint64_t until, ms;

	if (!timeout)
		return wait_for(epfd, events, max, -1, 0, mask);
	ms = (uint64_t)timeout->tv_sec * 1000 +
	     ((uint64_t)timeout->tv_nsec + 999999) / 1000000;
	until = now_ns() + (uint64_t)timeout->tv_sec * NSEC_PER_SEC +
		(uint64_t)timeout->tv_nsec;
	return wait_for(
		epfd, events, max, (int)MIN(ms, (uint64_t)INT32_MAX), until, mask);
}

/* -- poll() of a set */

bool epoll_set_look(struct fdent e, int *inner, uint64_t *until)
{
	struct set *s = epoll_set(e);
	struct pollfd p = {.fd = s->outer, .events = POLLIN};
	bool idle;

	*inner = s->inner;
	if (s->inner < 0)
		return false;
	/* Bells that came, and other edges that mean nothing. */
	kernel_wait(s, NULL, 0, 0, NULL);
	if (real.poll(&p, 1, 0) > 0)
		return true;
	pthread_mutex_lock(&s->lock);
	idle = arm(s, until);
	s->looked_at = true;
	pthread_mutex_unlock(&s->lock);
	return !idle;
}
