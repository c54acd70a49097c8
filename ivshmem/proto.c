/* SPDX-License-Identifier: BSD-3-Clause */
#include "ivshmem/proto.h"

#include <errno.h>
#include <sys/uio.h>

#include "lib/fdmsg.h"

void proto_encode(uint8_t buf[PROTO_MSG_SIZE], int64_t number)
{
	for (int i = 0; i < PROTO_MSG_SIZE; i++)
		buf[i] = (uint8_t)((uint64_t)number >> 8 * i);
}

int64_t proto_decode(const uint8_t buf[PROTO_MSG_SIZE])
{
	uint64_t number = 0;

	for (int i = 0; i < PROTO_MSG_SIZE; i++)
		number |= (uint64_t)buf[i] << 8 * i;
	return (int64_t)number;
}

int proto_send(int sock, int64_t number, int fd)
{
	union fdmsg control;
	uint8_t buf[PROTO_MSG_SIZE];
	struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	proto_encode(buf, number);
	fdmsg_put(&msg, &control, &fd, fd >= 0);
	do {
		n = sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	/* A UNIX socket takes 8 bytes in one piece; if ever not, the stream is broken. */
	return n == sizeof(buf) ? 0 : -EPIPE;
}
