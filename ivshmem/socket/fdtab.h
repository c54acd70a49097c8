/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What each descriptor of this process is to the library. One word per descriptor, read
 * without a lock at the beginning of every call: 0, nearly always, means the kernel's.
 */
#ifndef IVSHMEM_SOCKET_FDTAB_H
#define IVSHMEM_SOCKET_FDTAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/util.h"

#define FDTAB_SIZE (1u << 20)

enum fd_kind {
	FD_KERNEL,
	FD_TCP,	     /* a TCP socket that may become one of the next two */
	FD_LISTENER, /* published in the directory */
	FD_CONN,     /* index: of its struct conn */
	FD_EPOLL,    /* index: of its set */
	FD_OURS,     /* the library's own, not to be closed by the program */
};

/* The generation tells a descriptor from another one that got its number and index. */
struct fdent {
	uint32_t kind : 8;
	uint32_t index : 24;
	uint32_t generation;
};

union fdword {
	struct fdent e;
	uint64_t word;
};

extern _Atomic uint64_t *fdtab; /* FDTAB_SIZE; NULL before fdtab_init() */

void fdtab_init(void);

static inline struct fdent fdtab_get(int fd)
{
	union fdword w = {.word = 0};

	if (likely((unsigned)fd < FDTAB_SIZE && fdtab))
		w.word = atomic_load_explicit(&fdtab[fd], memory_order_acquire);
	return w.e;
}

void fdtab_set(int fd, struct fdent e);

static inline bool fdtab_is(int fd, struct fdent e)
{
	union fdword a = {.e = fdtab_get(fd)}, b = {.e = e};

	return a.word == b.word;
}

/** fdtab_top() - no descriptor above is anything but the kernel's */
int fdtab_top(void);

/** fdtab_protect() - move a descriptor of ours out of the way of the program's
 * @fd: consumed
 * Return: its new number, or -1
 */
int fdtab_protect(int fd);

/** fdtab_release() - close one of ours */
void fdtab_release(int fd);

#endif
