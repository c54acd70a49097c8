/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory regions: key -> memory of this process. Windows (mw.h) have keys as well.
 *
 * Keys are 32 random bits, so that none can be guessed from another (idtable.h). Owned by
 * the engine's caller, as all of the engine (engine.h).
 */
#ifndef RDMA_ENGINE_MR_H
#define RDMA_ENGINE_MR_H

#include <stdint.h>
#include <sys/queue.h>

#define MR_MAX (1u << 18)

enum mr_kind { MR_REGION, MR_WINDOW_1, MR_WINDOW_2 };

/** struct mr - one region, or what a window shows of one; lkey and rkey are the same
 * number
 */
struct mr {
	uint32_t key; /* first, as idtable.h wants it */
	uint32_t pd;
	int access;    /* enum ibv_access_flags */
	uint64_t iova; /* address that peers and scatter/gather lists use */
	uint64_t length;
	uint8_t *addr; /* where @iova lies in this process */

	/* The table's own: */
	enum mr_kind kind;
	uint32_t n_windows; /* region: windows that are bound to it */
	struct mr *region;  /* window: what it is bound to, or NULL */
	/* window of type 2 that is bound: through what queue pair */
	uint32_t qpn;
	LIST_ENTRY(mr) entry;
};

struct mr_table;

int mr_table_create(struct mr_table **out);
void mr_table_destroy(struct mr_table *t);

/** mr_register() - add a region
 * @mr: all but key and the table's own set; copied
 * @key: out
 * Return: 0, -EINVAL (the region wraps around the address space), -ENOMEM (table full)
 */
int mr_register(struct mr_table *t, const struct mr *mr, uint32_t *key);

/** mr_deregister() - drop a region; its key is invalid from now on
 * Return: 0, or -EBUSY: a window is bound to it
 */
int mr_deregister(struct mr_table *t, uint32_t key);

/** mr_resolve() - check a local access and find the memory
 * @key: a region's
 * @access: flags that the region must have, all of them; 0 for a local read
 * Return: the memory, or NULL: no such key, another protection domain, out of bounds,
 *         or access not granted
 */
uint8_t *mr_resolve(const struct mr_table *t, uint32_t key, uint32_t pd, uint64_t va,
	uint64_t len, int access);

/** mr_resolve_remote() - the same for a peer, which may have the key of a window
 * @qpn: the queue pair that it speaks to
 */
uint8_t *mr_resolve_remote(const struct mr_table *t, uint32_t key, uint32_t pd,
	uint32_t qpn, uint64_t va, uint64_t len, int access);

#endif
