/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * epoll sets with connections in them.
 *
 * The program's own set keeps what is the kernel's. Connections are members of a record
 * of ours, and of a second kernel set, the inner one, in which also the program's is. Who
 * waits sleeps on the inner one.
 *
 * A member is hot or cold. Hot ones are looked at in user space by each epoll_wait().
 * Before it sleeps, hot ones that have nothing to tell get their tickets armed and are
 * cold: they cost nothing until their bell rings, which the inner set tells (edge by
 * edge). So what a call costs depends on how many are active, not on how many there are.
 *
 * Sockets that may become connections are recorded as well, so that they can change over
 * when they do. What is here is of this process; a child that changes a set that it
 * shares with its parent changes the kernel's part alone.
 */
#include "epoll.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "ivshmem/shring_layout.h"
#include "ready.h"
#include "real.h"
#include "setup.h"

#define SETS_MAX       1024
#define EVENTS	       64
#define KERNEL_EACH_NS (20 * NSEC_PER_USEC) /* meanwhile ours alone may be told */
#define INNER_EVENTS   (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
#define TAG_PROGRAM    (-1) /* of the program's set in the inner one */
#define TAG_KICK       (-2)
#define ALWAYS	       (EPOLLERR | EPOLLHUP)
#define FLAGS	       (EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)

struct member {
	struct member *next_hot, **hot_link; /* hot_link: NULL: cold */
	int fd;
	bool is_conn;
	bool armed; /* counted in the connection's watched */
	bool off;   /* EPOLLONESHOT has been told */
	struct fdent e;
	struct epoll_event event; /* the program's */
	/* EPOLLET: what was told last */
	bool fresh;
	uint32_t told_mask;
	uint32_t told_head;
	uint32_t told_full;
	uint32_t told_end;
};

struct set {
	pthread_mutex_t lock;
	uint32_t n_fds; /* 0: free */
	uint32_t generation;
	int outer; /* the program's */
	int inner; /* -1: no connection was ever in it */
	int kick;
	uint32_t sleepers;
	uint32_t direct;   /* threads that wait for the program's set itself */
	uint64_t asked_ns; /* when the kernel was asked last */
	uint64_t spin_ns;
	struct member **members; /* by descriptor */
	int n_members;		 /* length of the array */
	struct member *hot;
};

static struct set *sets[SETS_MAX];
static _Atomic uint32_t n_sets; /* ever used */
static pthread_mutex_t sets_lock = PTHREAD_MUTEX_INITIALIZER;

/* -- members */

static struct member *member_get(const struct set *s, int fd)
{
	return fd >= 0 && fd < s->n_members ? s->members[fd] : NULL;
}

static void make_hot(struct set *s, struct member *m)
{
	if (m->hot_link)
		return;
	m->next_hot = s->hot;
	if (s->hot)
		s->hot->hot_link = &m->next_hot;
	m->hot_link = &s->hot;
	s->hot = m;
}

static void make_cold(struct member *m)
{
	if (!m->hot_link)
		return;
	*m->hot_link = m->next_hot;
	if (m->next_hot)
		m->next_hot->hot_link = m->hot_link;
	m->hot_link = NULL;
}

static void unwatch(struct member *m)
{
	if (m->armed)
		atomic_fetch_sub(&conns[m->e.index].watched, 1);
	m->armed = false;
}

static struct member *member_add(struct set *s, int fd)
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
	m->fd = fd;
	s->members[fd] = m;
	return m;
}

static void member_remove(struct set *s, struct member *m)
{
	make_cold(m);
	unwatch(m);
	s->members[m->fd] = NULL;
	free(m);
}

/* -- sets */

static struct set *set_of(struct fdent e)
{
	return sets[e.index];
}

static void inner_add(const struct set *s, int fd, uint32_t events, int tag)
{
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)(int64_t)tag};

	real.epoll_ctl(s->inner, EPOLL_CTL_ADD, fd, &event);
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

