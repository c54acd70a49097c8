/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a program said with SO_SNDBUF and SO_RCVBUF before it has a connection: it becomes
 * the size of the rings. The kernel keeps less than it's told (net.core.wmem_max), so it
 * is kept in the descriptor's word.
 */
#ifndef IVSHMEM_SOCKET_BUFFERS_H
#define IVSHMEM_SOCKET_BUFFERS_H

#include "fdtab.h"

/** buffers_say() - the kernel has taken this option for @fd, which may be no TCP socket
 */
void buffers_say(int fd, int name, int value);

/** buffers_said() - bytes of a ring, as of a descriptor that was @e
 * @name: SO_SNDBUF or SO_RCVBUF
 * Return: 0 if nothing was said
 */
uint32_t buffers_said(struct fdent e, int name);

/** buffers_default() - where nothing was said */
uint32_t buffers_default(void);

#endif
