/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The processes that share connections by fork, and which has which. A process that is
 * killed can't say that it gives up what it had; others find out and say it for it.
 *
 * Each has a number. It holds a lock of the kernel's (fcntl()) on that byte of a file
 * that all have, which the kernel takes away when the process ends, however that comes;
 * exec keeps it. A child that is killed before its fork() returns is not known; nor are
 * more than FAMILY_MAX processes.
 */
#ifndef IVSHMEM_SOCKET_FAMILY_H
#define IVSHMEM_SOCKET_FAMILY_H

#include <stdatomic.h>
#include <stdint.h>

#include "lock.h"

#define FAMILY_MAX    1024
#define FAMILY_THINGS 65536 /* that a process may have */

/* In memory that all share; zeros in the beginning. */
struct family {
	struct lock lock;	    /* for numbers: given, and taken away from the dead */
	_Atomic uint32_t n_numbers; /* ever given */
	_Atomic uint32_t taken[FAMILY_MAX];
	_Atomic uint64_t has[FAMILY_MAX][FAMILY_THINGS / 64];
};

/** family_open() - be of a family; before fork and exec
 * @fd:   borrowed for good: the file for locks. No other descriptor of it may be closed
 * by this process but by family_close().
 * @lost: called for each thing that a dead process had
 */
void family_open(struct family *f, int fd, void (*lost)(uint32_t thing));

/** family_take(), family_give() - this process has @thing now, or no more */
void family_take(uint32_t thing);
void family_give(uint32_t thing);

/** family_bury() - look for dead processes among those that have @thing */
void family_bury(uint32_t thing);

/** family_bury_all() - look for dead processes */
void family_bury_all(void);

/** family_close() - close a descriptor that may be another one of the file. That loses
 * the lock, so nobody looks until it is there again.
 */
void family_close(int fd);

/** family_leave() - this process ends, or it is a child: it has nothing, and no number */
void family_leave(void);
void family_forked(void);

/** family_number() - for exec: the number, -1: none; the next program's is the same */
int family_number(void);
void family_adopt(int number);

#endif
