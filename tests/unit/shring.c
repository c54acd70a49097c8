/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ivshmem/shring: both sides in one thread, and one of them hostile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/util.h"
#include "ivshmem/shring.h"
#include "ivshmem/shring_layout.h"
#include "ivshmem/shring_wait.h"

#define SIZE	SHRING_SIZE_MIN
#define QUARTER (SIZE / 4)

/* Two sides; bells[i][dir] counts how often side i rang for dir. */
struct pair {
	uint8_t *base;
	size_t size;
	unsigned bells[2][2];
	struct shring side[2];
};

static void count_bell(void *arg, enum shring_dir dir)
{
	((unsigned *)arg)[dir]++;
}

static struct shring_bell bell_of(struct pair *pair, int side)
{
	return (struct shring_bell){.ring = count_bell, .arg = pair->bells[side]};
}

/* Exactly as large as needed, so that the address sanitizer sees each step outside. */
static void pair_area(struct pair *pair, uint32_t size0, uint32_t size1)
{
	memset(pair, 0, sizeof(*pair));
	pair->size = shring_area_size(size0, size1);
	assert_int_not_equal(pair->size, 0);
	pair->base = aligned_alloc(SHRING_CTRL_SIZE, pair->size);
	assert_non_null(pair->base);
	memset(pair->base, 0xa5, pair->size);
}

static void pair_open(struct pair *pair, uint32_t size0, uint32_t size1)
{
	struct shring_bell bell = bell_of(pair, 0);

	pair_area(pair, size0, size1);
	assert_int_equal(shring_create(&pair->side[0], pair->base, pair->size, size0,
				 size1, &bell),
		0);
	bell = bell_of(pair, 1);
	assert_int_equal(shring_attach(&pair->side[1], pair->base, pair->size, &bell), 0);
}

static void pair_close(struct pair *pair)
{
	free(pair->base);
}

static struct shring_ctrl *ctrl(struct pair *pair)
{
	return (struct shring_ctrl *)pair->base;
}

/* Bytes that tell their position. */
static void pattern(uint8_t *buf, size_t len, uint32_t pos)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)((pos + i) * 0x9e3779b1u >> 11);
}

static void assert_pattern(const uint8_t *buf, size_t len, uint32_t pos)
{
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], (uint8_t)((pos + i) * 0x9e3779b1u >> 11));
}

/* -- begin */

static void test_sizes(void **state)
{
	static const uint32_t bad[] = {0, 1, SIZE / 2, SIZE + 1, SIZE * 3,
		SHRING_SIZE_MAX * 2, UINT32_MAX, 1u << 31};
	struct shring_bell bell = {.fd = {-1, -1}};
	struct pair pair;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(shring_area_size(bad[i], SIZE), 0);
		assert_int_equal(shring_area_size(SIZE, bad[i]), 0);
	}
	for (uint32_t a = SIZE; a <= SHRING_SIZE_MAX; a *= 2)
		assert_int_equal(shring_area_size(a, SIZE), SHRING_CTRL_SIZE + a + SIZE);

	pair_area(&pair, SIZE, SIZE);
	assert_int_equal(
		shring_create(&pair.side[0], pair.base, pair.size - 1, SIZE, SIZE, &bell),
		-EINVAL);
	assert_int_equal(shring_create(&pair.side[0], pair.base + 64, pair.size, SIZE,
				 SIZE, &bell),
		-EINVAL);
	pair_close(&pair);
}

static void test_versions(void **state)
{
	assert_int_equal(shring_version_pick(1, 1), 1);
	assert_int_equal(shring_version_pick(0, 7), SHRING_VERSION_MAX);
	assert_int_equal(shring_version_pick(2, 9), -EPROTONOSUPPORT);
	assert_int_equal(shring_version_pick(0, 0), -EPROTONOSUPPORT);
	assert_int_equal(shring_version_pick(1, 0), -EPROTONOSUPPORT);
}

