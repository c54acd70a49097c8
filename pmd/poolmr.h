/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of a mempool of our own, registered chunk by chunk: an object lies in one
 * chunk, so it has one key. (Of DPDK's heap as a whole, heap.h, that cannot be said.)
 */
#ifndef PMD_POOLMR_H
#define PMD_POOLMR_H

#include <stdint.h>
#include <infiniband/verbs.h>

#include <rte_mempool.h>

struct poolmr {
	struct ibv_mr **mrs;
	uint32_t n_mrs;
};

/** poolmr_init() - register all of a populated mempool
 * @access: IBV_ACCESS_*
 * Return: 0 or a negative errno; then there is nothing to destroy
 */
int poolmr_init(struct poolmr *poolmr, struct rte_mempool *mempool, struct ibv_pd *pd,
	int access);
void poolmr_destroy(struct poolmr *poolmr);

/** poolmr_lkey() - the key of an object of the mempool */
uint32_t poolmr_lkey(const struct poolmr *poolmr, const void *object);

#endif
