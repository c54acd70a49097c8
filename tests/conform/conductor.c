/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads scenarios and has their steps executed, one after the other; writes a log of
 * each.
 *
 * Usage: conform [-n NETNS_OF_B] [-p PRELOAD] [-o FOLDER] [-d NAME=VALUE]... SCENARIO...
 *        conform -l LANE       an actor: started by the conductor only
 *
 * For SCENARIO "x/y.scn" the log is FOLDER/y.log, and FOLDER/y.path tells by which way
 * sends went: "ring N kernel N". PRELOAD is for the actors alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/util.h"
#include "tests/conform/conform.h"

#define VARS_MAX  64
#define PORTS_MAX 64
#define SPARE_MS  3000 /* a step that waits fails by itself before it is given up */
#define END_MS	  2000

struct lane {
	int sock, far; /* ours; the actor's */
	pid_t pid, tid;
	bool begun;
};

struct var {
	char name[VAR_NAME_SIZE];
	char value[64];
};

struct scenario {
	struct lane lanes[N_LANES];
	pid_t main_pid[2]; /* of A and B */
	struct var vars[VARS_MAX];
	unsigned n_vars;
	unsigned ports[PORTS_MAX];
	unsigned n_ports;
	unsigned long n_ring, n_kernel;
	FILE *log;
	bool broken;
};

static struct var given[VARS_MAX];
static unsigned n_given;
static const char *preload, *netns_b, *region_b, *folder = ".";

static void die(const char *what)
{
	perror(what);
	exit(2);
}

/* -- variables and ports */

static void var_set(struct var *vars, unsigned *n, const char *name, const char *value)
{
	unsigned i = 0;

	while (i < *n && strcmp(vars[i].name, name))
		i++;
	if (i == VARS_MAX)
		bad_scenario("too many variables", name);
	if (i == *n)
		snprintf(vars[(*n)++].name, sizeof(vars->name), "%s", name);
	snprintf(vars[i].value, sizeof(vars->value), "%s", value);
}

static const char *var_get(const struct scenario *s, const char *name)
{
	for (unsigned i = 0; i < s->n_vars; i++) {
		if (!strcmp(s->vars[i].name, name))
			return s->vars[i].value;
	}
	bad_scenario("no such variable", name);
}

/* @from with each $NAME replaced. */
static void substitute(const struct scenario *s, const char *from, char *to, size_t size)
{
	char name[VAR_NAME_SIZE];
	size_t len = 0, n;

	while (*from && len < size - 1) {
		if (*from != '$') {
			to[len++] = *from++;
			continue;
		}
		n = strspn(++from, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
				   "0123456789");
		snprintf(name, sizeof(name), "%.*s", (int)n, from);
		from += n;
		len += (size_t)snprintf(to + len, size - len, "%s", var_get(s, name));
	}
	to[len] = '\0';
}

static unsigned port_index(struct scenario *s, unsigned port)
{
	for (unsigned i = 0; i < s->n_ports; i++) {
		if (s->ports[i] == port)
			return i + 1;
	}
	if (s->n_ports == PORTS_MAX)
		bad_scenario("too many ports", "");
	s->ports[s->n_ports++] = port;
	return s->n_ports;
}

/* Ports are up to the system: log the first that appears as P1, and so on. */
static void log_text(struct scenario *s, const char *text)
{
	unsigned port;
	int n;

	while (*text) {
		n = 0;
		if (sscanf(text, "@%u@%n", &port, &n) == 1 && n) {
			fprintf(s->log, port ? "P%u" : "0",
				port ? port_index(s, port) : 0);
			text += n;
		} else {
			fputc(*text++, s->log);
		}
	}
}

/* -- lanes */

static void netns_enter(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(path);
	close(fd);
}

static void actor_start(struct scenario *s, int lane)
{
	char name[] = {(char)('A' + lane), '\0'};

	s->main_pid[lane] = fork();
	if (s->main_pid[lane] < 0)
		die("fork");
	if (s->main_pid[lane])
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (lane == 1 && netns_b)
		netns_enter(netns_b);
	for (int i = 0; i < N_LANES; i++) {
		if (dup2(s->lanes[i].far, LANE_FD + i) < 0)
			die("dup2");
	}
	/* Nothing between the standard streams and the lanes: numbers are observables. */
	close_range(3, LANE_FD - 1, 0);
	close_range(LANE_FD + N_LANES, ~0u, 0);
	if (preload)
		setenv("LD_PRELOAD", preload, 1);
	if (lane == 1 && region_b)
		setenv("VRDMA_REGION", region_b, 1);
	execl("/proc/self/exe", "conform", "-l", name, NULL);
	die("exec");
}