/* A channel whose header is not right is refused, and no more memory is touched. */
static void test_attach_hostile(void **state)
{
	static const struct {
		size_t word;
		uint32_t value;
		int error;
	} bad[] = {
		{0, 0, -EPROTO},
		{0, ~SHRING_MAGIC, -EPROTO},
		{1, 0, -EPROTONOSUPPORT},
		{1, SHRING_VERSION_MAX + 1, -EPROTONOSUPPORT},
		{2, 0, -EPROTO},
		{2, 15, -EPROTO},
		{2, 17, -EPROTO}, /* larger than the area */
		{2, 23, -EPROTO},
		{2, 32 + 16, -EPROTO},
		{3, 17, -EPROTO},
		{3, UINT32_MAX, -EPROTO},
	};
	struct shring_bell bell;
	struct shring other;
	struct pair pair;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		pair_open(&pair, SIZE, SIZE);
		bell = bell_of(&pair, 1);
		assert_int_equal(
			shring_attach(&other, pair.base, pair.size, &bell), -EBUSY);
		((uint32_t *)pair.base)[bad[i].word] = bad[i].value;
		assert_int_equal(
			shring_attach(&other, pair.base, pair.size, &bell), bad[i].error);
		pair_close(&pair);
	}
	pair_open(&pair, SIZE, SIZE);
	bell = bell_of(&pair, 1);
	assert_int_equal(shring_attach(&other, pair.base, 64, &bell), -EINVAL);
	assert_int_equal(shring_attach(&other, pair.base + 8, pair.size, &bell), -EINVAL);
	pair_close(&pair);
}

/* An attacher that can't speak the version tells the creator, who may have written. */
static void test_version_refused(void **state)
{
	struct shring_bell bell;
	struct pair pair;
	uint8_t byte = 1;

	pair_area(&pair, SIZE, SIZE);
	bell = bell_of(&pair, 0);
	assert_int_equal(
		shring_create(&pair.side[0], pair.base, pair.size, SIZE, SIZE, &bell), 0);
	assert_false(shring_is_attached(&pair.side[0]));
	assert_int_equal(shring_write(&pair.side[0], &byte, 1), 1);
	ctrl(&pair)->header.version = SHRING_VERSION_MAX + 1;
	bell = bell_of(&pair, 1);
	assert_int_equal(shring_attach(&pair.side[1], pair.base, pair.size, &bell),
		-EPROTONOSUPPORT);
	assert_int_equal(pair.bells[1][SHRING_READ], 1);
	assert_int_equal(shring_read(&pair.side[0], &byte, 1), -ECONNRESET);
	assert_int_equal(shring_write(&pair.side[0], &byte, 1), -ECONNRESET);
	pair_close(&pair);
}

/* -- bytes */

/* At every offset of the ring begins one write, of a length that differs. */
static void test_wrap(void **state)
{
	static uint8_t in[SIZE], out[SIZE];
	struct iovec iov[2];
	struct pair pair;
	uint32_t pos;

	pair_open(&pair, SIZE, SIZE);
	for (int side = 0; side < 2; side++) {
		struct shring *tx = &pair.side[side], *rx = &pair.side[!side];

		pos = 0;
		for (uint32_t i = 0; i < SIZE; i++) {
			uint32_t len = 1 + i % 200;

			assert_int_equal(tx->end[SHRING_WRITE].pos % SIZE, i);
			pattern(in, len, pos);
			assert_int_equal(shring_write(tx, in, len), len);
			assert_int_equal(shring_read(rx, out, SIZE), len);
			assert_pattern(out, len, pos);
			pos += len;
			/* The rest of the turn and one byte more, with any content. */
			assert_int_equal(shring_reserve(tx, iov), SIZE);
			shring_commit(tx, SIZE - len + 1);
			pos += SIZE - len + 1;
			assert_int_equal(shring_peek(rx, iov), SIZE - len + 1);
			shring_consume(rx, SIZE - len + 1);
		}
	}
	pair_close(&pair);
}

static void test_full_and_empty(void **state)
{
	static const uint32_t sizes[] = {SIZE, SIZE * 8, SHRING_SIZE_MAX};
	struct pair pair;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint32_t size = sizes[i];
		uint8_t *in = malloc(2 * size), *out = malloc(2 * size);

		pair_open(&pair, size, SIZE);
		assert_int_equal(shring_read(&pair.side[1], out, 1), -EAGAIN);
		assert_int_equal(shring_read(&pair.side[1], out, 0), 0);
		pattern(in, 2 * size, 0);
		assert_int_equal(shring_write(&pair.side[0], in, 100), 100);
		assert_int_equal(shring_write(&pair.side[0], in + 100, 2 * size - 100),
			size - 100);
		assert_int_equal(shring_write(&pair.side[0], in, 1), -EAGAIN);
		assert_int_equal(shring_write(&pair.side[0], in, 0), 0);
		assert_int_equal(shring_read(&pair.side[1], out, 2 * size), size);
		assert_memory_equal(in, out, size);
		assert_int_equal(shring_read(&pair.side[1], out, 1), -EAGAIN);
		pair_close(&pair);
		free(in);
		free(out);
	}
}

