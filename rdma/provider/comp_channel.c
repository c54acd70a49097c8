/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libibverbs reads events with read() from the one descriptor that it knows and closes.
 * So what writes to it must be the same descriptor: a datagram socket that is connected
 * to itself. The name that it needs for that is chosen by the kernel; once connected, it
 * takes messages from nobody else.
 */
#include "comp_channel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_to_itself(int fd)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(name);
	char stray;

	if (bind(fd, (struct sockaddr *)&name, sizeof(name.sun_family)) ||
		getsockname(fd, (struct sockaddr *)&name, &size) ||
		connect(fd, (struct sockaddr *)&name, size))
		return -errno;
	/* What others sent before it was connected. */
	while (recv(fd, &stray, sizeof(stray), MSG_DONTWAIT) >= 0) {
	}
	return 0;
}

int event_fd_open(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return -errno;
	rc = connect_to_itself(fd);
	if (rc) {
		close(fd);
		return rc;
	}
	return fd;
}

bool event_fd_is_ours(int fd)
{
	int domain, type;
	socklen_t size = sizeof(int);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) &&
	       domain == AF_UNIX && !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) &&
	       type == SOCK_DGRAM;
}

struct ibv_comp_channel *comp_channel_create(struct ibv_context *ctx)
{
	struct ibv_comp_channel *channel = calloc(1, sizeof(*channel));

	if (!channel)
		return NULL;
	channel->context = ctx;
	channel->fd = event_fd_open();
	if (channel->fd < 0) {
		errno = -channel->fd;
		free(channel);
		return NULL;
	}
	return channel;
}
