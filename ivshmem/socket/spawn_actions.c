/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What posix_spawn() is to do with descriptors. libc keeps it to itself, so it's written
 * down here as well when the program says it.
 */
#include "spawn_actions.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "real.h"

struct spawn_action {
	int (*run)(const struct spawn_action *a);
	int fd, to;
	int flags;
	mode_t mode;
	char *path;
};

struct spawn_actions {
	struct spawn_actions *next;
	const posix_spawn_file_actions_t *of; /* the program's object */
	struct spawn_action *list;
	int n;
};

static struct spawn_actions *all;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct spawn_actions **find(const posix_spawn_file_actions_t *of)
{
	struct spawn_actions **s = &all;

	while (*s && (*s)->of != of)
		s = &(*s)->next;
	return s;
}

static void discard(struct spawn_actions **link)
{
	struct spawn_actions *s = *link;

	if (!s)
		return;
	*link = s->next;
	for (int i = 0; i < s->n; i++)
		free(s->list[i].path);
	free(s->list);
	free(s);
}

/* The record of @of, made if there is none: it was never initialised, or by zeros. */
static struct spawn_actions *record(const posix_spawn_file_actions_t *of)
{
	struct spawn_actions **s = find(of);

	if (!*s) {
		*s = calloc(1, sizeof(**s));
		if (*s)
			(*s)->of = of;
	}
	return *s;
}

/* Behind libc's own record of it, which has judged the arguments.
 * @path: copied
 */
static int add(const posix_spawn_file_actions_t *of, int rc, struct spawn_action a,
	const char *path)
{
	struct spawn_actions *s;
	struct spawn_action *list;

	if (rc)
		return rc;
	a.path = path ? strdup(path) : NULL;
	if (path && !a.path)
		return ENOMEM;
	pthread_mutex_lock(&lock);
	s = record(of);
	list = s ? reallocarray(s->list, (size_t)s->n + 1, sizeof(*list)) : NULL;
	if (list) {
		s->list = list;
		s->list[s->n++] = a;
	}
	pthread_mutex_unlock(&lock);
	if (!list)
		free(a.path);
	return list ? 0 : ENOMEM;
}

/* -- in the child: 0, or -1 with errno */

static int run_close(const struct spawn_action *a)
{
	close(a->fd);
	return 0;
}

static int run_dup2(const struct spawn_action *a)
{
	int flags;

	if (a->fd != a->to)
		return dup2(a->fd, a->to) < 0 ? -1 : 0;
	flags = fcntl(a->fd, F_GETFD);
	return flags < 0 ? -1 : fcntl(a->fd, F_SETFD, flags & ~FD_CLOEXEC);
}

static int run_open(const struct spawn_action *a)
{
	int fd, rc;

	close(a->fd);
	fd = open(a->path, a->flags, a->mode);
	if (fd < 0 || fd == a->fd)
		return fd < 0 ? -1 : 0;
	rc = dup2(fd, a->fd);
	close(fd);
	return rc < 0 ? -1 : 0;
}

static int run_chdir(const struct spawn_action *a)
{
	return chdir(a->path);
}

static int run_fchdir(const struct spawn_action *a)
{
	return fchdir(a->fd);
}

static int run_closefrom(const struct spawn_action *a)
{
	closefrom(a->fd);
	return 0;
}

static int run_tcsetpgrp(const struct spawn_action *a)
{
	return tcsetpgrp(a->fd, getpgrp());
}

const struct spawn_actions *spawn_actions_of(const posix_spawn_file_actions_t *of)
{
	const struct spawn_actions *s;

	pthread_mutex_lock(&lock);
	s = of ? *find(of) : NULL;
	pthread_mutex_unlock(&lock);
	return s;
}

int spawn_actions_run(const struct spawn_actions *s)
{
	for (int i = 0; s && i < s->n; i++) {
		if (s->list[i].run(&s->list[i]))
			return -1;
	}
	return 0;
}

/* -- libc's functions */

EXPORT int posix_spawn_file_actions_init(posix_spawn_file_actions_t *of)
{
	pthread_mutex_lock(&lock);
	discard(find(of));
	pthread_mutex_unlock(&lock);
	return real.posix_spawn_file_actions_init(of);
}

EXPORT int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *of)
{
	pthread_mutex_lock(&lock);
	discard(find(of));
	pthread_mutex_unlock(&lock);
	return real.posix_spawn_file_actions_destroy(of);
}

EXPORT int posix_spawn_file_actions_addopen(
	posix_spawn_file_actions_t *of, int fd, const char *path, int flags, mode_t mode)
{
	int rc = real.posix_spawn_file_actions_addopen(of, fd, path, flags, mode);

	return add(of, rc,
		(struct spawn_action){
			.run = run_open, .fd = fd, .flags = flags, .mode = mode},
		path);
}

EXPORT int posix_spawn_file_actions_addclose(posix_spawn_file_actions_t *of, int fd)
{
	int rc = real.posix_spawn_file_actions_addclose(of, fd);

	return add(of, rc, (struct spawn_action){.run = run_close, .fd = fd}, NULL);
}

EXPORT int posix_spawn_file_actions_adddup2(
	posix_spawn_file_actions_t *of, int fd, int to)
{
	int rc = real.posix_spawn_file_actions_adddup2(of, fd, to);

	return add(
		of, rc, (struct spawn_action){.run = run_dup2, .fd = fd, .to = to}, NULL);
}

EXPORT int posix_spawn_file_actions_addchdir_np(
	posix_spawn_file_actions_t *of, const char *path)
{
	int rc = real.posix_spawn_file_actions_addchdir_np(of, path);

	return add(of, rc, (struct spawn_action){.run = run_chdir}, path);
}

EXPORT int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t *of, int fd)
{
	int rc = real.posix_spawn_file_actions_addfchdir_np(of, fd);

	return add(of, rc, (struct spawn_action){.run = run_fchdir, .fd = fd}, NULL);
}

EXPORT int posix_spawn_file_actions_addclosefrom_np(
	posix_spawn_file_actions_t *of, int from)
{
	int rc = real.posix_spawn_file_actions_addclosefrom_np(of, from);

	return add(of, rc, (struct spawn_action){.run = run_closefrom, .fd = from}, NULL);
}

EXPORT int posix_spawn_file_actions_addtcsetpgrp_np(
	posix_spawn_file_actions_t *of, int fd)
{
	int rc = real.posix_spawn_file_actions_addtcsetpgrp_np(of, fd);

	return add(of, rc, (struct spawn_action){.run = run_tcsetpgrp, .fd = fd}, NULL);
}
