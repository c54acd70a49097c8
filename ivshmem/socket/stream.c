/* SPDX-License-Identifier: BSD-3-Clause */
#include "stream.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "ivshmem/shring_layout.h"
#include "real.h"
#include "wait.h"

/* Looks in vain between two looks at the shadow, for those who never sleep. */
#define LOOKS_PER_SHADOW 64

/* Where a call is in its pieces. */
struct cursor {
	const struct iovec *iov;
	size_t n;
	size_t at;
	size_t done;
};

static struct iovec cursor_piece(struct cursor *c)
{
	while (c->n && c->at == c->iov->iov_len) {
		c->iov++;
		c->n--;
		c->at = 0;
	}
	if (!c->n)
		return (struct iovec){NULL, 0};
	/* MSG_TRUNC needs no buffer. */
	return (struct iovec){
		(void *)((uintptr_t)c->iov->iov_base + c->at), c->iov->iov_len - c->at};
}

static void cursor_move(struct cursor *c, size_t n)
{
	c->at += n;
	c->done += n;
}

static uint64_t deadline(const struct conn *c, enum shring_dir dir)
{
	return c->timeout_ns[dir] ? now_ns() + c->timeout_ns[dir] : 0;
}

static bool is_nonblocking(const struct conn *c, int flags)
{
	return flags & MSG_DONTWAIT ||
	       atomic_load_explicit(&c->nonblock, memory_order_relaxed);
}

/* -- receiving */

/* Nothing to read: why? @sleeps: if so, it will learn of the shadow's end by that */
static int nothing(struct conn *c, int fd, bool sleeps)
{
	if (atomic_load(&c->read_shut))
		return 0;
	if (atomic_load(&c->shadow_ended)) {
		/* It may have written, and finished, just before. */
		if (shring_is_ready(&c->ring, SHRING_READ))
			return -EINTR;
		return 0;
	}
	if (!sleeps && ++c->n_empty % LOOKS_PER_SHADOW == 0)
		conn_look_at_shadow(c, fd);
	return -EAGAIN;
}

/* An error is told once; afterwards it looks like the end. */
static int take_error(struct conn *c)
{
	int error = atomic_exchange(&c->error, 0);

	return -error;
}

/* MSG_TRUNC: as if they were received, without having them. */
static ssize_t skip(struct conn *c, struct cursor *to, bool peek)
{
	struct iovec iov[2], piece;
	ssize_t rc = shring_peek(&c->ring, iov);
	size_t n, before = to->done;

	while (rc > 0 && (piece = cursor_piece(to)).iov_len) {
		n = MIN(piece.iov_len, (size_t)rc);
		cursor_move(to, n);
		rc -= (ssize_t)n;
	}
	if (to->done == before)
		return rc;
	if (!peek)
		shring_consume(&c->ring, to->done - before);
	return (ssize_t)to->done;
}

static ssize_t copy_peeked(struct conn *c, struct cursor *to)
{
	struct iovec iov[2], piece;
	ssize_t rc = shring_peek(&c->ring, iov);
	size_t n;

	if (rc <= 0)
		return rc;
	for (int i = 0; i < 2; i++) {
		const char *from = iov[i].iov_base;

		while (iov[i].iov_len) {
			piece = cursor_piece(to);
			n = MIN(piece.iov_len, iov[i].iov_len);
			if (!n)
				return (ssize_t)to->done;
			memcpy(piece.iov_base, from, n);
			from += n;
			iov[i].iov_len -= n;
			cursor_move(to, n);
		}
	}
	return (ssize_t)to->done;
}

/* All that is there and fits. Return: 0 or more: bytes so far; an error if there are none
 */
static ssize_t recv_some(struct conn *c, struct cursor *to)
{
	size_t before = to->done;
	struct iovec piece;
	ssize_t n = 0;

	for (piece = cursor_piece(to); piece.iov_len; piece = cursor_piece(to)) {
		n = shring_read(&c->ring, piece.iov_base, piece.iov_len);
		if (n <= 0)
			break;
		cursor_move(to, (size_t)n);
		if ((size_t)n < piece.iov_len)
			break;
	}
	return to->done > before ? (ssize_t)to->done : n;
}

static ssize_t recv_once(struct conn *c, int fd, struct cursor *to, int flags)
{
	ssize_t n;

	if (unlikely(!cursor_piece(to).iov_len))
		return conn_is_ready(c, SHRING_READ) ? 0 : -EAGAIN;
	do {
		if (unlikely(flags & MSG_TRUNC))
			n = skip(c, to, flags & MSG_PEEK);
		else
			n = flags & MSG_PEEK ? copy_peeked(c, to) : recv_some(c, to);
		if (n == -EAGAIN)
			n = nothing(c, fd, !is_nonblocking(c, flags));
	} while (n == -EINTR);
	if (unlikely(n <= 0 && n != -EAGAIN)) {
		if (n)
			conn_error_of(c, (int)n);
		conn_notice_end(c, fd);
		/* The end is told as the end, unless it was none of the peer's will. */
		if (n || (atomic_load(&c->shadow_ended) && !conn_peer_finished(c)))
			n = take_error(c);
	}
	return n;
}

static size_t total(const struct iovec *iov, size_t n_iov)
{
	size_t sum = 0;

	for (size_t i = 0; i < n_iov; i++)
		sum += iov[i].iov_len;
	return sum;
}

/* Return: does the call have to wait for more? */
static bool recv_next(
	struct conn *c, int fd, struct cursor *to, size_t want, int flags, ssize_t *n)
{
	*n = recv_once(c, fd, to, flags);
	return to->done < want && (*n > 0 || *n == -EAGAIN) && !is_nonblocking(c, flags);
}

