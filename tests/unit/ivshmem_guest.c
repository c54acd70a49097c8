/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of sockets in guests that need no guest: frames of the uplink, their stream,
 * and the account of the region's memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ivshmem/config.h"
#include "ivshmem/guest/area.h"
#include "ivshmem/guest/upproto.h"
#include "ivshmem/guest/upstream.h"
#include "ivshmem/sockaddr.h"
#include "lib/util.h"

/* -- frames */

/* The bytes are those of docs/uplink-protocol.md, section 1. */
static void frame_bytes(void **state)
{
	struct up_msg msg = {.type = UP_OFFER,
		.id = 0x1122334455667788,
		.error = -2,
		.offset = 0x010203040506,
		.size = 0x11000,
		.src = {"0123456789abcde", 0x1234},
		.dst = {"fedcba987654321", 0xffff},
		.token = "tokentokentoken",
		.name = "namenamenamenam",
		.boot = "bootbootbootboo"};
	uint8_t expected[UP_FRAME_SIZE] = "vrup\1\0\5\0\x88\x77\x66\x55\x44\x33\x22\x11"
					  "\xfe\xff\xff\xff\0\0\0",
		frame[UP_FRAME_SIZE];
	struct up_msg back;

	memcpy(expected + 24, "0123456789abcde", 16);
	memcpy(expected + 40, "fedcba987654321", 16);
	memcpy(expected + 56,
		"\x34\x12\0\0\xff\xff\0\0\6\5\4\3\2\1\0\0\0\x10\1\0\0\0\0\0", 24);
	memcpy(expected + 80, "tokentokentoken\0namenamenamenam\0bootbootbootboo", 48);
	up_encode(frame, &msg);
	assert_memory_equal(frame, expected, sizeof(frame));
	assert_int_equal(up_decode(&back, frame), 0);
	msg.version = UP_VERSION;
	up_encode(expected, &back);
	assert_memory_equal(frame, expected, sizeof(frame));
	assert_true(back.id == msg.id && back.error == -2 && back.src.port == 0x1234);
}

static void frame_refused(void **state)
{
	struct up_msg msg = {.type = UP_OFFER}, back;
	uint8_t frame[UP_FRAME_SIZE];

	up_encode(frame, &msg);
	frame[0] ^= 1;
	assert_int_equal(up_decode(&back, frame), -EPROTO);
	for (int at = 58; at <= 62; at += 4) {
		up_encode(frame, &msg);
		frame[at] = 1; /* a port of 65536 */
		assert_int_equal(up_decode(&back, frame), -EPROTO);
	}
}

/* -- the stream */

struct ends {
	struct upstream s;
	int other;
};

static int ends_open(void **state)
{
	struct ends *e = calloc(1, sizeof(*e));
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds))
		return -1;
	upstream_init(&e->s, fds[0]);
	e->other = fds[1];
	*state = e;
	return 0;
}

static int ends_close(void **state)
{
	struct ends *e = *state;

	upstream_free(&e->s);
	close(e->s.fd);
	close(e->other);
	free(e);
	return 0;
}

static void feed(struct ends *e, const void *bytes, size_t size)
{
	assert_int_equal(write(e->other, bytes, size), size);
}

static void stream_in_pieces(void **state)
{
	struct ends *e = *state;
	uint8_t frames[40 * UP_FRAME_SIZE];
	uint64_t next = 1;
	struct up_msg msg = {.type = UP_RELEASE};
	int rc;

	for (uint32_t i = 0; i < 40; i++) {
		msg.id = i + 1;
		up_encode(frames + i * UP_FRAME_SIZE, &msg);
	}
	for (size_t at = 0, n = 1; at < sizeof(frames); at += n, n = 1 + n * 7 % 300) {
		n = MIN(n, sizeof(frames) - at);
		feed(e, frames + at, n);
		while (upstream_fill(&e->s) > 0) {
			while ((rc = upstream_next(&e->s, &msg)) == 1)
				assert_true(msg.id == next++);
			assert_int_equal(rc, 0);
		}
	}
	assert_true(next == 41);
	close(e->other);
	assert_int_equal(upstream_fill(&e->s), 0);
	e->other = dup(e->s.fd);
}

