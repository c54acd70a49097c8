/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * udp_bare - what a UDP socket does with nothing on top: the yardstick of the device that
 * lives on one
 *
 *   stream    segments of one size as large GSO sends, received with GRO, no flow
 * control: bytes that the receiver got rate      packets of one size in sendmmsg() and
 * recvmmsg(), without GSO or GRO: packets that the receiver got pingpong  one packet
 * there and back, both sides poll
 *
 * The server is started first and serves one client; the client prints one line of JSON.
 */
#include "lib/util.h"
#include "pair.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define UDP_PORT      18516
#define MESSAGE_MAX   65507 /* payload of one IPv4 datagram */
#define SEGMENTS_MAX  64    /* the kernel's limit for one GSO send */
#define BATCH	      64
#define SOCKET_BUFFER (16 << 20) /* the device's, too */

enum mode { NONE, STREAM, RATE, PINGPONG };

/* What the server counted, told when the client has stopped. */
struct result {
	uint64_t packets;
	uint64_t bytes;
};

struct run {
	const char *local, *peer;
	enum mode mode;
	uint32_t size; /* of a packet, bytes */
	double seconds;
	int fd, tcp;
	struct mmsghdr msg[BATCH];
	struct iovec iov[BATCH];
	uint8_t *buffer; /* BATCH of MESSAGE_MAX */
};

static struct sockaddr_in address(const char *text)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(UDP_PORT)};

	if (inet_pton(AF_INET, text, &addr.sin_addr) != 1)
		errx(2, "%s: not an IPv4 address", text);
	return addr;
}

static void option_set(int fd, int level, int name, int value)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)))
		err(1, "setsockopt");
}

static void open_socket(struct run *r)
{
	struct sockaddr_in local = address(r->local);

	r->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (r->fd < 0 || bind(r->fd, (struct sockaddr *)&local, sizeof(local)))
		err(1, "a socket on %s", r->local);
	option_set(r->fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER);
	option_set(r->fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER);
	if (r->mode == STREAM)
		option_set(r->fd, SOL_UDP, UDP_GRO, 1);
}

/* Each side knows the other's address only when it has met it. */
static void connect_socket(struct run *r)
{
	char mine[INET_ADDRSTRLEN] = "", theirs[INET_ADDRSTRLEN];
	struct sockaddr_in peer;

	strncpy(mine, r->local, sizeof(mine) - 1);
	pair_exchange(r->tcp, mine, theirs, sizeof(mine));
	peer = address(theirs);
	if (connect(r->fd, (struct sockaddr *)&peer, sizeof(peer)))
		err(1, "connect to %s", theirs);
	pair_barrier(r->tcp);
}

/* One packet as a message, or as many as there is room for in a GSO send. */
static uint32_t message_size(const struct run *r)
{
	uint32_t n = r->mode == STREAM ? MIN(MESSAGE_MAX / r->size, SEGMENTS_MAX) : 1;

	return n * r->size;
}

static void messages_set_up(struct run *r, bool send)
{
	for (int i = 0; i < BATCH; i++) {
		r->iov[i] = (struct iovec){
			.iov_base = r->buffer + (send ? 0 : (size_t)i * MESSAGE_MAX),
			.iov_len = send ? message_size(r) : MESSAGE_MAX};
		r->msg[i].msg_hdr =
			(struct msghdr){.msg_iov = &r->iov[i], .msg_iovlen = 1};
	}
}

static bool may_pass(void)
{
	return errno == EAGAIN || errno == ENOBUFS || errno == ECONNREFUSED;
}

/* ---- the server ---- */

/* Receive until the client says that it has stopped and nothing is left. */
static void count(struct run *r)
{
	int batch = r->mode == STREAM ? 16 : BATCH; /* 16: as the device has it */
	struct result result = {0}, none;

	messages_set_up(r, false);
	for (unsigned int turn = 0;; turn++) {
		int n = recvmmsg(r->fd, r->msg, (unsigned int)batch, 0, NULL);

		if (n < 0 && !may_pass())
			err(1, "recvmmsg");
		if (n < 0 && turn % 64 == 0 && pair_ended(r->tcp))
			break;
		for (int i = 0; i < n; i++)
			result.bytes += r->msg[i].msg_len;
	}
	result.packets = result.bytes / r->size;
	pair_exchange(r->tcp, &result, &none, sizeof(result));
}

