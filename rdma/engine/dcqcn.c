/* SPDX-License-Identifier: BSD-3-Clause */
#include "dcqcn.h"

#include "lib/util.h"

#define ALPHA_ONE     65536u
#define ALPHA_G_SHIFT 8 /* g = 1/256 */
#define FAST_STEPS    5

/* The paper's and Mellanox' figures. */
#define CUT_NS	    (50 * NSEC_PER_USEC) /* no cut within this time of the last */
#define ALPHA_NS    (55 * NSEC_PER_USEC)
#define INCREASE_NS (300 * NSEC_PER_USEC)
/* Of line rate, per step: 10 and 100 Mb/s at 10 Gb/s. */
#define ADDITIVE_PART 1000
#define HYPER_PART    100

/* Packets go out in batches, as each wakes a thread and costs a system call: a gate that
 * closes stays so for this long. Who comes late may make up for so much.
 */
#define BATCH_NS (20 * NSEC_PER_USEC)
#define LATE_NS	 (200 * NSEC_PER_USEC)

void dcqcn_reset(struct dcqcn *d, uint64_t line_rate)
{
	*d = (struct dcqcn){.line_rate = line_rate};
}

static void increase(struct dcqcn *d)
{
	uint32_t n = ++d->n_increases;

	if (n > 2 * FAST_STEPS)
		d->target += d->line_rate / HYPER_PART * (n - 2 * FAST_STEPS);
	else if (n > FAST_STEPS)
		d->target += d->line_rate / ADDITIVE_PART;
	d->rate = (d->rate + d->target) / 2;
}

/* What time did. It ends, as increases grow: an hour's rest is some hundred steps. */
static void catch_up(struct dcqcn *d, uint64_t now_ns)
{
	for (; d->alpha_ns <= now_ns && d->alpha >> ALPHA_G_SHIFT;
		d->alpha_ns += ALPHA_NS)
		d->alpha -= d->alpha >> ALPHA_G_SHIFT;
	for (; d->rate && d->increase_ns <= now_ns; d->increase_ns += INCREASE_NS) {
		increase(d);
		if (d->rate >= d->line_rate)
			d->rate = 0;
	}
}

static void begin(struct dcqcn *d, uint64_t now_ns)
{
	d->rate = d->line_rate;
	d->alpha = ALPHA_ONE;
	d->paid_ns = now_ns;
	d->gate_ns = 0;
}

bool dcqcn_notified(struct dcqcn *d, uint64_t now_ns, uint64_t rtt_ns)
{
	catch_up(d, now_ns);
	if (!d->rate)
		begin(d, now_ns);
	else if (now_ns - d->cut_ns < MAX(CUT_NS, rtt_ns))
		return false;
	d->target = d->rate;
	d->rate -= d->rate * d->alpha / (2 * ALPHA_ONE);
	d->rate = MAX(d->rate, DCQCN_RATE_MIN);
	d->alpha += (ALPHA_ONE - d->alpha) >> ALPHA_G_SHIFT;
	d->n_increases = 0;
	d->cut_ns = now_ns;
	d->alpha_ns = now_ns + ALPHA_NS;
	d->increase_ns = now_ns + INCREASE_NS;
	return true;
}

uint64_t dcqcn_gate_of_limited(struct dcqcn *d, uint64_t now_ns)
{
	catch_up(d, now_ns);
	if (!d->rate)
		return 0;
	d->paid_ns = MAX(d->paid_ns, now_ns - MIN(now_ns, LATE_NS));
	if (now_ns >= d->gate_ns && now_ns < d->paid_ns)
		d->gate_ns = d->paid_ns + BATCH_NS;
	return now_ns < d->gate_ns ? d->gate_ns : 0;
}

uint64_t dcqcn_cost_ns(const struct dcqcn *d, uint32_t bytes)
{
	return bytes * NSEC_PER_SEC / d->rate;
}
