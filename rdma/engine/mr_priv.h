/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of keys, which regions (mr.c) and windows (mw.c) share.
 */
#ifndef RDMA_ENGINE_MR_PRIV_H
#define RDMA_ENGINE_MR_PRIV_H

#include <stdbool.h>

#include "idtable.h"
#include "mr.h"
#include "mw.h"

/* A key's lower 8 bits are not the table's: users of windows may choose them. */
#define MR_OWN_BITS 8

struct mr_table {
	struct idtable keys;
	uint32_t n_regions;
	uint32_t n_windows;
};

/* Put a copy of @mr in, with a key of its own. Return: 0 or -ENOMEM */
int mr_table_add(struct mr_table *t, const struct mr *mr, struct mr **out);
/* Take it out and free it. */
void mr_table_remove(struct mr_table *t, struct mr *mr);

/* Do @len bytes from @va on lie in it? */
bool mr_spans(const struct mr *mr, uint64_t va, uint64_t len);

static inline struct mr *mr_find_region(const struct mr_table *t, uint32_t key)
{
	struct mr *mr = idtable_find(&t->keys, key);

	return mr && mr->key == key && mr->kind == MR_REGION ? mr : NULL;
}

#endif
