/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receiving and sending on a connection, with the kernel's meaning of flags and errors.
 */
#ifndef IVSHMEM_SOCKET_STREAM_H
#define IVSHMEM_SOCKET_STREAM_H

#include <sys/types.h>
#include <sys/uio.h>

#include "conn.h"

/** stream_recv(), stream_send() - as recv() and send() into and from several pieces
 * @flags: MSG_*
 * Return: bytes, a negative errno, or CONN_USE_KERNEL
 */
ssize_t stream_recv(
	int fd, struct fdent e, const struct iovec *iov, size_t n_iov, int flags);
ssize_t stream_send(
	int fd, struct fdent e, const struct iovec *iov, size_t n_iov, int flags);

#endif
