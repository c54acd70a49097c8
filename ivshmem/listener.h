/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A UNIX socket that listens at a path, and what is around it: no two servers at one
 * path, what a killed server left behind, and no file left at the end.
 *
 * Beside the socket lies PATH.lock, which is locked (flock) for as long as a listener is
 * there; the kernel unlocks it when the process ends, however that happens. So whoever
 * has the lock may take a dead socket file away without racing another server.
 */
#ifndef IVSHMEM_LISTENER_H
#define IVSHMEM_LISTENER_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/un.h>

#define LISTENER_PATH_SIZE (sizeof(((struct sockaddr_un *)0)->sun_path))

struct listener {
	int fd;	     /* listens; non-blocking */
	int lock_fd; /* -1: closed */
	dev_t dev;   /* which file is ours */
	ino_t ino;
	char path[LISTENER_PATH_SIZE];
};

/** listener_open() - listen at @path
 * @type:    SOCK_STREAM or SOCK_SEQPACKET
 * @private: only the server's own user may connect (the file's mode is 0600, else 0666)
 * Return: 0 or a negative errno: -EADDRINUSE when another server is there, -EEXIST when
 * @path is something other than a socket, -ENAMETOOLONG
 */
int listener_open(struct listener *l, const char *path, int type, bool private);

/** listener_close() - close it and remove its files, if they are still its own */
void listener_close(struct listener *l);

#endif
