/* SPDX-License-Identifier: BSD-3-Clause */
#include "setup_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "buffers.h"
#include "conn.h"
#include "dirclient.h"
#include "ivshmem/sockaddr.h"
#include "real.h"
#include "wait.h"

#define TOKEN_TIMEOUT_MS 10000 /* never reached, but if an agent ends */

/* -- accepting */

enum token {
	TOKEN_TAKEN,
	TOKEN_OTHER, /* the stream begins with something else: the offer was a lie */
	TOKEN_LATE,
};

static enum token token_take(int fd, const uint8_t *token)
{
	uint8_t buf[DIR_TOKEN_SIZE];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t end = now_ns() + TOKEN_TIMEOUT_MS * NSEC_PER_MSEC;
	ssize_t n;

	for (;;) {
		n = real.recv(fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT);
		if (n == sizeof(buf))
			break;
		if (n == 0 || (n > 0 && memcmp(buf, token, (size_t)n)) ||
			(n < 0 && errno != EAGAIN && errno != EINTR))
			return TOKEN_OTHER;
		if (now_ns() > end)
			return TOKEN_LATE;
		real.poll(&p, 1, n > 0 ? 1 : TOKEN_TIMEOUT_MS);
	}
	if (memcmp(buf, token, sizeof(buf)))
		return TOKEN_OTHER;
	real.recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	return TOKEN_TAKEN;
}

static int attach(
	struct conn *c, int fd, const struct dir_memory *memory, const int *memory_fds)
{
	int rc = conn_attach_ring(c, memory, memory_fds);

	if (rc)
		return rc;
	atomic_store(&c->state, CONN_RING);
	if (conn_is_far(c))
		wait_bell_is_far(fd);
	conn_install(c, fd);
	return 0;
}

static void close_all(const int *fds)
{
	for (int i = 0; i < DIR_REPLY_FDS_MAX; i++) {
		if (fds[i] >= 0)
			real.close(fds[i]);
	}
}

/* Is there an offer for a connection that the kernel accepted?
 * Return: 0, or -ECONNABORTED: the other end may rely on a ring that is none
 */
static int pair(int fd)
{
	struct dir_request request = {.op = DIR_ACCEPT};
	enum token token = TOKEN_OTHER;
	struct conn *c = conn_new();
	struct dir_reply reply;
	int fds[DIR_REPLY_FDS_MAX], rc;

	if (!c)
		return 0;
	rc = dirclient_ask(&request, &fd, 1, &reply, fds);
	if (!rc)
		token = token_take(fd, reply.token);
	if (token == TOKEN_TAKEN) {
		if (!attach(c, fd, &reply.memory, fds))
			return 0;
	} else {
		close_all(fds);
	}
	conn_free(c);
	return rc == -EPIPE || rc == -ECONNABORTED || (!rc && token != TOKEN_OTHER)
		       ? -ECONNABORTED
		       : 0;
}

/* As a reset. Return: -1 */
static int abort_accepted(int fd)
{
	struct linger linger = {.l_onoff = 1};

	real.setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	real.close(fd);
	errno = ECONNABORTED;
	return -1;
}

EXPORT int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	struct fdent e = fdtab_get(fd);
	int new, saved;

	/* One that was inherited, or published by the parent. */
	if (unlikely(e.kind == FD_KERNEL && dirclient_is_on() && setup_is_tcp(fd)))
		setup_listener_add(fd);
	else if (e.kind == FD_LISTENER)
		setup_republish(fd, e);
	new = real.accept4(fd, sa, len, flags);
	e = fdtab_get(fd);
	if (new < 0 || e.kind != FD_LISTENER)
		return new;
	saved = errno;
	if (pair(new))
		return abort_accepted(new);
	/* Another directory was asked than the one that knows of the listener? */
	setup_republish(fd, e);
	if (fdtab_get(new).kind != FD_CONN)
		setup_check_address(fd, e, new);
	errno = saved;
	return new;
}

EXPORT int accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	return accept4(fd, sa, len, 0);
}

/* -- connecting */

EXPORT int socket(int domain, int type, int protocol)
{
	int fd = real.socket(domain, type, protocol);

	if (fd >= 0 && (domain == AF_INET || domain == AF_INET6) &&
		(type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) == SOCK_STREAM &&
		(!protocol || protocol == IPPROTO_TCP) && dirclient_is_on())
		fdtab_set(fd, (struct fdent){.kind = FD_TCP});
	return fd;
}