static void stream_skips(void **state)
{
	struct ends *e = *state;
	struct up_msg welcome = {.type = UP_WELCOME, .name = "of the old one.", .id = 1};
	static const uint8_t name[UP_NAME_SIZE] = "of the new one.";
	uint8_t frame[UP_FRAME_SIZE];
	bool found = false;

	/* The end of a frame, frames for another, and then one's own. */
	up_encode(frame, &welcome);
	feed(e, frame + 100, 28);
	for (int i = 0; i < 30; i++)
		feed(e, frame, sizeof(frame));
	memcpy(welcome.name, name, sizeof(name));
	welcome.id = 2;
	up_encode(frame, &welcome);
	feed(e, frame, sizeof(frame));
	while (!found && upstream_fill(&e->s) > 0)
		found = upstream_skip(&e->s, name);
	assert_true(found);
	assert_int_equal(upstream_next(&e->s, &welcome), 1);
	assert_true(welcome.id == 2);
	assert_int_equal(upstream_next(&e->s, &welcome), 0);
}

static uint64_t ids_drain(struct ends *e, uint64_t next)
{
	uint8_t frame[UP_FRAME_SIZE];
	struct up_msg msg;

	for (;;) {
		ssize_t n = recv(e->other, frame, sizeof(frame), MSG_PEEK);

		if (n < (ssize_t)sizeof(frame))
			return next;
		assert_int_equal(read(e->other, frame, sizeof(frame)), sizeof(frame));
		assert_int_equal(up_decode(&msg, frame), 0);
		assert_true(msg.id == next++);
	}
}