static int inner_make(struct set *s)
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
	inner_add(s, s->outer, EPOLLIN, TAG_PROGRAM);
	inner_add(s, s->kick, EPOLLIN | EPOLLET, TAG_KICK);
	if (s->direct)
		direct_kick(s);
	return 0;
}

static void kick(const struct set *s)
{
	uint64_t one = 1;

	if (s->sleepers && real.write(s->kick, &one, sizeof(one)) < 0)
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
	struct set *s = set_of(e);

	pthread_mutex_lock(&s->lock);
	s->n_fds++;
	pthread_mutex_unlock(&s->lock);
	fdtab_set(to, e);
}

void epoll_set_closed(int fd, struct fdent e)
{
	struct set *s = set_of(e);

	fdtab_set(fd, (struct fdent){.kind = FD_KERNEL});
	pthread_mutex_lock(&s->lock);
	if (s->n_fds > 1) {
		s->n_fds--;
		pthread_mutex_unlock(&s->lock);
		return;
	}
	for (int i = 0; i < s->n_members; i++) {
		if (s->members[i])
			member_remove(s, s->members[i]);
	}
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

static void each_set_of(int fd, void (*call)(struct set *s, struct member *m))
{
	for (uint32_t i = 0; i < n_sets; i++) {
		struct set *s = sets[i];
		struct member *m;

		pthread_mutex_lock(&s->lock);
		m = s->n_fds ? member_get(s, fd) : NULL;
		if (m)
			call(s, m);
		pthread_mutex_unlock(&s->lock);
	}
}

static void drop_closed(struct set *s, struct member *m)
{
	member_remove(s, m);
}

void epoll_fd_closed(int fd)
{
	each_set_of(fd, drop_closed);
}

static void become_conn(struct set *s, struct member *m)
{
	if (m->is_conn || inner_make(s))
		return;
	real.epoll_ctl(s->outer, EPOLL_CTL_DEL, m->fd, NULL);
	m->is_conn = true;
	m->fresh = true;
	m->e = fdtab_get(m->fd);
	inner_add(s, m->fd, INNER_EVENTS, m->fd);
	make_hot(s, m);
	kick(s);
}

void epoll_fd_is_conn(int fd)
{
	each_set_of(fd, become_conn);
}

/* -- epoll_ctl() */

static int add(struct set *s, int fd, struct fdent e, const struct epoll_event *event)
{
	struct member *m = member_get(s, fd);
	int rc;

	if (m)
		return -EEXIST;
	if (e.kind == FD_TCP || e.kind == FD_LISTENER) {
		if (real.epoll_ctl(s->outer, EPOLL_CTL_ADD, fd, (void *)event))
			return -errno;
	}
	/* The parent that published it may have gone. */
	if (e.kind == FD_LISTENER)
		setup_republish(fd, e);
	rc = inner_make(s);
	m = rc ? NULL : member_add(s, fd);
	if (!m)
		return -ENOMEM;
	m->event = *event;
	m->e = e;
	m->fresh = true;
	if (e.kind == FD_CONN) {
		m->is_conn = true;
		inner_add(s, fd, INNER_EVENTS, fd);
		make_hot(s, m);
		kick(s);
	}
	return 0;
}

static int change(struct set *s, struct member *m, const struct epoll_event *event)
{
	if (event->events & EPOLLEXCLUSIVE || m->event.events & EPOLLEXCLUSIVE)
		return -EINVAL;
	m->event = *event;
	if (!m->is_conn)
		return real.epoll_ctl(s->outer, EPOLL_CTL_MOD, m->fd, (void *)event)
			       ? -errno
			       : 0;
	m->off = false;
	m->fresh = true;
	make_hot(s, m);
	kick(s);
	return 0;
}

static int discard(struct set *s, struct member *m)
{
	int fd = m->fd, rc = 0;

	if (real.epoll_ctl(m->is_conn ? s->inner : s->outer, EPOLL_CTL_DEL, fd, NULL))
		rc = -errno;
	member_remove(s, m);
	return rc;
}

static int control(
	struct set *s, int op, int fd, struct fdent e, struct epoll_event *event)
{
	struct member *m = member_get(s, fd);

	if (op == EPOLL_CTL_ADD)
		return add(s, fd, e, event);
	if (!m)
		return real.epoll_ctl(s->outer, op, fd, event) ? -errno : 0;
	return op == EPOLL_CTL_MOD ? change(s, m, event) : discard(s, m);
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct fdent set = fdtab_get(epfd), e = fdtab_get(fd);
	struct set *s;
	int rc;

	if (set.kind != FD_EPOLL || e.kind == FD_KERNEL || e.kind == FD_EPOLL ||
		(!event && op != EPOLL_CTL_DEL) ||
		(op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL))
		return real.epoll_ctl(epfd, op, fd, event);
	s = set_of(set);
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

/* -- what there is to tell */

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

/* Has something come since the last event was told? */
static bool is_news(const struct member *m, uint32_t mask)
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
	bool edge = m->fresh || is_news(m, mask);

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

/* Return: events to tell, 0: none now */
static uint32_t look_at(struct member *m)
{
	uint32_t wanted = m->event.events & ~FLAGS, mask;

	if (m->off)
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

/* The hot ones. Who is told goes to the end, so that none is forgotten. */
static int look(struct set *s, struct epoll_event *events, int max)
{
	struct member *m, *next, *told = NULL;
	uint32_t mask;
	int n = 0;

	for (m = s->hot; m && n < max; m = next) {
		next = m->next_hot;
		mask = look_at(m);
		if (!mask)
			continue;
		tell(m, mask, &events[n++]);
		if (n == max && next) {
			/* More may be ready than fit: begin behind next time. */
			make_cold(m);
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

/* -- sleeping */

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

/* Make all hot ones cold that can be. Return: false if something is to be told */
static bool arm(struct set *s, uint64_t *until)
{
	struct member *m, *next;

	for (m = s->hot; m; m = next) {
		struct conn *c = &conns[m->e.index];
		uint64_t limit = conn_limit(c);

		next = m->next_hot;
		if (m->off) {
			make_cold(m);
			continue;
		}
		if (limit) {
			if (now_ns() >= limit) {
				conn_revert(c, m->fd);
				return false;
			}
			if (!*until || limit < *until)
				*until = limit;
		}
		if (!m->armed)
			atomic_fetch_add(&c->watched, 1);
		m->armed = true;
		if (conn_state(c) == CONN_RING || conn_state(c) == CONN_OFFERED) {
			arm_dir(c, m->fd, m->e, SHRING_READ);
			if (m->event.events & EPOLLOUT)
				arm_dir(c, m->fd, m->e, SHRING_WRITE);
		}
		if (m->event.events & EPOLLET) {
			/* An edge between the last look and the ticket. */
			uint32_t mask = ready_mask(m->fd, m->e, m->event.events & ~FLAGS);

			if (is_news(m, mask))
				return false;
			m->told_mask = mask;
		} else if (look_at(m)) {
			return false;
		}
		if (!limit)
			make_cold(m);
	}
	return true;
}

/* A connection's bell, or the end of its shadow. */
static void bell_came(struct set *s, int fd)
{
	struct member *m = member_get(s, fd);
	struct conn *c;
	enum doze doze;
	int rc;

	if (!m || !m->is_conn)
		return;
	c = conn_lock(fd, m->e, SHRING_READ, &rc);
	make_hot(s, m);
	if (!c)
		return;
	doze = doze_begin(c, fd, SHRING_READ);
	conn_unlock(c, SHRING_READ);
	if (doze == DOZE_SLEEP)
		doze_end(&conns[m->e.index], fd, m->e, SHRING_READ);
	else if (doze == DOZE_REVERT)
		conn_revert(&conns[m->e.index], fd);
}

/* Wait in the kernel. Return: the program's events, or a negative errno */
static int kernel_wait(struct set *s, struct epoll_event *events, int max, int timeout,
	const sigset_t *mask)
{
	struct epoll_event inner[EVENTS];
	bool program = false;
	int n = real.epoll_pwait(s->inner, inner, EVENTS, timeout, mask), fd;
	uint64_t count;

	if (n < 0)
		return -errno;
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < n; i++) {
		fd = (int)(int64_t)inner[i].data.u64;
		if (fd == TAG_PROGRAM)
			program = true;
		else if (fd == TAG_KICK)
			count = real.read(s->kick, &count, sizeof(count)) > 0;
		else
			bell_came(s, fd);
	}
	pthread_mutex_unlock(&s->lock);
	if (!program || !max)
		return 0;
	n = real.epoll_pwait(s->outer, events, max, 0, NULL);
	return n < 0 ? -errno : n;
}

static bool spin(struct set *s, struct epoll_event *events, int max, int *n)
{
	uint64_t end;

	if (!s->spin_ns || !s->hot)
		return false;
	end = now_ns() + s->spin_ns;
	do {
		pthread_mutex_lock(&s->lock);
		*n = look(s, events, max);
		pthread_mutex_unlock(&s->lock);
		if (*n)
			return true;
		sched_yield();
	} while (now_ns() < end);
	return false;
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
	int n;

	pthread_mutex_lock(&s->lock);
	may_sleep = arm(s, &until);
	s->sleepers += may_sleep;
	pthread_mutex_unlock(&s->lock);
	if (!may_sleep)
		return 0;
	n = kernel_wait(s, events, max, timeout_of(until), mask);
	pthread_mutex_lock(&s->lock);
	s->sleepers--;
	s->spin_ns = wait_spin_next(s->spin_ns, now_ns() - start);
	pthread_mutex_unlock(&s->lock);
	return n;
}

static int look_locked(struct set *s, struct epoll_event *events, int max)
{
	int n;

	pthread_mutex_lock(&s->lock);
	n = look(s, events, max);
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* The kernel's events, and then ours: bells may have come with these. */
static int ask_and_look(
	struct set *s, struct epoll_event *events, int max, const sigset_t *mask)
{
	int n = kernel_wait(s, events, max, 0, mask);

	s->asked_ns = now_ns();
	return n < 0 ? n : n + look_locked(s, events + n, max - n);
}

/* All that there is to tell; asking the kernel each time would double the cost of a call
 * that is busy with connections.
 */
static int tell_all(
	struct set *s, struct epoll_event *events, int max, const sigset_t *mask)
{
	int n = 0;

	if (now_ns() - s->asked_ns < KERNEL_EACH_NS)
		n = look_locked(s, events, max);
	return n ? n : ask_and_look(s, events, max, mask);
}

static int wait_until(struct set *s, struct epoll_event *events, int max, bool look_only,
	uint64_t until, const sigset_t *mask)
{
	bool spun = false;
	int n;

	for (;;) {
		n = tell_all(s, events, max, mask);
		if (n || look_only || (until && now_ns() >= until))
			return n;
		if (!spun) {
			spun = true;
			if (spin(s, events, max, &n))
				return n;
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
	struct set *s = e.kind == FD_EPOLL ? set_of(e) : NULL;
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

bool epoll_set_look(struct fdent e, int *inner)
{
	struct set *s = set_of(e);
	struct pollfd p = {.fd = s->outer, .events = POLLIN};
	uint64_t never = 0;
	bool idle;

	*inner = s->inner;
	if (s->inner < 0)
		return false;
	/* Bells that came, and other edges that mean nothing. */
	kernel_wait(s, NULL, 0, 0, NULL);
	if (real.poll(&p, 1, 0) > 0)
		return true;
	pthread_mutex_lock(&s->lock);
	idle = arm(s, &never);
	pthread_mutex_unlock(&s->lock);
	return !idle;
}
