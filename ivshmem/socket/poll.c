/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * poll() and select() with connections among the descriptors: look at these in user
 * space, spin a little, then arm them and sleep in the kernel's ppoll() on all.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "epoll.h"
#include "ready.h"
#include "real.h"

#define ON_STACK 64

struct watch {
	struct fdent e;
	uint32_t dozing;
};

/* One call. */
struct call {
	struct pollfd *fds; /* the program's */
	nfds_t n;
	struct pollfd *kernel; /* what the kernel waits for in their place */
	struct watch *watches;
	bool others;	   /* is one not a connection? */
	uint64_t until_ns; /* 0: for ever */
	uint64_t limit_ns; /* when a set is to be looked at again; 0: never */
	const sigset_t *mask;
};

static __thread uint64_t spin_ns __attribute__((tls_model("initial-exec")));

static bool is_special(int fd)
{
	enum fd_kind kind = fdtab_get(fd).kind;

	return kind == FD_CONN || kind == FD_EPOLL;
}

static bool any_special(const struct pollfd *fds, nfds_t n)
{
	for (nfds_t i = 0; i < n; i++) {
		if (fds[i].fd >= 0 && unlikely(is_special(fds[i].fd)))
			return true;
	}
	return false;
}

static void prepare(struct call *c)
{
	for (nfds_t i = 0; i < c->n; i++) {
		c->watches[i] = (struct watch){.e = fdtab_get(c->fds[i].fd)};
		if (c->fds[i].fd < 0)
			c->watches[i].e.kind = FD_KERNEL;
		else if (c->watches[i].e.kind != FD_CONN)
			c->others = true;
		c->kernel[i] = c->fds[i];
		c->kernel[i].revents = 0;
		c->fds[i].revents = 0;
	}
}

/* The sets' descriptors are left to the kernel unless a connection in them is ready. */
static uint32_t look_at(struct call *c, nfds_t i)
{
	const struct watch *w = &c->watches[i];
	int inner;

	if (w->e.kind == FD_CONN)
		return ready_mask(c->fds[i].fd, w->e, (uint16_t)c->fds[i].events);
	if (w->e.kind != FD_EPOLL)
		return 0;
	if (epoll_set_look(w->e, &inner, &c->limit_ns))
		return c->fds[i].events & (POLLIN | POLLRDNORM);
	if (inner >= 0)
		c->kernel[i].fd = inner;
	return 0;
}

/* Return: how many of ours are ready */
static int look(struct call *c)
{
	int n = 0;

	c->limit_ns = 0;
	for (nfds_t i = 0; i < c->n; i++) {
		c->fds[i].revents = (short)look_at(c, i);
		n += c->fds[i].revents != 0;
	}
	return n;
}

/* Add the kernel's view of all that isn't ours. */
static int ask_kernel(const struct call *c, const struct timespec *timeout, bool ours)
{
	int n;

	for (nfds_t i = 0; i < c->n; i++) {
		const struct watch *w = &c->watches[i];

		c->kernel[i].revents = 0;
		if (w->e.kind != FD_CONN)
			continue;
		c->kernel[i].events = (short)ready_watch(
			&conns[w->e.index], (uint16_t)c->fds[i].events);
		c->kernel[i].fd = ours && c->kernel[i].events ? c->fds[i].fd : -1;
	}
	n = real.ppoll(c->kernel, c->n, timeout, timeout && !ours ? NULL : c->mask);
	for (nfds_t i = 0; n > 0 && i < c->n; i++) {
		/* A set whose inner one was waited for is looked at again. */
		if (c->watches[i].e.kind != FD_CONN && c->kernel[i].fd == c->fds[i].fd)
			c->fds[i].revents |= c->kernel[i].revents;
	}
	return n;
}

static const struct timespec no_time;

/* Return: 0 or a negative errno */
static int ask_others(const struct call *c)
{
	return c->others && ask_kernel(c, &no_time, false) < 0 ? -errno : 0;
}

static int count(const struct call *c)
{
	int n = 0;

	for (nfds_t i = 0; i < c->n; i++)
		n += c->fds[i].revents != 0;
	return n;
}

