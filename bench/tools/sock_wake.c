/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sock_wake - how long it takes to wake a process that sleeps: from before the call that
 * wakes it to after the call in which it slept. Two processes on cores of their own.
 *
 * Usage: sock_wake eventfd|unix|ADDRESS: what it sleeps on; a TCP connection to ADDRESS.
 * Prints one line of JSON: the median.
 */
#include "lib/util.h"

#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define N_WAKES	  301
#define ASLEEP_US 3000 /* more than anybody spins */

struct shared {
	_Atomic uint64_t woken_ns;
};

static void use_core(int number)
{
	cpu_set_t all, one;
	int last = 0;

	sched_getaffinity(0, sizeof(all), &all);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE && number >= 0; i++) {
		if (!CPU_ISSET(i, &all))
			continue;
		last = i;
		number--;
	}
	CPU_SET(last, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* The listener is for the other process. */
static int tcp_listen(const char *host, struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*addr = (struct sockaddr_in){.sin_family = AF_INET};
	if (inet_pton(AF_INET, host, &addr->sin_addr) != 1)
		errx(2, "%s: not an IPv4 address", host);
	if (bind(fd, (struct sockaddr *)addr, sizeof(*addr)) || listen(fd, 1) ||
		getsockname(fd, (struct sockaddr *)addr, &len))
		err(1, "listen on %s", host);
	return fd;
}

static int tcp_connect(const struct sockaddr_in *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)))
		err(1, "connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void sleeper(int fd, struct shared *s)
{
	uint64_t token;

	while (read(fd, &token, sizeof(token)) == sizeof(token))
		s->woken_ns = now_ns();
	exit(0);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t median_wake(int fd, struct shared *s)
{
	uint64_t ns[N_WAKES], token = 1, begin;

	for (int i = 0; i < N_WAKES; i++) {
		usleep(ASLEEP_US);
		s->woken_ns = 0;
		begin = now_ns();
		if (write(fd, &token, sizeof(token)) != sizeof(token))
			err(1, "write");
		while (!s->woken_ns)
			;
		ns[i] = s->woken_ns - begin;
	}
	qsort(ns, N_WAKES, sizeof(*ns), compare);
	return ns[N_WAKES / 2];
}

int main(int argc, char **argv)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *way = argc == 2 ? argv[1] : "";
	struct sockaddr_in addr;
	int fd[2] = {-1, -1}, listener = -1;
	pid_t pid;

	if (!strcmp(way, "eventfd"))
		fd[0] = fd[1] = eventfd(0, 0);
	else if (!strcmp(way, "unix"))
		socketpair(AF_UNIX, SOCK_STREAM, 0, fd);
	else
		listener = tcp_listen(way, &addr);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		use_core(1);
		sleeper(listener < 0 ? fd[1] : accept(listener, NULL, NULL), s);
	}
	use_core(0);
	if (listener >= 0)
		fd[0] = tcp_connect(&addr);
	printf("{\"usec\": %.3f}\n", (double)median_wake(fd[0], s) * 1e-3);
	kill(pid, SIGKILL);
	return 0;
}
