/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Wake-ups of epoll sets, for the socket shim: two processes of two threads wait for the
 * same connections, each process by a set of its own, and go to sleep all the time. One
 * echoes, the other one only looks on. Two threads of a third process call, each on
 * connections of its own. A wake-up that is lost lets everything stand still, and the
 * test's time run out.
 *
 * Usage: socket_sets [ROUNDS]
 */
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_CONN	 32
#define N_CALLER 2
#define ROUNDS	 5000
#define BURST	 6
#define EVENTS	 5 /* less than may be ready */

struct caller {
	pthread_t thread;
	unsigned seed;
	int rounds;
	int set;
	int fd[N_CONN / N_CALLER];
	uint64_t sent[N_CONN / N_CALLER];
	bool awaited[N_CONN / N_CALLER];
};

static unsigned below(struct caller *c, unsigned n)
{
	return (unsigned)rand_r(&c->seed) % n;
}

/* -- echo */

static void echo(int fd)
{
	uint64_t message;
	ssize_t n = recv(fd, &message, sizeof(message), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return; /* another was faster */
	if (n == 0)
		exit(0); /* the callers are done */
	if (n != sizeof(message))
		err(1, "recv() of %zd bytes", n);
	if (send(fd, &message, sizeof(message), 0) != sizeof(message))
		err(1, "send()");
}

/* Waits for all connections. */
struct waiter {
	int set;
	void (*told)(int fd);
};

static void look_on(int fd)
{
	(void)fd;
}

static void *wait_for_all(void *arg)
{
	struct epoll_event events[EVENTS];
	struct waiter *w = arg;

	for (;;) {
		int n = epoll_wait(w->set, events, EVENTS, -1);

		if (n < 0)
			err(1, "epoll_wait()");
		for (int i = 0; i < n; i++)
			w->told(events[i].data.fd);
	}
	return NULL;
}

static pid_t start_waiter(const int *fd, uint32_t wanted, void (*told)(int fd))
{
	struct waiter w = {.told = told};
	pthread_t other;
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	w.set = epoll_create1(0);
	for (int i = 0; i < N_CONN; i++) {
		struct epoll_event event = {.events = wanted, .data.fd = fd[i]};

		if (epoll_ctl(w.set, EPOLL_CTL_ADD, fd[i], &event))
			err(1, "epoll_ctl()");
	}
	if (pthread_create(&other, NULL, wait_for_all, &w))
		errx(1, "pthread_create()");
	wait_for_all(&w);
	exit(0);
}

/* -- calls */

static void control(struct caller *c, int op, int i)
{
	struct epoll_event event = {.data.u32 = (uint32_t)i};

	event.events = below(c, 2) ? EPOLLIN | EPOLLET : EPOLLIN;
	if (epoll_ctl(c->set, op, c->fd[i], &event))
		err(1, "epoll_ctl()");
}

/* What programs do between two messages. */
static void fidget(struct caller *c, int i)
{
	switch (below(c, 6)) {
	case 0:
		control(c, EPOLL_CTL_DEL, i);
		control(c, EPOLL_CTL_ADD, i);
		break;
	case 1:
		control(c, EPOLL_CTL_MOD, i);
		break;
	default:
		break;
	}
}

static int call_some(struct caller *c)
{
	int n = 1 + (int)below(c, BURST), n_sent = 0;

	for (int k = 0; k < n; k++) {
		int i = (int)below(c, N_CONN / N_CALLER);

		if (c->awaited[i])
			continue;
		fidget(c, i);
		c->awaited[i] = true;
		c->sent[i]++;
		if (send(c->fd[i], &c->sent[i], sizeof(c->sent[i]), 0) !=
			sizeof(c->sent[i]))
			err(1, "send()");
		n_sent++;
	}
	return n_sent;
}

static bool answered(struct caller *c, int i)
{
	uint64_t message;
	ssize_t n = recv(c->fd[i], &message, sizeof(message), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n != sizeof(message) || !c->awaited[i] || message != c->sent[i])
		errx(1, "connection %d: %zd bytes, a wrong answer", i, n);
	c->awaited[i] = false;
	return true;
}

static void *call(void *arg)
{
	struct epoll_event events[EVENTS];
	struct caller *c = arg;

	for (int round = 0; round < c->rounds; round++) {
		int left = call_some(c);

		while (left) {
			int n = epoll_wait(c->set, events, EVENTS, -1);

			if (n < 0)
				err(1, "epoll_wait()");
			for (int i = 0; i < n; i++)
				left -= answered(c, (int)events[i].data.u32);
		}
		/* Long enough for the others to fall asleep, or about to. */
		if (below(c, 2))
			usleep(below(c, 200));
	}
	return NULL;
}

/* -- set-up */

static void connect_all(struct caller *callers, int *accepted)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *)&addr, len) || listen(listener, 1) ||
		getsockname(listener, (struct sockaddr *)&addr, &len))
		err(1, "listener");
	for (int i = 0; i < N_CONN; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(fd, (struct sockaddr *)&addr, len))
			err(1, "connect()");
		callers[i % N_CALLER].fd[i / N_CALLER] = fd;
		accepted[i] = accept(listener, NULL, NULL);
		if (accepted[i] < 0)
			err(1, "accept()");
	}
}

int main(int argc, char **argv)
{
	struct caller callers[N_CALLER] = {0};
	int rounds = argc > 1 ? atoi(argv[1]) : ROUNDS, accepted[N_CONN];
	pid_t waiters[2];

	connect_all(callers, accepted);
	waiters[0] = start_waiter(accepted, EPOLLIN, echo);
	waiters[1] = start_waiter(accepted, EPOLLIN | EPOLLET, look_on);
	for (int k = 0; k < N_CALLER; k++) {
		struct caller *c = &callers[k];

		c->seed = (unsigned)k + 1;
		c->rounds = rounds;
		c->set = epoll_create1(0);
		for (int i = 0; i < N_CONN / N_CALLER; i++)
			control(c, EPOLL_CTL_ADD, i);
		if (pthread_create(&c->thread, NULL, call, c))
			errx(1, "pthread_create()");
	}
	for (int k = 0; k < N_CALLER; k++)
		pthread_join(callers[k].thread, NULL);
	for (int i = 0; i < 2; i++) {
		kill(waiters[i], SIGKILL);
		waitpid(waiters[i], NULL, 0);
	}
	return 0;
}
