/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sock_pair - what stream sockets do, whatever carries them: plain calls, so that the
 * same program shows the kernel's TCP and the socket shim
 *
 *   stream    messages of one size in one direction
 *   many      connections, of which some are active: 64 bytes there and back on each,
 *             the server waits with epoll; and the shared memory that they take
 *   idle      connections on which nothing comes, waited for: CPU time of both sides
 *
 * The server is started first and serves one client; the client prints one line of JSON.
 */
#include "lib/util.h"
#include "pair.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT	 18517
#define MESSAGE	 64
#define CONN_MAX 4096
#define EVENTS	 64

enum mode { NONE, STREAM, MANY, IDLE };

struct run {
	const char *local, *peer;
	enum mode mode;
	size_t size; /* of a message */
	int n_conn, n_active;
	double seconds;
	int control;
	int conn[CONN_MAX];
	uint8_t *buffer;
};

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* Of the whole machine, KiB: what is in memfds has no owner that one could ask. */
static long shared_memory(void)
{
	char line[128];
	long kib = 0;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Shmem: %ld", &kib) == 1)
			break;
	}
	if (f)
		fclose(f);
	return kib;
}

static struct sockaddr_in address(const char *text)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(PORT)};

	if (inet_pton(AF_INET, text, &addr.sin_addr) != 1)
		errx(2, "%s: not an IPv4 address", text);
	return addr;
}

static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static int listener_open(const struct run *r)
{
	struct sockaddr_in addr = address(r->local);
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, CONN_MAX))
		err(1, "listen");
	return fd;
}

/* The connections besides the control one: both sides have them when this returns. */
static void connections_open(struct run *r)
{
	struct sockaddr_in addr = address(r->peer ? r->peer : r->local);
	int listener = r->peer ? -1 : listener_open(r);

	pair_barrier(r->control);
	for (int i = 0; i < r->n_conn; i++) {
		if (r->peer) {
			r->conn[i] = socket(AF_INET, SOCK_STREAM, 0);
			if (connect(r->conn[i], (struct sockaddr *)&addr, sizeof(addr)))
				err(1, "connect");
		} else {
			r->conn[i] = accept(listener, NULL, NULL);
			if (r->conn[i] < 0)
				err(1, "accept");
		}
		no_delay(r->conn[i]);
	}
	if (listener >= 0)
		close(listener);
	pair_barrier(r->control);
}

static void connections_close(struct run *r)
{
	for (int i = 0; i < r->n_conn; i++)
		close(r->conn[i]);
}

static void write_all(int fd, const uint8_t *buf, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = write(fd, buf + at, size - at);

		if (n < 0)
			err(1, "write");
		at += (size_t)n;
	}
}

/* false at the end of the stream */
static bool read_all(int fd, uint8_t *buf, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = read(fd, buf + at, size - at);

		if (n < 0)
			err(1, "read");
		if (n == 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

/* -- stream */

static void stream_serve(struct run *r)
{
	uint64_t bytes = 0, theirs, begin = now_ns(), ns;

	while (read_all(r->conn[0], r->buffer, r->size))
		bytes += r->size;
	ns = now_ns() - begin;
	pair_exchange(r->control, &bytes, &theirs, sizeof(bytes));
	pair_exchange(r->control, &ns, &theirs, sizeof(ns));
}

static void stream_measure(struct run *r)
{
	uint64_t end = now_ns() + (uint64_t)(r->seconds * 1e9), bytes = 0, ns = 0,
		 mine = 0;

	while (now_ns() < end)
		write_all(r->conn[0], r->buffer, r->size);
	shutdown(r->conn[0], SHUT_WR);
	pair_exchange(r->control, &mine, &bytes, sizeof(bytes));
	pair_exchange(r->control, &mine, &ns, sizeof(ns));
	printf("{\"bytes\": %lu, \"seconds\": %.6f}\n", (unsigned long)bytes,
		(double)ns * 1e-9);
}

/* -- many */

static void epoll_watch(int epoll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		err(1, "epoll_ctl");
}

static int epoll_all(const struct run *r)
{
	int epoll = epoll_create1(0);

	for (int i = 0; i < r->n_conn; i++)
		epoll_watch(epoll, r->conn[i]);
	return epoll;
}

/* Echo until the client says the end on the control connection. */
static void many_serve(struct run *r)
{
	struct epoll_event events[EVENTS];
	int epoll = epoll_all(r);

	epoll_watch(epoll, r->control);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == r->control)
				return;
			if (read_all(events[i].data.fd, r->buffer, MESSAGE))
				write_all(events[i].data.fd, r->buffer, MESSAGE);
		}
	}
}

