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

static void iov_add(struct run_layout *layout, void *base, size_t size)
{
	assert(layout->n_iovs < (int)ARRAY_SIZE(layout->iov));
	layout->iov[layout->n_iovs++] = (struct iovec){.iov_base = base, .iov_len = size};
}

static uint8_t *scratch_take(struct run_layout *layout, size_t size)
{
	uint8_t *p = layout->scratch + layout->n_scratch;

	assert(layout->n_scratch + size <= sizeof(layout->scratch));
	layout->n_scratch += size;
	return p;
}

uint8_t *run_begin(struct run_layout *layout, size_t size)
{
	uint8_t *p = scratch_take(layout, size);

	iov_add(layout, p, size);
	return p;
}

/* Put @size bytes behind what the last iovec has, which must be in the scratch area. */
static uint8_t *scratch_extend(struct run_layout *layout, size_t size)
{
	layout->iov[layout->n_iovs - 1].iov_len += size;
	return scratch_take(layout, size);
}

static void packet_put(struct run_layout *layout, const struct link_burst *burst,
	const struct link_tx *pkt, const struct wire_flow *flow, uint16_t ip_id)
{
	const struct iovec *iov = &burst->iov[pkt->iov_first];
	uint8_t tail[LINK_TAIL_MAX], *p;
	size_t tail_size;

	/* in front of it lies another one's tail, or what run_begin() made */
	memcpy(scratch_extend(layout, pkt->hdr_len), pkt->hdr, pkt->hdr_len);
	for (int i = 0; i < pkt->n_iov; i++) {
		if (iov[i].iov_len)
			iov_add(layout, iov[i].iov_base, iov[i].iov_len);
	}
	tail_size = link_tx_tail(burst, pkt, flow, ip_id, tail);
	p = pkt->payload_len ? run_begin(layout, tail_size)
			     : scratch_extend(layout, tail_size);
	memcpy(p, tail, tail_size);
}

void run_put(struct run_layout *layout, const struct link_burst *burst,
	const struct run *run, const struct wire_flow *flow)
{
	for (int i = 0; i < run->n_pkts; i++)
		packet_put(layout, burst, &burst->pkt[run->first + i], flow, (uint16_t)i);
}
