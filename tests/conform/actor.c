/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What executes steps: a lane is a thread (the first of its process, or another) that
 * reads them from its socket. Descriptors are known by the scenario's names, their
 * *slots*, which all threads of a process share and a forked child has a copy of. Slots
 * outlive an exec in an environment variable.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/util.h"
#include "tests/conform/conform.h"

#define SLOTS_MAX  512
#define SLOTS_ENV  "CONFORM_SLOTS"
#define SLOT_CHARS 32
#define SHOWN	   48 /* so many bytes of data are shown, of more a hash */

struct slot {
	char name[VAR_NAME_SIZE];
	int fd;
};

static struct slot slots[SLOTS_MAX];
static size_t n_slots;
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread volatile sig_atomic_t n_signals[NSIG];
static pid_t children[N_LANES]; /* by their lane */

/* -- slots */

static struct slot *slot_find(const char *name)
{
	for (size_t i = 0; i < n_slots; i++) {
		if (!strcmp(slots[i].name, name))
			return &slots[i];
	}
	return NULL;
}

int slot_fd(const char *name)
{
	struct slot *slot;
	int fd;

	if (!strcmp(name, "-"))
		return -1;
	pthread_mutex_lock(&slots_lock);
	slot = slot_find(name);
	fd = slot ? slot->fd : -1;
	pthread_mutex_unlock(&slots_lock);
	if (!slot)
		bad_scenario("no such slot", name);
	return fd;
}

void slot_set(const char *name, int fd)
{
	struct slot *slot;

	pthread_mutex_lock(&slots_lock);
	slot = slot_find(name);
	if (!slot) {
		if (n_slots == SLOTS_MAX)
			bad_scenario("too many slots", name);
		slot = &slots[n_slots++];
		snprintf(slot->name, sizeof(slot->name), "%s", name);
	}
	slot->fd = fd;
	pthread_mutex_unlock(&slots_lock);
}

const char *slot_name(int fd)
{
	for (size_t i = n_slots; i-- > 0;) {
		if (slots[i].fd == fd)
			return slots[i].name;
	}
	return "?";
}

static void slots_export(void)
{
	static char text[SLOTS_MAX * SLOT_CHARS];
	size_t len = 0;

	for (size_t i = 0; i < n_slots; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s %d ",
			slots[i].name, slots[i].fd);
	setenv(SLOTS_ENV, text, 1);
}

static void slots_import(void)
{
	const char *text = getenv(SLOTS_ENV);
	char name[VAR_NAME_SIZE];
	int fd, n;

	while (text && sscanf(text, "%15s %d %n", name, &fd, &n) == 2) {
		slot_set(name, fd);
		text += n;
	}
}

/* -- the log */

void say(struct call *c, const char *fmt, ...)
{
	size_t room = sizeof(c->reply->text) - c->len;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(c->reply->text + c->len, room, fmt, args);
	va_end(args);
	c->len += MIN((size_t)n, room - 1);
}

void say_result(struct call *c, ssize_t rc)
{
	if (rc < 0)
		say(c, " %zd %s", rc, strerrorname_np(errno));
	else
		say(c, " %zd", rc);
}

void say_bytes(struct call *c, const void *buf, size_t n)
{
	const uint8_t *at = buf;
	uint32_t hash = 2166136261u; /* FNV-1a */

	if (n > SHOWN) {
		for (size_t i = 0; i < n; i++)
			hash = (hash ^ at[i]) * 16777619u;
		say(c, " %zu bytes, hash %08x", n, hash);
		return;
	}
	say(c, " \"");
	for (size_t i = 0; i < n; i++)
		say(c, isgraph(at[i]) ? "%c" : "\\x%02x", at[i]);
	say(c, "\"");
}

void set_var(struct call *c, const char *name, int64_t value)
{
	snprintf(c->reply->var, sizeof(c->reply->var), "%s", name);
	c->reply->value = value;
}

void bad_scenario(const char *what, const char *which)
{
	fprintf(stderr, "conform: bad scenario: %s: %s\n", what, which);
	_exit(3);
}

/* -- a lane */

static void on_signal(int number)
{
	n_signals[number]++;
}

static void say_signals(struct call *c)
{
	for (int i = 1; i < NSIG; i++) {
		if (n_signals[i])
			say(c, " [%s x%d]", constant_name("SIG", i), (int)n_signals[i]);
		n_signals[i] = 0;
	}
}