static void lanes_open(struct scenario *s)
{
	int pair[2];

	for (int i = 0; i < N_LANES; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
			die("socketpair");
		s->lanes[i].sock = pair[0];
		s->lanes[i].far = pair[1];
	}
	actor_start(s, 0);
	actor_start(s, 1);
	for (int i = 0; i < N_LANES; i++)
		close(s->lanes[i].far);
}

/* All processes of the scenario, also those that lost their parents: they are ours. */
static void lanes_close(struct scenario *s)
{
	uint64_t end = now_ns() + END_MS * NSEC_PER_MSEC;
	const struct timespec rest = {.tv_nsec = 100000};
	bool killed = false;
	pid_t pid;

	for (int i = 0; i < N_LANES; i++)
		close(s->lanes[i].sock);
	while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0) {
		if (pid == 0)
			nanosleep(&rest, NULL);
		if (killed || (now_ns() < end && !s->broken))
			continue;
		for (int i = 0; i < N_LANES; i++) {
			if (s->lanes[i].pid)
				kill(s->lanes[i].pid, SIGKILL);
		}
		killed = true;
		if (!s->broken)
			fprintf(s->log, "a process did not end\n");
	}
}

/* The lane's next reply; false if there is none. */
static bool lane_reply(struct lane *lane, struct reply *reply)
{
	struct pollfd fds[2] = {{.fd = lane->sock, .events = POLLIN}, {.fd = -1}};
	bool there;

	if (lane->pid) {
		fds[1].fd = (int)syscall(SYS_pidfd_open, lane->pid, 0);
		fds[1].events = POLLIN;
	}
	there = poll(fds, 2, patience_ms() + SPARE_MS) > 0 && fds[0].revents & POLLIN &&
		recv(lane->sock, reply, sizeof(*reply), 0) > 0;
	if (fds[1].fd >= 0)
		close(fds[1].fd);
	if (there) {
		lane->pid = reply->pid;
		lane->tid = reply->tid;
	}
	return there;
}

/* The first reply of a lane that begins to exist. */
static void lane_hello(struct scenario *s, int lane)
{
	struct reply reply;

	if (!lane_reply(&s->lanes[lane], &reply) || reply.kind != REPLY_HELLO) {
		fprintf(s->log, "lane %c is not there\n", 'A' + lane);
		s->broken = true;
	}
}

/* -- steps */

static void lane_result(struct scenario *s, struct lane *lane)
{
	struct reply reply;
	char value[32];

	lane->begun = false;
	if (!lane_reply(lane, &reply)) {
		fprintf(s->log, " -> HANGS or died\n");
		s->broken = true;
		return;
	}
	if (reply.kind == REPLY_HELLO)
		snprintf(reply.text, sizeof(reply.text), " goes on");
	fprintf(s->log, " ->");
	log_text(s, reply.text);
	fputc('\n', s->log);
	s->n_ring += reply.n_ring;
	s->n_kernel += reply.n_kernel;
	if (reply.kind == REPLY_DONE && reply.var[0]) {
		snprintf(value, sizeof(value), "%ld", (long)reply.value);
		var_set(s->vars, &s->n_vars, reply.var, value);
	}
}

/* Until the lane's thread sleeps in what it has begun: seen asleep in several looks. */
static void settle(struct scenario *s, struct lane *lane)
{
	uint64_t end = now_ns() + (uint64_t)patience_ms() * NSEC_PER_MSEC;
	const struct timespec rest = {.tv_nsec = 500000};
	char path[64], state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", lane->pid, lane->tid);
	for (int n_asleep = 0; n_asleep < 3 && now_ns() < end;) {
		f = fopen(path, "re");
		if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = '?';
		if (f)
			fclose(f);
		n_asleep = state == 'S' ? n_asleep + 1 : 0;
		nanosleep(&rest, NULL);
	}
	fprintf(s->log, " ->\n");
}

static bool await_end(const struct lane *lane)
{
	struct pollfd pfd = {
		.fd = (int)syscall(SYS_pidfd_open, lane->pid, 0), .events = POLLIN};
	bool ended = pfd.fd < 0 || poll(&pfd, 1, patience_ms() + SPARE_MS) == 1;

	if (pfd.fd >= 0)
		close(pfd.fd);
	return ended;
}

/* A step that is to end the lane's process. */
static void lane_end(struct scenario *s, struct lane *lane, const char *text)
{
	s->broken = send(lane->sock, text, strlen(text), MSG_NOSIGNAL) < 0 ||
		    !await_end(lane);
	fprintf(s->log, s->broken ? " -> goes on\n" : " -> ends\n");
}