/* The counters run through 2^32. */
static void test_counter_wrap(void **state)
{
	static uint8_t in[SIZE], out[SIZE];
	const uint32_t begin = UINT32_MAX - 3 * SIZE / 2;
	struct pair pair;
	uint32_t pos = begin;

	pair_open(&pair, SIZE, SIZE);
	for (int i = 0; i < 2; i++) {
		pair.side[i].end[i ? SHRING_READ : SHRING_WRITE].pos = begin;
		pair.side[i].end[i ? SHRING_READ : SHRING_WRITE].seen = begin;
	}
	ctrl(&pair)->side[0].head = begin;
	ctrl(&pair)->side[1].tail = begin;
	for (int i = 0; i < 9; i++) {
		pattern(in, SIZE, pos);
		assert_int_equal(shring_write(&pair.side[0], in, SIZE), SIZE);
		assert_int_equal(shring_write(&pair.side[0], in, 1), -EAGAIN);
		assert_int_equal(shring_read(&pair.side[1], out, SIZE / 3), SIZE / 3);
		assert_pattern(out, SIZE / 3, pos);
		assert_int_equal(shring_read(&pair.side[1], out, SIZE), SIZE - SIZE / 3);
		assert_pattern(out, SIZE - SIZE / 3, pos + SIZE / 3);
		pos += SIZE;
	}
	assert_true(pos < begin);
	pair_close(&pair);
}

static void test_in_place(void **state)
{
	static uint8_t in[SIZE], out[SIZE];
	struct iovec iov[2];
	struct pair pair;

	pair_open(&pair, SIZE, SIZE);
	assert_int_equal(shring_peek(&pair.side[1], iov), -EAGAIN);
	assert_int_equal(iov[0].iov_len + iov[1].iov_len, 0);
	assert_int_equal(shring_write(&pair.side[0], in, 1000), 1000);
	assert_int_equal(shring_read(&pair.side[1], out, 1000), 1000);

	assert_int_equal(shring_reserve(&pair.side[0], iov), SIZE);
	assert_int_equal(iov[0].iov_len, SIZE - 1000);
	assert_int_equal(iov[1].iov_len, 1000);
	pattern(iov[0].iov_base, iov[0].iov_len, 0);
	pattern(iov[1].iov_base, iov[1].iov_len, SIZE - 1000);
	assert_int_equal(shring_peek(&pair.side[1], iov), -EAGAIN);
	shring_commit(&pair.side[0], 0);
	assert_int_equal(shring_peek(&pair.side[1], iov), -EAGAIN);
	shring_commit(&pair.side[0], SIZE - 1);
	shring_commit(&pair.side[0], 1);
	assert_int_equal(shring_reserve(&pair.side[0], iov), -EAGAIN);

	assert_int_equal(shring_peek(&pair.side[1], iov), SIZE);
	assert_pattern(iov[0].iov_base, iov[0].iov_len, 0);
	assert_pattern(iov[1].iov_base, iov[1].iov_len, SIZE - 1000);
	shring_consume(&pair.side[1], 10);
	/* Peeking sees what has come since. */
	assert_int_equal(shring_peek(&pair.side[1], iov), SIZE - 10);
	assert_int_equal(shring_write(&pair.side[0], in, 20), 10);
	assert_int_equal(shring_peek(&pair.side[1], iov), SIZE);
	assert_pattern(iov[0].iov_base, iov[0].iov_len, 10);
	pair_close(&pair);
}

/* -- ends */

