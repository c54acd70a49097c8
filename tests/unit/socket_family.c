/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The socket shim's record of which process has what: those that are killed, or leave by
 * _exit(), are found out.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ivshmem/socket/family.h"
#include "ivshmem/socket/real.h"

static struct family *family;
static int family_file = -1;
static uint32_t lost[8];
static uint32_t n_lost;

static void on_lost(uint32_t thing)
{
	lost[n_lost++ % 8] = thing;
}

static int begin(void **state)
{
	real_init();
	if (family) {
		family_leave();
		munmap(family, sizeof(*family));
		close(family_file);
	}
	family_file = memfd_create("family", 0);
	assert_false(ftruncate(family_file, sizeof(*family)));
	family = mmap(NULL, sizeof(*family), PROT_READ | PROT_WRITE, MAP_SHARED,
		family_file, 0);
	assert_ptr_not_equal(family, MAP_FAILED);
	family_open(family, family_file, on_lost);
	n_lost = 0;
	return 0;
}

static void leave(void)
{
	_exit(family_number() < 0);
}

static void close_another(void)
{
	family_close(dup(family_file));
}

/* A child that has @thing, does @also, and then waits to be killed */
static pid_t child_with(uint32_t thing, void (*also)(void))
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_false(pipe(ready));
	pid = fork();
	if (pid == 0) {
		lock_forked();
		family_forked();
		family_take(thing);
		if (also)
			also();
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), also != leave);
	close(ready[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_killed(void **state)
{
	pid_t pid = child_with(4711, NULL);

	family_take(4711);
	family_bury(4711);
	assert_int_equal(n_lost, 0);
	end(pid);
	family_bury(4712);
	assert_int_equal(n_lost, 0);
	family_bury(4711);
	family_bury(4711);
	assert_int_equal(n_lost, 1);
	assert_int_equal(lost[0], 4711);
}

static void test_each_dies_alone(void **state)
{
	pid_t a = child_with(0, NULL), b = child_with(65535, NULL);

	end(a);
	family_bury_all();
	assert_int_equal(n_lost, 1);
	assert_int_equal(lost[0], 0);
	end(b);
	family_bury_all();
	assert_int_equal(n_lost, 2);
	assert_int_equal(lost[1], 65535);
}

static void test_given_up_is_not_lost(void **state)
{
	pid_t pid = fork();

	if (pid == 0) {
		lock_forked();
		family_forked();
		family_take(1);
		family_take(2);
		family_give(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	family_bury_all();
	assert_int_equal(n_lost, 1);
	assert_int_equal(lost[0], 2);
}

/* More than there are numbers, as long as they don't live at the same time. */
static void test_numbers_come_back(void **state)
{
	int status;

	for (int i = 0; i < FAMILY_MAX + 10; i++) {
		assert_true(waitpid(child_with(7, leave), &status, 0) > 0);
		assert_int_equal(status, 0);
	}
	/* The other ones were buried by a child that found no number. */
	family_bury_all();
	assert_int_equal(n_lost, 10);
}

/* The kernel takes all locks of a process when it closes any descriptor of the file. */
static void test_close_of_another(void **state)
{
	pid_t pid = child_with(5, close_another);

	family_bury_all();
	assert_int_equal(n_lost, 0);
	end(pid);
	family_bury_all();
	assert_int_equal(n_lost, 1);
}

static void test_exec_keeps_number(void **state)
{
	int number;

	family_take(3);
	number = family_number();
	assert_true(number >= 0);
	family_forked(); /* as the next program begins */
	family_adopt(number);
	family_give(3);
	family_leave();
	family_bury_all();
	assert_int_equal(n_lost, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_killed, begin),
		cmocka_unit_test_setup(test_each_dies_alone, begin),
		cmocka_unit_test_setup(test_given_up_is_not_lost, begin),
		cmocka_unit_test_setup(test_numbers_come_back, begin),
		cmocka_unit_test_setup(test_close_of_another, begin),
		cmocka_unit_test_setup(test_exec_keeps_number, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
