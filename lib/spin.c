/* SPDX-License-Identifier: BSD-3-Clause */
#include "spin.h"

#include <sched.h>
#include <time.h>

#define TURNS	 128 /* before the processor is given away */
#define YIELDS	 16  /* before it is given to threads of lower priority as well */
#define SLEEP_NS 5000

static inline void pause_cpu(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

void spin_wait(struct spin *s)
{
	const struct timespec nap = {.tv_nsec = SLEEP_NS};

	for (unsigned int n = 1; atomic_load_explicit(&s->held, memory_order_relaxed);
		n++) {
		if (n % TURNS)
			pause_cpu();
		else if (n < TURNS * YIELDS)
			sched_yield();
		else
			nanosleep(&nap, NULL);
	}
}
