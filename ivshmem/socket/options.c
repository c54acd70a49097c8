/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options, and shutdown(). An option is set on the shadow, so the kernel judges and
 * remembers it; some mean something to the ring as well, and three not to the shadow.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "buffers.h"
#include "conn.h"
#include "fdtab.h"
#include "ivshmem/shring_layout.h"
#include "keepalive.h"
#include "real.h"

static struct conn *ring_conn(int fd)
{
	struct fdent e = fdtab_get(fd);
	struct conn *c;

	if (likely(e.kind != FD_CONN))
		return NULL;
	c = &conns[e.index];
	return conn_state(c) == CONN_KERNEL ? NULL : c;
}

/* -- get */

static int give_int(int value, void *to, socklen_t *len)
{
	*len = MIN(*len, (socklen_t)sizeof(value));
	memcpy(to, &value, *len);
	return 0;
}

/* As after a connect() that has failed or succeeded meanwhile. */
static int socket_error(struct conn *c, int fd, void *value, socklen_t *len)
{
	conn_advance(c, fd);
	if (conn_state(c) == CONN_RING)
		return give_int(atomic_exchange(&c->error, 0), value, len);
	return real.getsockopt(fd, SOL_SOCKET, SO_ERROR, value, len);
}

EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	struct conn *c = ring_conn(fd);
	const int *kept;

	if (unlikely(c && value && len)) {
		if (level == SOL_SOCKET && name == SO_ERROR)
			return socket_error(c, fd, value, len);
		if (level == IPPROTO_TCP && name == TCP_NODELAY)
			return give_int(c->nodelay, value, len);
		if (level == IPPROTO_TCP && name == TCP_CORK)
			return give_int(c->cork, value, len);
		kept = keepalive_option(c, level, name);
		if (kept)
			return give_int(*kept, value, len);
	}
	return real.getsockopt(fd, level, name, value, len);
}

/* -- set */

static int keep_bool(bool *to, const void *value, socklen_t len)
{
	int n;

	if (len < sizeof(n)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(&n, value, sizeof(n));
	*to = n != 0;
	return 0;
}

static void keep_timeout(uint64_t *to, const void *value, socklen_t len)
{
	struct timeval tv;

	if (len < sizeof(tv))
		return;
	memcpy(&tv, value, sizeof(tv));
	*to = tv.tv_sec < 0 ? 0
			    : (uint64_t)tv.tv_sec * NSEC_PER_SEC +
				      (uint64_t)tv.tv_usec * NSEC_PER_USEC;
}

/* The kernel has taken it. */
static void also_for_ring(struct conn *c, int name, const void *value, socklen_t len)
{
	struct linger linger;

	if (name == SO_RCVTIMEO) {
		keep_timeout(&c->timeout_ns[SHRING_READ], value, len);
	} else if (name == SO_SNDTIMEO) {
		keep_timeout(&c->timeout_ns[SHRING_WRITE], value, len);
	} else if (name == SO_LINGER && len >= sizeof(linger)) {
		memcpy(&linger, value, sizeof(linger));
		c->linger_abort = linger.l_onoff && !linger.l_linger;
	}
}

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct conn *c = ring_conn(fd);
	int rc;

	if (unlikely(c && value && level == IPPROTO_TCP)) {
		if (name == TCP_NODELAY)
			return keep_bool(&c->nodelay, value, len);
		if (name == TCP_CORK)
			return keep_bool(&c->cork, value, len);
	}
	if (unlikely(c && value && keepalive_option(c, level, name)))
		return keepalive_set(c, fd, level, name, value, len);
	rc = real.setsockopt(fd, level, name, value, len);
	if (!rc && level == SOL_SOCKET && value && len >= (socklen_t)sizeof(int))
		buffers_say(fd, name, *(const int *)value);
	if (unlikely(!rc && c && level == SOL_SOCKET))
		also_for_ring(c, name, value, len);
	return rc;
}

/* -- shutdown */

/* Has it ended in both directions, so that TCP would know no peer any more? */
static bool is_over(struct conn *c)
{
	return atomic_load(&c->dead) ||
	       (atomic_load(&c->write_shut) && conn_peer_finished(c));
}

static int shut(struct conn *c, int fd, struct fdent e, enum shring_dir dir)
{
	int rc;

	if (!conn_lock(fd, e, dir, &rc))
		return rc;
	if (dir == SHRING_READ) {
		/* The peer never learns of it, in TCP; it just is not read any more. */
		atomic_store(&c->read_shut, 1);
		/* Who sleeps on the shadow wakes by this. It tells the peer nothing. */
		if (c->asleep)
			real.shutdown(fd, SHUT_RD);
	} else if (!atomic_exchange(&c->write_shut, 1)) {
		shring_shutdown(&c->ring, SHRING_WRITE);
		conn_notice_end(c, fd);
	}
	conn_unlock(c, dir);
	return 0;
}

static int end_directions(struct conn *c, int fd, struct fdent e, int how)
{
	struct conn *locked;
	int rc = 0;

	conn_advance(c, fd);
	if (conn_state(c) == CONN_CONNECTING)
		return -ENOTCONN;
	locked = conn_lock(fd, e, SHRING_READ, &rc);
	if (!locked)
		return rc;
	rc = is_over(c) ? -ENOTCONN : 0;
	conn_unlock(locked, SHRING_READ);
	/* Reading last, as that wakes who waits: both must be over by then. */
	if (!rc && how != SHUT_RD)
		rc = shut(c, fd, e, SHRING_WRITE);
	if (!rc && how != SHUT_WR)
		rc = shut(c, fd, e, SHRING_READ);
	return rc;
}

EXPORT int shutdown(int fd, int how)
{
	struct fdent e = fdtab_get(fd);
	struct conn *c = ring_conn(fd);
	int rc;

	if (likely(!c) || how < SHUT_RD || how > SHUT_RDWR)
		return real.shutdown(fd, how);
	rc = end_directions(c, fd, e, how);
	if (rc == CONN_USE_KERNEL)
		return real.shutdown(fd, how);
	if (!rc)
		return 0;
	errno = -rc;
	return -1;
}

EXPORT int getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
	struct fdent e = fdtab_get(fd);
	struct conn *c =
		e.kind == FD_CONN ? conn_lock(fd, e, SHRING_READ, &(int){0}) : NULL;
	bool over;

	if (unlikely(c)) {
		over = conn_state(c) == CONN_RING && is_over(c);
		conn_unlock(c, SHRING_READ);
		if (over) {
			errno = ENOTCONN;
			return -1;
		}
	}
	return real.getpeername(fd, sa, len);
}
