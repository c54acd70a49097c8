/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Scatter/gather lists: walking them, with each piece's key checked on the way.
 */
#ifndef RDMA_ENGINE_SGE_H
#define RDMA_ENGINE_SGE_H

#include <sys/uio.h>
#include <infiniband/verbs.h>

#include "mr.h"

/** struct sge_list - a list and what its keys belong to; all borrowed */
struct sge_list {
	const struct mr_table *mrs;
	uint32_t pd;
	uint32_t n;
	const struct ibv_sge *sge;
};

/** struct sge_cursor - a place in a list; zero is its beginning */
struct sge_cursor {
	uint32_t index;
	uint32_t offset; /* inside the piece, bytes */
};

/** sge_seek() - the place @offset bytes from the beginning */
struct sge_cursor sge_seek(const struct sge_list *list, uint64_t offset);

/** sge_gather() - point @iov at the next @len bytes of a list
 * @at:     moved on, on success only
 * @access: as mr_resolve() has it
 * @max:    room in @iov
 * Return: number of pieces, -ENOBUFS (more than @max), -EFAULT (a key does not allow it,
 *         or the list is shorter)
 */
int sge_gather(const struct sge_list *list, struct sge_cursor *at, uint32_t len,
	int access, struct iovec *iov, int max);

/** sge_scatter() - copy @data to the next @len bytes of a list; moves @at
 * Return: 0, -EMSGSIZE (the list ends before), -EFAULT (a key does not allow it)
 */
int sge_scatter(const struct sge_list *list, struct sge_cursor *at, const void *data,
	uint32_t len);

#endif
