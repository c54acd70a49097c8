/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ivshmem/doorbell: an eventfd that blocks, full or empty, by the other holder's doing.
 * A call that hangs meets the alarm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ivshmem/doorbell.h"

#define HANG_S	  20
#define N_RINGS	  1000 /* more than requests can be pending */
#define N_THREADS 4

static void test_ring_and_take(void **state)
{
	int fd = eventfd(0, 0);

	assert_int_equal(doorbell_take(fd, false), -EAGAIN);
	for (int i = 0; i < N_RINGS; i++) {
		doorbell_ring(fd);
		assert_int_equal(doorbell_take(fd, i & 1), 0);
		assert_int_equal(doorbell_take(fd, false), -EAGAIN);
	}
	for (int i = 0; i < N_RINGS; i++)
		doorbell_ring(fd);
	assert_int_equal(doorbell_take(fd, false), 0);
	assert_int_equal(doorbell_take(fd, false), -EAGAIN);
	close(fd);
}

static void test_full(void **state)
{
	int fd = eventfd(0, 0);

	assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
	for (int i = 0; i < N_RINGS; i++)
		doorbell_ring(fd);
	assert_int_equal(doorbell_take(fd, false), 0);
	assert_int_equal(doorbell_take(fd, false), -EAGAIN);
	close(fd);
}

/* What it cannot ring it leaves alone. */
static void test_not_an_eventfd(void **state)
{
	int fds[2];
	char buf[16];

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
	doorbell_ring(fds[0]);
	assert_int_equal(read(fds[1], buf, sizeof(buf)), 8);
	close(fds[1]);
	close(fds[0]);
	errno = 7;
	doorbell_ring(-1);
	assert_int_equal(errno, 7);
	assert_int_equal(doorbell_take(-1, false), -EBADF);
}

static void test_fork(void **state)
{
	int fd = eventfd(0, 0), status;
	pid_t pid;

	doorbell_ring(fd);
	assert_int_equal(doorbell_take(fd, false), 0);
	assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
	pid = fork();
	if (pid == 0) {
		alarm(HANG_S);
		for (int i = 0; i < N_RINGS; i++)
			doorbell_ring(fd);
		_exit(doorbell_take(fd, false) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	doorbell_ring(fd);
	assert_int_equal(doorbell_take(fd, true), 0);
	close(fd);
}

static void *ring_often(void *arg)
{
	for (int i = 0; i < N_RINGS; i++)
		doorbell_ring(*(int *)arg);
	return NULL;
}

/* Each of them arrives: the count is exact. */
static void test_threads(void **state)
{
	pthread_t thread[N_THREADS];
	int fd = eventfd(0, 0);
	eventfd_t count;

	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, ring_often, &fd), 0);
	for (int i = 0; i < N_THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(eventfd_read(fd, &count), 0);
	assert_int_equal(count, N_THREADS * N_RINGS);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring_and_take),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_not_an_eventfd),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_threads),
	};

	alarm(HANG_S);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