static void echo(struct run *r)
{
	for (unsigned int turn = 0;; turn++) {
		ssize_t n = recv(r->fd, r->buffer, r->size, 0);

		if (n > 0 && send(r->fd, r->buffer, (size_t)n, 0) != n)
			err(1, "send");
		if (n < 0 && turn % 1024 == 0 && pair_ended(r->tcp))
			return;
	}
}

/* ---- the client ---- */

static void pour(struct run *r)
{
	uint64_t start = now_ns(), end = start + (uint64_t)(r->seconds * 1e9), stop;
	struct result none = {0}, got;

	if (r->mode == STREAM)
		option_set(r->fd, SOL_UDP, UDP_SEGMENT, (int)r->size);
	messages_set_up(r, true);
	while (now_ns() < end) {
		/* One GSO send is as large as the device's. */
		unsigned int batch = r->mode == STREAM ? 1 : BATCH;

		if (sendmmsg(r->fd, r->msg, batch, 0) < 0 && !may_pass())
			err(1, "sendmmsg");
	}
	stop = now_ns();
	pair_exchange(r->tcp, &none, &got, sizeof(got));
	printf("{\"bytes\": %llu, \"messages\": %llu, \"seconds\": %.6f}\n",
		(unsigned long long)got.bytes, (unsigned long long)got.packets,
		(double)(stop - start) / 1e9);
}

static void ping(struct run *r)
{
	uint64_t start = now_ns(), end = start + (uint64_t)(r->seconds * 1e9);
	uint64_t now = start, n_done = 0;

	for (; now < end; n_done++) {
		if (send(r->fd, r->buffer, r->size, 0) != (ssize_t)r->size)
			err(1, "send");
		while (recv(r->fd, r->buffer, r->size, 0) < 0) {
		}
		now = now_ns();
	}
	printf("{\"half_round_trip_us\": %.3f}\n",
		(double)(now - start) / (2e3 * (double)n_done));
}

static const struct option long_options[] = {
	{"local", required_argument, NULL, 'l'},
	{"peer", required_argument, NULL, 'p'},
	{"size", required_argument, NULL, 's'},
	{"seconds", required_argument, NULL, 't'},
	{"stream", no_argument, NULL, 'S'},
	{"rate", no_argument, NULL, 'R'},
	{"pingpong", no_argument, NULL, 'P'},
	{NULL, 0, NULL, 0},
};

static void usage(void)
{
	errx(2, "usage: udp_bare --local ADDR [--peer ADDR] --stream|--rate|--pingpong "
		"[--size BYTES] [--seconds S], the same on both sides");
}

static void parse(int argc, char **argv, struct run *r)
{
	int c;

	*r = (struct run){.size = 64, .seconds = 3};
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		switch (c) {
		case 'l':
			r->local = optarg;
			break;
		case 'p':
			r->peer = optarg;
			break;
		case 's':
			r->size = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 't':
			r->seconds = strtod(optarg, NULL);
			break;
		case 'S':
			r->mode = STREAM;
			break;
		case 'R':
			r->mode = RATE;
			break;
		case 'P':
			r->mode = PINGPONG;
			break;
		default:
			usage();
		}
	if (!r->local || !r->mode || optind != argc || !r->size || r->size > MESSAGE_MAX)
		usage();
}

int main(int argc, char **argv)
{
	struct run r;

	parse(argc, argv, &r);
	r.buffer = calloc(BATCH, MESSAGE_MAX);
	if (!r.buffer)
		errx(1, "no memory");
	open_socket(&r);
	r.tcp = pair_open(r.local, r.peer);
	connect_socket(&r);
	if (r.peer)
		(r.mode == PINGPONG ? ping : pour)(&r);
	else
		(r.mode == PINGPONG ? echo : count)(&r);
	return 0;
}
