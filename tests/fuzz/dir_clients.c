/* SPDX-License-Identifier: BSD-3-Clause */
#include "dir_clients.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ivshmem/sockaddr.h"
#include "lib/fdmsg.h"
#include "lib/util.h"

#define CLIENTS 4
#define HELD	64 /* descriptors that came with answers and are kept */

enum { LISTENER, WILDCARD, CALLER, ACCEPTED, BOUND, UNBOUND, UDP, FILE_FD, POOL };

static struct sockaddr_un directory = {.sun_family = AF_UNIX};
static int clients[CLIENTS];
static int pool[POOL]; /* what they pass */
static struct dir_addr local[POOL];
static int held[HELD];
static uint32_t n_held;

/* An address of this host that is not the loopback network's, if it has one. */
static struct sockaddr_in host_address(void)
{
	struct sockaddr_in found = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct ifaddrs *all, *i;

	if (getifaddrs(&all))
		return found;
	for (i = all; i; i = i->ifa_next) {
		if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET ||
			i->ifa_flags & IFF_LOOPBACK)
			continue;
		memcpy(&found, i->ifa_addr, sizeof(found));
		found.sin_port = 0;
		break;
	}
	freeifaddrs(all);
	return found;
}

static int bound(int type, struct sockaddr_in sa)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)))
		abort();
	return fd;
}

static void pool_open(void)
{
	struct sockaddr_in own = host_address(), any = {.sin_family = AF_INET}, to;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(to);

	pool[LISTENER] = bound(SOCK_STREAM, own);
	pool[WILDCARD] = bound(SOCK_STREAM, any);
	pool[CALLER] = bound(SOCK_STREAM, own);
	pool[BOUND] = bound(SOCK_STREAM, any);
	pool[UNBOUND] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pool[UDP] = bound(SOCK_DGRAM, own);
	pool[FILE_FD] = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (listen(pool[LISTENER], 9) || listen(pool[WILDCARD], 9) ||
		getsockname(pool[LISTENER], (struct sockaddr *)&to, &len) ||
		connect(pool[CALLER], (struct sockaddr *)&to, len))
		abort();
	pool[ACCEPTED] = accept4(pool[LISTENER], NULL, NULL, SOCK_CLOEXEC);
	for (int i = 0; i < POOL; i++) {
		len = sizeof(sa);
		if (!getsockname(pool[i], (struct sockaddr *)&sa, &len))
			dir_addr_from(&local[i], (struct sockaddr *)&sa, len);
	}
}

void dir_clients_begin(const char *path)
{
	if (!pool[LISTENER])
		pool_open();
	snprintf(directory.sun_path, sizeof(directory.sun_path), "%s", path);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = -1;
}

/* -- what an input says */

struct dir_addr address_take(struct input *in)
{
	static const char *const texts[] = {
		"10.0.0.1", "10.0.0.2", "10.0.0.3", "127.0.0.1"};
	struct dir_addr addr = {{0}, 0};
	struct in_addr ip;
	uint8_t what = take(in);

	if (what < 128) {
		addr = local[what % POOL];
	} else {
		inet_pton(AF_INET, texts[what % ARRAY_SIZE(texts)], &ip);
		dir_addr_set4(&addr, &ip);
	}
	/* a port of those that are bound, or a small one */
	what = take(in);
	if (what >= 128)
		addr.port = local[what % POOL].port;
	else if (what >= 8)
		addr.port = what % 4;
	return addr;
}

uint64_t size_take(struct input *in)
{
	static const uint64_t sizes[] = {
		4096, 1, 65536, 0, 4097, DIR_MEMORY_MAX, DIR_MEMORY_MAX + 1, UINT64_MAX};

	return sizes[take(in) % ARRAY_SIZE(sizes)];
}

static void client_close(int *sock)
{
	if (*sock >= 0)
		close(*sock);
	*sock = -1;
}

