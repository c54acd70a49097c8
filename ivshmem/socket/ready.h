/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What poll() and epoll say of a connection.
 */
#ifndef IVSHMEM_SOCKET_READY_H
#define IVSHMEM_SOCKET_READY_H

#include "conn.h"
#include "wait.h"

/** ready_mask() - the events, of @wanted and those that always count
 * @wanted: POLL*, which are EPOLL* as well
 */
uint32_t ready_mask(int fd, struct fdent e, uint32_t wanted);

/** ready_watch() - what of the kernel's to wait for in poll(), POLL*; 0: nothing */
uint32_t ready_watch(const struct conn *c, uint32_t wanted);

/** ready_doze() - about to sleep until one of @wanted: arm what has to be
 * DOZE_SLEEP: armed, and doze_end() for those of @dozing is needed later
 * @dozing: set to a bit for each enum shring_dir
 */
enum doze ready_doze(int fd, struct fdent e, uint32_t wanted, uint32_t *dozing);
void ready_wake(int fd, struct fdent e, uint32_t dozing);

#endif
