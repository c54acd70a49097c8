/* SPDX-License-Identifier: BSD-3-Clause */
#include "mw.h"
#include "mr_priv.h"

#include <errno.h>

static struct mr *find(const struct mr_table *t, uint32_t key)
{
	struct mr *mr = idtable_find(&t->keys, key);

	return mr && mr->kind != MR_REGION ? mr : NULL;
}

int mw_alloc(struct mr_table *t, uint32_t pd, enum ibv_mw_type type, uint32_t *key)
{
	struct mr window = {.pd = pd}, *mr;
	int rc;

	if (type != IBV_MW_TYPE_1 && type != IBV_MW_TYPE_2)
		return -EINVAL;
	if (t->n_windows == MW_MAX)
		return -ENOMEM;
	window.kind = type == IBV_MW_TYPE_1 ? MR_WINDOW_1 : MR_WINDOW_2;
	rc = mr_table_add(t, &window, &mr);
	if (rc)
		return rc;
	/* so that small numbers can be added to it */
	mr->key &= ~MW_KEY_BITS;
	t->n_windows++;
	*key = mr->key;
	return 0;
}

static void unbind(struct mr *mr)
{
	if (!mr->region)
		return;
	mr->region->n_windows--;
	mr->region = NULL;
	mr->length = 0; /* lets nobody in */
	if (mr->kind == MR_WINDOW_2)
		LIST_REMOVE(mr, entry);
}

void mw_dealloc(struct mr_table *t, uint32_t key)
{
	struct mr *mr = find(t, key);

	if (!mr)
		return;
	unbind(mr);
	mr_table_remove(t, mr);
	t->n_windows--;
}

void mw_unbind_all(struct mw_list *windows)
{
	while (!LIST_EMPTY(windows))
		unbind(LIST_FIRST(windows));
}

/* Return: the region, if @b may show what it says of it (10.6.7.2.3) */
static struct mr *region_for(
	const struct mr_table *t, const struct mw_binding *b, uint32_t pd)
{
	const int writes = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
	struct mr *region = mr_find_region(t, b->lkey);

	if (!region || region->pd != pd || !(region->access & IBV_ACCESS_MW_BIND))
		return NULL;
	if ((b->access & writes) && !(region->access & IBV_ACCESS_LOCAL_WRITE))
		return NULL;
	return mr_spans(region, b->addr, b->length) ? region : NULL;
}

static void show(struct mr *mr, struct mr *region, const struct mw_binding *b)
{
	mr->region = region;
	region->n_windows++;
	mr->access = b->access & ~IBV_ACCESS_ZERO_BASED;
	mr->iova = b->access & IBV_ACCESS_ZERO_BASED ? 0 : b->addr;
	mr->length = b->length;
	mr->addr = region->addr + (b->addr - region->iova);
}

int mw_bind(struct mr_table *t, const struct mw_binding *b, const struct mw_user *user)
{
	struct mr *mr = find(t, b->key), *region = NULL;

	if (!mr || mr->pd != user->pd)
		return -EINVAL;
	if (mr->kind == MR_WINDOW_2 && (mr->region || !b->length))
		return -EINVAL;
	if (b->length) {
		region = region_for(t, b, user->pd);
		if (!region)
			return -EINVAL;
	}
	unbind(mr);
	mr->key = (mr->key & ~MW_KEY_BITS) | (b->new_key & MW_KEY_BITS);
	if (region)
		show(mr, region, b);
	if (mr->kind == MR_WINDOW_2) {
		mr->qpn = user->qpn;
		LIST_INSERT_HEAD(user->windows, mr, entry);
	}
	return 0;
}

int mw_invalidate(struct mr_table *t, uint32_t key, const struct mw_user *user)
{
	struct mr *mr = find(t, key);

	if (!mr || mr->key != key || mr->kind != MR_WINDOW_2 || !mr->region)
		return -EINVAL;
	if (mr->pd != user->pd || mr->qpn != user->qpn)
		return -EINVAL;
	unbind(mr);
	return 0;
}
