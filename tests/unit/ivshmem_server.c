/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of the ivshmem server that need no second process: messages, the queue of
 * what a client is to be told, the rate, the configuration; and stalled clients, on a
 * clock of the test's own (now_ns() is wrapped).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ivshmem/bucket.h"
#include "ivshmem/config.h"
#include "ivshmem/outq.h"
#include "ivshmem/proto.h"
#include "ivshmem/server.h"
#include "lib/util.h"

static uint64_t clock_ns = 1000 * NSEC_PER_SEC;

uint64_t __wrap_now_ns(void);

uint64_t __wrap_now_ns(void)
{
	return clock_ns;
}

/* -- messages */

/* The bytes are those of the specification's "8 byte little-endian signed number". */
static void proto_bytes(void **state)
{
	static const struct {
		int64_t number;
		uint8_t bytes[PROTO_MSG_SIZE];
	} cases[] = {
		{PROTO_VERSION, {0}},
		{1, {1}},
		{PROTO_ID_MAX, {0xff, 0xff}},
		{PROTO_MEMORY, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{0x0102030405060708, {8, 7, 6, 5, 4, 3, 2, 1}},
		{INT64_MIN, {0, 0, 0, 0, 0, 0, 0, 0x80}},
	};
	uint8_t buf[PROTO_MSG_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		proto_encode(buf, cases[i].number);
		assert_memory_equal(buf, cases[i].bytes, sizeof(buf));
		assert_true(proto_decode(buf) == cases[i].number);
	}
}

/* Read one message; return its number, and whether a descriptor came with it. */
static int64_t message(int sock, bool *has_fd)
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
	struct cmsghdr *c;
	int fd;

	assert_int_equal(recvmsg(sock, &msg, MSG_DONTWAIT), sizeof(buf));
	c = CMSG_FIRSTHDR(&msg);
	*has_fd = c != NULL;
	if (c) {
		assert_int_equal(c->cmsg_len, CMSG_LEN(sizeof(fd)));
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
		close(fd);
	}
	return proto_decode(buf);
}

static void proto_over_a_socket(void **state)
{
	bool has_fd;
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(proto_send(s[0], 7, -1), 0);
	assert_int_equal(proto_send(s[0], PROTO_MEMORY, STDIN_FILENO), 0);
	assert_true(message(s[1], &has_fd) == 7);
	assert_false(has_fd);
	assert_true(message(s[1], &has_fd) == PROTO_MEMORY);
	assert_true(has_fd);
	/* It never waits, and a dead client is no signal. */
	while (proto_send(s[0], 0, -1) == 0)
		;
	assert_int_equal(proto_send(s[0], 0, -1), -EAGAIN);
	close(s[1]);
	assert_int_equal(proto_send(s[0], 0, -1), -EPIPE);
	close(s[0]);
}

/* -- the queue */

static void expect(struct outq *q, enum outq_kind kind, uint16_t peer, uint16_t vector)
{
	const struct outq_msg *msg = outq_peek(q);

	assert_non_null(msg);
	assert_int_equal(msg->kind, kind);
	assert_int_equal(msg->peer, peer);
	assert_int_equal(msg->vector, vector);
	outq_pop(q);
}

static void push_vectors(struct outq *q, uint16_t peer, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		assert_int_equal(outq_push(q, OUTQ_VECTOR, peer, i), 0);
}

static void outq_keeps_order(void **state)
{
	struct outq q = {0};
	uint16_t in = 0, out = 0;

	assert_null(outq_peek(&q));
	/* grows, wraps back to its begin, and grows again */
	for (int round = 1; round < 200; round++) {
		for (int i = 0; i < round; i++)
			outq_push(&q, OUTQ_ID, in++, 0);
		for (int i = 0; i < round - 1; i++)
			expect(&q, OUTQ_ID, out++, 0);
	}
	while (out != in)
		expect(&q, OUTQ_ID, out++, 0);
	assert_null(outq_peek(&q));
	outq_free(&q);
}

