/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Steps that hand descriptors to other processes, with a message over a UNIX socket.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/fdmsg.h"
#include "lib/util.h"
#include "tests/conform/conform.h"

#define TEXT "with descriptors"

/* unix_pair U V */
static void op_unix_pair(struct call *c)
{
	int fd[2] = {-1, -1};

	say_result(c, socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	slot_set(c->argv[1], fd[0]);
	slot_set(c->argv[2], fd[1]);
}

/* pass U SLOTS... */
static void op_pass(struct call *c)
{
	int fds[FDMSG_MAX], n = c->argc - 2;
	union fdmsg control;
	struct iovec iov = {TEXT, strlen(TEXT)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	for (int i = 0; i < n; i++)
		fds[i] = slot_fd(c->argv[i + 2]);
	fdmsg_put(&msg, &control, fds, n);
	say_result(c, sendmsg(slot_fd(c->argv[1]), &msg, 0));
}

/* take V FLAGS ROOM SLOTS...: with room for so many descriptors, which get these names */
static void op_take(struct call *c)
{
	int fds[FDMSG_MAX], n, room = (int)number(c->argv[3]);
	union fdmsg control;
	char buf[64];
	struct iovec iov = {buf, sizeof(buf)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t rc;

	fdmsg_expect(&msg, &control);
	msg.msg_controllen = room ? CMSG_LEN((size_t)room * sizeof(int)) : 0;
	rc = recvmsg(slot_fd(c->argv[1]), &msg, (int)number(c->argv[2]));
	say_result(c, rc);
	if (rc < 0)
		return;
	n = fdmsg_take(&msg, fds);
	say(c, " %d fds, control %zu%s", n, msg.msg_controllen,
		msg.msg_flags & MSG_CTRUNC ? ", truncated" : "");
	for (int i = 0; i < n && i + 4 < c->argc; i++) {
		say(c, " #%d", fds[i]);
		slot_set(c->argv[i + 4], fds[i]);
	}
}

const struct op pass_ops[] = {
	{"unix_pair", op_unix_pair, 2},
	{"pass", op_pass, 2},
	{"take", op_take, 3},
	{NULL, NULL, 0},
};
