/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Steps that start other programs, which know nothing: the socket is their standard input
 * and output.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/util.h"
#include "tests/conform/conform.h"

#define MADE "bytes that they make"

static void say_status(struct call *c, int status)
{
	if (WIFSIGNALED(status))
		say(c, " killed by %s", constant_name("SIG", WTERMSIG(status)));
	else
		say(c, " exit %d", WEXITSTATUS(status));
}

static void say_end_of(struct call *c, pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, 0) < 0)
		say_result(c, -1);
	else
		say_status(c, status);
}

/* A step by which somebody else writes to the socket. How much isn't known here. */
static void metered(struct call *c, void (*step)(struct call *c))
{
	int fd = slot_fd(c->argv[1]);
	uint64_t before = meter_begin(fd);

	step(c);
	meter_end(c, fd, before, METER_TELLING);
}

static void shell(struct call *c)
{
	int fd = slot_fd(c->argv[1]);
	pid_t pid = fork();

	if (pid == 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		execvp(c->argv[2], c->argv + 2);
		_exit(127);
	}
	say_end_of(c, pid);
}

/* shell SLOT COMMAND WORDS...: by fork and exec; it writes to the socket */
static void op_shell(struct call *c)
{
	metered(c, shell);
}

/* spawn_quiet SLOT FLAGS COMMAND WORDS...: FLAGS of posix_spawnattr_setflags(); SIGUSR1
 * is what is blocked or reset by these
 */
static void op_spawn_quiet(struct call *c)
{
	int fd = slot_fd(c->argv[1]), rc;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t set;
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, (short)number(c->argv[2]));
	posix_spawnattr_setsigmask(&attr, &set);
	posix_spawnattr_setsigdefault(&attr, &set);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, 0);
	posix_spawn_file_actions_adddup2(&actions, fd, 1);
	posix_spawn_file_actions_addopen(&actions, 7, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addclose(&actions, 7);
	rc = posix_spawnp(&pid, c->argv[3], &actions, &attr, c->argv + 3, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	errno = rc;
	say_result(c, rc ? -1 : 0);
	if (!rc) {
		say(c, "%s%s", getpgid(pid) == pid ? " own group" : "",
			getsid(pid) == pid ? " own session" : "");
		say_end_of(c, pid);
	}
}

/* spawn: the same, of a command that writes to the socket */
static void op_spawn(struct call *c)
{
	metered(c, op_spawn_quiet);
}

/* A command line for a shell that has the socket as standard @redirect */
static void command_line(struct call *c, char *line, size_t size, const char *redirect)
{
	size_t len =
		(size_t)snprintf(line, size, "exec %s%d;", redirect, slot_fd(c->argv[1]));

	for (int i = 2; i < c->argc && len < size; i++)
		len += (size_t)snprintf(line + len, size - len, " %s", c->argv[i]);
}

/* system_quiet SLOT COMMAND WORDS... */
static void op_system_quiet(struct call *c)
{
	char line[512];
	int status;

	command_line(c, line, sizeof(line), "0<&");
	strcat(line, " >&0");
	status = system(line);
	if (status < 0)
		say_result(c, -1);
	else
		say_status(c, status);
}

/* system: the same, of a command that writes to the socket */
static void op_system(struct call *c)
{
	metered(c, op_system_quiet);
}

static void op_system_none(struct call *c)
{
	say_result(c, system(NULL));
}

static void say_closed(struct call *c, FILE *f)
{
	int status = pclose(f);

	if (status < 0)
		say_result(c, -1);
	else
		say_status(c, status);
}

/* popen_read SLOT COMMAND WORDS...: what the command writes, the socket is its input */
static void op_popen_read(struct call *c)
{
	char line[512], got[512];
	FILE *f;

	command_line(c, line, sizeof(line), "0<&");
	f = popen(line, "re");
	if (!f) {
		say_result(c, -1);
		return;
	}
	say_bytes(c, got, fread(got, 1, sizeof(got), f));
	say_closed(c, f);
}

/* popen_write SLOT COMMAND WORDS...: the command writes to the socket what it is given */
static void op_popen_write(struct call *c)
{
	int fd = slot_fd(c->argv[1]);
	uint64_t before = meter_begin(fd);
	char line[512];
	FILE *f;

	command_line(c, line, sizeof(line), "1>&");
	f = popen(line, "w");
	if (!f) {
		say_result(c, -1);
		return;
	}
	fputs(MADE, f);
	say_closed(c, f);
	meter_end(c, fd, before, (ssize_t)strlen(MADE));
}

const struct op child_ops[] = {
	{"shell", op_shell, 2},
	{"spawn", op_spawn, 3},
	{"spawn_quiet", op_spawn_quiet, 3},
	{"system", op_system, 2},
	{"system_quiet", op_system_quiet, 2},
	{"system_none", op_system_none, 0},
	{"popen_read", op_popen_read, 2},
	{"popen_write", op_popen_write, 2},
	{NULL, NULL, 0},
};
