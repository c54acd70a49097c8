/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * posix_spawn(), system() and popen(). libc would start these children past us; those of
 * a process that has connections are started by our fork() and execve(), which know how
 * to hand them on. The others are libc's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conn.h"
#include "fdtab.h"
#include "real.h"
#include "spawn_actions.h"

#define SHELL	     "/bin/sh"
#define DEFAULT_PATH "/bin:/usr/bin"
#define FAILED	     127

/* One call of posix_spawn() or posix_spawnp(). */
struct spawn {
	const char *name;
	bool search;
	const struct spawn_actions *actions;
	const posix_spawnattr_t *attr;
	char *const *argv, *const *envp;
	sigset_t before; /* the caller's signal mask */
	int report;	 /* for the errno of what failed */
};

/* -- in the child */

/* Our handlers are not the new program's, and must not run in the meantime. */
static void signals_reset(const sigset_t *defaults)
{
	struct sigaction action;

	for (int i = 1; i < NSIG; i++) {
		if (sigaction(i, NULL, &action) || action.sa_handler == SIG_DFL)
			continue;
		if (action.sa_handler == SIG_IGN && !sigismember(defaults, i))
			continue;
		action = (struct sigaction){.sa_handler = SIG_DFL};
		sigaction(i, &action, NULL);
	}
}

static int scheduling_set(const posix_spawnattr_t *attr, short flags)
{
	struct sched_param param;
	int policy;

	posix_spawnattr_getschedparam(attr, &param);
	if (flags & POSIX_SPAWN_SETSCHEDULER) {
		posix_spawnattr_getschedpolicy(attr, &policy);
		return sched_setscheduler(0, policy, &param) < 0 ? -1 : 0;
	}
	return flags & POSIX_SPAWN_SETSCHEDPARAM ? sched_setparam(0, &param) : 0;
}

static int attributes_set(const posix_spawnattr_t *attr, short flags)
{
	sigset_t defaults;
	pid_t group = 0;

	sigemptyset(&defaults);
	if (flags & POSIX_SPAWN_SETSIGDEF)
		posix_spawnattr_getsigdefault(attr, &defaults);
	signals_reset(&defaults);
	if (attr && scheduling_set(attr, flags))
		return -1;
	if (flags & POSIX_SPAWN_SETSID && setsid() < 0)
		return -1;
	if (attr)
		posix_spawnattr_getpgroup(attr, &group);
	if (flags & POSIX_SPAWN_SETPGROUP && setpgid(0, group))
		return -1;
	if (flags & POSIX_SPAWN_RESETIDS && (seteuid(getuid()) || setegid(getgid())))
		return -1;
	return 0;
}

/* Not execvpe(), which has a shell run what is no program. */
static void exec_by_path(const struct spawn *s)
{
	const char *at = getenv("PATH"), *end;
	bool denied = false;
	char file[PATH_MAX];

	for (at = at ? at : DEFAULT_PATH; at; at = *end ? end + 1 : NULL) {
		end = strchrnul(at, ':');
		if (snprintf(file, sizeof(file), "%.*s%s%s", (int)(end - at), at,
			    end == at ? "" : "/", s->name) >= (int)sizeof(file))
			continue;
		execve(file, s->argv, s->envp);
		denied |= errno == EACCES;
		if (errno != EACCES && errno != ENOENT && errno != ENOTDIR &&
			errno != ESTALE && errno != ENODEV && errno != ETIMEDOUT)
			return;
	}
	if (denied)
		errno = EACCES;
}

static void become(const struct spawn *s)
{
	sigset_t mask = s->before;
	short flags = 0;

	if (s->attr)
		posix_spawnattr_getflags(s->attr, &flags);
	if (attributes_set(s->attr, flags) || spawn_actions_run(s->actions))
		return;
	if (flags & POSIX_SPAWN_SETSIGMASK)
		posix_spawnattr_getsigmask(s->attr, &mask);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (s->search && !strchr(s->name, '/'))
		exec_by_path(s);
	else
		execve(s->name, s->argv, s->envp);
}

/* -- starting one */

/* Return: 0 if the new program runs, else an errno */
static int result_of(int report, pid_t pid)
{
	int failure = 0;

	/* Its end, without a word, is exec()'s doing. */
	while (real.read(report, &failure, sizeof(failure)) < 0 && errno == EINTR)
		;
	if (failure)
		waitpid(pid, NULL, 0);
	return failure;
}

static int spawn(struct spawn *s, pid_t *out)
{
	int report[2], rc;
	sigset_t all;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC))
		return errno;
	/* Out of the way of what is to be done with descriptors. */
	s->report = fdtab_protect(report[1]);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &s->before);
	pid = fork();
	rc = pid < 0 ? errno : 0;
	if (pid == 0) {
		become(s);
		rc = errno;
		_exit(real.write(s->report, &rc, sizeof(rc)) < 0 ? 1 : FAILED);
	}
	fdtab_release(s->report);
	if (!rc)
		rc = result_of(report[0], pid);
	pthread_sigmask(SIG_SETMASK, &s->before, NULL);
	real.close(report[0]);
	if (!rc && out)
		*out = pid;
	return rc;
}

static int start(pid_t *pid, const char *name, bool search,
	const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
	char *const argv[], char *const envp[])
{
	struct spawn s = {.name = name,
		.search = search,
		.actions = spawn_actions_of(actions),
		.attr = attr,
		.argv = argv,
		.envp = envp};
	int saved = errno, rc = spawn(&s, pid);

	errno = saved;
	return rc;
}

