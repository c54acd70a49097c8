/* SPDX-License-Identifier: BSD-3-Clause */
#include "mr.h"
#include "mr_priv.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

static_assert(offsetof(struct mr, key) == 0, "as idtable.h wants it");

int mr_table_create(struct mr_table **out)
{
	struct mr_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	if (idtable_init(&t->keys, MR_MAX + MW_MAX, MR_OWN_BITS)) {
		free(t);
		return -ENOMEM;
	}
	*out = t;
	return 0;
}

void mr_table_destroy(struct mr_table *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i <= t->keys.mask; i++)
		free(t->keys.slots[i]);
	idtable_destroy(&t->keys);
	free(t);
}

int mr_table_add(struct mr_table *t, const struct mr *mr, struct mr **out)
{
	struct mr *copy = malloc(sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	*copy = *mr;
	if (idtable_add(&t->keys, copy, UINT32_MAX)) {
		free(copy);
		return -ENOMEM;
	}
	*out = copy;
	return 0;
}

void mr_table_remove(struct mr_table *t, struct mr *mr)
{
	idtable_remove(&t->keys, mr);
	free(mr);
}

int mr_register(struct mr_table *t, const struct mr *mr, uint32_t *key)
{
	struct mr region = *mr, *copy;
	uint64_t end;
	int rc;

	if (__builtin_add_overflow(mr->iova, mr->length, &end) ||
		__builtin_add_overflow((uint64_t)(uintptr_t)mr->addr, mr->length, &end))
		return -EINVAL;
	if (t->n_regions == MR_MAX)
		return -ENOMEM;
	region.kind = MR_REGION;
	region.n_windows = 0;
	rc = mr_table_add(t, &region, &copy);
	if (rc)
		return rc;
	t->n_regions++;
	*key = copy->key;
	return 0;
}

int mr_deregister(struct mr_table *t, uint32_t key)
{
	struct mr *mr = mr_find_region(t, key);

	if (!mr)
		return 0;
	if (mr->n_windows)
		return -EBUSY;
	mr_table_remove(t, mr);
	t->n_regions--;
	return 0;
}

bool mr_spans(const struct mr *mr, uint64_t va, uint64_t len)
{
	uint64_t off = va - mr->iova;

	return va >= mr->iova && off <= mr->length && len <= mr->length - off;
}

static uint8_t *resolve(
	const struct mr *mr, uint32_t pd, uint64_t va, uint64_t len, int access)
{
	if (mr->pd != pd || (mr->access & access) != access || !mr_spans(mr, va, len))
		return NULL;
	return mr->addr + (va - mr->iova);
}

uint8_t *mr_resolve(const struct mr_table *t, uint32_t key, uint32_t pd, uint64_t va,
	uint64_t len, int access)
{
	const struct mr *mr = mr_find_region(t, key);

	return mr ? resolve(mr, pd, va, len, access) : NULL;
}

uint8_t *mr_resolve_remote(const struct mr_table *t, uint32_t key, uint32_t pd,
	uint32_t qpn, uint64_t va, uint64_t len, int access)
{
	const struct mr *mr = idtable_find(&t->keys, key);

	if (!mr || mr->key != key || (mr->kind == MR_WINDOW_2 && mr->qpn != qpn))
		return NULL;
	return resolve(mr, pd, va, len, access);
}
