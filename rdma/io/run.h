/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs: packets of a burst, one behind the other, that go to the kernel as one message
 * for it, or the NIC, to cut up (UDP GSO). They have one destination, one source port and
 * one size, but for the last, which may be shorter.
 *
 * Payload is copied, in one pass with its ICRC, as the kernel copies 60 KB in one piece
 * faster than many pieces of a packet each, and the ICRC has to read it anyway.
 */
#ifndef RDMA_IO_RUN_H
#define RDMA_IO_RUN_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "link_priv.h"

/* The kernel takes at most 64 segments in one send. */
#define RUN_MAX_PKTS 64
/* What else a message may need in front of its first packet. */
#define RUN_FRONT_MAX 96

struct run {
	int first; /* index in the burst */
	int n_pkts;
};

/* Where messages are laid out: each in one piece, which is an iovec. */
struct run_layout {
	int n_iovs;
	size_t n_scratch;
	struct iovec iov[LINK_BURST];
	uint8_t scratch[LINK_BURST * (RUN_FRONT_MAX + LINK_PKT_MAX)];
};

/** run_find() - the longest run from packet @first on
 * @max_pkts: 1 where the kernel has no GSO
 * @n_sports: source ports there are; a packet's is its sport_hash modulo that
 */
struct run run_find(
	const struct link_burst *burst, int first, int max_pkts, unsigned int n_sports);

/** run_size() - bytes of UDP payload in a run */
size_t run_size(const struct link_burst *burst, const struct run *run);

/** run_reset() - forget all messages */
void run_reset(struct run_layout *layout);

/** run_begin() - begin a message; its iovec is layout->iov[layout->n_iovs]
 * @size: bytes that it has in front of the packets, at most RUN_FRONT_MAX
 * Return: where to put them
 */
uint8_t *run_begin(struct run_layout *layout, size_t size);

/** run_put() - lay out a run's packets behind run_begin()
 * @flow: their addresses and ports. Packet i has i as its IPv4 identification.
 */
void run_put(struct run_layout *layout, const struct link_burst *burst,
	const struct run *run, const struct wire_flow *flow);

/** struct run_tx - the messages of a burst on their way to the kernel */
struct run_tx {
	struct run run[LINK_BURST]; /* one for each message */
	struct mmsghdr msg[LINK_BURST];
	struct run_layout layout;
	int max_pkts;	 /* in a message: RUN_MAX_PKTS; 1 once the kernel refused GSO */
	int gso_refusal; /* the errno by which it does */
};

/** run_send() - send the first @n messages from @fd, which does not block
 *
 * Each message that the kernel refuses gets one more try, as the reason may have been a
 * passing one: no room, or an error that an earlier packet or the interface left in the
 * socket. The messages as a whole wait for room once, and shortly. What is refused then
 * is counted in @link's tx_failed.
 */
void run_send(struct link *link, struct run_tx *tx, const struct link_burst *burst,
	int fd, int n);

/** run_count() - a message was sent, or will be: add it to @stats */
void run_count(
	struct link_stats *stats, const struct link_burst *burst, const struct run *run);

#endif
