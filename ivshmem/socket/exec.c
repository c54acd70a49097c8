/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exec: a program that is started with connections among its descriptors goes on with
 * them. What is left to it is a file at a number that both know, the highest; it says
 * where the connections' state and rings were, and they are mapped there again.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "conn.h"
#include "exec.h"
#include "family.h"
#include "real.h"

#define FILE_NAME "vrdma-exec"
#define MAGIC	  0x65786563u

struct head {
	uint32_t magic;
	int32_t arena_fd;
	uint32_t n_held; /* indices of connections that the process had */
	uint32_t n_fds;
	int32_t number; /* in the family */
};

struct inherited {
	int32_t fd;
	struct fdent e;
	int32_t memory_fd[2];
};

static int highest(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit)
		       ? -1
		       : (int)MIN(limit.rlim_cur, FDTAB_SIZE) - 1;
}

static void keep_open(int fd, bool on)
{
	if (fd >= 0)
		real.fcntl64(fd, F_SETFD, on ? 0 : FD_CLOEXEC);
}

/* -- before */

static bool put(int file, const void *data, size_t size)
{
	return real.write(file, data, size) == (ssize_t)size;
}

static bool put_held(int file)
{
	for (uint32_t i = 0; i < conn_count(); i++) {
		if (atomic_load(&conn_locals[i].n_fds) && !put(file, &i, sizeof(i)))
			return false;
	}
	return true;
}

/* Each descriptor that will be open; @file: -1: only open or close what goes with it */
static uint32_t each_inherited(int file, bool keep)
{
	uint32_t n = 0;

	for (int fd = 0; fd <= fdtab_top(); fd++) {
		struct inherited i = {.fd = fd, .e = fdtab_get(fd)};

		if (i.e.kind != FD_CONN || real.fcntl64(fd, F_GETFD) & FD_CLOEXEC)
			continue;
		memcpy(i.memory_fd, conn_locals[i.e.index].memory_fd,
			sizeof(i.memory_fd));
		keep_open(i.memory_fd[0], keep);
		keep_open(i.memory_fd[1], keep);
		if (file < 0 || put(file, &i, sizeof(i)))
			n++;
	}
	return n;
}

/* Return: the number of the file, or -1: nothing is to be left */
static int leave(void)
{
	struct head head = {
		.magic = MAGIC, .arena_fd = conn_arena_fd(), .number = family_number()};
	int to = highest(), file;

	if (!conns || to < 0 || real.fcntl64(to, F_GETFD) >= 0)
		return -1;
	conn_settle_all();
	head.n_held = conn_n_held();
	if (!head.n_held)
		return -1;
	file = memfd_create(FILE_NAME, 0);
	if (file < 0)
		return -1;
	head.n_fds = each_inherited(-1, true);
	if (put(file, &head, sizeof(head)) && put_held(file) &&
		each_inherited(file, true) == head.n_fds) {
		keep_open(head.arena_fd, true);
		to = real.dup3(file, to, 0);
	} else {
		to = -1;
	}
	real.close(file);
	return to;
}

