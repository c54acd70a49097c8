/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Steps with descriptors as such, and with the libc's streams on them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/util.h"
#include "tests/conform/conform.h"

static void say_new(struct call *c, const char *name, int fd)
{
	slot_set(name, fd);
	say_result(c, fd < 0 ? -1 : 0);
}

/* dup SLOT NEW */
static void op_dup(struct call *c)
{
	say_new(c, c->argv[2], dup(slot_fd(c->argv[1])));
}

/* dup2 SLOT OVER: OVER is an open slot, or a number with "#" before it */
static void op_dup2(struct call *c)
{
	const char *over = c->argv[2];
	int to = *over == '#' ? (int)number(over + 1) : slot_fd(over);
	int rc = dup2(slot_fd(c->argv[1]), to);

	if (*over == '#' && rc >= 0)
		slot_set(over, to);
	say_result(c, rc < 0 ? -1 : 0);
}

/* dup3 SLOT OVER FLAGS */
static void op_dup3(struct call *c)
{
	int rc = dup3(slot_fd(c->argv[1]), slot_fd(c->argv[2]), (int)number(c->argv[3]));

	say_result(c, rc < 0 ? -1 : 0);
}

/* dup_at SLOT NEW F_DUPFD|F_DUPFD_CLOEXEC LEAST */
static void op_dup_at(struct call *c)
{
	int fd = fcntl(
		slot_fd(c->argv[1]), (int)number(c->argv[3]), (int)number(c->argv[4]));

	say_new(c, c->argv[2], fd);
	say(c, " %s", fd >= number(c->argv[4]) ? "high" : "low");
}

/* fcntl SLOT COMMAND [VALUE] */
static void op_fcntl(struct call *c)
{
	int value = c->argc > 3 ? (int)number(c->argv[3]) : 0;

	say_result(c, fcntl(slot_fd(c->argv[1]), (int)number(c->argv[2]), value));
}

/* ioctl SLOT REQUEST [VALUE] */
static void op_ioctl(struct call *c)
{
	int value = c->argc > 3 ? (int)number(c->argv[3]) : -77;
	int rc = ioctl(slot_fd(c->argv[1]), (unsigned long)number(c->argv[2]), &value);

	say_result(c, rc);
	if (!rc)
		say(c, " %d", value);
}

/* fdno SLOT: its number, as programs may rely on the lowest that is free */
static void op_fdno(struct call *c)
{
	say(c, " %d", slot_fd(c->argv[1]));
}

static void op_is_socket(struct call *c)
{
	struct stat st;
	int rc = fstat(slot_fd(c->argv[1]), &st);

	say_result(c, rc);
	if (!rc)
		say(c, S_ISSOCK(st.st_mode) ? " socket" : " not a socket");
}

/* pipe READ WRITE */
static void op_pipe(struct call *c)
{
	int fd[2];

	say_result(c, pipe(fd));
	slot_set(c->argv[1], fd[0]);
	slot_set(c->argv[2], fd[1]);
}

static void op_lseek(struct call *c)
{
	say_result(c, lseek(slot_fd(c->argv[1]), 0, SEEK_CUR));
}

static void op_pread(struct call *c)
{
	char buf[16];

	say_result(c, pread(slot_fd(c->argv[1]), buf, sizeof(buf), 0));
}

static void op_ftruncate(struct call *c)
{
	say_result(c, ftruncate(slot_fd(c->argv[1]), 0));
}

/* close_range FIRST LAST: the slots' numbers */
static void op_close_range(struct call *c)
{
	say_result(c, close_range((unsigned)slot_fd(c->argv[1]),
			      (unsigned)slot_fd(c->argv[2]), 0));
}

/* stream_write SLOT TEXT: a line by stdio, through a descriptor of its own */
static void op_stream_write(struct call *c)
{
	int fd = slot_fd(c->argv[1]), own = dup(fd), rc;
	uint64_t before = meter_begin(fd);
	FILE *f = fdopen(own, "w");

	if (!f) {
		say_result(c, -1);
		return;
	}
	rc = fprintf(f, "%s\n", c->argv[2]);
	say_result(c, rc);
	rc = fclose(f);
	meter_end(c, fd, before, rc ? -1 : (ssize_t)strlen(c->argv[2]) + 1);
	say_result(c, rc);
}

/* stream_read SLOT: a line by stdio */
static void op_stream_read(struct call *c)
{
	FILE *f = fdopen(dup(slot_fd(c->argv[1])), "r");
	char line[256];

	if (!f) {
		say_result(c, -1);
		return;
	}
	if (fgets(line, sizeof(line), f))
		say_bytes(c, line, strlen(line));
	else
		say(c, feof(f) ? " end" : " error");
	say_result(c, fclose(f));
}

/* dprintf SLOT TEXT: libc's own write inside */
static void op_dprintf(struct call *c)
{
	int fd = slot_fd(c->argv[1]);
	uint64_t before = meter_begin(fd);
	int n = dprintf(fd, "%s", c->argv[2]);

	meter_end(c, fd, before, n);
	say_result(c, n);
}

const struct op fd_ops[] = {
	{"dup", op_dup, 2},
	{"dup2", op_dup2, 2},
	{"dup3", op_dup3, 3},
	{"dup_at", op_dup_at, 4},
	{"fcntl", op_fcntl, 2},
	{"ioctl", op_ioctl, 2},
	{"fdno", op_fdno, 1},
	{"is_socket", op_is_socket, 1},
	{"pipe", op_pipe, 2},
	{"lseek", op_lseek, 1},
	{"pread", op_pread, 1},
	{"ftruncate", op_ftruncate, 1},
	{"close_range", op_close_range, 2},
	{"stream_write", op_stream_write, 2},
	{"stream_read", op_stream_read, 1},
	{"dprintf", op_dprintf, 2},
	{NULL, NULL, 0},
};
