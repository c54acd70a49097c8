/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The key file of the hello protocol: what it may hold, and whose it must be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmd/hello_auth.h"

static void key_file(const char *path, const char *content, size_t size, mode_t mode)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, size), (ssize_t)size);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void test_key_file(void **state)
{
	char dir[] = "/tmp/hello-key-XXXXXX", path[64], err[256];
	struct hello_key key;
	char big[HELLO_KEY_MAX + 2];

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/key", dir);

	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -ENOENT);
	assert_non_null(strstr(err, path));
	key_file(path, "0123456789abcdef\n", 17, 0600);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), 0);
	assert_int_equal(key.size, 16);
	assert_memory_equal(key.bytes, "0123456789abcdef", 16);
	key_file(path, "0123456789abcdef", 16, 0640);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), 0);
	assert_int_equal(key.size, 16);

	key_file(path, "0123456789abcdef", 16, 0604);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EACCES);
	assert_non_null(strstr(err, "0604"));
	key_file(path, "0123456789abcdef", 16, 0620);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EACCES);
	key_file(path, "0123456789abcde\n", 16, 0600);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EINVAL);
	memset(big, 'k', sizeof(big));
	key_file(path, big, HELLO_KEY_MAX, 0600);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), 0);
	assert_int_equal(key.size, HELLO_KEY_MAX);
	key_file(path, big, HELLO_KEY_MAX + 1, 0600);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EINVAL);
	key_file(path, big, HELLO_KEY_MAX + 2, 0600);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EINVAL);

	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(hello_key_load(path, &key, err, sizeof(err)), -EINVAL);
	unlink(path);
	assert_int_equal(hello_key_load(dir, &key, err, sizeof(err)), -EINVAL);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
