/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The link in memory: two ends, joined by a scripted wire that loses, reorders,
 * duplicates and corrupts packets by a seeded generator. For tests and fuzzers: no
 * system call, no clock of its own. Packets carry a real ICRC, so a corrupted one is
 * dropped and counted as on a real wire.
 */
#ifndef RDMA_IO_MEM_H
#define RDMA_IO_MEM_H

#include "link.h"

/** struct link_mem_script - what the wire does to packets, per million */
struct link_mem_script {
	uint64_t seed;
	uint32_t loss_ppm;
	uint32_t duplicate_ppm;
	uint32_t reorder_ppm; /* held back behind 1..8 later packets */
	uint32_t corrupt_ppm; /* one bit flipped */
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
int link_mem_pair(const struct link_mem_script *script, uint32_t ip_mtu,
	struct link *end[2]);

/** link_mem_set_filter() - on either end; holds for both directions */
void link_mem_set_filter(struct link *end, link_mem_filter *filter, void *arg);

#endif