static void test_half_close(void **state)
{
	uint8_t buf[100];
	struct pair pair;

	pair_open(&pair, SIZE, SIZE);
	assert_true(shring_is_attached(&pair.side[0]));
	pattern(buf, 100, 0);
	assert_int_equal(shring_write(&pair.side[0], buf, 100), 100);
	shring_shutdown(&pair.side[0], SHRING_WRITE);
	assert_int_equal(pair.bells[0][SHRING_READ], 1);
	assert_int_equal(shring_write(&pair.side[0], buf, 1), -EPIPE);
	assert_int_equal(shring_read(&pair.side[1], buf, 60), 60);
	assert_int_equal(shring_read(&pair.side[1], buf, 60), 40);
	assert_pattern(buf, 40, 60);
	assert_int_equal(shring_read(&pair.side[1], buf, 60), 0);
	assert_true(shring_is_ready(&pair.side[1], SHRING_READ));
	/* Who goes on after the end is not listened to. */
	ctrl(&pair)->side[0].head += 10;
	assert_int_equal(shring_read(&pair.side[1], buf, 60), 0);
	/* The other way is open. */
	assert_int_equal(shring_write(&pair.side[1], buf, 7), 7);
	assert_int_equal(shring_read(&pair.side[0], buf, 60), 7);
	shring_shutdown(&pair.side[1], SHRING_WRITE);
	assert_int_equal(shring_read(&pair.side[0], buf, 60), 0);
	/* A dead peer that had finished is an end, not an error. */
	shring_peer_gone(&pair.side[0]);
	assert_int_equal(shring_read(&pair.side[0], buf, 60), 0);
	pair_close(&pair);
}

static void test_reads_no_more(void **state)
{
	uint8_t buf[10] = {0};
	struct pair pair;

	pair_open(&pair, SIZE, SIZE);
	assert_int_equal(shring_write(&pair.side[0], buf, 10), 10);
	shring_shutdown(&pair.side[1], SHRING_READ);
	assert_int_equal(pair.bells[1][SHRING_WRITE], 1);
	assert_int_equal(shring_write(&pair.side[0], buf, 10), -EPIPE);
	assert_true(shring_is_ready(&pair.side[0], SHRING_WRITE));
	assert_int_equal(shring_read(&pair.side[1], buf, 10), 10);
	assert_int_equal(shring_read(&pair.side[1], buf, 10), 0);
	assert_int_equal(shring_write(&pair.side[1], buf, 10), 10);
	assert_int_equal(shring_read(&pair.side[0], buf, 10), 10);
	pair_close(&pair);
}

static void test_abort(void **state)
{
	uint8_t buf[10] = {0};
	struct pair pair;

	pair_open(&pair, SIZE, SIZE);
	assert_int_equal(shring_write(&pair.side[0], buf, 10), 10);
	assert_int_equal(shring_write(&pair.side[1], buf, 10), 10);
	assert_true(shring_arm(&pair.side[1], SHRING_READ) == false);
	shring_abort(&pair.side[0]);
	assert_int_equal(pair.bells[0][SHRING_READ], 1);
	assert_int_equal(pair.bells[0][SHRING_WRITE], 1);
	assert_int_equal(shring_read(&pair.side[0], buf, 10), -ECONNABORTED);
	assert_int_equal(shring_write(&pair.side[0], buf, 10), -ECONNABORTED);
	/* What was there can be read. */
	assert_int_equal(shring_write(&pair.side[1], buf, 10), -ECONNRESET);
	assert_int_equal(shring_read(&pair.side[1], buf, 10), 10);
	assert_int_equal(shring_read(&pair.side[1], buf, 10), -ECONNRESET);
	assert_int_equal(shring_read(&pair.side[1], buf, 10), -ECONNRESET);
	/* The first reason stays, and the dead are told nothing. */
	shring_peer_gone(&pair.side[0]);
	assert_int_equal(shring_read(&pair.side[0], buf, 10), -ECONNABORTED);
	pair_close(&pair);
}

static void test_peer_gone(void **state)
{
	uint8_t buf[10] = {0};
	struct pair pair;

	pair_open(&pair, SIZE, SIZE);
	assert_int_equal(shring_write(&pair.side[0], buf, 10), 10);
	shring_peer_gone(&pair.side[1]);
	assert_true(shring_is_ready(&pair.side[1], SHRING_READ));
	assert_true(shring_is_ready(&pair.side[1], SHRING_WRITE));
	assert_int_equal(shring_write(&pair.side[1], buf, 10), -ECONNRESET);
	assert_int_equal(shring_read(&pair.side[1], buf, 4), 4);
	assert_int_equal(shring_read(&pair.side[1], buf, 10), 6);
	assert_int_equal(shring_read(&pair.side[1], buf, 10), -ECONNRESET);
	assert_int_equal(pair.bells[1][SHRING_READ], 0);
	pair_close(&pair);
}

