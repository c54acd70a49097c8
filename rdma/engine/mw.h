/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory windows (specification 10.6.7): keys for a part of a region, to be given to
 * peers and taken away again without registering anything.
 *
 * A window of type 1 serves all queue pairs of its protection domain; what it shows is
 * changed by binding it again. One of type 2 (2B) serves the queue pair that it was bound
 * through, and is bound again only when it was invalidated, from here or by that peer.
 *
 * Of a key the lower 8 bits may be chosen with each bind; the others are random and stay.
 *
 * Locking: as mr.h.
 */
#ifndef RDMA_ENGINE_MW_H
#define RDMA_ENGINE_MW_H

#include <infiniband/verbs.h>

#include "mr.h"

#define MW_MAX	    (1u << 18)
#define MW_KEY_BITS 0xffu /* of a key: the user's choice */
/* what a window may allow, and how it is addressed */
#define MW_ACCESS                                                                      \
	(IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC | \
		IBV_ACCESS_ZERO_BASED)

/** struct mw_list - windows of type 2 that are bound through one queue pair */
LIST_HEAD(mw_list, mr);

/** struct mw_user - a queue pair, as windows see it */
struct mw_user {
	uint32_t pd;
	uint32_t qpn;
	struct mw_list *windows;
};

/** struct mw_binding - what a window is to show */
struct mw_binding {
	uint64_t addr; /* in the region's terms */
	uint64_t length;
	uint32_t key;	  /* of the window, lower 8 bits not looked at */
	uint32_t new_key; /* only its lower 8 bits */
	uint32_t lkey;	  /* of the region */
	int access;	  /* of MW_ACCESS */
};

/** mw_alloc() - a window that shows nothing yet
 * Return: 0, -EINVAL (type), -ENOMEM
 */
int mw_alloc(struct mr_table *t, uint32_t pd, enum ibv_mw_type type, uint32_t *key);
/** mw_dealloc() - end a window, bound or not; the lower 8 bits of @key don't matter */
void mw_dealloc(struct mr_table *t, uint32_t key);

/** mw_bind() - let a window show something else; with type 1 and no bytes, nothing
 * Return: 0, or -EINVAL: no such window or region, another protection domain, out of
 *         the region's bounds, more than it allows, or (type 2) bound already
 */
int mw_bind(struct mr_table *t, const struct mw_binding *b, const struct mw_user *user);

/** mw_invalidate() - let a window of type 2 show nothing
 * @key: all of it
 * Return: 0, or -EINVAL: not bound through @user
 */
int mw_invalidate(struct mr_table *t, uint32_t key, const struct mw_user *user);

/** mw_unbind_all() - their queue pair goes */
void mw_unbind_all(struct mw_list *windows);

#endif
