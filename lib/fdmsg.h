/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptors that go with a message over a UNIX socket (SCM_RIGHTS). In the header, as
 * the caller decides which sendmsg() and recvmsg() it calls.
 */
#ifndef LIB_FDMSG_H
#define LIB_FDMSG_H

#include <string.h>
#include <sys/socket.h>

#define FDMSG_MAX 65 /* with one message */

union fdmsg {
	struct cmsghdr hdr;
	char space[CMSG_SPACE(FDMSG_MAX * sizeof(int))];
};

/** fdmsg_put() - let @n descriptors, 0..FDMSG_MAX, go with @msg
 * @control: borrowed until @msg is sent
 */
static inline void fdmsg_put(
	struct msghdr *msg, union fdmsg *control, const int *fds, int n)
{
	size_t size = (size_t)n * sizeof(int);

	if (!n)
		return;
	memset(control, 0, CMSG_SPACE(size));
	control->hdr.cmsg_level = SOL_SOCKET;
	control->hdr.cmsg_type = SCM_RIGHTS;
	control->hdr.cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(&control->hdr), fds, size);
	msg->msg_control = control->space;
	msg->msg_controllen = CMSG_SPACE(size);
}

/** fdmsg_expect() - have room for the descriptors that come with @msg
 * @control: borrowed until fdmsg_take()
 */
static inline void fdmsg_expect(struct msghdr *msg, union fdmsg *control)
{
	msg->msg_control = control->space;
	/* not all of it: CMSG_SPACE() is rounded up, to one descriptor more */
	msg->msg_controllen = CMSG_LEN(FDMSG_MAX * sizeof(int));
}

/** fdmsg_take() - those that came
 * @fds: FDMSG_MAX
 * Return: how many; they are the caller's
 */
static inline int fdmsg_take(struct msghdr *msg, int *fds)
{
	int n = 0, more;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		more = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds + n, CMSG_DATA(h), (size_t)more * sizeof(int));
		n += more;
	}
	return n;
}

#endif
