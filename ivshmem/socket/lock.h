/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A lock in memory that processes share: the holder's thread ID, and a bit that somebody
 * waits. Never held while asleep, so one that does not become free has lost its holder.
 */
#ifndef IVSHMEM_SOCKET_LOCK_H
#define IVSHMEM_SOCKET_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/util.h"

#define LOCK_WAITED 0x80000000u

struct lock {
	_Atomic uint32_t word;
};

extern __thread uint32_t lock_tid __attribute__((tls_model("initial-exec")));

bool lock_take_slow(struct lock *l);
void lock_wake(struct lock *l);

/** lock_take() - Return: false if this thread has it already (it's in a signal handler)
 */
static inline bool lock_take(struct lock *l)
{
	uint32_t free = 0;

	if (likely(lock_tid &&
		    atomic_compare_exchange_strong_explicit(&l->word, &free, lock_tid,
			    memory_order_acquire, memory_order_relaxed)))
		return true;
	return lock_take_slow(l);
}

static inline void lock_give(struct lock *l)
{
	if (unlikely(atomic_exchange_explicit(&l->word, 0, memory_order_release) &
		     LOCK_WAITED))
		lock_wake(l);
}

/** lock_forked() - in the child: this thread has another ID now */
void lock_forked(void);

#endif