/* -- bells */

static void test_bell_per_ticket(void **state)
{
	uint8_t buf[10] = {0};
	struct pair pair;

	pair_open(&pair, SIZE, SIZE);
	/* Awake: no bell. */
	assert_int_equal(shring_write(&pair.side[0], buf, 10), 10);
	assert_int_equal(pair.bells[0][SHRING_READ], 0);
	/* Something is there: need not sleep. */
	assert_false(shring_arm(&pair.side[1], SHRING_READ));
	assert_int_equal(ctrl(&pair)->side[1].ticket[SHRING_READ], 0);
	assert_int_equal(shring_read(&pair.side[1], buf, 10), 10);
	/* Asleep: one bell, however much comes. */
	for (unsigned i = 1; i < 4; i++) {
		assert_true(shring_arm(&pair.side[1], SHRING_READ));
		assert_int_equal(shring_write(&pair.side[0], buf, 10), 10);
		assert_int_equal(shring_write(&pair.side[0], buf, 10), 10);
		assert_int_equal(pair.bells[0][SHRING_READ], i);
		shring_disarm(&pair.side[1], SHRING_READ);
		assert_int_equal(shring_write(&pair.side[0], buf, 10), 10);
		assert_int_equal(pair.bells[0][SHRING_READ], i);
		while (shring_read(&pair.side[1], buf, 10) > 0)
			;
	}
	assert_int_equal(pair.bells[0][SHRING_WRITE], 0);
	pair_close(&pair);
}

static void test_bell_at_a_quarter(void **state)
{
	static uint8_t buf[SIZE];
	struct pair pair;

	pair_open(&pair, SIZE, SIZE);
	assert_true(shring_is_ready(&pair.side[0], SHRING_WRITE));
	assert_int_equal(shring_write(&pair.side[0], buf, SIZE), SIZE);
	assert_true(shring_arm(&pair.side[0], SHRING_WRITE));
	assert_int_equal(shring_read(&pair.side[1], buf, QUARTER - 1), QUARTER - 1);
	assert_false(shring_is_ready(&pair.side[0], SHRING_WRITE));
	assert_int_equal(pair.bells[1][SHRING_WRITE], 0);
	assert_int_equal(shring_read(&pair.side[1], buf, 1), 1);
	assert_int_equal(pair.bells[1][SHRING_WRITE], 1);
	assert_true(shring_is_ready(&pair.side[0], SHRING_WRITE));
	assert_int_equal(shring_read(&pair.side[1], buf, 1), 1);
	assert_int_equal(pair.bells[1][SHRING_WRITE], 1);
	assert_int_equal(pair.bells[1][SHRING_READ], 0);
	pair_close(&pair);
}

/* The built-in bell, and waiting. */
static void test_wait(void **state)
{
	struct shring_spin spin = {.max_ns = 50 * NSEC_PER_USEC};
	struct shring_bell bell;
	struct pair pair;
	uint8_t byte = 1;
	uint64_t count;
	int fd = eventfd(0, EFD_NONBLOCK);

	pair_open(&pair, SIZE, SIZE);
	bell = (struct shring_bell){.fd = {fd, -1}};
	pair.side[0].bell = bell;
	assert_int_equal(
		shring_wait(&pair.side[1], SHRING_READ, fd, &spin, 0), -ETIMEDOUT);
	assert_int_equal(
		shring_wait(&pair.side[1], SHRING_READ, fd, &spin, 1000), -ETIMEDOUT);
	assert_int_equal(ctrl(&pair)->side[1].ticket[SHRING_READ], 0);
	assert_int_equal(shring_wait(&pair.side[1], SHRING_WRITE, fd, &spin, -1), 0);

	assert_true(shring_arm(&pair.side[1], SHRING_READ));
	assert_int_equal(shring_write(&pair.side[0], &byte, 1), 1);
	assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
	assert_int_equal(shring_wait(&pair.side[1], SHRING_READ, fd, &spin, -1), 0);
	assert_int_equal(shring_read(&pair.side[1], &byte, 1), 1);
	/* A stale bell: it is taken, and waited on. */
	shring_disarm(&pair.side[1], SHRING_READ);
	count = 1;
	assert_int_equal(write(fd, &count, sizeof(count)), sizeof(count));
	assert_int_equal(
		shring_wait(&pair.side[1], SHRING_READ, fd, &spin, 1000000), -ETIMEDOUT);
	shring_peer_gone(&pair.side[1]);
	assert_int_equal(shring_wait(&pair.side[1], SHRING_READ, fd, &spin, -1), 0);
	close(fd);
	pair_close(&pair);
}