static void outq_notices_cancel(void **state)
{
	struct outq q = {0};

	/* of whom nothing was told: nothing is told */
	push_vectors(&q, 1, 3);
	push_vectors(&q, 2, 3);
	outq_push_gone(&q, 1);
	/* of whom a part was told: the rest is not, the end is */
	expect(&q, OUTQ_VECTOR, 2, 0);
	outq_push_gone(&q, 2);
	expect(&q, OUTQ_GONE, 2, 0);
	assert_null(outq_peek(&q));
	/* gone, there again under the same ID, and gone again: once is enough */
	outq_push_gone(&q, 3);
	push_vectors(&q, 3, 2);
	outq_push_gone(&q, 3);
	push_vectors(&q, 3, 2);
	expect(&q, OUTQ_GONE, 3, 0);
	expect(&q, OUTQ_VECTOR, 3, 0);
	expect(&q, OUTQ_VECTOR, 3, 1);
	assert_null(outq_peek(&q));
	outq_free(&q);
}

/* A million clients that come and go do not make it longer. */
static void outq_is_bounded(void **state)
{
	struct outq q = {0};

	for (uint32_t i = 0; i < 1000000; i++) {
		push_vectors(&q, i % 16, 2);
		outq_push_gone(&q, i % 16);
	}
	assert_true(q.n <= 16 * 3);
	assert_true(q.capacity <= 128);
	outq_free(&q);
}

/* -- the rate */

static void bucket_limits(void **state)
{
	struct bucket b = {0};
	uint64_t now = 5 * NSEC_PER_SEC;

	for (int i = 0; i < 10; i++)
		assert_true(bucket_take(&b, 2, 10, now));
	assert_false(bucket_take(&b, 2, 10, now));
	assert_false(bucket_take(&b, 2, 10, now + NSEC_PER_SEC / 2 - 1));
	assert_true(bucket_take(&b, 2, 10, now + NSEC_PER_SEC / 2));
	assert_false(bucket_take(&b, 2, 10, now + NSEC_PER_SEC / 2));
	/* A long rest gives the burst back, and no more. */
	now += 3600 * NSEC_PER_SEC;
	for (int i = 0; i < 10; i++)
		assert_true(bucket_take(&b, 2, 10, now));
	assert_false(bucket_take(&b, 2, 10, now));
}

/* -- the configuration */

static struct config config;
static char error[CONFIG_ERROR_SIZE];

static int add(const char *spec)
{
	config_init(&config);
	return config_add_region(&config, spec, error);
}

static void config_values(void **state)
{
	const struct region_config *r = &config.regions[0];

	assert_int_equal(add("name=a,size=64K,socket=/x"), 0);
	assert_int_equal(r->size, 65536);
	assert_int_equal(r->n_vectors, 1);
	assert_int_equal(r->max_peers, 16);
	assert_int_equal(r->access.n_uids + r->access.n_gids, 0);
	assert_int_equal(add("name=a,size=1T,socket=/x,uid=0,uid=root,gid=7,gid=root,"
			     "max-half-open=3,hugepages=always,tenant=t"),
		0);
	assert_true(r->size == SERVER_SIZE_MAX);
	assert_int_equal(r->access.n_uids, 2);
	assert_int_equal(r->access.n_gids, 2);
	assert_int_equal(r->access.gids[0], 7);
	assert_int_equal(r->max_half_open, 3);
	assert_int_equal(r->huge, MEMORY_HUGE_ALWAYS);
	assert_string_equal(r->tenant, "t");
}

static void config_refuses(void **state)
{
	static const char *const bad[] = {
		"",
		"name",
		"name=a",
		"name=a,size=4K",
		"name=,size=4K,socket=/x",
		"name=a b,size=4K,socket=/x",
		"name=a,size=4K,socket=",
		"name=a,size=4K,socket=/x\n",
		"name=a,size=2K,socket=/x",
		"name=a,size=5K,socket=/x",
		"name=a,size=2T,socket=/x",
		"name=a,size=-4K,socket=/x",
		"name=a,size= 4K,socket=/x",
		"name=a,size=4KB,socket=/x",
		"name=a,size=99999999999999999999,socket=/x",
		"name=a,size=16777216T,socket=/x",
		"name=a,size=4K,socket=/x,vectors=0",
		"name=a,size=4K,socket=/x,vectors=65",
		"name=a,size=4K,socket=/x,vectors=4294967297",
		"name=a,size=4K,socket=/x,max-peers=0",
		"name=a,size=4K,socket=/x,max-peers=1025",
		"name=a,size=4K,socket=/x,max-peers=2,max-half-open=3",
		"name=a,size=4K,socket=/x,uid=4294967295",
		"name=a,size=4K,socket=/x,uid=-1",
		"name=a,size=4K,socket=/x,uid=",
		"name=a,size=4K,socket=/x,gid=no-such-group",
		"name=a,size=4K,socket=/x,hugepages=yes",
		"name=a,size=4K,socket=/x,size=4K",
		"name=a,size=4K,socket=/x,",
		"name=a,size=4K,socket=/x,Size=4K",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (!add(bad[i]))
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(config.n_regions, 0);
	}
}

