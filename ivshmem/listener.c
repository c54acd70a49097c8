/* SPDX-License-Identifier: BSD-3-Clause */
#include "ivshmem/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOCK_SIZE (LISTENER_PATH_SIZE + sizeof(".lock"))

static void lock_path(char *buf, const struct listener *l)
{
	snprintf(buf, LOCK_SIZE, "%s.lock", l->path);
}

/* Open and lock the file; set *stale if it was removed before we had the lock. */
static int lock_try(const char *path, bool *stale)
{
	struct stat mine, there;
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc;

	*stale = false;
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		rc = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
		close(fd);
		return rc;
	}
	if (fstat(fd, &mine) || lstat(path, &there) || mine.st_ino != there.st_ino ||
		mine.st_dev != there.st_dev) {
		close(fd);
		*stale = true;
		return -EAGAIN;
	}
	return fd;
}

static int lock_take(struct listener *l)
{
	char path[LOCK_SIZE];
	bool stale;
	int fd;

	lock_path(path, l);
	do {
		fd = lock_try(path, &stale);
	} while (stale);
	if (fd < 0)
		return fd;
	l->lock_fd = fd;
	return 0;
}

static void lock_drop(struct listener *l)
{
	char path[LOCK_SIZE];

	lock_path(path, l);
	unlink(path); /* before the lock goes: nobody else can have it yet */
	close(l->lock_fd);
	l->lock_fd = -1;
}

/* A listening server of another kind, which does not know of our lock. */
static bool someone_answers(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool answers;

	if (fd < 0)
		return true; /* cannot tell: take nothing away */
	answers = !connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ||
		  (errno != ECONNREFUSED && errno != ENOENT);
	close(fd);
	return answers;
}

static int remove_stale(const struct sockaddr_un *addr)
{
	struct stat st;

	if (lstat(addr->sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (someone_answers(addr))
		return -EADDRINUSE;
	return unlink(addr->sun_path) && errno != ENOENT ? -errno : 0;
}

static int bind_and_listen(
	struct listener *l, const struct sockaddr_un *addr, int type, bool private)
{
	struct stat st;
	int rc;

	l->fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return -errno;
	/* The file gets the socket's mode, so it is never wider, not for a moment. */
	if (fchmod(l->fd, 0600) ||
		bind(l->fd, (const struct sockaddr *)addr, sizeof(*addr))) {
		rc = -errno;
		goto fail_socket;
	}
	if (lstat(l->path, &st) || (!private && chmod(l->path, 0666)) ||
		listen(l->fd, SOMAXCONN)) {
		rc = -errno;
		goto fail_file;
	}
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return 0;

fail_file:
	unlink(l->path);
fail_socket:
	close(l->fd);
	l->fd = -1;
	return rc;
}

int listener_open(struct listener *l, const char *path, int type, bool private)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int rc;

	memset(l, 0, sizeof(*l));
	l->fd = l->lock_fd = -1;
	if (!*path)
		return -EINVAL;
	if (strlen(path) >= sizeof(l->path))
		return -ENAMETOOLONG;
	snprintf(l->path, sizeof(l->path), "%s", path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);

	rc = lock_take(l);
	if (rc)
		return rc;
	rc = remove_stale(&addr);
	if (!rc)
		rc = bind_and_listen(l, &addr, type, private);
	if (rc)
		lock_drop(l);
	return rc;
}

void listener_close(struct listener *l)
{
	struct stat st;

	if (l->fd < 0)
		return;
	if (!lstat(l->path, &st) && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
	close(l->fd);
	l->fd = -1;
	lock_drop(l);
}
