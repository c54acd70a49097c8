/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A part of a region's memory as a process gets it: what it is to map for it, in units
 * that can be mapped.
 */
#ifndef IVSHMEM_GUEST_CHANNEL_H
#define IVSHMEM_GUEST_CHANNEL_H

#include <sys/stat.h>

#include "ivshmem/directory_elsewhere.h"
#include "ivshmem/guest/area.h"
#include "lib/util.h"

/** channel_unit() - mappings of a file of @size bytes begin and end at its multiples
 * Source: Linux hugetlbfs, which shows its page size as the block size
 */
static inline uint64_t channel_unit(int fd, uint64_t size)
{
	struct stat st;
	uint64_t unit;

	if (fstat(fd, &st))
		return AREA_PAGE;
	unit = MAX((uint64_t)st.st_blksize, AREA_PAGE);
	return size % unit ? AREA_PAGE : unit;
}

/** channel_at() - @size bytes at @offset in the file; its lifetime is set elsewhere */
static inline struct channel channel_at(
	int fd, uint64_t unit, uint64_t offset, uint64_t size)
{
	uint64_t begin = offset / unit * unit;
	uint64_t end = (offset + size + unit - 1) / unit * unit;

	return (struct channel){.memory = {begin, end - begin, offset, size},
		.fd = fd,
		.lifetime_fd = -1};
}

#endif