/* There was no exec after all. */
static int take_back(int file)
{
	int saved = errno;

	if (file >= 0) {
		each_inherited(-1, false);
		keep_open(conn_arena_fd(), false);
		real.close(file);
	}
	errno = saved;
	return -1;
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	int file = leave();

	real.execve(path, argv, envp);
	return take_back(file);
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvpe(const char *name, char *const argv[], char *const envp[])
{
	int file = leave();

	real.execvpe(name, argv, envp);
	return take_back(file);
}

EXPORT int execvp(const char *name, char *const argv[])
{
	return execvpe(name, argv, environ);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	int file = leave();

	real.fexecve(fd, argv, envp);
	return take_back(file);
}

#define ARGS_MAX 1024

/* The arguments of execl() and its like; @envp: what follows them, or NULL */
static bool collect(char **argv, const char *first, va_list ap, char *const **envp)
{
	int n = 0;

	argv[n++] = (char *)first;
	while (argv[n - 1] && n < ARGS_MAX)
		argv[n++] = va_arg(ap, char *);
	if (argv[n - 1]) {
		errno = E2BIG;
		return false;
	}
	if (envp)
		*envp = va_arg(ap, char *const *);
	return true;
}

/* All of such a function: @call is made with what follows @first as argv. */
#define EXEC_LIST(first, envp, call)                 \
	do {                                         \
		char *argv[ARGS_MAX];                \
		va_list ap;                          \
		bool ok;                             \
                                                     \
		va_start(ap, first);                 \
		ok = collect(argv, first, ap, envp); \
		va_end(ap);                          \
		return ok ? call : -1;               \
	} while (0)

EXPORT int execl(const char *path, const char *arg, ...)
{
	EXEC_LIST(arg, NULL, execv(path, argv));
}

EXPORT int execlp(const char *name, const char *arg, ...)
{
	EXEC_LIST(arg, NULL, execvp(name, argv));
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	char *const *env = NULL;

	EXEC_LIST(arg, &env, execve(path, argv, env));
}

/* -- after */

static bool get(int file, void *data, size_t size)
{
	return real.read(file, data, size) == (ssize_t)size;
}

static bool is_left(int file)
{
	static const char name[] = "/memfd:" FILE_NAME " (deleted)";
	char path[64], target[64];
	ssize_t n;

	if (file < 0 || real.fcntl64(file, F_GETFD) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	n = readlink(path, target, sizeof(target));
	return n == sizeof(name) - 1 && !memcmp(target, name, (size_t)n);
}

static void fd_adopt(int fd)
{
	if (fd < 0)
		return;
	keep_open(fd, false);
	fdtab_set(fd, (struct fdent){.kind = FD_OURS});
}

static void adopt_one(const struct inherited *i)
{
	/* By a duplicate of it there are the same ones. */
	if (!atomic_load(&conn_locals[i->e.index].n_fds)) {
		fd_adopt(i->memory_fd[0]);
		fd_adopt(i->memory_fd[1]);
		/* Better an end than silence. */
		if (!conn_adopt(i->fd, i->e, i->memory_fd))
			real.shutdown(i->fd, SHUT_RDWR);
	} else {
		conn_dup(i->e, i->fd);
	}
}

static void adopt(int file)
{
	struct head head;
	struct inherited inherited;
	uint32_t *held = NULL;

	if (!get(file, &head, sizeof(head)) || head.magic != MAGIC ||
		head.n_held > CONNS_MAX || conn_adopt_arena(head.arena_fd))
		return;
	keep_open(head.arena_fd, false);
	family_adopt(head.number);
	held = calloc(head.n_held, sizeof(*held));
	if (!held || !get(file, held, head.n_held * sizeof(*held)))
		goto out;
	for (uint32_t i = 0; i < head.n_fds && get(file, &inherited, sizeof(inherited));
		i++)
		adopt_one(&inherited);
	/* What was closed by exec is one process' less. */
	for (uint32_t i = 0; i < head.n_held; i++)
		conn_adopt_or_leave(held[i]);
out:
	free(held);
}

/* Streams that are there already write past us. */
static void adopt_streams(void)
{
	FILE **const streams[] = {&stdin, &stdout, &stderr};

	for (int fd = 0; fd < 3; fd++) {
		FILE *file =
			fdtab_get(fd).kind == FD_CONN ? fdopen(fd, fd ? "w" : "r") : NULL;

		if (file)
			*streams[fd] = file;
	}
	if (fdtab_get(2).kind == FD_CONN)
		setvbuf(stderr, NULL, _IONBF, 0);
}

void exec_adopt(void)
{
	int file = highest();

	if (!is_left(file))
		return;
	lseek(file, 0, SEEK_SET);
	adopt(file);
	adopt_streams();
	real.close(file);
}
