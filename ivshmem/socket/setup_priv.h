/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What publish.c (listening) and setup.c (accepting, connecting) share.
 */
#ifndef IVSHMEM_SOCKET_SETUP_PRIV_H
#define IVSHMEM_SOCKET_SETUP_PRIV_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "setup.h"

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage storage;
};

/* publish.c */
bool setup_is_tcp(int fd);
/* @fd listens: publish it */
void setup_listener_add(int fd);
/* @accepted came to the listener @fd, which is @e, without a ring. Does the directory
 * know the address that it came to? If the host has got it since then, publish again.
 */
void setup_check_address(int fd, struct fdent e, int accepted);

#endif
