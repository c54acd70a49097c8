/* SPDX-License-Identifier: BSD-3-Clause */
#include "mr.h"

#include "lib/util.h"

#include <errno.h>
#include <stdlib.h>

struct mr_table {
	struct mr *slot[MR_MAX];
	uint32_t n_used;
};

int mr_table_create(struct mr_table **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void mr_table_destroy(struct mr_table *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i < MR_MAX; i++)
		free(t->slot[i]);
	free(t);
}

int mr_register(struct mr_table *t, const struct mr *mr, uint32_t *key)
{
	uint64_t end;
	struct mr *copy;
	uint32_t k;

	if (__builtin_add_overflow(mr->iova, mr->length, &end) ||
		__builtin_add_overflow((uint64_t)(uintptr_t)mr->addr, mr->length, &end))
		return -EINVAL;
	/* Half full at most: a random slot is then free at the second try on average. */
	if (t->n_used >= MR_MAX / 2)
		return -ENOMEM;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;

	do {
		k = random_u32();
	} while (k == 0 || t->slot[k % MR_MAX]);

	*copy = *mr;
	copy->key = k;
	t->slot[k % MR_MAX] = copy;
	t->n_used++;
	*key = k;
	return 0;
}

void mr_deregister(struct mr_table *t, uint32_t key)
{
	struct mr *mr = t->slot[key % MR_MAX];

	if (!mr || mr->key != key)
		return;
	t->slot[key % MR_MAX] = NULL;
	t->n_used--;
	free(mr);
}

uint8_t *mr_resolve(const struct mr_table *t, uint32_t key, uint32_t pd, uint64_t va,
	uint64_t len, int access)
{
	const struct mr *mr = t->slot[key % MR_MAX];
	uint64_t off;

	if (!mr || mr->key != key || mr->pd != pd || (mr->access & access) != access)
		return NULL;
	off = va - mr->iova;
	if (va < mr->iova || off > mr->length || len > mr->length - off)
		return NULL;
	return mr->addr + off;
}