static int json(const char *text)
{
	config_init(&config);
	return config_add_json(&config, text, strlen(text), error);
}

static void config_json(void **state)
{
	assert_int_equal(json("{}"), 0);
	assert_int_equal(json("{'max-memory': 1}"), -EINVAL);
	assert_int_equal(json("{\"max-memory\": \"3G\", \"regions\": [{\"name\": \"a\","
			      "\"size\": 4096, \"socket\": \"/x,y\", \"uid\": [1, 2]}]}"),
		0);
	assert_true(config.server.memory_max == UINT64_C(3) << 30);
	assert_int_equal(config.regions[0].access.n_uids, 2);
	/* What --region cannot say, as the comma ends a value. */
	assert_string_equal(config.regions[0].socket, "/x,y");
	assert_int_equal(json("[]"), -EINVAL);
	assert_int_equal(json("{\"join-rate\": 1.5}"), -EINVAL);
	assert_int_equal(json("{\"join-rate\": -1}"), -EINVAL);
	assert_int_equal(json("{\"join-rate\": 1, \"join-rate\": 2}"), -EINVAL);
	assert_int_equal(json("{\"regions\": {}}"), -EINVAL);
	assert_int_equal(json("{\"regions\": [7]}"), -EINVAL);
	assert_int_equal(json("{\"regions\": [{\"name\": [\"a\", \"b\"]}]}"), -EINVAL);
	assert_int_equal(json("{\"regions\": [{\"name\": \"a\\u0000b\"}]}"), -EINVAL);
}

/* -- the whole server, with clients in this process */

struct rig {
	char dir[64];
	struct server *server;
	struct region_config region;
};

static int rig_open(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct server_config limits = {
		.memory_max = 1 << 20,
		.stall_seconds = 30,
		.join_rate = 100,
	};

	strcpy(rig->dir, "/tmp/vrdma-ivshmem-unit-XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	assert_int_equal(server_open(&rig->server, &limits), 0);
	region_config_init(&rig->region);
	strcpy(rig->region.name, "a");
	snprintf(rig->region.socket, sizeof(rig->region.socket), "%s/a", rig->dir);
	rig->region.size = 65536;
	rig->region.huge = MEMORY_HUGE_NEVER;
	assert_int_equal(server_region_add(rig->server, &rig->region), 0);
	*state = rig;
	return 0;
}

static int rig_close(void **state)
{
	struct rig *rig = *state;

	server_close(rig->server);
	/* Nothing of the server's is left in it. */
	assert_int_equal(rmdir(rig->dir), 0);
	free(rig);
	return 0;
}

/* Serve until nothing happens any more. */
static void serve(struct rig *rig)
{
	struct pollfd fd = {.fd = server_fd(rig->server), .events = POLLIN};

	while (poll(&fd, 1, 0) > 0)
		assert_int_equal(server_run_once(rig->server), 0);
}

/* Wait for the server's timer, and serve it. */
static void serve_tick(struct rig *rig)
{
	struct pollfd fd = {.fd = server_fd(rig->server), .events = POLLIN};

	assert_int_equal(poll(&fd, 1, 60000), 1);
	serve(rig);
}

static struct region_stats stats(struct rig *rig)
{
	struct region_stats s;

	assert_int_equal(server_region_stats(rig->server, "a", &s), 0);
	return s;
}

static int client(struct rig *rig)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(addr.sun_path, rig->region.socket, sizeof(addr.sun_path));
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	serve(rig);
	return fd;
}

/* Read @n messages; return the last one's number. */
static int64_t read_messages(int sock, int n)
{
	int64_t number = 0;
	bool has_fd;

	while (n--)
		number = message(sock, &has_fd);
	return number;
}

