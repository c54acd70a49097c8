/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rate that congestion notifications leave one queue pair: DCQCN's reaction point
 * (Zhu et al., "Congestion Control for Large-Scale RDMA Deployments", SIGCOMM 2015; that
 * is what RoCE NICs do). Pure arithmetic.
 *
 * A notification cuts the rate by alpha / 2, where alpha, from 0 to 1, says how much of
 * late was congested: it starts at 1, moves towards 1 with every cut and towards 0 while
 * none comes. Between cuts the rate recovers, a step each INCREASE_NS: first half way
 * back to where it was (fast recovery), then by a little more each time (additive), at
 * last faster and faster (hyper). At line rate the limit ends.
 *
 * Why a rate and not the window: two packets are the least that a window can be, and on a
 * round trip of 50 us that is still 1.3 Gb/s at 4 KiB; UC and UD have no window at all;
 * and answers to READs are sent by who has none. The window (congestion.h) stays as it
 * is: it reacts to loss, does not grow while a rate limits, and the lower of both holds.
 *
 * Timers are evaluated when the queue pair sends or is notified, so that one that rests
 * costs nothing. Of the paper's increases those by a count of bytes are left out: they
 * are for rates at which the timer would be too slow.
 */
#ifndef RDMA_ENGINE_DCQCN_H
#define RDMA_ENGINE_DCQCN_H

#include <stdbool.h>
#include <stdint.h>

/* Whatever is notified, or forged, this remains: 16 Mb/s, 4 KiB in 2 ms. */
#define DCQCN_RATE_MIN 2000000u /* bytes per second */

struct dcqcn {
	uint64_t rate;	 /* bytes per second; 0: no limit holds, nor do the others */
	uint64_t target; /* what the rate recovers to */
	uint64_t line_rate;
	uint32_t alpha; /* in 1/65536 */
	uint32_t n_increases;
	uint64_t cut_ns;      /* last cut */
	uint64_t alpha_ns;    /* alpha sinks */
	uint64_t increase_ns; /* the rate grows */
	uint64_t paid_ns;     /* what was sent is paid for until then */
	uint64_t gate_ns;     /* closed until then */
};

/** dcqcn_reset() - nothing is known of the path
 * @line_rate: bytes per second
 */
void dcqcn_reset(struct dcqcn *d, uint64_t line_rate);

/** dcqcn_notified() - a notification came
 * @rtt_ns: round trip, or 0 if not known. Within it a cut can't have had its effect, so
 *          what is notified then says nothing new.
 * Return: whether it cut the rate
 */
bool dcqcn_notified(struct dcqcn *d, uint64_t now_ns, uint64_t rtt_ns);

/* The others, in two parts: most queue pairs have no limit. */
uint64_t dcqcn_gate_of_limited(struct dcqcn *d, uint64_t now_ns);
uint64_t dcqcn_cost_ns(const struct dcqcn *d, uint32_t bytes);

/** dcqcn_gate() - when a packet may be sent: 0 for now, or the time */
static inline uint64_t dcqcn_gate(struct dcqcn *d, uint64_t now_ns)
{
	return d->rate ? dcqcn_gate_of_limited(d, now_ns) : 0;
}

/** dcqcn_sent() - a packet is sent */
static inline void dcqcn_sent(struct dcqcn *d, uint32_t bytes)
{
	if (d->rate)
		d->paid_ns += dcqcn_cost_ns(d, bytes);
}

/** dcqcn_is_last() - would a packet of @bytes be the last before the gate closes? */
static inline bool dcqcn_is_last(const struct dcqcn *d, uint32_t bytes, uint64_t now_ns)
{
	return d->rate && d->paid_ns + dcqcn_cost_ns(d, bytes) > now_ns;
}

#endif
