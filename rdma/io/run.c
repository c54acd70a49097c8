/* SPDX-License-Identifier: BSD-3-Clause */
#include "run.h"

#include <assert.h>
#include <string.h>

#include "lib/util.h"

/* A message may be as large as one IP packet: 65507 bytes for IPv4, and this for IPv6,
 * where the kernel counts the IP header in.
 */
#define RUN_MAX_BYTES (65535 - 40 - 8)

struct run run_find(
	const struct link_burst *burst, int first, int max_pkts, unsigned int n_sports)
{
	const struct link_tx *head = &burst->pkt[first];
	size_t segment = link_tx_size(head), total = segment;
	int n = 1;

	while (first + n < burst->n_pkts && n < max_pkts) {
		const struct link_tx *pkt = &burst->pkt[first + n];
		size_t size = link_tx_size(pkt);

		if (size > segment || total + size > RUN_MAX_BYTES ||
			pkt->sport_hash % n_sports != head->sport_hash % n_sports ||
			memcmp(pkt->dgid, head->dgid, sizeof(pkt->dgid)) != 0)
			break;
		total += size;
		n++;
		if (size < segment)
			break; /* a shorter one ends the run */
	}
	return (struct run){.first = first, .n_pkts = n};
}

size_t run_size(const struct link_burst *burst, const struct run *run)
{
	size_t segment = link_tx_size(&burst->pkt[run->first]);

	return segment * (size_t)(run->n_pkts - 1) +
	       link_tx_size(&burst->pkt[run->first + run->n_pkts - 1]);
}

void run_reset(struct run_layout *layout)
{
	layout->n_iovs = 0;
	layout->n_scratch = 0;
}

uint8_t *run_begin(struct run_layout *layout, size_t size)
{
	uint8_t *p = layout->scratch + layout->n_scratch;

	assert(layout->n_iovs < (int)ARRAY_SIZE(layout->iov));
	assert(layout->n_scratch + size <= sizeof(layout->scratch));
	layout->iov[layout->n_iovs++] = (struct iovec){.iov_base = p, .iov_len = size};
	layout->n_scratch += size;
	return p;
}

static void packet_put(struct run_layout *layout, const struct link_burst *burst,
	const struct link_tx *pkt, const struct wire_flow *flow, uint16_t ip_id)
{
	size_t size = link_tx_size(pkt);

	assert(layout->n_scratch + size <= sizeof(layout->scratch));
	link_tx_put(burst, pkt, flow, ip_id, layout->scratch + layout->n_scratch);
	layout->n_scratch += size;
	layout->iov[layout->n_iovs - 1].iov_len += size;
}

void run_put(struct run_layout *layout, const struct link_burst *burst,
	const struct run *run, const struct wire_flow *flow)
{
	for (int i = 0; i < run->n_pkts; i++)
		packet_put(layout, burst, &burst->pkt[run->first + i], flow, (uint16_t)i);
}
