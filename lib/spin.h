/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A lock for a few instructions, inline: who finds it taken turns round, and gives the
 * processor away when that takes long, as then its holder has none; in the end by
 * sleeping, since a real-time thread gives it to nobody otherwise.
 */
#ifndef LIB_SPIN_H
#define LIB_SPIN_H

#include <stdatomic.h>
#include <stdint.h>

#include "util.h"

struct spin {
	_Atomic uint32_t held; /* 0: free */
};

/** spin_wait() - return when @s was seen free */
void spin_wait(struct spin *s);

static inline void spin_lock(struct spin *s)
{
	/* Pairs with the release in spin_unlock(). */
	while (unlikely(atomic_exchange_explicit(&s->held, 1, memory_order_acquire)))
		spin_wait(s);
}

static inline void spin_unlock(struct spin *s)
{
	atomic_store_explicit(&s->held, 0, memory_order_release);
}

#endif
