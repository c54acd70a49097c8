/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listening sockets, and the directory's knowing of them: docs/socket-shim.md, section 2.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "buffers.h"
#include "dirclient.h"
#include "ivshmem/sockaddr.h"
#include "real.h"
#include "setup_priv.h"

#define LISTENERS_MAX 1024

/* Listening sockets of this process, by the index in fdtab. */
struct listener {
	_Atomic uint32_t n_fds; /* 0: free */
	uint64_t id;		/* in the directory; 0: not published by this process */
	uint32_t session;	/* with the directory; another one doesn't know it */
	uint32_t ring[2];	/* sizes that its connections should have; 0: any */
	struct dir_addr known[DIR_FDS_MAX]; /* a wildcard's */
	int n_known;
};

static struct listener listeners[LISTENERS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for publishing */

bool setup_is_tcp(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof(protocol);

	return !real.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) &&
	       protocol == IPPROTO_TCP;
}

/* A socket that only somebody with this address can have. */
static int prove_address(const struct sockaddr *sa)
{
	union address a = {0};
	socklen_t len = sa->sa_family == AF_INET ? sizeof(a.in) : sizeof(a.in6);
	int fd;

	memcpy(&a, sa, len);
	a.in.sin_port = 0;
	fd = real.socket(sa->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (!bind(fd, &a.sa, len))
		return fd;
	real.close(fd);
	return -1;
}

static bool is_known(const struct listener *l, const struct dir_addr *a)
{
	for (int i = 0; i < l->n_known; i++) {
		if (dir_addr_same_ip(&l->known[i], a))
			return true;
	}
	return false;
}

static void know(struct listener *l, const struct dir_addr *a)
{
	if (l->n_known < DIR_FDS_MAX && !is_known(l, a))
		l->known[l->n_known++] = *a;
}

static void prove(struct listener *l, const struct sockaddr *sa, int *fds, int *n)
{
	socklen_t len = sa->sa_family == AF_INET ? sizeof(struct sockaddr_in)
						 : sizeof(struct sockaddr_in6);
	int fd = prove_address(sa);
	struct dir_addr addr;

	if (fd < 0)
		return;
	fds[(*n)++] = fd;
	if (dir_addr_from(&addr, sa, len))
		know(l, &addr);
}

static int prove_addresses(struct listener *l, int *fds, int max)
{
	struct ifaddrs *all, *i;
	int n = 0;

	if (getifaddrs(&all))
		return 0;
	l->n_known = 0;
	for (i = all; i && n < max; i = i->ifa_next) {
		if (i->ifa_addr && (i->ifa_addr->sa_family == AF_INET ||
					   i->ifa_addr->sa_family == AF_INET6))
			prove(l, i->ifa_addr, fds, &n);
	}
	freeifaddrs(all);
	return n;
}

static bool is_wildcard(int fd)
{
	union address a;
	socklen_t len = sizeof(a);
	struct dir_addr addr;

	return !getsockname(fd, &a.sa, &len) && dir_addr_from(&addr, &a.sa, len) &&
	       dir_addr_is_any(&addr);
}

static void publish_locked(int fd, struct listener *l)
{
	struct dir_request request = {
		.op = DIR_PUBLISH, .ring = {l->ring[0], l->ring[1]}};
	struct dir_reply reply;
	int fds[DIR_FDS_MAX] = {fd}, n = 1;

	if (is_wildcard(fd))
		n += prove_addresses(l, fds + 1, DIR_FDS_MAX - 1);
	if (!dirclient_ask(&request, fds, n, &reply, NULL)) {
		l->id = reply.id;
		l->session = dirclient_session();
	}
	while (n > 1)
		real.close(fds[--n]);
}

static void publish(int fd, struct listener *l)
{
	pthread_mutex_lock(&lock);
	publish_locked(fd, l);
	pthread_mutex_unlock(&lock);
}

static void unpublish(uint64_t id)
{
	struct dir_request request = {.op = DIR_UNPUBLISH, .id = id};
	struct dir_reply reply;

	if (id)
		dirclient_ask(&request, NULL, 0, &reply, NULL);
}

void setup_check_address(int fd, struct fdent e, int accepted)
{
	struct listener *l = &listeners[e.index];
	uint64_t before = l->id;
	union address a;
	socklen_t len = sizeof(a);
	struct dir_addr addr;

	if (getsockname(accepted, &a.sa, &len) || !dir_addr_from(&addr, &a.sa, len) ||
		dir_addr_is_loopback(&addr) || !is_wildcard(fd))
		return;
	pthread_mutex_lock(&lock);
	/* With more than can be proved there is nothing to be done. */
	if (!is_known(l, &addr) && l->n_known < DIR_FDS_MAX - 1) {
		publish_locked(fd, l);
		know(l, &addr); /* or it can't be proved: don't try again */
		if (l->id != before)
			unpublish(before);
	}
	pthread_mutex_unlock(&lock);
}

void setup_listener_add(int fd)
{
	struct fdent e = fdtab_get(fd);

	for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
		uint32_t none = 0;

		if (!atomic_compare_exchange_strong(&listeners[i].n_fds, &none, 1))
			continue;
		listeners[i].id = 0;
		listeners[i].ring[0] = buffers_said(e, SO_RCVBUF);
		listeners[i].ring[1] = buffers_said(e, SO_SNDBUF);
		fdtab_set(fd, (struct fdent){.kind = FD_LISTENER, .index = i});
		publish(fd, &listeners[i]);
		return;
	}
}

void setup_unpublish(int fd, struct fdent e)
{
	uint64_t id = listeners[e.index].id;

	fdtab_set(fd, (struct fdent){.kind = FD_KERNEL});
	if (atomic_fetch_sub(&listeners[e.index].n_fds, 1) == 1)
		unpublish(id);
}

void setup_republish(int fd, struct fdent e)
{
	if (unlikely(!listeners[e.index].id ||
		     listeners[e.index].session != dirclient_session()))
		publish(fd, &listeners[e.index]);
}

void setup_dup(struct fdent e, int to)
{
	atomic_fetch_add(&listeners[e.index].n_fds, 1);
	fdtab_set(to, e);
}

void setup_fork_lock(bool take)
{
	if (take)
		pthread_mutex_lock(&lock);
	else
		pthread_mutex_unlock(&lock);
}

void setup_forked(void)
{
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		listeners[i].id = 0;
}

EXPORT int listen(int fd, int backlog)
{
	int rc = real.listen(fd, backlog), saved = errno;
	struct fdent e = fdtab_get(fd);

	if (!rc && dirclient_is_on() && (e.kind == FD_TCP || e.kind == FD_KERNEL) &&
		setup_is_tcp(fd))
		setup_listener_add(fd);
	errno = saved;
	return rc;
}