/* An idle waiter stops spinning; one that is served soon begins to. */
static void test_spin_adapts(void **state)
{
	struct shring_spin spin = {.max_ns = 64, .ns = 64};
	struct pair pair;
	int fd = eventfd(0, EFD_NONBLOCK);

	pair_open(&pair, SIZE, SIZE);
	for (int i = 0; i < 7; i++)
		assert_int_equal(
			shring_wait(&pair.side[1], SHRING_READ, fd, &spin, 100000),
			-ETIMEDOUT);
	assert_int_equal(spin.ns, 0);
	spin.max_ns = NSEC_PER_SEC * 1000;
	assert_int_equal(
		shring_wait(&pair.side[1], SHRING_READ, fd, &spin, 1000), -ETIMEDOUT);
	assert_int_equal(spin.ns, spin.max_ns);
	close(fd);
	pair_close(&pair);
}

/* -- hostile indices */

static const uint32_t wrong[] = {1, 2, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 1u << 31,
	UINT32_MAX - SIZE, UINT32_MAX - 1, UINT32_MAX};

/* @head as the peer's head, after 1000 bytes of which 600 are read: refused unless it
 * is within 1000..600 + SIZE. Nothing outside of that is ever given to the caller.
 */
static void try_head(uint32_t head)
{
	static uint8_t buf[2 * SIZE];
	bool right = head >= 1000 && head <= 600 + SIZE;
	struct iovec iov[2];
	struct pair pair;
	ssize_t n;

	pair_open(&pair, SIZE, SIZE);
	assert_int_equal(shring_write(&pair.side[0], buf, 1000), 1000);
	assert_int_equal(shring_read(&pair.side[1], buf, 600), 600);
	ctrl(&pair)->side[0].head = head;
	n = shring_peek(&pair.side[1], iov);
	if (right) {
		assert_int_equal(n, head - 600);
		assert_int_equal(shring_read(&pair.side[1], buf, sizeof(buf)), n);
	} else {
		assert_int_equal(n, -EPROTO);
		assert_int_equal(iov[0].iov_len + iov[1].iov_len, 0);
		assert_int_equal(shring_read(&pair.side[1], buf, 1), -EPROTO);
		assert_int_equal(shring_write(&pair.side[1], buf, 1), -EPROTO);
		assert_true(shring_is_ready(&pair.side[1], SHRING_READ));
		assert_true(shring_is_ready(&pair.side[1], SHRING_WRITE));
		assert_int_equal(pair.bells[1][SHRING_READ], 1);
		assert_int_equal(pair.bells[1][SHRING_WRITE], 1);
		assert_int_equal(shring_write(&pair.side[0], buf, 1), -ECONNRESET);
	}
	pair_close(&pair);
}

/* @tail as the peer's tail, after 1000 bytes of which 600 were seen to be read. */
static void try_tail(uint32_t tail)
{
	static uint8_t buf[2 * SIZE];
	bool right = tail >= 600 && tail <= 1000;
	struct iovec iov[2];
	struct pair pair;
	ssize_t n;

	pair_open(&pair, SIZE, SIZE);
	assert_int_equal(shring_write(&pair.side[0], buf, 1000), 1000);
	assert_int_equal(shring_read(&pair.side[1], buf, 600), 600);
	assert_int_equal(shring_reserve(&pair.side[0], iov), SIZE - 400);
	ctrl(&pair)->side[1].tail = tail;
	n = shring_reserve(&pair.side[0], iov);
	if (right) {
		assert_int_equal(n, SIZE - (1000 - tail));
		assert_int_equal(shring_write(&pair.side[0], buf, sizeof(buf)), n);
	} else {
		assert_int_equal(n, -EPROTO);
		assert_int_equal(iov[0].iov_len + iov[1].iov_len, 0);
		assert_int_equal(shring_write(&pair.side[0], buf, sizeof(buf)), -EPROTO);
		assert_int_equal(shring_read(&pair.side[0], buf, 1), -EPROTO);
		assert_int_equal(shring_read(&pair.side[1], buf, 1000), 400);
		assert_int_equal(shring_read(&pair.side[1], buf, 1), -ECONNRESET);
	}
	pair_close(&pair);
}