static void wake(const struct call *c, nfds_t n)
{
	for (nfds_t i = 0; i < n; i++) {
		struct watch *w = &c->watches[i];

		if (w->dozing)
			ready_wake(c->fds[i].fd, w->e, w->dozing);
		w->dozing = 0;
	}
}

/* Return: may we sleep? If so all are armed. */
static bool arm(const struct call *c, uint64_t *until)
{
	enum doze doze = DOZE_SLEEP;
	struct timespec nap = {0, 50 * 1000};
	nfds_t i;

	for (i = 0; i < c->n && doze == DOZE_SLEEP; i++) {
		struct watch *w = &c->watches[i];
		uint64_t limit;

		if (w->e.kind != FD_CONN)
			continue;
		doze = ready_doze(
			c->fds[i].fd, w->e, (uint16_t)c->fds[i].events, &w->dozing);
		limit = conn_limit(&conns[w->e.index]);
		if (limit && (!*until || limit < *until))
			*until = limit;
	}
	if (doze == DOZE_SLEEP)
		return true;
	wake(c, i);
	if (doze == DOZE_REVERT)
		conn_revert(&conns[c->watches[i - 1].e.index], c->fds[i - 1].fd);
	else if (doze == DOZE_AGAIN)
		nanosleep(&nap, NULL);
	return false;
}

static struct timespec left_of(uint64_t until)
{
	uint64_t now = now_ns(), left = until > now ? until - now : 0;

	return (struct timespec){
		(time_t)(left / NSEC_PER_SEC), (long)(left % NSEC_PER_SEC)};
}

static bool spin(struct call *c)
{
	uint64_t end = now_ns() + spin_ns;

	if (!spin_ns)
		return false;
	do {
		look(c);
		ask_others(c);
		if (count(c))
			return true;
		sched_yield();
	} while (now_ns() < end);
	return false;
}

/* Return: 0, or -EINTR */
static int sleep_once(const struct call *c)
{
	uint64_t until = c->until_ns, start = now_ns();
	struct timespec left;
	int n;

	if (!arm(c, &until))
		return 0;
	if (c->limit_ns && (!until || c->limit_ns < until))
		until = c->limit_ns;
	left = left_of(until);
	n = ask_kernel(c, until ? &left : NULL, true);
	if (n < 0)
		n = -errno;
	wake(c, c->n);
	spin_ns = wait_spin_next(spin_ns, now_ns() - start);
	return MIN(n, 0);
}

static int run(struct call *c)
{
	bool spun = false, late;
	int rc;

	prepare(c);
	for (;;) {
		late = c->until_ns && now_ns() >= c->until_ns;
		if (look(c) || late || !spun) {
			rc = ask_others(c);
			if (rc || late || count(c))
				return count(c) ? count(c) : rc;
		}
		if (!spun) {
			spun = true;
			if (spin(c))
				return count(c);
		}
		rc = sleep_once(c);
		if (rc == 0 && count(c)) {
			look(c);
			rc = ask_others(c);
			return count(c) ? count(c) : rc;
		}
		if (rc)
			return look(c) ? count(c) : rc;
	}
}

static int poll_until(struct pollfd *fds, nfds_t n, uint64_t until, const sigset_t *mask)
{
	struct pollfd few[ON_STACK];
	struct watch few_watches[ON_STACK];
	struct call c = {.fds = fds,
		.n = n,
		.kernel = few,
		.watches = few_watches,
		.until_ns = until,
		.mask = mask};
	void *many = NULL;
	int rc;

	if (n > ON_STACK) {
		many = malloc(n * (sizeof(few[0]) + sizeof(few_watches[0])));
		if (!many) {
			errno = ENOMEM;
			return -1;
		}
		c.kernel = many;
		c.watches = (struct watch *)(c.kernel + n);
	}
	rc = run(&c);
	free(many);
	if (rc < 0) {
		errno = -rc;
		return -1;
	}
	return rc;
}

