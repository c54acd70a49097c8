/* SPDX-License-Identifier: BSD-3-Clause */
#include "pair.h"

#include <err.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TCP_PORT    "18515"
#define CONNECT_TRY 100

static struct addrinfo *resolve(const char *host)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
	struct addrinfo *ai;
	int rc = getaddrinfo(host, TCP_PORT, &hints, &ai);

	if (rc)
		errx(1, "%s: %s", host, gai_strerror(rc));
	return ai;
}

static int tcp_accept(const char *local)
{
	struct addrinfo *ai = resolve(local);
	int one = 1, fd, conn;

	fd = socket(ai->ai_family, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, 1))
		err(1, "listen on %s", local);
	conn = accept(fd, NULL, NULL);
	if (conn < 0)
		err(1, "accept");
	close(fd);
	freeaddrinfo(ai);
	return conn;
}

/* The server may still be starting. */
static int tcp_connect(const char *peer)
{
	struct addrinfo *ai = resolve(peer);

	for (int i = 0; i < CONNECT_TRY; i++) {
		int fd = socket(ai->ai_family, SOCK_STREAM, 0);

		if (!connect(fd, ai->ai_addr, ai->ai_addrlen)) {
			freeaddrinfo(ai);
			return fd;
		}
		close(fd);
		usleep(50000);
	}
	err(1, "connect to %s", peer);
}

int pair_open(const char *local, const char *peer)
{
	return peer ? tcp_connect(peer) : tcp_accept(local);
}

void pair_exchange(int fd, const void *mine, void *theirs, size_t size)
{
	if (send(fd, mine, size, MSG_NOSIGNAL) != (ssize_t)size ||
		recv(fd, theirs, size, MSG_WAITALL) != (ssize_t)size)
		errx(1, "the other side has gone");
}

void pair_barrier(int fd)
{
	char mine = 0, theirs;

	pair_exchange(fd, &mine, &theirs, 1);
}

bool pair_ended(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}
