/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The death of a peer's guest. A process that dies leaves a kernel that ends the shadow;
 * a guest that dies leaves nobody. So the kernel here is to look after the shadow, as it
 * does by TCP's own keepalive, and the program sees the options as it set them.
 */
#ifndef IVSHMEM_SOCKET_KEEPALIVE_H
#define IVSHMEM_SOCKET_KEEPALIVE_H

#include <sys/socket.h>

#include "conn.h"

/** keepalive_begin() - look after the shadow @fd of @c, if its peer is far */
void keepalive_begin(struct conn *c, int fd);

/** keepalive_end() - the connection is the kernel's: the options as the program set them
 */
void keepalive_end(const struct conn *c, int fd);

/** keepalive_option() - where the program's value of an option is that we have set
 * Return: it, or NULL
 */
int *keepalive_option(struct conn *c, int level, int name);

/** keepalive_set() - the program sets such an option: the kernel judges the value
 * Return: as setsockopt()
 */
int keepalive_set(
	struct conn *c, int fd, int level, int name, const void *value, socklen_t len);

#endif
