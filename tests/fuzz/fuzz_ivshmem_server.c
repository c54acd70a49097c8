/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ivshmem server with a crowd of clients that connect, go, read much, little or not
 * at all, and send what they must not, in any order. Input: vectors, peers, then one byte
 * for each step: the client (high half) and what it does.
 *
 * Each client follows the protocol strictly: everything that it is told must make sense
 * to it. When the crowd has come to rest, everybody must know exactly those who are
 * there.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ivshmem/proto.h"
#include "ivshmem/server.h"
#include "lib/log.h"
#include "lib/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLIENTS 16
#define ID_MAX	16 /* max_peers is at most this */

enum { NEEDS_VERSION, NEEDS_ID, NEEDS_MEMORY, IS_SET_UP };

struct client {
	int sock; /* -1: none */
	int step;
	int64_t id;
	uint32_t vectors[ID_MAX]; /* of each peer, and of itself */
};

static struct server *server;
static struct region_config region;
static struct client clients[CLIENTS];
static char dir[] = "/tmp/vrdma-fuzz-ivshmem-XXXXXX";

static void silent(enum log_level level, const char *module, const char *msg)
{
}

static void remove_dir(void)
{
	rmdir(dir);
}

static void begin(uint8_t n_vectors, uint8_t max_peers)
{
	struct server_config limits = {1 << 20, 3600, 1000000};

	if (!server) {
		log_set_sink(silent);
		if (!mkdtemp(dir) || server_open(&server, &limits))
			abort();
		atexit(remove_dir);
	}
	region_config_init(&region);
	strcpy(region.name, "a");
	snprintf(region.socket, sizeof(region.socket), "%s/a", dir);
	region.size = SERVER_SIZE_MIN;
	region.huge = MEMORY_HUGE_NEVER;
	region.n_vectors = 1 + n_vectors % SERVER_VECTORS_MAX;
	region.max_peers = 1 + max_peers % ID_MAX;
	if (server_region_add(server, &region))
		abort();
	for (int i = 0; i < CLIENTS; i++)
		clients[i].sock = -1;
}

/* Serve until nothing happens any more; the timer does not count. */
static void serve(void)
{
	struct pollfd fd = {.fd = server_fd(server), .events = POLLIN};

	while (poll(&fd, 1, 0) > 0)
		assert(server_run_once(server) == 0);
}

static void client_close(struct client *c)
{
	if (c->sock >= 0)
		close(c->sock);
	c->sock = -1;
}

static void client_open(struct client *c)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (c->sock >= 0)
		return;
	memset(c, 0, sizeof(*c));
	c->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	memcpy(addr.sun_path, region.socket, sizeof(addr.sun_path));
	if (connect(c->sock, (struct sockaddr *)&addr, sizeof(addr)))
		client_close(c);
}

static void client_hears(struct client *c, int64_t number, bool has_fd)
{
	switch (c->step) {
	case NEEDS_VERSION:
		assert(number == PROTO_VERSION && !has_fd);
		break;
	case NEEDS_ID:
		assert(number >= 0 && number < region.max_peers && !has_fd);
		c->id = number;
		break;
	case NEEDS_MEMORY:
		assert(number == PROTO_MEMORY && has_fd);
		break;
	default:
		assert(number >= 0 && number < region.max_peers);
		if (has_fd) {
			assert(++c->vectors[number] <= region.n_vectors);
		} else {
			assert(number != c->id && c->vectors[number]);
			c->vectors[number] = 0;
		}
		return;
	}
	c->step++;
}

/* Read one message; return whether there was one. At the end the client closes. */
static bool client_read(struct client *c)
{
	union {
		struct cmsghdr hdr;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} control;
	uint8_t buf[PROTO_MSG_SIZE];
	struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	struct cmsghdr *cmsg;
	ssize_t n;
	int fd;

	if (c->sock < 0)
		return false;
	n = recvmsg(c->sock, &msg, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0) {
		client_close(c);
		return false;
	}
	assert(n == sizeof(buf));
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg) {
		assert(cmsg->cmsg_len == CMSG_LEN(sizeof(fd)));
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
		close(fd);
	}
	client_hears(c, proto_decode(buf), cmsg != NULL);
	return true;
}

static void client_sends(struct client *c)
{
	if (c->sock >= 0)
		send(c->sock, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void step(uint8_t what)
{
	struct client *c = &clients[what >> 4];
	int n = 1;

	switch (what & 7) {
	case 0:
	case 1:
		client_open(c);
		break;
	case 2:
		client_close(c);
		break;
	case 3:
		client_sends(c);
		break;
	case 4:
		n = 20;
		/* fall through */
	case 5:
		while (n-- && client_read(c))
			;
		break;
	case 6:
		if (c->sock >= 0)
			shutdown(c->sock, SHUT_WR);
		break;
	case 7:
		serve();
		break;
	}
	if (what & 8)
		serve();
}

/* Let everybody read all that there is. */
static void come_to_rest(void)
{
	bool again = true;

	serve();
	while (again) {
		again = false;
		for (int i = 0; i < CLIENTS; i++) {
			while (client_read(&clients[i]))
				again = true;
		}
		serve();
	}
}

static void check(void)
{
	struct region_stats s;
	uint32_t n = 0;

	assert(server_region_stats(server, "a", &s) == 0);
	assert(s.joined == s.n_peers + s.left + s.dropped_garbage);
	assert(!s.dropped_stalled && !s.dropped_error && !s.refused_resources);
	for (int i = 0; i < CLIENTS; i++)
		n += clients[i].sock >= 0;
	assert(n == s.n_peers);
	for (int i = 0; i < CLIENTS; i++) {
		uint32_t known = 0;

		if (clients[i].sock < 0)
			continue;
		for (int id = 0; id < ID_MAX; id++)
			known += clients[i].vectors[id] > 0;
		assert(known == n);
		for (int k = 0; k < CLIENTS; k++) {
			if (clients[k].sock >= 0)
				assert(clients[i].vectors[clients[k].id] ==
					region.n_vectors);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > 400)
		return 0;
	begin(data[0], data[1]);
	for (size_t i = 2; i < size; i++)
		step(data[i]);
	come_to_rest();
	check();
	for (int i = 0; i < CLIENTS; i++)
		client_close(&clients[i]);
	server_region_remove(server, "a");
	return 0;
}
