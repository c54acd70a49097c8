/* SPDX-License-Identifier: BSD-3-Clause */
#include "spin.h"

#include <sched.h>

#define TURNS 128

static inline void pause_cpu(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

void spin_wait(struct spin *s)
{
	for (unsigned int n = 1; atomic_load_explicit(&s->held, memory_order_relaxed);
		n++) {
		if (n % TURNS)
			pause_cpu();
		else
			sched_yield();
	}
}
