/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory regions: key -> memory of this process.
 *
 * Keys are 32 random bits, so that none can be guessed from another (idtable.h). Owned by
 * the engine's caller, as all of the engine (engine.h).
 */
#ifndef RDMA_ENGINE_MR_H
#define RDMA_ENGINE_MR_H

#include <stdint.h>

#define MR_MAX (1u << 18)

/** struct mr - one region; lkey and rkey are the same number */
struct mr {
	uint32_t key; /* first, as idtable.h wants it */
	uint32_t pd;
	int access;    /* enum ibv_access_flags */
	uint64_t iova; /* address that peers and scatter/gather lists use */
	uint64_t length;
	uint8_t *addr; /* where @iova lies in this process */
};

struct mr_table;

int mr_table_create(struct mr_table **out);
void mr_table_destroy(struct mr_table *t);

/** mr_register() - add a region
 * @mr: all but key set; copied
 * @key: out
 * Return: 0, -EINVAL (the region wraps around the address space), -ENOMEM (table full)
 */
int mr_register(struct mr_table *t, const struct mr *mr, uint32_t *key);

/** mr_deregister() - drop a region; its key is invalid from now on */
void mr_deregister(struct mr_table *t, uint32_t key);

/** mr_resolve() - check an access and find the memory
 * @access: flags that the region must have, all of them; 0 for a local read
 * Return: the memory, or NULL: no such key, another protection domain, out of bounds,
 *         or access not granted
 */
uint8_t *mr_resolve(const struct mr_table *t, uint32_t key, uint32_t pd, uint64_t va,
	uint64_t len, int access);

#endif
