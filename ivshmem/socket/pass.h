/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections that go to another process with a message (SCM_RIGHTS).
 */
#ifndef IVSHMEM_SOCKET_PASS_H
#define IVSHMEM_SOCKET_PASS_H

#include <sys/socket.h>

/** pass_sendmsg(), pass_recvmsg() - sendmsg() and recvmsg() of the kernel's sockets */
ssize_t pass_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t pass_recvmsg(int fd, struct msghdr *msg, int flags);

#endif
