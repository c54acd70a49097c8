/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The calls that move bytes. Each is the kernel's unless the descriptor is a connection.
 */
#include <errno.h>
#include <string.h>

#include "fdtab.h"
#include "pass.h"
#include "real.h"
#include "stream.h"

/* A result of stream.h as libc gives it. */
static ssize_t result(ssize_t n)
{
	if (likely(n >= 0))
		return n;
	errno = (int)-n;
	return -1;
}

static inline bool is_conn(int fd, struct fdent *e)
{
	*e = fdtab_get(fd);
	return unlikely(e->kind == FD_CONN);
}

/* Do @call of stream.h; if it's the kernel's (by now), do @or. */
#define STREAM_OR(fd, call, or)                   \
	do {                                      \
		struct fdent e;                   \
		ssize_t n;                        \
                                                  \
		if (is_conn(fd, &e)) {            \
			n = call;                 \
			if (n != CONN_USE_KERNEL) \
				return result(n); \
		}                                 \
		return or ;                       \
	} while (0)

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	struct iovec iov = {buf, len};

	/* Unlike recv(), it does not look at the connection for nothing. */
	STREAM_OR(fd, len ? stream_recv(fd, e, &iov, 1, 0) : 0, real.read(fd, buf, len));
}

EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	struct iovec iov = {buf, len};

	STREAM_OR(fd, stream_recv(fd, e, &iov, 1, flags), real.recv(fd, buf, len, flags));
}

/* A connected TCP socket leaves the address alone, and says it has none. */
EXPORT ssize_t recvfrom(
	int fd, void *buf, size_t len, int flags, struct sockaddr *sa, socklen_t *sa_len)
{
	struct iovec iov = {buf, len};

	if (fdtab_get(fd).kind == FD_CONN && sa && sa_len)
		*sa_len = 0;
	STREAM_OR(fd, stream_recv(fd, e, &iov, 1, flags),
		real.recvfrom(fd, buf, len, flags, sa, sa_len));
}

static ssize_t stream_readv(int fd, struct fdent e, const struct iovec *iov, int n_iov)
{
	size_t len = 0;

	if (n_iov < 0 || n_iov > 1024)
		return -EINVAL;
	for (int i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	return len ? stream_recv(fd, e, iov, (size_t)n_iov, 0) : 0;
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int n_iov)
{
	STREAM_OR(fd, stream_readv(fd, e, iov, n_iov), real.readv(fd, iov, n_iov));
}

static ssize_t recvmsg_conn(int fd, struct fdent e, struct msghdr *msg, int flags)
{
	ssize_t n = stream_recv(fd, e, msg->msg_iov, msg->msg_iovlen, flags);

	if (n < 0)
		return n;
	msg->msg_namelen = 0;
	msg->msg_controllen = 0;
	msg->msg_flags = 0;
	return n;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	STREAM_OR(fd, recvmsg_conn(fd, e, msg, flags), pass_recvmsg(fd, msg, flags));
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	struct iovec iov = {(void *)buf, len};

	STREAM_OR(fd, stream_send(fd, e, &iov, 1, 0), real.write(fd, buf, len));
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	struct iovec iov = {(void *)buf, len};

	STREAM_OR(fd, stream_send(fd, e, &iov, 1, flags), real.send(fd, buf, len, flags));
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags,
	const struct sockaddr *sa, socklen_t sa_len)
{
	struct iovec iov = {(void *)buf, len};

	STREAM_OR(fd, stream_send(fd, e, &iov, 1, flags),
		real.sendto(fd, buf, len, flags, sa, sa_len));
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n_iov)
{
	STREAM_OR(fd,
		n_iov < 0 || n_iov > 1024 ? -EINVAL
					  : stream_send(fd, e, iov, (size_t)n_iov, 0),
		real.writev(fd, iov, n_iov));
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	STREAM_OR(fd, stream_send(fd, e, msg->msg_iov, msg->msg_iovlen, flags),
		pass_sendmsg(fd, msg, flags));
}

EXPORT int recvmmsg(
	int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout)
{
	unsigned done = 0;
	ssize_t len;

	if (fdtab_get(fd).kind != FD_CONN)
		return real.recvmmsg(fd, msgs, n, flags, timeout);
	for (; done < n; done++) {
		len = recvmsg(fd, &msgs[done].msg_hdr,
			done && flags & MSG_WAITFORONE ? flags | MSG_DONTWAIT : flags);
		if (len < 0)
			break;
		msgs[done].msg_len = (unsigned)len;
		if (!len)
			return (int)done + 1;
	}
	return done || !n ? (int)done : -1;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	unsigned done = 0;
	ssize_t len;

	if (fdtab_get(fd).kind != FD_CONN)
		return real.sendmmsg(fd, msgs, n, flags);
	for (; done < n; done++) {
		len = sendmsg(fd, &msgs[done].msg_hdr, flags);
		if (len < 0)
			break;
		msgs[done].msg_len = (unsigned)len;
	}
	return done || !n ? (int)done : -1;
}

/* What the compiler makes of these calls under _FORTIFY_SOURCE. */
EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
	struct sockaddr *sa, socklen_t *sa_len);
void __chk_fail(void) __attribute__((noreturn));

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	if (len > size)
		__chk_fail();
	return read(fd, buf, len);
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
	if (len > size)
		__chk_fail();
	return recv(fd, buf, len, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
	struct sockaddr *sa, socklen_t *sa_len)
{
	if (len > size)
		__chk_fail();
	return recvfrom(fd, buf, len, flags, sa, sa_len);
}
