/* SPDX-License-Identifier: BSD-3-Clause */
#include "mr.h"
#include "idtable.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

/* A key's lower 8 bits are not the table's: users of windows may choose them. */
#define OWN_BITS 8

static_assert(offsetof(struct mr, key) == 0, "as idtable.h wants it");

struct mr_table {
	struct idtable keys;
};

int mr_table_create(struct mr_table **out)
{
	struct mr_table *t = malloc(sizeof(*t));

	if (!t)
		return -ENOMEM;
	if (idtable_init(&t->keys, MR_MAX, OWN_BITS)) {
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

int mr_register(struct mr_table *t, const struct mr *mr, uint32_t *key)
{
	uint64_t end;
	struct mr *copy;

	if (__builtin_add_overflow(mr->iova, mr->length, &end) ||
		__builtin_add_overflow((uint64_t)(uintptr_t)mr->addr, mr->length, &end))
		return -EINVAL;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *mr;
	if (idtable_add(&t->keys, copy, UINT32_MAX)) {
		free(copy);
		return -ENOMEM;
	}
	*key = copy->key;
	return 0;
}

void mr_deregister(struct mr_table *t, uint32_t key)
{
	struct mr *mr = idtable_find(&t->keys, key);

	if (!mr || mr->key != key)
		return;
	idtable_remove(&t->keys, mr);
	free(mr);
}

uint8_t *mr_resolve(const struct mr_table *t, uint32_t key, uint32_t pd, uint64_t va,
	uint64_t len, int access)
{
	const struct mr *mr = idtable_find(&t->keys, key);
	uint64_t off;

	if (!mr || mr->key != key || mr->pd != pd || (mr->access & access) != access)
		return NULL;
	off = va - mr->iova;
	if (va < mr->iova || off > mr->length || len > mr->length - off)
		return NULL;
	return mr->addr + off;
}