EXPORT int posix_spawn(pid_t *pid, const char *path,
	const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
	char *const argv[], char *const envp[])
{
	if (!conn_n_held())
		return real.posix_spawn(pid, path, actions, attr, argv, envp);
	return start(pid, path, false, actions, attr, argv, envp);
}

EXPORT int posix_spawnp(pid_t *pid, const char *name,
	const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
	char *const argv[], char *const envp[])
{
	if (!conn_n_held())
		return real.posix_spawnp(pid, name, actions, attr, argv, envp);
	return start(pid, name, true, actions, attr, argv, envp);
}

/* -- shells */

static int wait_status(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1;
	}
	return status;
}

/* @actions: borrowed, or NULL; @attr: likewise. Return: an errno */
static int shell_start(pid_t *pid, const char *command,
	const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr)
{
	char *argv[] = {"sh", "-c", (char *)command, NULL};

	return start(pid, SHELL, false, actions, attr, argv, environ);
}

/* What system() does to the signals of its process, while any thread is in it. */
static struct {
	pthread_mutex_t lock;
	int n;
	struct sigaction interrupt, quit; /* before */
} waiting = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void waiting_begin(sigset_t *defaults)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	pthread_mutex_lock(&waiting.lock);
	if (waiting.n++ == 0) {
		sigaction(SIGINT, &ignore, &waiting.interrupt);
		sigaction(SIGQUIT, &ignore, &waiting.quit);
	}
	sigemptyset(defaults);
	if (waiting.interrupt.sa_handler != SIG_IGN)
		sigaddset(defaults, SIGINT);
	if (waiting.quit.sa_handler != SIG_IGN)
		sigaddset(defaults, SIGQUIT);
	pthread_mutex_unlock(&waiting.lock);
}

static void waiting_end(void)
{
	pthread_mutex_lock(&waiting.lock);
	if (--waiting.n == 0) {
		sigaction(SIGINT, &waiting.interrupt, NULL);
		sigaction(SIGQUIT, &waiting.quit, NULL);
	}
	pthread_mutex_unlock(&waiting.lock);
}

EXPORT int system(const char *command)
{
	sigset_t defaults, child, before;
	posix_spawnattr_t attr;
	int status, rc;
	pid_t pid;

	if (!command || !conn_n_held())
		return real.system(command);
	waiting_begin(&defaults);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &child, &before);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &before);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	rc = shell_start(&pid, command, NULL, &attr);
	posix_spawnattr_destroy(&attr);
	status = rc ? W_EXITCODE(FAILED, 0) : wait_status(pid);
	waiting_end();
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		errno = rc;
	return status;
}

/* -- popen() */

struct piped {
	struct piped *next;
	FILE *file;
	pid_t pid;
};

static struct piped *all_piped;
static pthread_mutex_t piped_lock = PTHREAD_MUTEX_INITIALIZER;

/* Return: does the command's output come to us? -1: @mode is none */
static int mode_is_read(const char *mode, bool *cloexec)
{
	int is_read = -1;

	*cloexec = false;
	for (; *mode; mode++) {
		if (*mode == 'e')
			*cloexec = true;
		else if ((*mode != 'r' && *mode != 'w') || is_read >= 0)
			return -1;
		else
			is_read = *mode == 'r';
	}
	return is_read;
}

/* @end: what is to be the command's standard @fd. Return: an errno */
static int piped_start(struct piped *p, const char *command, int end, int fd)
{
	posix_spawn_file_actions_t actions;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return rc;
	/* Those of before are not the command's (POSIX). */
	for (const struct piped *i = all_piped; i && !rc; i = i->next) {
		if (real.fileno_unlocked(i->file) != fd)
			rc = posix_spawn_file_actions_addclose(
				&actions, real.fileno_unlocked(i->file));
	}
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&actions, end, fd);
	if (!rc)
		rc = shell_start(&p->pid, command, &actions, NULL);
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

static FILE *piped_open(
	struct piped *p, const char *command, const char *mode, bool is_read)
{
	int fd[2], ours = !is_read, rc;

	if (pipe2(fd, O_CLOEXEC))
		return NULL;
	p->file = real.fdopen(fd[ours], is_read ? "r" : "w");
	rc = p->file ? piped_start(p, command, fd[!ours], is_read) : errno;
	real.close(fd[!ours]);
	if (!rc)
		return p->file;
	if (p->file)
		real.fclose(p->file);
	else
		real.close(fd[ours]);
	errno = rc;
	return NULL;
}

EXPORT FILE *popen(const char *command, const char *mode)
{
	bool cloexec;
	int is_read = mode_is_read(mode, &cloexec);
	struct piped *p;
	FILE *file;

	if (is_read < 0 || !conn_n_held())
		return real.popen(command, mode);
	p = malloc(sizeof(*p));
	if (!p)
		return NULL;
	pthread_mutex_lock(&piped_lock);
	file = piped_open(p, command, mode, is_read);
	if (file) {
		if (!cloexec)
			real.fcntl64(real.fileno_unlocked(file), F_SETFD, 0);
		p->next = all_piped;
		all_piped = p;
	}
	pthread_mutex_unlock(&piped_lock);
	if (!file)
		free(p);
	return file;
}

EXPORT int pclose(FILE *file)
{
	struct piped **link = &all_piped, *p;
	pid_t pid;

	pthread_mutex_lock(&piped_lock);
	while (*link && (*link)->file != file)
		link = &(*link)->next;
	p = *link;
	if (p)
		*link = p->next;
	pthread_mutex_unlock(&piped_lock);
	if (!p)
		return real.pclose(file);
	pid = p->pid;
	free(p);
	real.fclose(file);
	return wait_status(pid);
}
