/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See poolmr.h.
 */
#include "pmd/poolmr.h"

#include <errno.h>
#include <stdlib.h>

struct setup {
	struct poolmr *poolmr;
	struct ibv_pd *pd;
	int access;
	int err;
};

static void register_chunk(struct rte_mempool *mempool, void *opaque,
	struct rte_mempool_memhdr *chunk, unsigned index)
{
	struct setup *setup = opaque;
	struct ibv_mr *mr = ibv_reg_mr(setup->pd, chunk->addr, chunk->len, setup->access);

	if (mr)
		setup->poolmr->mrs[setup->poolmr->n_mrs++] = mr;
	else
		setup->err = -errno;
}

int poolmr_init(
	struct poolmr *poolmr, struct rte_mempool *mempool, struct ibv_pd *pd, int access)
{
	struct setup setup = {.poolmr = poolmr, .pd = pd, .access = access};

	poolmr->n_mrs = 0;
	poolmr->mrs = calloc(mempool->nb_mem_chunks, sizeof(struct ibv_mr *));
	if (!poolmr->mrs)
		return -ENOMEM;
	rte_mempool_mem_iter(mempool, register_chunk, &setup);
	if (setup.err)
		poolmr_destroy(poolmr);
	return setup.err;
}

void poolmr_destroy(struct poolmr *poolmr)
{
	for (uint32_t i = 0; i < poolmr->n_mrs; i++)
		ibv_dereg_mr(poolmr->mrs[i]);
	free(poolmr->mrs);
	poolmr->mrs = NULL;
	poolmr->n_mrs = 0;
}

uint32_t poolmr_lkey(const struct poolmr *poolmr, const void *object)
{
	for (uint32_t i = 0; i < poolmr->n_mrs; i++) {
		const struct ibv_mr *mr = poolmr->mrs[i];

		if ((uintptr_t)object - (uintptr_t)mr->addr < mr->length)
			return mr->lkey;
	}
	return 0; /* not an object of the mempool: no key fits */
}