static void transmit(int sock, const void *data, size_t size, const int *fds, int n)
{
	union fdmsg control;
	struct iovec iov = {(void *)data, size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	fdmsg_put(&msg, &control, fds, n);
	sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void ask(int sock, struct input *in)
{
	struct dir_request request = {.version = DIR_VERSION, .op = take(in) % 8};
	int fds[8], n = take(in) % 16;

	if (request.op == DIR_HELLO && take(in) == 255)
		request.version = take(in);
	/* mostly what is meant: one socket */
	n = n < 8 ? 1 : n - 8;
	for (int i = 0; i < n; i++)
		fds[i] = pool[take(in) % POOL];
	request.id = take(in) % 32;
	if (request.op == DIR_OFFER) {
		request.src = address_take(in);
		request.dst = address_take(in);
		request.size = size_take(in);
		request.said = take(in) % 4;
		request.ring[0] = request.ring[1] = request.said ? 4096 : 0;
	}
	transmit(sock, &request, sizeof(request), fds, n);
}

void dir_clients_step(struct input *in)
{
	uint8_t what = take(in);
	int *sock = &clients[what % CLIENTS];
	static const struct dir_request hello = {.version = DIR_VERSION, .op = DIR_HELLO};
	char raw[100] = "raw";

	if (*sock < 0) {
		*sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		if (connect(*sock, (struct sockaddr *)&directory, sizeof(directory)))
			client_close(sock);
		else if (what < 250)
			transmit(*sock, &hello, sizeof(hello), NULL, 0);
	} else if (what >= 250) {
		transmit(*sock, raw, take(in) % sizeof(raw), pool, what % 8);
	} else if (what >= 240) {
		client_close(sock);
	} else if (what >= 230) {
		/* somebody lets go of memory, as a whole */
		while (n_held)
			close(held[--n_held]);
	} else {
		ask(*sock, in);
	}
}

/* -- answers */

static void judge(const struct dir_reply *reply, const int *fds, int n, uint64_t memory)
{
	const struct dir_memory *m = &reply->memory;
	struct stat st;

	assert(reply->error <= 0 && n <= DIR_REPLY_FDS_MAX);
	assert(!n || !reply->error);
	if (!n)
		return;
	assert(!fstat(fds[0], &st) &&
		(uint64_t)st.st_size >= m->map_offset + m->map_size);
	assert(m->map_offset <= m->offset && m->size &&
		m->offset + m->size <= m->map_offset + m->map_size);
	/* The region's comes with a pipe, and not with its first page. */
	assert(n == 1 ? !m->offset : m->offset >= 4096 && (uint64_t)st.st_size == memory);
}

static bool read_one(int sock, uint64_t memory)
{
	struct dir_reply reply;
	union fdmsg control;
	struct iovec iov = {&reply, sizeof(reply)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	int fds[FDMSG_MAX], n;
	ssize_t size;

	fdmsg_expect(&msg, &control);
	size = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (size <= 0)
		return false;
	assert(size == sizeof(reply));
	n = fdmsg_take(&msg, fds);
	judge(&reply, fds, n, memory);
	for (int i = 0; i < n; i++) {
		if (i && n_held < HELD)
			held[n_held++] = fds[i];
		else
			close(fds[i]);
	}
	return true;
}

void dir_clients_read(uint64_t memory)
{
	char tokens[256];

	for (int i = 0; i < CLIENTS; i++) {
		while (clients[i] >= 0 && read_one(clients[i], memory))
			;
	}
	while (recv(pool[ACCEPTED], tokens, sizeof(tokens), MSG_DONTWAIT) > 0)
		;
}

void dir_clients_end(void)
{
	for (int i = 0; i < CLIENTS; i++)
		client_close(&clients[i]);
	while (n_held)
		close(held[--n_held]);
}

void dir_clients_play(struct input in, void (*other)(struct input *in),
	void (*serve)(void), void (*read)(void))
{
	while (in.at < in.end) {
		uint8_t what = take(&in);

		if (what % 2)
			dir_clients_step(&in);
		else
			other(&in);
		if (what >= 16)
			serve();
		if (what >= 128)
			read();
	}
	serve();
	read();
	dir_clients_end();
}