static const struct op *op_find(const char *name)
{
	static const struct op *const tables[] = {process_ops, socket_ops, data_ops,
		bulk_ops, wait_ops, fd_ops, child_ops, pass_ops};

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		for (const struct op *op = tables[i]; op->name; op++) {
			if (!strcmp(op->name, name))
				return op;
		}
	}
	bad_scenario("no such op", name);
}

static void reply_send(int lane, struct reply *reply, enum reply_kind kind)
{
	reply->kind = kind;
	reply->pid = getpid();
	reply->tid = (int32_t)syscall(SYS_gettid);
	if (syscall(SYS_write, LANE_FD + lane, reply,
		    offsetof(struct reply, text) + strlen(reply->text) + 1) < 0)
		_exit(4);
}

static void step(int lane, char *line)
{
	struct reply reply = {0};
	char *argv[ARGS_MAX], *at = line;
	struct call c = {.argv = argv, .reply = &reply};
	const struct op *op;

	if (*at == '&') {
		reply_send(lane, &reply, REPLY_BEGIN);
		at++;
	}
	while (c.argc < ARGS_MAX - 1 && (argv[c.argc] = strsep(&at, " "))) {
		if (*argv[c.argc])
			c.argc++;
	}
	argv[c.argc] = NULL;
	op = op_find(argv[0]);
	if (c.argc - 1 < op->n_min)
		bad_scenario("too few arguments", argv[0]);
	errno = 0;
	op->run(&c);
	say_signals(&c);
	reply_send(lane, &reply, REPLY_DONE);
}

/* By system calls: the lanes are none of the shim's business. */
static void lane_serve(int lane)
{
	struct reply hello = {0};
	char line[TEXT_MAX];
	ssize_t n;

	reply_send(lane, &hello, REPLY_HELLO);
	for (;;) {
		n = syscall(SYS_read, LANE_FD + lane, line, sizeof(line) - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			exit(0);
		line[n] = '\0';
		step(lane, line);
	}
}

static int lane_number(const char *name)
{
	int lane = name[0] - 'A';

	if (lane < 0 || lane >= N_LANES || name[1])
		bad_scenario("no such lane", name);
	return lane;
}

void actor_main(int lane)
{
	slots_import();
	lane_serve(lane);
}

/* -- ops of processes, threads and signals */

static void *thread_run(void *arg)
{
	lane_serve((int)(intptr_t)arg);
	return NULL;
}

static void op_thread(struct call *c)
{
	pthread_t thread;
	int lane = lane_number(c->argv[1]);

	errno = pthread_create(&thread, NULL, thread_run, (void *)(intptr_t)lane);
	if (!errno)
		pthread_detach(thread);
	say_result(c, errno ? -1 : 0);
}

static void op_fork(struct call *c)
{
	int lane = lane_number(c->argv[1]);
	pid_t pid = fork();

	if (pid == 0)
		lane_serve(lane);
	children[lane] = pid;
	say_result(c, pid < 0 ? -1 : 0);
}

/* exec LANE - this process, which serves LANE, becomes a new program that goes on */
static void op_exec(struct call *c)
{
	char *argv[] = {"conform", "-l", c->argv[1], NULL};

	slots_export();
	execv("/proc/self/exe", argv);
	say_result(c, -1);
}

/* reap LANE - wait for the child that served it */
static void op_reap(struct call *c)
{
	int status = 0;
	pid_t pid = waitpid(children[lane_number(c->argv[1])], &status, 0);

	if (pid < 0)
		say_result(c, -1);
	else if (WIFSIGNALED(status))
		say(c, " killed by %s", constant_name("SIG", WTERMSIG(status)));
	else
		say(c, " exit %d", WEXITSTATUS(status));
}

static void op_exit(struct call *c)
{
	exit((int)number(c->argv[1]));
}

/* sigaction SIGNAL default|ignore|catch|restart */
static void op_sigaction(struct call *c)
{
	struct sigaction action = {.sa_handler = on_signal};
	const char *how = c->argv[2];

	if (!strcmp(how, "default"))
		action.sa_handler = SIG_DFL;
	else if (!strcmp(how, "ignore"))
		action.sa_handler = SIG_IGN;
	else if (!strcmp(how, "restart"))
		action.sa_flags = SA_RESTART;
	else if (strcmp(how, "catch"))
		bad_scenario("sigaction", how);
	say_result(c, sigaction((int)number(c->argv[1]), &action, NULL));
}

const struct op process_ops[] = {
	{"thread", op_thread, 1},
	{"fork", op_fork, 1},
	{"exec", op_exec, 1},
	{"reap", op_reap, 1},
	{"exit", op_exit, 1},
	{"sigaction", op_sigaction, 2},
	{NULL, NULL, 0},
};