static void test_hostile_indices(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		try_head(wrong[i]);
		try_head(600 + wrong[i]);
		try_head(1000 + wrong[i]);
		try_tail(wrong[i]);
		try_tail(600 + wrong[i]);
		try_tail(1000 + wrong[i]);
	}
	try_head(1000);
	try_head(999);
	try_tail(600);
	try_tail(599);
	try_tail(1000);
}

/* Everything changes while a call runs: the bell of the first piece of a long write or
 * read is where the peer strikes. The call keeps to what it saw, the next one judges.
 */
struct strike {
	struct pair *pair;
	unsigned n;
};

static void strike(void *arg, enum shring_dir dir)
{
	struct strike *s = arg;

	memset(s->pair->base, 0x5a, sizeof(struct shring_ctrl));
	s->n++;
}

static void test_changes_within_call(void **state)
{
	static uint8_t in[SIZE], out[SIZE];
	struct strike s;
	struct pair pair;

	/* A write of two pieces, and a reader that sleeps. */
	pair_open(&pair, SIZE, SIZE);
	s = (struct strike){.pair = &pair};
	pair.side[0].bell = (struct shring_bell){.ring = strike, .arg = &s};
	pattern(in, SIZE, 0);
	assert_true(shring_arm(&pair.side[1], SHRING_READ));
	assert_int_equal(shring_write(&pair.side[0], in, SIZE), SIZE);
	assert_int_not_equal(s.n, 0);
	assert_memory_equal(pair.side[0].end[SHRING_WRITE].data, in, SIZE);
	assert_true(shring_write(&pair.side[0], in, 1) < 0);
	pair_close(&pair);

	/* A read of two pieces, and a writer that sleeps. */
	pair_open(&pair, SIZE, SIZE);
	s = (struct strike){.pair = &pair};
	pair.side[1].bell = (struct shring_bell){.ring = strike, .arg = &s};
	assert_int_equal(shring_write(&pair.side[0], in, SIZE), SIZE);
	assert_true(shring_arm(&pair.side[0], SHRING_WRITE));
	assert_int_equal(shring_read(&pair.side[1], out, SIZE), SIZE);
	assert_int_not_equal(s.n, 0);
	assert_memory_equal(in, out, SIZE);
	assert_int_equal(shring_read(&pair.side[1], out, 1), -EPROTO);
	pair_close(&pair);
}

/* What we wrote ourselves is not believed when it comes back. */
static void test_own_words(void **state)
{
	static uint8_t in[3000], out[3000];
	struct pair pair;

	pair_open(&pair, SIZE, SIZE);
	pattern(in, 3000, 0);
	for (int i = 0; i < 2; i++) {
		ctrl(&pair)->header.size_log2[i] = 31;
		ctrl(&pair)->side[i].ticket[SHRING_READ] = 0;
	}
	ctrl(&pair)->header.magic = 0;
	assert_int_equal(shring_write(&pair.side[0], in, 1000), 1000);
	ctrl(&pair)->side[0].head = 77;
	assert_int_equal(shring_write(&pair.side[0], in + 1000, 1000), 1000);
	assert_int_equal(shring_read(&pair.side[1], out, 500), 500);
	ctrl(&pair)->side[1].tail = UINT32_MAX;
	ctrl(&pair)->side[1].state = 0;
	assert_int_equal(shring_read(&pair.side[1], out + 500, 1500), 1500);
	assert_memory_equal(in, out, 2000);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_attach_hostile),
		cmocka_unit_test(test_version_refused),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_full_and_empty),
		cmocka_unit_test(test_counter_wrap),
		cmocka_unit_test(test_in_place),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_reads_no_more),
		cmocka_unit_test(test_abort),
		cmocka_unit_test(test_peer_gone),
		cmocka_unit_test(test_bell_per_ticket),
		cmocka_unit_test(test_bell_at_a_quarter),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_spin_adapts),
		cmocka_unit_test(test_hostile_indices),
		cmocka_unit_test(test_changes_within_call),
		cmocka_unit_test(test_own_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
