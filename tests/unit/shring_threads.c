/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ivshmem/shring with its sides in two threads each, for the thread sanitizer: bytes in
 * both directions at once, all ways to move them, sleeping at every chance; then ends
 * that come from other threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ivshmem/shring.h"
#include "ivshmem/shring_wait.h"

#define SIZE	 SHRING_SIZE_MIN
#define N_BYTES	 (6u << 20)
#define LEN_MAX	 (SIZE + 5000)
#define PAUSE_US 2000

struct side {
	struct shring ring;
	int fd[2]; /* ours, rung by the peer */
	uint64_t spin_ns;
	pthread_t thread[2]; /* by enum shring_dir */
	int error[2];	     /* that ended each thread; 0 for the end of the stream */
	uint64_t n_bytes[2];
	bool wrong;
};

struct world {
	void *area;
	struct side side[2];
};

static uint8_t byte_at(uint64_t pos)
{
	return (uint8_t)(pos * 0x9e3779b97f4a7c15ull >> 37);
}

static void world_open(struct world *world, uint64_t spin_ns)
{
	size_t size = shring_area_size(SIZE, 2 * SIZE);
	struct shring_bell bell[2];

	memset(world, 0, sizeof(*world));
	world->area = aligned_alloc(4096, size);
	assert_non_null(world->area);
	for (int i = 0; i < 2; i++) {
		world->side[i].spin_ns = spin_ns;
		for (int k = 0; k < 2; k++)
			world->side[i].fd[k] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		bell[!i] = (struct shring_bell){
			.fd = {world->side[i].fd[0], world->side[i].fd[1]}};
	}
	assert_int_equal(shring_create(&world->side[0].ring, world->area, size, SIZE,
				 2 * SIZE, &bell[0]),
		0);
	assert_int_equal(
		shring_attach(&world->side[1].ring, world->area, size, &bell[1]), 0);
}

static void world_close(struct world *world)
{
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < 2; k++)
			close(world->side[i].fd[k]);
	}
	free(world->area);
}

static ssize_t put(struct shring *r, uint64_t pos, size_t len, bool in_place)
{
	static _Thread_local uint8_t buf[LEN_MAX];
	struct iovec iov[2];
	ssize_t n;

	if (!in_place) {
		for (size_t i = 0; i < len; i++)
			buf[i] = byte_at(pos + i);
		return shring_write(r, buf, len);
	}
	n = shring_reserve(r, iov);
	if (n <= 0)
		return n;
	len = MIN(len, (size_t)n);
	for (size_t i = 0; i < len; i++) {
		uint8_t *piece = i < iov[0].iov_len ? iov[0].iov_base : iov[1].iov_base;

		piece[i < iov[0].iov_len ? i : i - iov[0].iov_len] = byte_at(pos + i);
	}
	shring_commit(r, len);
	return (ssize_t)len;
}

static ssize_t take(struct side *side, uint64_t pos, size_t len, bool in_place)
{
	static _Thread_local uint8_t buf[LEN_MAX];
	struct iovec iov[2];
	ssize_t n;

	if (!in_place) {
		n = shring_read(&side->ring, buf, len);
		for (ssize_t i = 0; i < n; i++)
			side->wrong |= buf[i] != byte_at(pos + (size_t)i);
		return n;
	}
	n = shring_peek(&side->ring, iov);
	if (n <= 0)
		return n;
	len = MIN(len, iov[0].iov_len);
	for (size_t i = 0; i < len; i++)
		side->wrong |= ((uint8_t *)iov[0].iov_base)[i] != byte_at(pos + i);
	shring_consume(&side->ring, len);
	return (ssize_t)len;
}

static int wait_for(struct side *side, enum shring_dir dir, struct shring_spin *spin)
{
	return shring_wait(&side->ring, dir, side->fd[dir], spin, -1);
}

static size_t some(unsigned *seed)
{
	return 1 + (size_t)rand_r(seed) % (rand_r(seed) % 4 ? 2000 : LEN_MAX);
}