static void round_trip(const struct run *r, int n)
{
	for (int i = 0; i < n; i++)
		write_all(r->conn[i], r->buffer, MESSAGE);
	for (int i = 0; i < n; i++) {
		if (!read_all(r->conn[i], r->buffer, MESSAGE))
			errx(1, "the server has gone");
	}
}

static void many_measure(struct run *r, long before)
{
	uint64_t begin = now_ns(), end = begin + (uint64_t)(r->seconds * 1e9);
	uint64_t n_trips = 0;
	long idle = shared_memory(), used;
	double seconds;

	while (now_ns() < end) {
		round_trip(r, r->n_active);
		n_trips += (uint64_t)r->n_active;
	}
	seconds = (double)(now_ns() - begin) * 1e-9;
	round_trip(r, r->n_conn);
	used = shared_memory();
	pair_barrier(r->control);
	pair_barrier(r->control);
	connections_close(r);
	pair_barrier(r->control);
	printf("{\"trips\": %lu, \"seconds\": %.6f, \"kib_idle\": %.1f, "
	       "\"kib_used\": %.1f, \"kib_closed\": %.1f}\n",
		(unsigned long)n_trips, seconds, (double)(idle - before) / r->n_conn,
		(double)(used - before) / r->n_conn,
		(double)(shared_memory() - before) / r->n_conn);
}

/* -- idle */

static void idle_wait(struct run *r)
{
	struct epoll_event event;
	int epoll = epoll_all(r), ms = (int)(r->seconds * 1000);
	double mine = cpu_seconds(), theirs;

	/* The first waits may spin: that is no idleness yet. */
	if (epoll_wait(epoll, &event, 1, 200) > 0)
		errx(1, "something came");
	mine = cpu_seconds();
	if (epoll_wait(epoll, &event, 1, ms) > 0)
		errx(1, "something came");
	mine = cpu_seconds() - mine;
	pair_exchange(r->control, &mine, &theirs, sizeof(mine));
	if (r->peer)
		printf("{\"cpu\": %.6f, \"seconds\": %.3f}\n", mine + theirs, r->seconds);
}

static void run_client(struct run *r, long before)
{
	if (r->mode == STREAM)
		stream_measure(r);
	else if (r->mode == MANY)
		many_measure(r, before);
	else
		idle_wait(r);
}

static void run_server(struct run *r)
{
	if (r->mode == STREAM) {
		stream_serve(r);
	} else if (r->mode == MANY) {
		many_serve(r);
		pair_barrier(r->control);
		pair_barrier(r->control);
		connections_close(r);
		pair_barrier(r->control);
	} else {
		idle_wait(r);
	}
}

static void parse_args(struct run *r, int argc, char **argv)
{
	static const struct option options[] = {{"local", 1, NULL, 'l'},
		{"peer", 1, NULL, 'p'}, {"stream", 1, NULL, 's'}, {"many", 1, NULL, 'm'},
		{"idle", 1, NULL, 'i'}, {"active", 1, NULL, 'a'},
		{"seconds", 1, NULL, 't'}, {0}};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'l')
			r->local = optarg;
		else if (opt == 'p')
			r->peer = optarg;
		else if (opt == 's')
			r->mode = STREAM, r->size = strtoul(optarg, NULL, 0);
		else if (opt == 'm')
			r->mode = MANY, r->n_conn = atoi(optarg);
		else if (opt == 'i')
			r->mode = IDLE, r->n_conn = atoi(optarg);
		else if (opt == 'a')
			r->n_active = atoi(optarg);
		else if (opt == 't')
			r->seconds = atof(optarg);
		else
			exit(2);
	}
	if (r->mode == NONE || !r->local || r->n_conn > CONN_MAX || r->n_conn < 1 ||
		r->n_active > r->n_conn)
		errx(2, "usage: sock_pair --local ADDRESS [--peer ADDRESS] [--seconds S] "
			"{--stream SIZE | --many N --active N | --idle N}");
}

int main(int argc, char **argv)
{
	static struct run r = {.seconds = 1, .n_conn = 1, .n_active = 1};
	long before = shared_memory();

	parse_args(&r, argc, argv);
	r.buffer = calloc(1, MAX(r.size, (size_t)MESSAGE));
	r.control = pair_open(r.local, r.peer);
	connections_open(&r);
	if (r.peer)
		run_client(&r, before);
	else
		run_server(&r);
	return 0;
}