/* Connecting to "any" means this host. */
static void name_this_host(union address *a)
{
	if (a->sa.sa_family == AF_INET && a->in.sin_addr.s_addr == htonl(INADDR_ANY))
		a->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else if (a->sa.sa_family == AF_INET6 &&
		 IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr))
		a->in6.sin6_addr = in6addr_loopback;
}

/* The address that the kernel would call from. */
static int source_for(union address *src, const union address *dst, socklen_t dst_len)
{
	int fd = real.socket(dst->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = -1;
	socklen_t len = sizeof(*src);

	if (fd < 0)
		return -1;
	if (!real.connect(fd, &dst->sa, dst_len))
		rc = getsockname(fd, &src->sa, &len);
	real.close(fd);
	return rc;
}

/* The socket's address and port as the other end will see them: bound if it wasn't. */
static int bind_source(
	int fd, const union address *dst, socklen_t dst_len, struct dir_addr *src)
{
	union address bound, from;
	socklen_t len = sizeof(bound);
	struct dir_addr addr;

	if (getsockname(fd, &bound.sa, &len) || !dir_addr_from(src, &bound.sa, len))
		return -1;
	if (src->port && !dir_addr_is_any(src))
		return 0;
	if (source_for(&from, dst, dst_len) ||
		!dir_addr_from(&addr, &from.sa, sizeof(from)))
		return -1;
	if (!src->port) {
		from.in.sin_port = 0;
		if (bind(fd, &from.sa, len) || getsockname(fd, &bound.sa, &len) ||
			!dir_addr_from(src, &bound.sa, len))
			return -1;
	}
	addr.port = src->port;
	*src = addr;
	return 0;
}

static void withdraw(struct conn *c)
{
	conn_cancel_offer(c);
	conn_free(c);
}

/* The rings that the program should have, if the listener says nothing. */
static void rings_ask(int fd, struct dir_request *request)
{
	struct fdent e = fdtab_get(fd);
	uint32_t said[2] = {buffers_said(e, SO_SNDBUF), buffers_said(e, SO_RCVBUF)};

	for (int i = 0; i < 2; i++) {
		request->ring[i] = said[i] ? said[i] : buffers_default();
		request->said |= said[i] ? 1u << i : 0;
	}
	request->size = shring_area_size(request->ring[0], request->ring[1]);
}

/* Return: the connection that is offered to the listener there, or NULL */
static struct conn *offer(int fd, const struct sockaddr *sa, socklen_t sa_len)
{
	struct dir_request request = {.op = DIR_OFFER};
	int fds[DIR_REPLY_FDS_MAX];
	struct dir_reply reply;
	union address dst = {0};
	struct conn *c;

	if (sa_len > sizeof(dst) || sa_len < sizeof(dst.in))
		return NULL;
	memcpy(&dst, sa, sa_len);
	name_this_host(&dst);
	if (!dir_addr_from(&request.dst, &dst.sa, sa_len) ||
		bind_source(fd, &dst, sa_len, &request.src))
		return NULL;
	c = conn_new();
	if (!c)
		return NULL;
	rings_ask(fd, &request);
	if (dirclient_ask(&request, &fd, 1, &reply, fds)) {
		conn_free(c);
		return NULL;
	}
	c->offer_id = reply.id;
	if (!conn_create_ring(
		    c, reply.ring[0] ? reply.ring : request.ring, &reply.memory, fds))
		return c;
	withdraw(c);
	return NULL;
}

EXPORT int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct fdent e = fdtab_get(fd);
	struct conn *c = NULL;
	int rc, saved = errno;

	if ((e.kind == FD_TCP || e.kind == FD_KERNEL) && dirclient_is_on() && sa &&
		(sa->sa_family == AF_INET || sa->sa_family == AF_INET6) &&
		setup_is_tcp(fd))
		c = offer(fd, sa, len);
	errno = saved;
	rc = real.connect(fd, sa, len);
	if (!c)
		return rc;
	saved = errno;
	if (rc && saved != EINPROGRESS && saved != EINTR) {
		withdraw(c);
	} else {
		c->offered_ns = now_ns();
		atomic_store(&c->state, rc ? CONN_CONNECTING : CONN_OFFERED);
		conn_install(c, fd);
		conn_advance(c, fd);
	}
	errno = saved;
	return rc;
}