static void *run_writer(void *arg)
{
	struct side *side = arg;
	struct shring_spin spin = {.max_ns = side->spin_ns};
	unsigned seed = 1 + side->ring.side;
	uint64_t pos = 0;

	while (pos < N_BYTES) {
		size_t len = some(&seed);
		ssize_t n =
			put(&side->ring, pos, MIN(len, N_BYTES - pos), rand_r(&seed) & 1);

		if (n > 0)
			pos += (uint64_t)n;
		else if (n != -EAGAIN || (n = wait_for(side, SHRING_WRITE, &spin)) != 0) {
			side->error[SHRING_WRITE] = (int)n;
			break;
		}
	}
	side->n_bytes[SHRING_WRITE] = pos;
	shring_shutdown(&side->ring, SHRING_WRITE);
	return NULL;
}

static void *run_reader(void *arg)
{
	struct side *side = arg;
	struct shring_spin spin = {.max_ns = side->spin_ns};
	unsigned seed = 3 + side->ring.side;
	uint64_t pos = 0;
	ssize_t n = 1;

	while (n > 0) {
		n = take(side, pos, some(&seed), rand_r(&seed) & 1);
		if (n > 0)
			pos += (uint64_t)n;
		else if (n == -EAGAIN && wait_for(side, SHRING_READ, &spin) == 0)
			n = 1;
	}
	side->error[SHRING_READ] = (int)n;
	side->n_bytes[SHRING_READ] = pos;
	return NULL;
}

static void side_start(struct side *side, enum shring_dir dir)
{
	assert_int_equal(pthread_create(&side->thread[dir], NULL,
				 dir == SHRING_WRITE ? run_writer : run_reader, side),
		0);
}

static void exchange(uint64_t spin_ns)
{
	struct world world;

	world_open(&world, spin_ns);
	for (int i = 0; i < 2; i++) {
		side_start(&world.side[i], SHRING_READ);
		side_start(&world.side[i], SHRING_WRITE);
	}
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < 2; k++)
			pthread_join(world.side[i].thread[k], NULL);
	}
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < 2; k++) {
			assert_int_equal(world.side[i].error[k], 0);
			assert_int_equal(world.side[i].n_bytes[k], N_BYTES);
		}
		assert_false(world.side[i].wrong);
	}
	world_close(&world);
}

static void test_sleeping(void **state)
{
	exchange(0);
}

static void test_spinning(void **state)
{
	exchange(20 * NSEC_PER_USEC);
}

/* Two threads asleep, and what wakes them: the first's writing never ends for want of a
 * reader, the second has nothing to read.
 */
static void ended(void (*end)(struct world *world), int error)
{
	struct world world;

	world_open(&world, 0);
	side_start(&world.side[0], SHRING_WRITE);
	side_start(&world.side[0], SHRING_READ);
	usleep(PAUSE_US);
	end(&world);
	pthread_join(world.side[0].thread[SHRING_WRITE], NULL);
	pthread_join(world.side[0].thread[SHRING_READ], NULL);
	assert_int_equal(world.side[0].error[SHRING_WRITE], error);
	assert_int_equal(world.side[0].error[SHRING_READ], error);
	assert_true(world.side[0].n_bytes[SHRING_WRITE] <= SIZE);
	world_close(&world);
}

static void wake_own(struct world *world)
{
	for (int k = 0; k < 2; k++)
		assert_int_equal(eventfd_write(world->side[0].fd[k], 1), 0);
}

static void peer_aborts(struct world *world)
{
	shring_abort(&world->side[1].ring);
}

static void self_aborts(struct world *world)
{
	shring_abort(&world->side[0].ring);
	wake_own(world);
}

static void peer_dies(struct world *world)
{
	shring_peer_gone(&world->side[0].ring);
	wake_own(world);
}

static void test_ends(void **state)
{
	for (int i = 0; i < 20; i++) {
		ended(peer_aborts, -ECONNRESET);
		ended(self_aborts, -ECONNABORTED);
		ended(peer_dies, -ECONNRESET);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sleeping),
		cmocka_unit_test(test_spinning),
		cmocka_unit_test(test_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
