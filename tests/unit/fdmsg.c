/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptors in messages: as many as are meant, and a sender of more does no harm.
 */
#include "lib/fdmsg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#define GUARD 0x5a5a5a5a

/* Return: how many came of @n that were sent by hand, as fdmsg_put() takes no more */
static int send_and_take(int n, int *flags)
{
	union {
		struct cmsghdr hdr;
		char space[CMSG_SPACE(2 * FDMSG_MAX * sizeof(int))];
	} sent = {.hdr = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {.iov_base = &(char){'x'}, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	int s[2], fds[FDMSG_MAX + 1], taken;
	union fdmsg control;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	sent.hdr.cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
	msg.msg_control = sent.space;
	msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
	for (int i = 0; i < n; i++)
		((int *)CMSG_DATA(&sent.hdr))[i] = s[0];
	assert_int_equal(sendmsg(s[0], &msg, 0), 1);
	fds[FDMSG_MAX] = GUARD;
	fdmsg_expect(&msg, &control);
	assert_int_equal(recvmsg(s[1], &msg, 0), 1);
	taken = fdmsg_take(&msg, fds);
	assert_int_equal(fds[FDMSG_MAX], GUARD);
	*flags = msg.msg_flags;
	for (int i = 0; i < taken; i++)
		close(fds[i]);
	close(s[0]);
	close(s[1]);
	return taken;
}

static void as_many_as_meant(void **state)
{
	int flags;

	(void)state;
	assert_int_equal(send_and_take(1, &flags), 1);
	assert_int_equal(send_and_take(FDMSG_MAX, &flags), FDMSG_MAX);
	assert_false(flags & MSG_CTRUNC);
}

static void too_many(void **state)
{
	int flags;

	(void)state;
	for (int more = 1; more <= FDMSG_MAX; more++) {
		assert_int_equal(send_and_take(FDMSG_MAX + more, &flags), FDMSG_MAX);
		assert_true(flags & MSG_CTRUNC);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_many_as_meant),
		cmocka_unit_test(too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
