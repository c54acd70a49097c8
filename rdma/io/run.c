/* SPDX-License-Identifier: BSD-3-Clause */
#include "run.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"

/* A message may be as large as one IP packet: 65507 bytes for IPv4, and this for IPv6,
 * where the kernel counts the IP header in.
 */
#define RUN_MAX_BYTES (65535 - 40 - 8)
/* How long one burst may wait for room in a socket. Beyond that it is congestion, and
 * the engine's to deal with.
 */
#define SEND_WAIT_MS 1

/* Is packet @i followed by one of its size? The first packet of a WRITE is longer than
 * those behind it, which together are fewer messages without it.
 */
static bool begins_run(const struct link_burst *burst, int i)
{
	return i + 1 < burst->n_pkts &&
	       link_tx_size(&burst->pkt[i]) == link_tx_size(&burst->pkt[i + 1]);
}

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
		if (size < segment && n == 1 && begins_run(burst, first + n))
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

void run_count(
	struct link_stats *stats, const struct link_burst *burst, const struct run *run)
{
	stats->tx_packets += (uint64_t)run->n_pkts;
	stats->tx_bytes += run_size(burst, run);
}

static void wait_writable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};

	poll(&pfd, 1, SEND_WAIT_MS);
}

/* The kernel refused the message that @run is. Return: whether to try once more */
static bool refusal_may_pass(const struct link *link, struct run_tx *tx,
	const struct run *run, int fd, bool *waited)
{
	int err = errno;

	if (err == tx->gso_refusal && run->n_pkts > 1) {
		/* An older kernel. The packets are laid out with the identifications of a
		 * GSO send, so they are lost; the next burst is sent one by one.
		 */
		tx->max_pkts = 1;
		log_write(LOG_LEVEL_WARN, "link", "%s takes no UDP GSO: slow sends",
			link->ifname);
		return false;
	}
	if ((err == EAGAIN || err == ENOBUFS) && !*waited) {
		*waited = true;
		wait_writable(fd);
	}
	return true;
}

void run_send(struct link *link, struct run_tx *tx, const struct link_burst *burst,
	int fd, int n)
{
	bool waited = false, retried = false;
	int done = 0;

	while (done < n) {
		int sent = sendmmsg(fd, &tx->msg[done], (unsigned int)(n - done), 0);

		link->stats.tx_syscalls++;
		if (sent > 0) {
			for (int end = done + sent; done < end; done++)
				run_count(&link->stats, burst, &tx->run[done]);
			retried = false;
		} else if (!retried &&
			   refusal_may_pass(link, tx, &tx->run[done], fd, &waited)) {
			retried = true;
		} else {
			link->stats.tx_failed += (uint64_t)tx->run[done].n_pkts;
			retried = false;
			done++;
		}
	}
}
