/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How connections come about: docs/socket-shim.md, section 3.
 */
#ifndef IVSHMEM_SOCKET_SETUP_H
#define IVSHMEM_SOCKET_SETUP_H

#include <stdbool.h>
#include <stdint.h>

#include "fdtab.h"

/** setup_unpublish() - a listening descriptor, which is @e, is about to be closed */
void setup_unpublish(int fd, struct fdent e);

/** setup_republish() - a listener is used by a process that did not publish it */
void setup_republish(int fd, struct fdent e);

/** setup_dup() - @to is the same listener as one that is @e */
void setup_dup(struct fdent e, int to);

/** setup_fork_lock() - before, after: no thread is publishing */
void setup_fork_lock(bool take);

/** setup_forked() - in the child: what the parent published is the parent's */
void setup_forked(void);

#endif