ssize_t stream_recv(
	int fd, struct fdent e, const struct iovec *iov, size_t n_iov, int flags)
{
	struct cursor to = {.iov = iov, .n = n_iov};
	size_t want = flags & MSG_WAITALL ? total(iov, n_iov) : 1;
	uint64_t until = 0;
	struct conn *c;
	bool forsaken, waits;
	ssize_t n;
	int rc;

	if (unlikely(flags & MSG_OOB))
		return -EINVAL;
	if (unlikely(flags & MSG_ERRQUEUE))
		return -EAGAIN;
	for (bool first = true;; first = false) {
		c = conn_lock(fd, e, SHRING_READ, &rc);
		if (!c)
			return to.done && rc == CONN_USE_KERNEL ? (ssize_t)to.done : rc;
		if (flags & MSG_PEEK)
			to = (struct cursor){.iov = iov, .n = n_iov};
		/* Whoever finds something by spinning goes on under the same lock. */
		waits = recv_next(c, fd, &to, want, flags, &n);
		while (waits && !(flags & MSG_PEEK) && conn_spin(c, SHRING_READ))
			waits = recv_next(c, fd, &to, want, flags, &n);
		if (!waits) {
			forsaken = n == -EAGAIN && conn_is_forsaken(c, fd);
			conn_unlock(c, SHRING_READ);
			if (unlikely(forsaken) && !conn_revert(c, fd))
				return CONN_USE_KERNEL;
			return to.done ? (ssize_t)to.done : n;
		}
		if (first)
			until = deadline(c, SHRING_READ);
		rc = conn_sleep(c, fd, e, SHRING_READ, until);
		if (rc)
			return to.done ? (ssize_t)to.done : rc;
	}
}

/* -- sending */

static int broken_pipe(struct conn *c, int flags)
{
	int error = take_error(c);

	if (error && error != -EPIPE)
		return error;
	if (!(flags & MSG_NOSIGNAL))
		raise(SIGPIPE);
	return -EPIPE;
}

/* The peer closed: TCP takes the first bytes, and learns by them that they are unwanted.
 */
static ssize_t send_in_vain(struct conn *c, int fd, struct cursor *from)
{
	/* So does the kernel by this. */
	real.send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	atomic_store(&c->dead, 1);
	atomic_store(&c->error, EPIPE);
	return (ssize_t)(from->done + total(from->iov, from->n) - from->at);
}

static ssize_t send_some(struct conn *c, struct cursor *from)
{
	size_t before = from->done, len;
	struct iovec piece;
	ssize_t n = 0;

	for (piece = cursor_piece(from); piece.iov_len; piece = cursor_piece(from)) {
		len = piece.iov_len;
		if (unlikely(conn_state(c) == CONN_OFFERED)) {
			len = MIN(len, UNATTACHED_MAX - c->ring.end[SHRING_WRITE].pos);
			if (!len) {
				n = -EAGAIN;
				break;
			}
		}
		n = shring_write(&c->ring, piece.iov_base, len);
		if (n <= 0)
			break;
		cursor_move(from, (size_t)n);
	}
	return from->done > before ? (ssize_t)from->done : n;
}

static ssize_t send_once(struct conn *c, int fd, struct cursor *from, int flags)
{
	ssize_t n;

	if (unlikely(atomic_load(&c->write_shut) || atomic_load(&c->dead)))
		return broken_pipe(c, flags);
	if (unlikely(atomic_load(&c->shadow_ended)))
		return send_in_vain(c, fd, from);
	if (unlikely(conn_state(c) == CONN_CONNECTING))
		return -EAGAIN;
	n = send_some(c, from);
	if (likely(n >= 0 || n == -EAGAIN))
		return n;
	if (n == -EPIPE)
		return send_in_vain(c, fd, from);
	conn_error_of(c, (int)n);
	return broken_pipe(c, flags);
}

/* Return: does the call have to wait? */
static bool send_next(
	struct conn *c, int fd, struct cursor *from, size_t want, int flags, ssize_t *n)
{
	*n = send_once(c, fd, from, flags);
	if (*n >= 0 && (size_t)*n > from->done)
		from->done = (size_t)*n;
	return from->done < want && (*n >= 0 || *n == -EAGAIN) &&
	       !is_nonblocking(c, flags);
}

ssize_t stream_send(
	int fd, struct fdent e, const struct iovec *iov, size_t n_iov, int flags)
{
	struct cursor from = {.iov = iov, .n = n_iov};
	size_t want = total(iov, n_iov);
	uint64_t until = 0;
	struct conn *c;
	bool waits;
	ssize_t n;
	int rc;

	if (unlikely(flags & MSG_OOB))
		return -EOPNOTSUPP;
	for (bool first = true;; first = false) {
		c = conn_lock(fd, e, SHRING_WRITE, &rc);
		if (!c)
			return from.done && rc == CONN_USE_KERNEL ? (ssize_t)from.done
								  : rc;
		if (unlikely(conn_state(c) != CONN_RING))
			conn_advance(c, fd);
		waits = send_next(c, fd, &from, want, flags, &n);
		while (waits && conn_spin(c, SHRING_WRITE))
			waits = send_next(c, fd, &from, want, flags, &n);
		if (!waits) {
			if (from.done < want && ++c->n_full % LOOKS_PER_SHADOW == 0)
				conn_look_at_shadow(c, fd);
			conn_unlock(c, SHRING_WRITE);
			return from.done ? (ssize_t)from.done : n;
		}
		if (first)
			until = deadline(c, SHRING_WRITE);
		rc = conn_sleep(c, fd, e, SHRING_WRITE, until);
		if (rc)
			return from.done ? (ssize_t)from.done : rc;
	}
}