static void lane_tell(struct scenario *s, struct lane *lane, const char *text)
{
	struct reply begun;

	if (send(lane->sock, text, strlen(text), MSG_NOSIGNAL) < 0) {
		fprintf(s->log, " -> no lane\n");
		s->broken = true;
	} else if (*text == '&') {
		lane->begun = true;
		if (lane_reply(lane, &begun) && begun.kind == REPLY_BEGIN)
			fprintf(s->log, " -> begun\n");
		else
			s->broken = true;
	} else {
		lane_result(s, lane);
	}
}

static int lane_of(const char *name)
{
	int lane = name[0] - 'A';

	if (lane < 0 || lane >= N_LANES)
		bad_scenario("no such lane", name);
	return lane;
}

/* kill LANE SIGNAL */
static void kill_lane(struct scenario *s, char *args)
{
	const char *who = strsep(&args, " ");
	struct lane *lane = &s->lanes[lane_of(who)];
	int signal_number = (int)number(args);

	syscall(SYS_tgkill, lane->pid, lane->tid, signal_number);
	if (signal_number == SIGKILL)
		await_end(lane);
	fprintf(s->log, " ->\n");
}

/* What the conductor does itself. */
static bool own_step(struct scenario *s, const char *word, char *rest)
{
	if (!strcmp(word, "settle"))
		settle(s, &s->lanes[lane_of(rest)]);
	else if (!strcmp(word, "kill"))
		kill_lane(s, rest);
	else
		return false;
	return true;
}

static void step(struct scenario *s, char *line)
{
	char text[TEXT_MAX], *rest = text, *word;
	struct lane *lane;

	fprintf(s->log, "%s", line);
	substitute(s, line, text, sizeof(text));
	word = strsep(&rest, " ");
	if (!rest)
		bad_scenario("no step", line);
	if (own_step(s, word, rest))
		return;
	lane = &s->lanes[lane_of(word)];
	if (!strcmp(rest, "wait")) {
		lane_result(s, lane);
		return;
	}
	if (lane->begun)
		bad_scenario("the lane is busy", line);
	if (word[1] == '!') {
		lane_end(s, lane, rest);
		return;
	}
	if (word[1] == '&')
		*--rest = '&'; /* takes the separator's place */
	lane_tell(s, lane, rest);
	if (!strncmp(rest, "fork ", 5) || !strncmp(rest, "thread ", 7))
		lane_hello(s, lane_of(strchr(rest, ' ') + 1));
}

static void script_run(struct scenario *s, FILE *script)
{
	char line[TEXT_MAX];

	while (!s->broken && fgets(line, sizeof(line), script)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] && line[0] != '#')
			step(s, line);
	}
}

static FILE *result_open(const char *scenario, const char *suffix)
{
	char copy[512], path[1024], *name;
	FILE *f;

	snprintf(copy, sizeof(copy), "%s", scenario);
	name = basename(copy);
	name[strcspn(name, ".")] = '\0';
	snprintf(path, sizeof(path), "%s/%s.%s", folder, name, suffix);
	f = fopen(path, "we");
	if (!f)
		die(path);
	return f;
}

static void scenario_run(const char *path)
{
	struct scenario s = {.n_vars = n_given};
	FILE *script = fopen(path, "re"), *way;

	if (!script)
		die(path);
	memcpy(s.vars, given, sizeof(given));
	s.log = result_open(path, "log");
	lanes_open(&s);
	lane_hello(&s, 0);
	lane_hello(&s, 1);
	script_run(&s, script);
	lanes_close(&s);
	way = result_open(path, "path");
	fprintf(way, "ring %lu kernel %lu\n", s.n_ring, s.n_kernel);
	fclose(way);
	fclose(script);
	fclose(s.log);
}

static void give(char *text)
{
	char *value = strchr(text, '=');

	if (!value)
		bad_scenario("no value", text);
	*value++ = '\0';
	var_set(given, &n_given, text, value);
}

int main(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "l:n:p:r:o:d:")) != -1) {
		if (opt == 'l')
			actor_main(optarg[0] - 'A');
		else if (opt == 'n')
			netns_b = optarg;
		else if (opt == 'p')
			preload = optarg;
		else if (opt == 'r')
			region_b = optarg;
		else if (opt == 'o')
			folder = optarg;
		else if (opt == 'd')
			give(optarg);
		else
			return 2;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGPIPE, SIG_DFL);
	for (int i = optind; i < argc; i++)
		scenario_run(argv[i]);
	return 0;
}
