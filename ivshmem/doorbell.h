/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An eventfd that somebody hostile holds as well. Whether it blocks is a flag of the open
 * file, so the other holder may change it at any time, and fill or take the count. Plain
 * read() and write() could then hang.
 */
#ifndef IVSHMEM_DOORBELL_H
#define IVSHMEM_DOORBELL_H

#include <stdbool.h>

/** doorbell_ring() - make @fd readable; never blocks; any thread
 * Where the kernel has no asynchronous I/O it looks before it writes, which leaves a
 * holder that is quick a small chance.
 */
void doorbell_ring(int fd);

/** doorbell_take() - set the count to 0
 * @block: wait for it not to be 0, if the descriptor is a blocking one
 * Return: 0, -EAGAIN if it was 0, or read()'s errors
 */
int doorbell_take(int fd, bool block);

#endif
