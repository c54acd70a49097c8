/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls that make, copy and end descriptors, and that change their flags.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "conn.h"
#include "epoll.h"
#include "fdtab.h"
#include "ivshmem/shring_layout.h"
#include "real.h"
#include "setup.h"

/* -- ends */

/* What the library knew of @fd ends. Return: false if it's not the program's to close */
static bool forget(int fd)
{
	struct fdent e = fdtab_get(fd);

	if (likely(e.kind == FD_KERNEL))
		return true;
	if (e.kind == FD_OURS)
		return false;
	epoll_fd_closed(fd, e);
	if (e.kind == FD_EPOLL)
		epoll_set_closed(fd, e);
	else if (e.kind == FD_CONN)
		conn_close_fd(fd, e);
	else if (e.kind == FD_LISTENER)
		setup_unpublish(fd, e);
	else
		fdtab_set(fd, (struct fdent){.kind = FD_KERNEL});
	return true;
}

EXPORT int close(int fd)
{
	if (!forget(fd)) {
		errno = EBADF;
		return -1;
	}
	return real.close(fd);
}

/* The program's descriptors only, without a loop over all numbers. */
EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	unsigned from = first;

	if (first > last || flags & CLOSE_RANGE_CLOEXEC || !fdtab)
		return real.close_range(first, last, flags);
	for (unsigned fd = first; fd <= last && fd < FDTAB_SIZE; fd++) {
		if (likely(fdtab_get((int)fd).kind == FD_KERNEL) || forget((int)fd))
			continue;
		if (fd > from && real.close_range(from, fd - 1, flags))
			return -1;
		from = fd + 1;
	}
	return from > last ? 0 : real.close_range(from, last, flags);
}

EXPORT void closefrom(int first)
{
	close_range((unsigned)(first < 0 ? 0 : first), ~0u, 0);
}

/* -- copies */

static int copied(int from, int to)
{
	struct fdent e = fdtab_get(from);

	if (likely(e.kind == FD_KERNEL) || to < 0)
		return to;
	if (e.kind == FD_CONN)
		conn_dup(e, to);
	else if (e.kind == FD_LISTENER)
		setup_dup(e, to);
	else if (e.kind == FD_EPOLL)
		epoll_set_dup(e, to);
	else if (e.kind == FD_TCP)
		fdtab_set(to, e);
	return to;
}

EXPORT int dup(int fd)
{
	return copied(fd, real.dup(fd));
}

/* The program wants a number that one of ours has: move ours. */
static void make_room(int fd)
{
	struct fdent e = fdtab_get(fd);

	if (e.kind != FD_KERNEL && e.kind != FD_OURS)
		forget(fd);
}

EXPORT int dup3(int from, int to, int flags)
{
	if (from != to && real.fcntl64(from, F_GETFD) >= 0)
		make_room(to);
	return copied(from, real.dup3(from, to, flags));
}

EXPORT int dup2(int from, int to)
{
	if (from == to)
		return real.dup2(from, to);
	return dup3(from, to, 0);
}

/* -- flags */

static void set_nonblock(int fd, bool on)
{
	struct fdent e = fdtab_get(fd);

	if (e.kind == FD_CONN)
		atomic_store(&conns[e.index].nonblock, on);
}

static int control(int fd, int what, void *arg)
{
	int rc = real.fcntl64(fd, what, arg);

	if (rc >= 0 && (what == F_DUPFD || what == F_DUPFD_CLOEXEC))
		return copied(fd, rc);
	if (rc >= 0 && what == F_SETFL)
		set_nonblock(fd, (long)arg & O_NONBLOCK);
	return rc;
}

#define ONE_ARGUMENT(type, name, last)   \
	do {                             \
		va_list ap;              \
                                         \
		va_start(ap, last);      \
		name = va_arg(ap, type); \
		va_end(ap);              \
	} while (0)

#undef fcntl
EXPORT int fcntl(int fd, int what, ...);

EXPORT int fcntl(int fd, int what, ...)
{
	void *arg;

	ONE_ARGUMENT(void *, arg, what);
	return control(fd, what, arg);
}

EXPORT int fcntl64(int fd, int what, ...)
{
	void *arg;

	ONE_ARGUMENT(void *, arg, what);
	return control(fd, what, arg);
}

/* SIOCINQ: what can be read. SIOCOUTQ: what the peer has not read, as TCP's acknowledged.
 */
static int queue_length(int fd, struct fdent e, bool in, int *out)
{
	enum shring_dir dir = in ? SHRING_READ : SHRING_WRITE;
	struct iovec iov[2];
	struct conn *c;
	ssize_t n;
	int rc;

	c = conn_lock(fd, e, dir, &rc);
	if (!c)
		return rc;
	if (in) {
		n = shring_peek(&c->ring, iov);
		*out = n > 0 ? (int)n : 0;
	} else {
		*out = (int)(c->ring.end[dir].pos -
			     atomic_load(&c->ring.ctrl->side[!c->ring.side].tail));
	}
	conn_unlock(c, dir);
	return 0;
}

EXPORT int ioctl(int fd, unsigned long what, ...)
{
	struct fdent e = fdtab_get(fd);
	void *arg;
	int rc;

	ONE_ARGUMENT(void *, arg, what);
	if (e.kind == FD_CONN && (what == FIONREAD || what == SIOCOUTQ) &&
		queue_length(fd, e, what == FIONREAD, arg) != CONN_USE_KERNEL)
		return 0;
	rc = real.ioctl(fd, what, arg);
	if (!rc && what == FIONBIO)
		set_nonblock(fd, *(int *)arg != 0);
	return rc;
}
