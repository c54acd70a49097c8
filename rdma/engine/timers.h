/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Timers of many queue pairs: a pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986),
 * which needs no memory but the timers themselves.
 *
 * A timer is put off with each packet and hardly ever goes off. So putting it off or
 * stopping it only notes the new time; the heap keeps it at the old one, and looks at the
 * note when that comes. The work for a timer is then once per its delay, not per packet.
 */
#ifndef RDMA_ENGINE_TIMERS_H
#define RDMA_ENGINE_TIMERS_H

#include <stdint.h>

#define TIMERS_NONE UINT64_MAX

/** struct timer - zero: not set */
struct timer {
	uint64_t due_ns; /* 0: not set */
	/* timers.c: */
	uint64_t key_ns; /* where the heap has it; 0: it is not there */
	struct timer *child, *next;
	struct timer *prev; /* of a first child: its parent */
};

struct timers {
	struct timer *first;
};

/** timer_set() - let @t go off at @due_ns, or not at all (0), whatever was set before */
void timer_set(struct timers *h, struct timer *t, uint64_t due_ns);

/** timer_remove() - @t is to be freed */
void timer_remove(struct timers *h, struct timer *t);

/** timers_deadline() - no timer goes off before; TIMERS_NONE if there is none */
uint64_t timers_deadline(const struct timers *h);

/** timers_take() - a timer that is due, which is then no longer set; or NULL */
struct timer *timers_take(struct timers *h, uint64_t now_ns);

#endif
