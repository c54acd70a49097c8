/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Learning that nobody has a connection's memory any more: a pipe into which nobody
 * writes. Its reading end goes to the process, is inherited by its children and kept by
 * exec; when the last copy is closed, however that comes, epoll reports EPOLLERR on the
 * other end, which is ours. Nothing else is ever reported, so nobody can keep us busy.
 */
#ifndef IVSHMEM_GUEST_LIFETIME_H
#define IVSHMEM_GUEST_LIFETIME_H

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

/** lifetime_open() - a pipe, watched by @epoll
 * @theirs: to be passed on, and closed then
 * @source: data.ptr of the event
 * Return: our end, or a negative errno
 */
static inline int lifetime_open(int *theirs, int epoll, void *source)
{
	struct epoll_event event = {.events = 0, .data.ptr = source};
	int fds[2], rc;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	if (!epoll_ctl(epoll, EPOLL_CTL_ADD, fds[1], &event)) {
		*theirs = fds[0];
		return fds[1];
	}
	rc = -errno;
	close(fds[0]);
	close(fds[1]);
	return rc;
}

#endif