/* What can't be sent waits in order, up to a limit; what must be sent now doesn't. */
static void stream_out(void **state)
{
	struct ends *e = *state;
	struct up_msg msg = {.type = UP_RELEASE};
	uint64_t n = 0, waiting = 0, got = 1;
	int size = 4096, rc;

	setsockopt(e->s.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	for (;;) {
		msg.id = n + 1;
		rc = upstream_send(&e->s, &msg);
		if (rc)
			break;
		n++;
		waiting += upstream_waits(&e->s);
	}
	assert_int_equal(rc, -ENOSPC);
	assert_true(waiting >= UPSTREAM_WAITING_MAX - 1 &&
		    waiting <= UPSTREAM_WAITING_MAX + 1);
	assert_int_equal(upstream_send_now(&e->s, &msg), -EAGAIN);
	while (upstream_waits(&e->s)) {
		got = ids_drain(e, got);
		assert_int_equal(upstream_flush(&e->s), 0);
	}
	got = ids_drain(e, got);
	assert_true(got == n + 1);
	assert_int_equal(upstream_send_now(&e->s, &msg), 0);
	assert_true(ids_drain(e, got) == n + 2);
	shutdown(e->other, SHUT_RDWR);
	assert_int_equal(upstream_send(&e->s, &msg), -EPIPE);
	assert_int_equal(upstream_send_now(&e->s, &msg), -EPIPE);
}

/* -- memory */

#define PAGES 256

static void areas_are_apart(void **state)
{
	struct {
		uint64_t offset, size;
	} taken[64] = {0};
	uint8_t owner[PAGES] = {0};
	struct areas a;

	assert_int_equal(areas_init(&a, PAGES * AREA_PAGE), 0);
	srand(1);
	for (int i = 0; i < 20000; i++) {
		uint32_t k = (uint32_t)rand() % ARRAY_SIZE(taken);
		uint64_t first = taken[k].offset / AREA_PAGE;
		uint64_t n = (taken[k].size + AREA_PAGE - 1) / AREA_PAGE;

		if (taken[k].size) {
			for (uint64_t p = first; p < first + n; p++) {
				assert_int_equal(owner[p], k + 1);
				owner[p] = 0;
			}
			areas_give(&a, taken[k].offset, taken[k].size);
			taken[k].size = 0;
			continue;
		}
		taken[k].size = 1 + (uint64_t)rand() % (20 * AREA_PAGE);
		if (areas_take(&a, taken[k].size, &taken[k].offset)) {
			taken[k].size = 0;
			continue;
		}
		first = taken[k].offset / AREA_PAGE;
		n = (taken[k].size + AREA_PAGE - 1) / AREA_PAGE;
		assert_int_equal(taken[k].offset % AREA_PAGE, 0);
		assert_true(first >= 1 && first + n <= PAGES);
		for (uint64_t p = first; p < first + n; p++) {
			assert_int_equal(owner[p], 0);
			owner[p] = (uint8_t)(k + 1);
		}
	}
	for (uint32_t k = 0; k < ARRAY_SIZE(taken); k++) {
		if (taken[k].size)
			areas_give(&a, taken[k].offset, taken[k].size);
	}
	/* All of it is one hole again. */
	assert_true(a.free == (PAGES - 1) * AREA_PAGE);
	assert_true(a.holes && !a.holes->next && a.holes->size == a.free);
	areas_free(&a);
}

static void areas_end(void **state)
{
	struct areas a;
	uint64_t offset;

	assert_int_equal(areas_init(&a, AREA_PAGE), 0); /* the name's page */
	assert_int_equal(areas_take(&a, 1, &offset), -ENOSPC);
	areas_free(&a);
	assert_int_equal(areas_init(&a, 3 * AREA_PAGE), 0);
	assert_int_equal(areas_take(&a, 0, &offset), -ENOSPC);
	assert_int_equal(areas_take(&a, 2 * AREA_PAGE + 1, &offset), -ENOSPC);
	assert_int_equal(areas_take(&a, UINT64_MAX, &offset), -ENOSPC);
	assert_int_equal(areas_take(&a, 2 * AREA_PAGE, &offset), 0);
	assert_true(offset == AREA_PAGE && a.free == 0);
	assert_int_equal(areas_take(&a, 1, &offset), -ENOSPC);
	areas_give(&a, AREA_PAGE, 2 * AREA_PAGE);
	areas_free(&a);
}

/* -- configuration */

#define REGION "name=a,size=1M,socket=/tmp/a,"

static void guests_configured(void **state)
{
	static struct config config;
	char error[CONFIG_ERROR_SIZE];
	const struct guest_config *g;

	config_init(&config);
	assert_int_equal(config_add_region(&config,
				 REGION "sockets=4,guest=vm1@10.0.0.5+fd00::5,"
					"guest=vm2@10.0.0.6",
				 error),
		0);
	assert_int_equal(config.regions[0].n_guests, 2);
	g = &config.regions[0].guests[0];
	assert_string_equal(g->name, "vm1");
	assert_int_equal(g->n_addrs, 2);
	assert_true(dir_addr_is_v4(&g->addrs[0]) && g->addrs[0].ip[15] == 5);
	assert_false(dir_addr_is_v4(&g->addrs[1]));
}

static void guests_refused(void **state)
{
	static const struct {
		const char *spec, *error;
	} cases[] = {
		{REGION "guest=a@10.0.0.5",
			"region 'a': a region with guests needs sockets"},
		{REGION "sockets=1,guest=a", "bad value 'a' for guest"},
		{REGION "sockets=1,guest=a@", "bad value 'a@' for guest"},
		{REGION "sockets=1,guest=a@10.0.0", "bad value 'a@10.0.0' for guest"},
		{REGION "sockets=1,guest=a@127.0.0.1",
			"bad value 'a@127.0.0.1' for guest"},
		{REGION "sockets=1,guest=a@::", "bad value 'a@::' for guest"},
		{REGION "sockets=1,guest=a/b@10.0.0.1",
			"region 'a': a guest needs a name and an address"},
		{REGION "sockets=1,guest=@10.0.0.1",
			"region 'a': a guest needs a name and an address"},
		{REGION "sockets=1,guest=a@10.0.0.1,guest=a@10.0.0.2",
			"region 'a': two guests have one name"},
		{REGION "sockets=1,guest=a@10.0.0.1,guest=b@::ffff:10.0.0.1",
			"region 'a': two guests have one address"},
		{REGION "sockets=1,guest=a@10.0.0.1+10.0.0.2+10.0.0.3+10.0.0.4+10.0.0.5+"
			"10.0.0.6+10.0.0.7+10.0.0.8+10.0.0.9+10.0.0.10+10.0.0.11+10.0.0."
			"12+"
			"10.0.0.13+10.0.0.14+10.0.0.15+10.0.0.16+10.0.0.17",
			NULL},
	};
	static struct config config;
	char error[CONFIG_ERROR_SIZE];

	config_init(&config);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(
			config_add_region(&config, cases[i].spec, error), -EINVAL);
		if (cases[i].error)
			assert_string_equal(error, cases[i].error);
	}
	assert_int_equal(config.n_regions, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_bytes),
		cmocka_unit_test(frame_refused),
		cmocka_unit_test_setup_teardown(stream_in_pieces, ends_open, ends_close),
		cmocka_unit_test_setup_teardown(stream_skips, ends_open, ends_close),
		cmocka_unit_test_setup_teardown(stream_out, ends_open, ends_close),
		cmocka_unit_test(areas_are_apart),
		cmocka_unit_test(areas_end),
		cmocka_unit_test(guests_configured),
		cmocka_unit_test(guests_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
