/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waiting for a ring: spin for a bounded time, then sleep on the bell. The time adapts: a
 * busy connection is polled, an idle one costs nothing.
 */
#ifndef IVSHMEM_SHRING_WAIT_H
#define IVSHMEM_SHRING_WAIT_H

#include "ivshmem/shring.h"

/* One per thread that waits; begin with {.max_ns = ...}. */
struct shring_spin {
	uint64_t max_ns; /* longest time to spin; 0: always sleep */
	uint64_t ns;	 /* to spin next time */
};

/** shring_wait() - until @dir can go on, or the connection has ended
 * @fd:         eventfd that the peer's bell for @dir rings; no other thread waits on it
 * @timeout_ns: negative: for ever; 0: look once
 * Return: 0, -ETIMEDOUT, -EINTR (a signal came while asleep), or poll()'s other errors
 */
int shring_wait(struct shring *r, enum shring_dir dir, int fd, struct shring_spin *spin,
	int64_t timeout_ns);

#endif
