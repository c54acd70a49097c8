/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Steps that move a few bytes by each of the calls that can. A text is what it says; "~"
 * is no bytes at all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/util.h"
#include "tests/conform/conform.h"

#define BUF_SIZE 65536
#define IOV_MAX_ 16

ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags,
	struct sockaddr *addr, socklen_t *len);

static size_t text_len(const char *text)
{
	return strcmp(text, "~") ? strlen(text) : 0;
}

static void say_received(struct call *c, const void *buf, ssize_t n)
{
	say_result(c, n);
	if (n > 0)
		say_bytes(c, buf, (size_t)n);
}

/* Room for what is received: as much as the scenario asks for. */
static size_t room(const char *text)
{
	return MIN((size_t)number(text), (size_t)BUF_SIZE);
}

/* write SLOT TEXT */
static void op_write(struct call *c)
{
	int fd = slot_fd(c->argv[1]);
	uint64_t before = meter_begin(fd);
	ssize_t n = write(fd, c->argv[2], text_len(c->argv[2]));

	meter_end(c, fd, before, n);
	say_result(c, n);
}

/* send SLOT FLAGS TEXT */
static void op_send(struct call *c)
{
	int fd = slot_fd(c->argv[1]);
	uint64_t before = meter_begin(fd);
	ssize_t n = send(fd, c->argv[3], text_len(c->argv[3]), (int)number(c->argv[2]));

	meter_end(c, fd, before, n);
	say_result(c, n);
}

/* sendto SLOT FLAGS TEXT ADDRESS PORT */
static void op_sendto(struct call *c)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = address_parse(&addr, c->argv[4], c->argv[5]);
	int fd = slot_fd(c->argv[1]);
	uint64_t before = meter_begin(fd);
	ssize_t n = sendto(fd, c->argv[3], text_len(c->argv[3]), (int)number(c->argv[2]),
		(struct sockaddr *)&addr, len);

	meter_end(c, fd, before, n);
	say_result(c, n);
}

/* The texts from argument @first on, as pieces. */
static int texts(struct call *c, int first, struct iovec *iov)
{
	int n = MIN(c->argc - first, IOV_MAX_);

	for (int i = 0; i < n; i++)
		iov[i] = (struct iovec){c->argv[first + i], text_len(c->argv[first + i])};
	return n;
}

/* writev SLOT TEXT... */
static void op_writev(struct call *c)
{
	struct iovec iov[IOV_MAX_];
	int fd = slot_fd(c->argv[1]), n_iov = texts(c, 2, iov);
	uint64_t before = meter_begin(fd);
	ssize_t n = writev(fd, iov, n_iov);

	meter_end(c, fd, before, n);
	say_result(c, n);
}

/* sendmsg SLOT FLAGS TEXT... */
static void op_sendmsg(struct call *c)
{
	struct iovec iov[IOV_MAX_];
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)texts(c, 3, iov)};
	int fd = slot_fd(c->argv[1]);
	uint64_t before = meter_begin(fd);
	ssize_t n = sendmsg(fd, &msg, (int)number(c->argv[2]));

	meter_end(c, fd, before, n);
	say_result(c, n);
}

/* sendmmsg SLOT FLAGS TEXT...: each text a message */
static void op_sendmmsg(struct call *c)
{
	struct iovec iov[IOV_MAX_];
	struct mmsghdr msgs[IOV_MAX_] = {0};
	int fd = slot_fd(c->argv[1]), n_iov = texts(c, 3, iov), n;
	uint64_t before = meter_begin(fd);

	for (int i = 0; i < n_iov; i++)
		msgs[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	n = sendmmsg(fd, msgs, (unsigned)n_iov, (int)number(c->argv[2]));
	meter_end(c, fd, before, n > 0 ? (int)msgs[0].msg_len : n);
	say_result(c, n);
	for (int i = 0; i < n; i++)
		say(c, " %u", msgs[i].msg_len);
}

/* read SLOT SIZE */
static void op_read(struct call *c)
{
	char buf[BUF_SIZE] = {0};

	say_received(c, buf, read(slot_fd(c->argv[1]), buf, room(c->argv[2])));
}

/* recv SLOT FLAGS SIZE */
static void op_recv(struct call *c)
{
	char buf[BUF_SIZE] = {0};

	say_received(c, buf,
		recv(slot_fd(c->argv[1]), buf, room(c->argv[3]),
			(int)number(c->argv[2])));
}

/* recv_null SLOT FLAGS SIZE: without a buffer */
static void op_recv_null(struct call *c)
{
	say_result(c, recv(slot_fd(c->argv[1]), NULL, room(c->argv[3]),
			      (int)number(c->argv[2])));
}

/* recvfrom SLOT FLAGS SIZE */
static void op_recvfrom(struct call *c)
{
	char buf[BUF_SIZE] = {0};
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);
	ssize_t n = recvfrom(slot_fd(c->argv[1]), buf, room(c->argv[3]),
		(int)number(c->argv[2]), (struct sockaddr *)&addr, &len);

	say_received(c, buf, n);
	if (n >= 0)
		say_address(c, (struct sockaddr *)&addr, len);
}