/* A moment that has passed, or is to come; 0 is for ever. */
static uint64_t until_of(const struct timespec *timeout)
{
	if (!timeout)
		return 0;
	return now_ns() + (uint64_t)timeout->tv_sec * NSEC_PER_SEC +
	       (uint64_t)timeout->tv_nsec;
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
	const sigset_t *mask)
{
	if (likely(!any_special(fds, n)))
		return real.ppoll(fds, n, timeout, mask);
	return poll_until(fds, n, until_of(timeout), mask);
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec ts = {timeout / 1000, timeout % 1000 * 1000000L};

	if (likely(!any_special(fds, n)))
		return real.poll(fds, n, timeout);
	return poll_until(fds, n, until_of(timeout < 0 ? NULL : &ts), NULL);
}

EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
	const sigset_t *mask, size_t size);
void __chk_fail(void) __attribute__((noreturn));

EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	if (size / sizeof(*fds) < n)
		__chk_fail();
	return poll(fds, n, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
	const sigset_t *mask, size_t size)
{
	if (size / sizeof(*fds) < n)
		__chk_fail();
	return ppoll(fds, n, timeout, mask);
}

/* -- select() */

#define IN_SET	(POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define OUT_SET (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define EX_SET	POLLPRI

static bool is_in(int fd, const fd_set *set)
{
	return set && FD_ISSET(fd, set);
}

static bool select_is_special(int n, fd_set *in, fd_set *out, fd_set *ex)
{
	for (int fd = 0; fd < MIN(n, FD_SETSIZE); fd++) {
		if (unlikely(is_special(fd)) &&
			(is_in(fd, in) || is_in(fd, out) || is_in(fd, ex)))
			return true;
	}
	return false;
}

static nfds_t from_sets(
	struct pollfd *fds, int n, const fd_set *in, const fd_set *out, const fd_set *ex)
{
	nfds_t count_fds = 0;
	short events;

	for (int fd = 0; fd < MIN(n, FD_SETSIZE); fd++) {
		events = (short)((is_in(fd, in) ? POLLIN : 0) |
				 (is_in(fd, out) ? POLLOUT : 0) |
				 (is_in(fd, ex) ? POLLPRI : 0));
		if (events)
			fds[count_fds++] = (struct pollfd){fd, events, 0};
	}
	return count_fds;
}

static int to_set(
	fd_set *set, const struct pollfd *fds, nfds_t n, short asked, short events)
{
	int bits = 0;

	if (!set)
		return 0;
	FD_ZERO(set);
	for (nfds_t i = 0; i < n; i++) {
		if (fds[i].events & asked && fds[i].revents & events) {
			FD_SET(fds[i].fd, set);
			bits++;
		}
	}
	return bits;
}

static int select_until(
	int n, fd_set *in, fd_set *out, fd_set *ex, uint64_t until, const sigset_t *mask)
{
	struct pollfd fds[FD_SETSIZE];
	nfds_t n_fds = from_sets(fds, n, in, out, ex);
	int rc = poll_until(fds, n_fds, until, mask);

	if (rc < 0)
		return rc;
	for (nfds_t i = 0; i < n_fds; i++) {
		if (fds[i].revents & POLLNVAL) {
			errno = EBADF;
			return -1;
		}
	}
	return to_set(in, fds, n_fds, POLLIN, IN_SET) +
	       to_set(out, fds, n_fds, POLLOUT, OUT_SET) +
	       to_set(ex, fds, n_fds, POLLPRI, EX_SET);
}

EXPORT int select(int n, fd_set *in, fd_set *out, fd_set *ex, struct timeval *timeout)
{
	struct timespec ts;
	uint64_t until, now;
	int rc;

	if (likely(!select_is_special(n, in, out, ex)))
		return real.select(n, in, out, ex, timeout);
	if (timeout)
		ts = (struct timespec){timeout->tv_sec, timeout->tv_usec * 1000};
	until = until_of(timeout ? &ts : NULL);
	rc = select_until(n, in, out, ex, until, NULL);
	if (timeout) {
		now = now_ns();
		ts = left_of(MAX(until, now));
		*timeout = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
	}
	return rc;
}

EXPORT int pselect(int n, fd_set *in, fd_set *out, fd_set *ex,
	const struct timespec *timeout, const sigset_t *mask)
{
	if (likely(!select_is_special(n, in, out, ex)))
		return real.pselect(n, in, out, ex, timeout, mask);
	return select_until(n, in, out, ex, until_of(timeout), mask);
}
