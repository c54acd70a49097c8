/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The shared memory of a region: an anonymous file (memfd) that nobody can make larger or
 * smaller, with all of its pages allocated, so that no client can make another one's
 * access fail by shrinking it and no client fails later for want of memory.
 */
#ifndef IVSHMEM_MEMORY_H
#define IVSHMEM_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

enum memory_huge {
	MEMORY_HUGE_AUTO, /* huge pages if enough are free */
	MEMORY_HUGE_ALWAYS,
	MEMORY_HUGE_NEVER,
};

/** memory_create() - make a region's memory, zeroed
 * @fd:      set to the file; the caller's
 * @is_huge: set to whether it is of huge pages
 * @name:    shown in /proc; at most 200 characters
 * @size:    bytes; huge pages need a multiple of their size (2 MiB on x86)
 * Return: 0 or a negative errno: -ENOMEM, -ENOSPC or -EINVAL when there are no huge pages
 * for @size and @huge is MEMORY_HUGE_ALWAYS
 */
int memory_create(
	int *fd, bool *is_huge, const char *name, uint64_t size, enum memory_huge huge);

/** memory_create_channel() - memory for the two ends of a connection alone; its pages are
 * theirs who touch them first
 * Return: 0 or a negative errno
 */
int memory_create_channel(int *fd, uint64_t size);

#endif