/* What programs call that were built with _FORTIFY_SOURCE. */
static void op_read_chk(struct call *c)
{
	char buf[BUF_SIZE] = {0};

	say_received(c, buf,
		__read_chk(slot_fd(c->argv[1]), buf, room(c->argv[2]), sizeof(buf)));
}

static void op_recv_chk(struct call *c)
{
	char buf[BUF_SIZE] = {0};

	say_received(c, buf,
		__recv_chk(slot_fd(c->argv[1]), buf, room(c->argv[3]), sizeof(buf),
			(int)number(c->argv[2])));
}

static void op_recvfrom_chk(struct call *c)
{
	char buf[BUF_SIZE] = {0};

	say_received(c, buf,
		__recvfrom_chk(slot_fd(c->argv[1]), buf, room(c->argv[3]), sizeof(buf),
			(int)number(c->argv[2]), NULL, NULL));
}

/* Pieces of the sizes from argument @first on, one behind the other in @buf. */
static int pieces(struct call *c, int first, char *buf, struct iovec *iov)
{
	int n = MIN(c->argc - first, IOV_MAX_);
	size_t at = 0;

	for (int i = 0; i < n; i++) {
		iov[i] = (struct iovec){buf + at, room(c->argv[first + i])};
		at += iov[i].iov_len;
		if (at > BUF_SIZE)
			bad_scenario("too much", c->argv[first + i]);
	}
	return n;
}

/* readv SLOT SIZE... */
static void op_readv(struct call *c)
{
	char buf[BUF_SIZE] = {0};
	struct iovec iov[IOV_MAX_];
	int n_iov = pieces(c, 2, buf, iov);

	say_received(c, buf, readv(slot_fd(c->argv[1]), iov, n_iov));
}

/* recvmsg SLOT FLAGS SIZE... */
static void op_recvmsg(struct call *c)
{
	char buf[BUF_SIZE] = {0}, control[64], flags[128];
	struct sockaddr_storage addr = {0};
	struct iovec iov[IOV_MAX_];
	struct msghdr msg = {.msg_iov = iov,
		.msg_iovlen = (size_t)pieces(c, 3, buf, iov),
		.msg_name = &addr,
		.msg_namelen = sizeof(addr),
		.msg_control = control,
		.msg_controllen = sizeof(control),
		.msg_flags = MSG_OOB};
	ssize_t n = recvmsg(slot_fd(c->argv[1]), &msg, (int)number(c->argv[2]));

	say_received(c, buf, n);
	if (n >= 0)
		say(c, " namelen=%u controllen=%zu flags=%s", msg.msg_namelen,
			msg.msg_controllen,
			flag_names(
				flags, sizeof(flags), "MSG_", (unsigned)msg.msg_flags));
}

/* recvmmsg SLOT FLAGS SIZE...: each size a message's */
static void op_recvmmsg(struct call *c)
{
	char buf[BUF_SIZE] = {0};
	struct iovec iov[IOV_MAX_];
	struct mmsghdr msgs[IOV_MAX_] = {0};
	int n_iov = pieces(c, 3, buf, iov), n;

	for (int i = 0; i < n_iov; i++)
		msgs[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	n = recvmmsg(slot_fd(c->argv[1]), msgs, (unsigned)n_iov, (int)number(c->argv[2]),
		NULL);
	say_result(c, n);
	for (int i = 0; i < n; i++)
		say_bytes(c, iov[i].iov_base, msgs[i].msg_len);
}

const struct op data_ops[] = {
	{"write", op_write, 2},
	{"send", op_send, 3},
	{"sendto", op_sendto, 5},
	{"writev", op_writev, 2},
	{"sendmsg", op_sendmsg, 3},
	{"sendmmsg", op_sendmmsg, 3},
	{"read", op_read, 2},
	{"recv", op_recv, 3},
	{"recv_null", op_recv_null, 3},
	{"recvfrom", op_recvfrom, 3},
	{"read_chk", op_read_chk, 2},
	{"recv_chk", op_recv_chk, 3},
	{"recvfrom_chk", op_recvfrom_chk, 3},
	{"readv", op_readv, 2},
	{"recvmsg", op_recvmsg, 3},
	{"recvmmsg", op_recvmmsg, 3},
	{NULL, NULL, 0},
};
