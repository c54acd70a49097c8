/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sendfile() and splice() with a connection at one end: by copy.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "fdtab.h"
#include "real.h"
#include "stream.h"
#include "wait.h"

#define PIECE (64u << 10)

static ssize_t fail(int error)
{
	errno = error;
	return -1;
}

static bool is_conn(int fd)
{
	return fdtab_get(fd).kind == FD_CONN &&
	       conn_state(&conns[fdtab_get(fd).index]) != CONN_KERNEL;
}

static ssize_t send_piece(int fd, const void *buf, size_t len, int flags)
{
	struct iovec iov = {(void *)buf, len};
	struct fdent e = fdtab_get(fd);
	ssize_t n = CONN_USE_KERNEL;

	if (e.kind == FD_CONN)
		n = stream_send(fd, e, &iov, 1, flags);
	if (n != CONN_USE_KERNEL)
		return n;
	n = real.write(fd, buf, len);
	return n < 0 ? -errno : n;
}

static ssize_t recv_piece(int fd, void *buf, size_t len, int flags)
{
	struct iovec iov = {buf, len};
	ssize_t n = stream_recv(fd, fdtab_get(fd), &iov, 1, flags);

	if (n != CONN_USE_KERNEL)
		return n;
	n = real.recv(fd, buf, len, flags);
	return n < 0 ? -errno : n;
}

/* -- from a file */

/* Bytes of a file are taken only as far as they are sent. */
static ssize_t file_to_conn(int out, int in, off_t *at, size_t len)
{
	char buf[PIECE];
	size_t done = 0;
	ssize_t n = 0, sent;

	while (done < len) {
		n = pread(in, buf, MIN(sizeof(buf), len - done), *at);
		if (n <= 0) {
			n = n < 0 ? -errno : 0;
			break;
		}
		sent = send_piece(out, buf, (size_t)n, 0);
		if (sent <= 0) {
			n = sent;
			break;
		}
		*at += sent;
		done += (size_t)sent;
		if (sent < n)
			break;
	}
	return done ? (ssize_t)done : n;
}

/* -- from a connection */

/* What can't be passed on stays. @flags: MSG_DONTWAIT */
static ssize_t conn_to_any(int out, int in, size_t len, int flags)
{
	char buf[PIECE];
	ssize_t n, sent;

	n = recv_piece(in, buf, MIN(len, sizeof(buf)), MSG_PEEK | flags);
	if (n <= 0)
		return n;
	sent = send_piece(out, buf, (size_t)n, 0);
	if (sent > 0)
		recv_piece(in, buf, (size_t)sent, MSG_TRUNC);
	return sent;
}

EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t len)
{
	off_t at = offset ? *offset : 0;
	ssize_t n;

	if (likely(!is_conn(out) && !is_conn(in)))
		return real.sendfile(out, in, offset, len);
	if (is_conn(in)) {
		n = offset ? -ESPIPE : conn_to_any(out, in, len, 0);
		return n < 0 ? fail((int)-n) : n;
	}
	if (!offset) {
		at = lseek(in, 0, SEEK_CUR);
		if (at < 0)
			return fail(EINVAL);
	}
	n = file_to_conn(out, in, &at, len);
	if (n > 0 && !offset)
		lseek(in, at, SEEK_SET);
	else if (n > 0)
		*offset = at;
	return n < 0 ? fail((int)-n) : n;
}

EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t len);

EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t len)
{
	return sendfile(out, in, offset, len);
}

/* -- from a pipe */

/* Until the pipe has something. Return: bytes, 0: its end, or an error */
static int pipe_bytes(int fd, bool wait)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int n = 0;

	if (real.poll(&p, 1, wait ? -1 : 0) < 0 || real.ioctl(fd, FIONREAD, &n))
		return -errno;
	if (n || p.revents & POLLHUP)
		return n;
	return -EAGAIN;
}

/* Bytes can't be put back into a pipe: see first that they can be sent. */
static ssize_t pipe_to_conn(int out, int in, size_t len, bool wait)
{
	struct fdent e = fdtab_get(out);
	struct pollfd p = {.fd = out, .events = POLLOUT};
	char buf[PIECE];
	struct iovec iov[2];
	struct conn *c;
	ssize_t n = pipe_bytes(in, wait), room;
	int rc;

	if (n <= 0)
		return n;
	if (wait && !atomic_load(&conns[e.index].nonblock))
		poll(&p, 1, -1);
	c = conn_lock(out, e, SHRING_WRITE, &rc);
	if (!c)
		return rc == CONN_USE_KERNEL ? -EAGAIN : rc;
	room = shring_reserve(&c->ring, iov);
	conn_unlock(c, SHRING_WRITE);
	if (room == -EAGAIN)
		return room;
	/* An error is told by sending. */
	len = MIN(MIN(len, (size_t)n), sizeof(buf));
	if (room > 0)
		len = MIN(len, (size_t)room);
	n = real.read(in, buf, len);
	return n > 0 ? send_piece(out, buf, (size_t)n, 0) : n;
}

EXPORT ssize_t splice(
	int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags)
{
	bool wait = !(flags & SPLICE_F_NONBLOCK);
	ssize_t n;

	if (likely(!is_conn(out) && !is_conn(in)))
		return real.splice(in, in_at, out, out_at, len, flags);
	if ((is_conn(in) && in_at) || (is_conn(out) && out_at))
		return fail(ESPIPE);
	if (is_conn(in))
		n = conn_to_any(out, in, len, wait ? 0 : MSG_DONTWAIT);
	else
		n = pipe_to_conn(out, in, len, wait);
	return n < 0 ? fail((int)-n) : n;
}