static void stall_is_noticed(void **state)
{
	struct rig *rig = *state;
	int mute = client(rig);

	serve_tick(rig);
	assert_int_equal(stats(rig).n_half_open, 1);
	clock_ns += 29 * NSEC_PER_SEC;
	serve_tick(rig);
	assert_int_equal(stats(rig).n_peers, 1);
	/* A little is progress. */
	read_messages(mute, 1);
	serve_tick(rig);
	clock_ns += 29 * NSEC_PER_SEC;
	serve_tick(rig);
	assert_int_equal(stats(rig).n_peers, 1);
	clock_ns += NSEC_PER_SEC;
	serve_tick(rig);
	assert_int_equal(stats(rig).n_peers, 0);
	assert_int_equal(stats(rig).n_half_open, 0);
	assert_int_equal(stats(rig).dropped_stalled, 1);
	close(mute);
}

/* One who has been told nothing for an hour has 30 s for the next notice, too. */
static void stall_starts_with_a_message(void **state)
{
	struct rig *rig = *state;
	int idle = client(rig), other;

	assert_int_equal(read_messages(idle, 4), 0);
	serve_tick(rig);
	assert_int_equal(stats(rig).n_half_open, 0);
	clock_ns += 3600 * NSEC_PER_SEC;
	other = client(rig);
	assert_int_equal(read_messages(other, 5), 1);
	serve_tick(rig);
	clock_ns += 29 * NSEC_PER_SEC;
	serve_tick(rig);
	assert_int_equal(stats(rig).n_peers, 2);
	assert_int_equal(read_messages(idle, 1), 1);
	serve_tick(rig);
	clock_ns += 3600 * NSEC_PER_SEC;
	serve(rig);
	assert_int_equal(stats(rig).n_peers, 2);
	close(idle);
	close(other);
	serve(rig);
	assert_int_equal(stats(rig).left, 2);
}

static void regions_are_limited(void **state)
{
	struct rig *rig = *state;
	struct region_config more = rig->region;

	assert_int_equal(server_region_add(rig->server, &more), -EEXIST);
	strcpy(more.name, "b");
	assert_int_equal(server_region_add(rig->server, &more), -EADDRINUSE);
	strcat(more.socket, "b");
	more.size = 1 << 20;
	assert_int_equal(server_region_add(rig->server, &more), -EDQUOT);
	more.size = 12345;
	assert_int_equal(server_region_add(rig->server, &more), -EINVAL);
	more.size = 1 << 19;
	assert_int_equal(server_region_add(rig->server, &more), 0);
	assert_int_equal(server_region_remove(rig->server, "c"), -ENOENT);
	assert_int_equal(server_region_remove(rig->server, "b"), 0);
	/* Its memory is free again, and its socket gone. */
	assert_int_equal(access(more.socket, F_OK), -1);
	assert_int_equal(server_region_add(rig->server, &more), 0);
}

/* Whoever is there when a region goes is disconnected; other regions do not notice. */
static void region_goes_with_clients(void **state)
{
	struct rig *rig = *state;
	struct region_config more = rig->region;
	int stays = client(rig), goes;
	char byte;

	strcpy(more.name, "b");
	strcat(more.socket, "b");
	assert_int_equal(server_region_add(rig->server, &more), 0);
	strcat(rig->region.socket, "b");
	goes = client(rig);
	assert_int_equal(server_region_remove(rig->server, "b"), 0);
	read_messages(goes, 4);
	assert_int_equal(recv(goes, &byte, 1, MSG_DONTWAIT), 0);
	read_messages(stays, 4);
	assert_int_equal(recv(stays, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(stats(rig).n_peers, 1);
	close(goes);
	close(stays);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(proto_bytes),
		cmocka_unit_test(proto_over_a_socket),
		cmocka_unit_test(outq_keeps_order),
		cmocka_unit_test(outq_notices_cancel),
		cmocka_unit_test(outq_is_bounded),
		cmocka_unit_test(bucket_limits),
		cmocka_unit_test(config_values),
		cmocka_unit_test(config_refuses),
		cmocka_unit_test(config_json),
		cmocka_unit_test_setup_teardown(stall_is_noticed, rig_open, rig_close),
		cmocka_unit_test_setup_teardown(
			stall_starts_with_a_message, rig_open, rig_close),
		cmocka_unit_test_setup_teardown(regions_are_limited, rig_open, rig_close),
		cmocka_unit_test_setup_teardown(
			region_goes_with_clients, rig_open, rig_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
