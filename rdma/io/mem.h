/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The link in memory: two ends, joined by a scripted wire that loses, reorders,
 * duplicates, corrupts and marks (ECN) packets by a seeded generator. For tests and
 * fuzzers: no system call, no clock of its own: time is what the test says. Packets carry
 * a real ICRC, so a corrupted one is dropped and counted as on a real wire. One thread
 * drives both ends.
 */
#ifndef RDMA_IO_MEM_H
#define RDMA_IO_MEM_H

#include "link.h"

/** struct link_mem_script - what the wire does to packets, per million */
struct link_mem_script {
	uint64_t seed;
	uint32_t loss_ppm;
	uint32_t duplicate_ppm;
	uint32_t reorder_ppm; /* held back behind 1..8 later packets, or until idle */
	uint32_t corrupt_ppm; /* one bit flipped */
	uint32_t ce_ppm;      /* marked as having met congestion */
	/* A bottleneck with a queue, each way; all 0: packets arrive at once. */
	uint64_t delay_ns; /* one way */
	uint64_t rate;	   /* bytes per second, 48 bytes per packet added; 0: no limit */
	uint32_t queue_bytes; /* what finds more waiting is lost; 0: endless */
	uint32_t mark_bytes;  /* what finds more waiting is marked; 0: never */
};

/** link_mem_filter - a test's own hook on a packet in flight (BTH first, ICRC at its end)
 * Return: true to let it pass, false to lose it. It may change @data.
 */
typedef bool link_mem_filter(void *arg, int from_end, uint8_t *data, uint32_t len);

/** link_mem_pair() - make both ends
 * @script: copied; NULL for a perfect wire
 * @ip_mtu: as struct link
 * Ends have GIDs ::ffff:192.0.2.1 and ::ffff:192.0.2.2. Both must be closed.
 */
int link_mem_pair(
	const struct link_mem_script *script, uint32_t ip_mtu, struct link *end[2]);

/** link_mem_set_script() - change what the wire does, and seed its generator anew */
void link_mem_set_script(struct link *end, const struct link_mem_script *script);

/** link_mem_set_time() - what time it is, for a script with a delay or a rate */
void link_mem_set_time(struct link *end, uint64_t now_ns);

/** link_mem_next_ns() - when the next packet arrives at either end; UINT64_MAX: none is
 * under way
 */
uint64_t link_mem_next_ns(struct link *end);

/** link_mem_set_filter() - on either end; holds for both directions */
void link_mem_set_filter(struct link *end, link_mem_filter *filter, void *arg);

/** link_mem_inject() - let bytes arrive that no engine would send
 * @to:   the end that receives them, as if from the other end
 * @data: from BTH on, any length from 0 on; a correct ICRC is put behind it
 * Return: 0 or -ENOMEM
 */
int link_mem_inject(struct link *to, const void *data, uint32_t len);

/** struct link_mem_stats - what the wire did, both directions together */
struct link_mem_stats {
	uint64_t carried;    /* packets given to it */
	uint64_t filtered;   /* lost by the filter */
	uint64_t lost;	     /* lost by the script, or sent to an end that was closed */
	uint64_t overflowed; /* lost by a full queue */
	uint64_t corrupted;
	uint64_t duplicated; /* copies made: received = carried - filtered - lost -
				overflowed + these */
	uint64_t reordered;  /* held back */
	uint64_t marked;
};

/** link_mem_stats() - of either end's wire; valid until both ends are closed */
const struct link_mem_stats *link_mem_stats(struct link *end);

#endif
